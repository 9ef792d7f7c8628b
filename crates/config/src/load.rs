//! Finding and loading a configuration.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::check::{check_keys, check_whole};
use crate::diagnostic::{Diagnostic, Diagnostics, Severity, Source};
use crate::environment::select;
use crate::generated::{Origin, pointed_to};
use crate::model::WorkerConfig;
use crate::node::{Node, Value, parse};
use crate::read::Reader;
use crate::{stored, variables, worker};

/// What the command line adds.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The environment, `--env`.
    pub environment: Option<String>,
    /// `--var NAME:VALUE`.
    pub vars: Vec<(String, String)>,
    /// The configuration is to be deployed, perhaps to Cloudflare: keys that only `skep dev` lacks are no errors, and
    /// files with variables for development are not read.
    pub deploying: bool,
    /// The entry file, in place of `main`.
    pub main: Option<PathBuf>,
    /// Taken instead of the file's content: what it would be after an edit.
    pub text: Option<String>,
}

/// A configuration and what is to be said of it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: WorkerConfig,
    /// The same as it stands in the file: what the chosen environment sees, with all keys in their order.
    pub raw: serde_json::Value,
    /// The name at the top of the file: what all environments have in common.
    pub service: Option<String>,
    /// Notes and warnings.
    pub notes: Vec<Diagnostic>,
}

/// The configuration in `dir`, in wrangler's order of preference; where a build tool has left a
/// `.wrangler/deploy/config.json`, the one that it points to.
pub fn find(dir: &Path) -> Option<PathBuf> {
    if let Some(path) = pointed_to(dir) {
        return Some(path);
    }
    ["wrangler.json", "wrangler.jsonc", "wrangler.toml"]
        .iter()
        .map(|name| dir.join(name))
        .find(|path| path.is_file())
}

/// Loads the configuration at `path`.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded, Diagnostics> {
    let text = match &options.text {
        Some(text) => text.clone(),
        None => std::fs::read_to_string(path).map_err(|e| Diagnostic {
            severity: Severity::Error,
            message: format!("cannot read the configuration: {e}"),
            path: path.to_owned(),
            place: None,
            help: None,
        })?,
    };
    let source = Source { path: path.to_owned(), text };
    let top = parse(&source)?;
    if !matches!(top.value, Value::Object(_)) {
        return Err(source.error(top.span.clone(), "the configuration is not an object").into());
    }
    let mut problems = Vec::new();
    let service = top.get("name").and_then(|name| name.to_json().as_str().map(str::to_owned));
    let origin = Origin::of(&top);
    let root = match (&origin, &options.environment) {
        (Some(origin), wanted) => {
            origin.check(&source, &top, wanted.as_deref())?;
            let (root, note) = origin.take(&source, top);
            problems.push(note);
            root
        }
        (None, Some(name)) => select(&source, &top, name, &mut problems)?,
        (None, None) => top,
    };
    let before = problems.len();
    check_keys(&source, &root, "", options.deploying, &mut problems);
    if origin.is_some() {
        // A tool writes down every key: that one has no effect is nothing that its user asked for.
        let found = problems.split_off(before);
        problems.extend(found.into_iter().filter(|problem| problem.severity > Severity::Note));
    }
    let origin = origin.unwrap_or_default();
    let project_dir = origin.project_dir();
    let service = origin.service.or(service);
    let environment = origin.environment.or_else(|| options.environment.clone());

    let dir = path.parent().unwrap_or(Path::new("."));
    let deploying = options.deploying;
    let reader = Reader { source: &source, dir, deploying, problems: RefCell::new(problems) };
    let mut config = worker::read(&reader, &reader.root(&root));
    config.main = options.main.clone().or(config.main);
    check_whole(&reader, &root, &config);
    if !deploying {
        config.secrets = secrets(&reader, &root, &mut config, options);
    }
    let problems = reader.problems.into_inner();
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Diagnostics(by_weight(problems)));
    }
    config.environment = environment;
    config.project_dir = project_dir.unwrap_or(config.project_dir);
    for (name, value) in &options.vars {
        config.secrets.remove(name);
        config.vars.insert(name.clone(), value.clone().into());
    }
    if config.name.is_empty() {
        config.name = folder_name(dir);
    }
    Ok(Loaded { config, raw: root.to_json(), service, notes: problems })
}

/// What is wrong before what is doubtful. What merely has no effect is not why the configuration is refused.
fn by_weight(problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut told: Vec<Diagnostic> =
        problems.into_iter().filter(|problem| problem.severity != Severity::Note).collect();
    told.sort_by_key(|problem| problem.severity != Severity::Error);
    told
}

/// The variables in files beside the configuration. Where it declares the secrets that it needs, only those are taken, and
/// those that stand for a variable; one that is missing is worth a warning.
fn secrets(
    reader: &Reader<'_>,
    root: &Node,
    config: &mut WorkerConfig,
    options: &LoadOptions,
) -> BTreeMap<String, String> {
    let declared = root.get("secrets");
    let surroundings = variables::Surroundings::of_this_process(declared.is_some());
    let mut all = variables::read(reader.dir, options.environment.as_deref(), &surroundings);
    let unset = stored::fill(&mut config.stored_secrets, &mut all);
    if let Some(node) = root.get("secrets_store_secrets").filter(|_| !unset.is_empty()) {
        let message = format!("Secrets of the Secrets Store without a value: {}", unset.join(", "));
        let warning = reader.source.at(Severity::Warning, node.span.clone(), message);
        let help = "`get()` will throw: add them to .dev.vars or .env under the name of the secret";
        reader.problems.borrow_mut().push(warning.help(help));
    }
    let Some(declared) = declared else { return all };
    let required = reader.root(declared).strings("required");
    let given = |name: &String| options.vars.iter().any(|(given, _)| given == name);
    let missing: Vec<&str> =
        required.iter().filter(|name| !all.contains_key(*name) && !given(name)).map(String::as_str).collect();
    if !missing.is_empty() {
        let message = format!("Missing required secrets: {}", missing.join(", "));
        let warning = reader.source.at(Severity::Warning, declared.span.clone(), message);
        let help = "add them to .dev.vars, .env, or set as environment variables";
        reader.problems.borrow_mut().push(warning.help(help));
    }
    all.retain(|name, _| required.contains(name) || config.vars.contains_key(name));
    all
}

/// An error about `key`, with its place in the configuration that `options` choose.
pub fn refusal(path: &Path, options: &LoadOptions, key: &str, message: impl Into<String>) -> Diagnostic {
    let text = options.text.clone().or_else(|| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let source = Source { path: path.to_owned(), text };
    let message = message.into();
    let chosen = parse(&source).ok().and_then(|top| match &options.environment {
        Some(name) => select(&source, &top, name, &mut Vec::new()).ok(),
        None => Some(top),
    });
    match chosen.as_ref().and_then(|node| node.get(key)) {
        Some(node) => source.error(node.span.clone(), message),
        None => {
            Diagnostic { severity: Severity::Error, message, path: path.to_owned(), place: None, help: None }
        }
    }
}

/// A JSONC or TOML text, by the ending of `path`, as plain JSON.
pub fn to_json(path: &Path, text: &str) -> Result<serde_json::Value, Diagnostics> {
    Ok(parse(&Source { path: path.to_owned(), text: text.to_owned() })?.to_json())
}

/// The files beside the configuration that [`load`] reads too.
pub fn is_read_too(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_some_and(variables::is_variable_file)
}

/// A name for a project that has none.
fn folder_name(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = dir.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .collect();
    if name.is_empty() { "worker".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(name: &str, text: &str, environment: Option<&str>) -> Result<Loaded, Diagnostics> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        load(&path, &LoadOptions { environment: environment.map(Into::into), ..LoadOptions::default() })
    }

    #[test]
    fn both_formats_say_the_same() {
        let json = r#"{ "name": "a", "main": "x.js", /* c */ "vars": { "A": 1, "B": "b" },
            "kv_namespaces": [{ "binding": "KV", "id": "k" }], "triggers": { "crons": ["* * * * *"] }, }"#;
        let toml = "name = \"a\"\nmain = \"x.js\"\nvars = { A = 1, B = \"b\" }\n[triggers]\ncrons = [\"* * * * *\"]\n[[kv_namespaces]]\nbinding = \"KV\"\nid = \"k\"\n";
        let normal = |loaded: Loaded| WorkerConfig {
            path: PathBuf::new(),
            dir: PathBuf::new(),
            project_dir: PathBuf::new(),
            main: None,
            ..loaded.config
        };
        let a = load_text("wrangler.jsonc", json, None).unwrap();
        let b = load_text("wrangler.toml", toml, None).unwrap();
        let mut b = normal(b);
        let a = normal(a);
        b.d1_databases.clone_from(&a.d1_databases);
        assert_eq!(a, b);
        assert_eq!(a.kv_namespaces[0].id, "k");
    }

    #[test]
    fn an_environment_inherits_settings_but_not_bindings() {
        let text = r#"{ "name": "a", "main": "x.js", "compatibility_flags": ["nodejs_compat"], "vars": { "A": "top" },
            "env": { "prod": { "kv_namespaces": [{ "binding": "KV" }] } } }"#;
        let loaded = load_text("wrangler.json", text, Some("prod")).unwrap();
        assert_eq!(loaded.config.name, "a-prod");
        assert_eq!(loaded.config.compatibility_flags, ["nodejs_compat"]);
        assert!(loaded.config.vars.is_empty());
        assert_eq!(loaded.config.kv_namespaces[0].id, "KV");
        assert!(loaded.notes.iter().any(|note| note.message.contains("\"vars\" exists at the top level")));
        let error = load_text("wrangler.json", text, Some("nope")).unwrap_err().to_string();
        assert!(error.contains("it has: prod"), "{error}");
    }

    #[test]
    fn errors_come_all_at_once_and_each_at_its_place() {
        let text = "{\n  \"name\": \"Bad Name\",\n  \"main\": 5,\n  \"kv_namespace\": [],\n  \"media\": { \"binding\": \"B\" }\n}";
        let error = load_text("wrangler.jsonc", text, None).unwrap_err();
        let text = error.to_string();
        for expected in [
            "wrangler.jsonc:2:11",
            "wrangler.jsonc:3:11",
            "did you mean \"kv_namespaces\"?",
            "\"media\" does not work on Skep",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn a_secret_of_the_store_has_the_variable_of_its_name_which_is_none_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wrangler.json");
        let text = r#"{ "name": "a", "main": "x.js", "secrets": { "required": ["OWN"] }, "secrets_store_secrets": [
            { "binding": "A", "store_id": "s", "secret_name": "KEY" }, { "binding": "B", "store_id": "s", "secret_name": "KEY" },
            { "binding": "GONE", "store_id": "s", "secret_name": "LOST" }] }"#;
        std::fs::write(&path, text).unwrap();
        std::fs::write(dir.path().join(".dev.vars"), "KEY=k\nOWN=1").unwrap();
        let loaded = load(&path, &LoadOptions::default()).unwrap();
        let values: Vec<_> = loaded.config.stored_secrets.iter().map(|s| s.value.as_deref()).collect();
        assert_eq!(values, [Some("k"), Some("k"), None]);
        assert_eq!(loaded.config.secrets.keys().collect::<Vec<_>>(), ["OWN"]);
        let notes: Vec<String> = loaded.notes.iter().map(ToString::to_string).collect();
        assert!(notes.len() == 1 && notes[0].contains("without a value: LOST"), "{notes:?}");
    }

    #[test]
    fn only_the_secrets_that_are_declared_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wrangler.json");
        let text = r#"{ "name": "a", "main": "x.js", "vars": { "V": "1" },
            "secrets": { "required": ["KEY", "GONE"] }, "env": { "x": {}, "y": { "secrets": { "required": ["PATH"] } } } }"#;
        std::fs::write(&path, text).unwrap();
        std::fs::write(dir.path().join(".env"), "KEY=k\nV=2\nOTHER=3").unwrap();
        let load = |environment: Option<&str>, vars: &[(&str, &str)]| {
            let vars = vars.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let environment = environment.map(Into::into);
            load(&path, &LoadOptions { environment, vars, ..LoadOptions::default() }).unwrap()
        };
        let loaded = load(None, &[]);
        assert_eq!(loaded.config.secrets.keys().collect::<Vec<_>>(), ["KEY", "V"]);
        let notes: Vec<String> = loaded.notes.iter().map(ToString::to_string).collect();
        assert!(notes.iter().any(|note| note.contains("Missing required secrets: GONE")), "{notes:?}");
        assert!(load(None, &[("GONE", "1")]).notes.is_empty());
        assert_eq!(load(Some("x"), &[]).config.secrets.len(), 3, "an environment does not inherit them");
        let own = load(Some("y"), &[]);
        assert_eq!(own.config.secrets["PATH"], std::env::var("PATH").unwrap());
        assert_eq!(own.config.secrets.len(), 1);
    }

    #[test]
    fn a_refusal_is_told_alone_and_a_pages_project_by_its_name() {
        let text = r#"{ "observability": { "enabled": true }, "nam": "a", "main": "x.js", "media": { "binding": "B" } }"#;
        let Diagnostics(told) = load_text("wrangler.jsonc", text, None).unwrap_err();
        let told: Vec<&str> = told.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(told, ["\"media\" does not work on Skep", "unknown key \"nam\": it has no effect"]);
        let text = r#"{ "name": "a", "pages_build_output_dir": "dist" }"#;
        let error = load_text("wrangler.jsonc", text, None).unwrap_err().to_string();
        assert!(error.contains("Pages projects do not run on Skep") && !error.contains("neither"), "{error}");
    }

    #[test]
    fn a_site_has_an_entry_file_of_its_own_and_no_assets() {
        let load = |text: &str| load_text("wrangler.toml", text, None);
        let entry = |text: &str| {
            let loaded = load(text).unwrap();
            let main = loaded.config.main.unwrap();
            (main.strip_prefix(&loaded.config.dir).unwrap().to_owned(), loaded.notes.len())
        };
        assert_eq!(entry("site = { bucket = \"./public\" }"), ("workers-site/index.js".into(), 1));
        assert_eq!(entry("[site]\nbucket = \"p\"\nentry-point = \"w\""), ("w/index.js".into(), 0));
        assert_eq!(
            entry("main = \"src/x.ts\"\n[site]\nbucket = \"p\"\ninclude = [\"*.html\"]"),
            ("src/x.ts".into(), 0)
        );
        for (text, says) in [
            (
                "main = \"x\"\n[site]\nbucket = \"p\"\n[assets]\ndirectory = \"p\"",
                "Cannot use assets and Workers Sites",
            ),
            ("main = \"x\"\n[site]\nbucket = \"p\"\nentry-point = \"y\"", "Don't define both the `main`"),
            ("main = \"x\"\n[site]\n", "\"site.bucket\" is missing"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}\n{error}");
        }
    }

    #[test]
    fn what_is_deployed_may_have_what_only_cloudflare_has() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{ "name": "a", "main": "x.js", "media": { "binding": "B" }, "placement": { "mode": "smart" },
            "unsafe": { "bindings": [{ "type": "other", "name": "X" }] }, "vars": { "B": 1, "A": 2 }, "env": { "x": {} } }"#;
        std::fs::write(dir.path().join("wrangler.json"), text).unwrap();
        std::fs::write(dir.path().join(".dev.vars"), "SECRET=1").unwrap();
        let options = LoadOptions { deploying: true, ..LoadOptions::default() };
        let loaded = load(&dir.path().join("wrangler.json"), &options).unwrap();
        assert!(loaded.notes.is_empty() && loaded.config.secrets.is_empty());
        assert_eq!(loaded.raw["media"]["binding"], "B");
        assert_eq!(loaded.raw["vars"].to_string(), r#"{"B":1,"A":2}"#);
        std::fs::write(dir.path().join("wrangler.json"), r#"{ "main": "x.js", "nam": 1 }"#).unwrap();
        let loaded = load(&dir.path().join("wrangler.json"), &options).unwrap();
        let [warning] = loaded.notes.as_slice() else { panic!("{:?}", loaded.notes) };
        assert_eq!(
            (warning.severity, warning.help.as_deref()),
            (Severity::Warning, Some("did you mean \"name\"?"))
        );
    }

    #[test]
    fn a_name_stands_for_one_binding() {
        let text = r#"{ "main": "x.js", "kv_namespaces": [{ "binding": "A" }, { "binding": "A" }] }"#;
        let error = load_text("wrangler.jsonc", text, None).unwrap_err().to_string();
        assert!(error.contains("A assigned to multiple KV Namespace bindings."), "{error}");
    }

    #[test]
    fn a_syntax_error_has_its_place() {
        let error = load_text("wrangler.jsonc", "{\n  \"name\": \n}", None).unwrap_err().to_string();
        assert!(error.contains("wrangler.jsonc:"), "{error}");
        let error = load_text("wrangler.toml", "name = \n", None).unwrap_err().to_string();
        assert!(error.contains("wrangler.toml:1:"), "{error}");
    }
}
