//! Configurations that a build tool generates (`@cloudflare/vite-plugin`, the adapters of frameworks) and leaves a pointer to. They are what wrangler
//! makes of the developer's own file, for one environment, with a few keys about where they come from.
//! <https://developers.cloudflare.com/workers/wrangler/configuration/#generated-wrangler-configuration>

use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::node::{Node, Value};

/// Keys that wrangler itself adds when it writes a configuration down.
const ADDED: [&str; 5] =
    ["configPath", "userConfigPath", "topLevelName", "definedEnvironments", "targetEnvironment"];

/// Where a tool that built the project in `dir` says that the configuration is.
pub(crate) fn pointed_to(dir: &Path) -> Option<PathBuf> {
    let folder = dir.join(".wrangler/deploy");
    let text = std::fs::read_to_string(folder.join("config.json")).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    let path = folder.join(json.get("configPath")?.as_str()?);
    Some(path.canonicalize().unwrap_or(path))
}

/// What a generated configuration says of itself.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    /// The developer's own file.
    user: Option<String>,
    /// The name that all environments have in common.
    pub service: Option<String>,
    /// The environment that it was generated for.
    pub environment: Option<String>,
}

impl Origin {
    /// Of the file whose content is `top`; `None` if a person wrote it.
    pub fn of(top: &Node) -> Option<Self> {
        let text = |key: &str| top.get(key).and_then(|node| node.to_json().as_str().map(str::to_owned));
        let generated = ADDED.iter().any(|key| top.get(key).is_some());
        generated.then(|| Self {
            user: text("userConfigPath"),
            service: text("topLevelName"),
            environment: text("targetEnvironment"),
        })
    }

    /// The folder of the developer's own file, if it is on this machine.
    pub fn project_dir(&self) -> Option<PathBuf> {
        let folder = Path::new(self.user.as_deref()?).parent()?;
        (folder.is_absolute() && folder.is_dir()).then(|| folder.to_owned())
    }

    /// Refuses environments in the file, and one that it was not generated for.
    pub fn check(&self, source: &Source, top: &Node, wanted: Option<&str>) -> Result<(), Box<Diagnostic>> {
        if let Some(environments) = top.get("env").filter(|env| !env.entries().is_empty()) {
            let names: Vec<&str> = environments.entries().iter().map(|entry| entry.key.as_str()).collect();
            let message = format!(
                "Redirected configurations cannot include environments, but this has: {}",
                names.join(", ")
            );
            let error = source.error(environments.span.clone(), message);
            return Err(error.help("a tool generated this file: report it to the tool's author").into());
        }
        match (&self.environment, wanted) {
            (Some(built), Some(wanted)) if built != wanted => {
                let message = format!(
                    "You have specified the environment \"{wanted}\". This does not match the target environment \"{built}\" that was used when building the application."
                );
                let span = top.get("targetEnvironment").map_or(0..0, |node| node.span.clone());
                let help = format!(
                    "build the project again with \"{wanted}\" as the selected environment (CLOUDFLARE_ENV)"
                );
                Err(source.error(span, message).help(help).into())
            }
            _ => Ok(()),
        }
    }

    /// The file without what was added to it, and that it is a generated one.
    pub fn take(&self, source: &Source, top: Node) -> (Node, Diagnostic) {
        let from = self.user.as_deref().unwrap_or("another file");
        let message = format!("this configuration was generated from {from}");
        let note = source.at(Severity::Note, 0..0, message).help("build again after a change there");
        let Value::Object(mut entries) = top.value else { return (top, note) };
        entries.retain(|entry| !ADDED.contains(&entry.key.as_str()));
        (Node { value: Value::Object(entries), span: top.span }, note)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::{LoadOptions, find, load};

    /// What wrangler's configuration writer makes of `{ name: app, env: { staging: {} } }` for `staging`, and what it is asked to be.
    const GENERATED: &str = r#"{"configPath":"/p/wrangler.jsonc","userConfigPath":"/p/wrangler.jsonc","topLevelName":"app",
        "definedEnvironments":["staging"],"targetEnvironment":"staging","name":"app-staging","main":"index.js","no_bundle":true,
        "k2":[],"cloudchamber":{},"logfwdr":{"bindings":[]},"upload_source_maps":true,"python_modules":{"exclude":["**/*.pyc"]},"assets":{"directory":"../client"}}"#;

    fn built(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".wrangler/deploy")).unwrap();
        fs::create_dir_all(dir.path().join("dist/app")).unwrap();
        let pointer = r#"{"configPath":"../../dist/app/wrangler.json","auxiliaryWorkers":[]}"#;
        fs::write(dir.path().join(".wrangler/deploy/config.json"), pointer).unwrap();
        fs::write(dir.path().join("wrangler.jsonc"), r#"{ "name": "app" }"#).unwrap();
        let text = text.replace("/p/", &format!("{}/", dir.path().display()));
        fs::write(dir.path().join("dist/app/wrangler.json"), text).unwrap();
        dir
    }

    #[test]
    fn what_a_tool_generated_is_loaded() {
        let dir = built(GENERATED);
        let path = find(dir.path()).unwrap();
        assert_eq!(path, dir.path().canonicalize().unwrap().join("dist/app/wrangler.json"));
        for (environment, deploying) in [(None, true), (Some("staging".to_owned()), true), (None, false)] {
            let options = LoadOptions { environment, deploying, ..LoadOptions::default() };
            let loaded = load(&path, &options).unwrap();
            assert_eq!(loaded.config.name, "app-staging");
            assert_eq!(loaded.config.project_dir, dir.path());
            assert_eq!(loaded.service.as_deref(), Some("app"));
            assert_eq!(loaded.config.environment.as_deref(), Some("staging"));
            assert!(loaded.raw.get("topLevelName").is_none() && loaded.raw.get("main").is_some());
            let [note] = loaded.notes.as_slice() else { panic!("{:?}", loaded.notes) };
            assert!(note.message.contains("/wrangler.jsonc"), "{note}");
        }
    }

    #[test]
    fn it_is_for_one_environment() {
        let path = |dir: &tempfile::TempDir| find(dir.path()).unwrap();
        let dir = built(GENERATED);
        let options = LoadOptions { environment: Some("other".into()), ..LoadOptions::default() };
        let error = load(&path(&dir), &options).unwrap_err().to_string();
        assert!(error.contains("does not match the target environment \"staging\""), "{error}");
        let dir = built(r#"{ "topLevelName": "app", "main": "x.js", "env": { "a": {} } }"#);
        let error = load(&path(&dir), &LoadOptions::default()).unwrap_err().to_string();
        assert!(error.contains("cannot include environments, but this has: a"), "{error}");
    }
}
