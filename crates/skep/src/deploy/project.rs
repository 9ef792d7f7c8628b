//! Reads a project and builds it. What is read is bounded: sizes, and links that lead elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use skep_assets::{Assets, site_files};
use skep_bundle::{Bundle, ModuleKind};
use skep_config::{LoadOptions, Loaded, Severity, WorkerConfig};
use skep_deploy::{AssetFile, AssetFiles, Blob, Client, Project, Settings, SiteFiles, add_manifest};
use skep_toolchain::Toolchain;

use super::args::DeployArgs;
use crate::assets::assets_config;
use crate::bundling::{bundler, install_dependencies};
use crate::named::{Named, named};
use crate::terminal::{Style, paint};

/// The longest file of settings: a configuration, secrets, `_headers`.
pub const MAX_TEXT: u64 = 4 << 20;
/// The longest SQL migration.
const MAX_MIGRATION: u64 = 64 << 20;
/// The largest script, all modules together: Cloudflare takes 64 MiB before compression.
const MAX_CODE: usize = 128 << 20;

/// Reads the configuration; `text` is taken instead of the file's content.
pub fn load(args: &DeployArgs, text: Option<String>) -> Result<Loaded, String> {
    let Named { config, main } = named(&args.project.dir);
    let path = match &args.project.config {
        Some(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        None => config.ok_or_else(|| {
            let dir = args.project.dir.display();
            format!("there is no wrangler.json, wrangler.jsonc or wrangler.toml in {dir}")
        })?,
    };
    let (environment, vars) = (args.project.env.clone(), args.vars.clone());
    let options = LoadOptions { environment, vars, deploying: true, main, text };
    limited(&path, MAX_TEXT)?;
    skep_config::load(&path, &options).map_err(|e| e.to_string())
}

/// Refuses containers, with their place, where the server runs none. One that does not say so is asked again by the deploy.
pub async fn check_containers(loaded: &Loaded, args: &DeployArgs, client: &Client) -> Result<(), String> {
    if loaded.raw["containers"].as_array().is_none_or(Vec::is_empty) {
        return Ok(());
    }
    let Ok(me) = client.get("{account}/containers/me").await else { return Ok(()) };
    if me.result["limits"]["vcpu_per_deployment"].as_f64() != Some(0.0) {
        return Ok(());
    }
    let options = LoadOptions { environment: args.project.env.clone(), ..LoadOptions::default() };
    let message = "\"containers\" cannot be deployed: this server runs none";
    let error = skep_config::refusal(&loaded.config.path, &options, "containers", message);
    let help = "start the node with `skep serve --containers`, which runs them with Docker, deploy with --target cloudflare, or keep \
        them in an `env` that goes there";
    Err(error.help(help).to_string())
}

/// Builds the code, lists the assets, reads migrations and secrets.
pub async fn build(
    mut loaded: Loaded,
    args: &DeployArgs,
    settings: &Settings,
    variable: impl Fn(&str) -> Option<String>,
    print: impl Fn(&str),
) -> Result<Project, String> {
    for note in &loaded.notes {
        match note.severity {
            Severity::Note => print(&paint(Style::Dim, &note.brief())),
            Severity::Warning | Severity::Error => print(&paint(Style::Yellow, &note.to_string())),
        }
    }
    let config = loaded.config;
    if config.compatibility_date.is_none() && config.main.is_some() {
        return Err(format!(
            "A compatibility_date is required when publishing. Add one to {}, such as \"compatibility_date\": \"{}\"",
            config.path.display(),
            crate::dates::today()
        ));
    }
    let mut secrets = args.secrets_file.as_deref().map(secrets).transpose()?.unwrap_or_default();
    let given = |name: &str| {
        let own = args.vars.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        own.or_else(|| secrets.get(name).cloned()).or_else(|| variable(name))
    };
    let mut values = settings.values(given, &loaded.raw["vars"]);
    values.problems.extend(settings.size_containers(&mut loaded.raw, &variable));
    for cron in &config.crons {
        if let Err(error) = cron.parse::<skep_cron::Expression>() {
            values.problems.push(format!("the cron trigger \"{cron}\": {error}"));
        }
    }
    secrets.extend(values.secrets);
    let mut vars = values.vars;
    for (name, value) in args.vars.iter().filter(|(name, _)| !secrets.contains_key(name)) {
        if vars.iter().all(|(known, _)| known != name) {
            vars.push((name.clone(), value.clone().into()));
        }
    }
    let d1_migrations = migrations(&config)?;
    install_dependencies(&config, args.yes, &print).await?;
    let mut code = code(&config, &print).await?;
    let site = site(&config).await?;
    if let (Some(code), Some(files)) = (&mut code, &site) {
        add_manifest(code, files);
    }
    let blobs = blobs(&config, &loaded.raw)?;
    let assets = assets(&config, &print).await?;
    Ok(Project {
        raw: loaded.raw,
        service: loaded.service,
        vars,
        required_secrets: values.required_secrets,
        problems: values.problems,
        templates: None,
        config,
        code,
        assets,
        site,
        blobs,
        d1_migrations,
        secrets,
    })
}

async fn code(config: &WorkerConfig, print: &impl Fn(&str)) -> Result<Option<Bundle>, String> {
    let Some(main) = &config.main else { return Ok(None) };
    if let Some(command) = &config.bundle.command {
        let folder = config.bundle.command_dir.clone().unwrap_or_else(|| config.dir.clone());
        print(&paint(Style::Dim, &format!("Running: {command}")));
        let line = |line: &str| print(&paint(Style::Dim, line));
        skep_bundle::run_custom_build(command, &folder, line).await.map_err(|e| e.to_string())?;
    }
    let tools = Toolchain::locate(None).map_err(|e| e.to_string())?;
    let built = bundler(config, main, &tools, "production").await?.build().await;
    let bundle = built.map_err(|e| e.to_string())?;
    for warning in &bundle.warnings {
        print(&paint(Style::Yellow, &warning.render("▲ [WARNING]")));
    }
    let size: usize = bundle.modules.iter().map(|module| module.content.len()).sum();
    match size > MAX_CODE {
        true => Err(format!("the script has {size} bytes; at most {MAX_CODE} can be uploaded")),
        false => Ok(Some(bundle)),
    }
}

async fn assets(config: &WorkerConfig, print: &impl Fn(&str)) -> Result<Option<AssetFiles>, String> {
    let Some(own) = &config.assets else { return Ok(None) };
    let directory = own.directory.clone();
    let options = assets_config(config)?;
    let opened = tokio::task::spawn_blocking(move || Assets::open(&directory, options)).await;
    let (assets, warnings) = opened.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    for warning in warnings {
        print(&paint(Style::Yellow, &warning.to_string()));
    }
    let inside = Inside::new(config, &own.directory)?;
    let mut files = Vec::new();
    for entry in assets.entries() {
        inside.check(&entry.file)?;
        let skep_assets::AssetEntry { path, file, hash, size, content_type } = entry;
        files.push(AssetFile { path, file, hash, size, content_type });
    }
    let rules = |name: &str| -> Result<Option<String>, String> {
        let path = own.directory.join(name);
        match path.is_file() {
            true => inside.check(&path).and_then(|()| limited(&path, MAX_TEXT)).map(Some),
            false => Ok(None),
        }
    };
    Ok(Some(AssetFiles { files, redirects: rules("_redirects")?, headers: rules("_headers")? }))
}

/// The files of a Workers Site.
async fn site(config: &WorkerConfig) -> Result<Option<SiteFiles>, String> {
    let Some(site) = config.site.clone() else { return Ok(None) };
    let bucket = site.bucket.clone();
    let read = tokio::task::spawn_blocking(move || site_files(&site.bucket, &site.include, &site.exclude));
    let files = read.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let inside = Inside::new(config, &bucket)?;
    files.values().try_for_each(|file| inside.check(&file.file))?;
    Ok(Some(files))
}

/// What the configuration names as globals of a script, in the order of the file.
fn blobs(config: &WorkerConfig, raw: &Json) -> Result<Vec<Blob>, String> {
    let all = [
        ("wasm_modules", &config.wasm_modules, ModuleKind::Wasm),
        ("text_blobs", &config.text_blobs, ModuleKind::Text),
        ("data_blobs", &config.data_blobs, ModuleKind::Data),
    ];
    let mut blobs = Vec::new();
    for (key, files, kind) in all {
        for name in raw[key].as_object().into_iter().flat_map(|own| own.keys()) {
            let Some(file) = files.get(name) else { continue };
            let unread = |e: std::io::Error| format!("cannot read {}: {e}", file.display());
            Inside::new(config, &config.dir)?.check(file)?;
            if std::fs::metadata(file).map_err(unread)?.len() > MAX_CODE as u64 {
                return Err(format!("{} has more than {MAX_CODE} bytes", file.display()));
            }
            let content = std::fs::read(file).map_err(unread)?.into();
            blobs.push(Blob { name: name.clone(), kind, file: file.clone(), content });
        }
    }
    Ok(blobs)
}

/// Folders that what is deployed has to lie in, once all links are followed.
struct Inside(Vec<PathBuf>);

impl Inside {
    fn new(config: &WorkerConfig, directory: &Path) -> Result<Self, String> {
        let real =
            |path: &Path| path.canonicalize().map_err(|e| format!("cannot read {}: {e}", path.display()));
        Ok(Self(vec![real(&config.dir)?, real(directory)?]))
    }

    fn check(&self, file: &Path) -> Result<(), String> {
        let real = file.canonicalize().map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        match self.0.iter().any(|folder| real.starts_with(folder)) {
            true => Ok(()),
            false => Err(format!(
                "{} is a link to {}, which is outside of the project: it is not deployed",
                file.display(),
                real.display()
            )),
        }
    }
}

/// The SQL migrations of each D1 binding that has a folder of them.
fn migrations(config: &WorkerConfig) -> Result<BTreeMap<String, Vec<(String, String)>>, String> {
    let mut all = BTreeMap::new();
    for database in config.d1_databases.iter().filter(|own| own.migrations_dir.is_dir()) {
        let inside = Inside::new(config, &database.migrations_dir)?;
        let migrations = skep_d1::Migrations {
            pattern: database.migrations_pattern.clone(),
            ..skep_d1::Migrations::new(&database.migrations_dir)
        };
        let names = migrations.names().map_err(|e| e.to_string())?;
        let mut files = Vec::new();
        for name in names {
            let path = database.migrations_dir.join(&name);
            inside.check(&path)?;
            files.push((name, limited(&path, MAX_MIGRATION)?));
        }
        all.insert(database.binding.clone(), files);
    }
    Ok(all)
}

/// `NAME=value` lines, or a JSON object of strings.
fn secrets(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = limited(path, MAX_TEXT)?;
    if !text.trim_start().starts_with('{') {
        return Ok(skep_config::parse_variables(&text));
    }
    let json: Json = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let pair = |(name, value): (&String, &Json)| match value.as_str() {
        Some(text) => Ok((name.clone(), text.to_owned())),
        None => Err(format!("{}: the secret \"{name}\" is not a string", path.display())),
    };
    json.as_object().into_iter().flatten().map(pair).collect()
}

/// A text file of at most `most` bytes.
pub fn limited(path: &Path, most: u64) -> Result<String, String> {
    use std::io::Read;
    let failed = |e: std::io::Error| format!("cannot read {}: {e}", path.display());
    let mut text = String::new();
    std::fs::File::open(path).map_err(failed)?.take(most + 1).read_to_string(&mut text).map_err(failed)?;
    match text.len() as u64 > most {
        true => Err(format!("{} has more than {most} bytes", path.display())),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_may_not_lead_out_of_the_project() {
        let (project, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let public = project.path().join("public");
        std::fs::create_dir(&public).unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        std::fs::write(project.path().join("shared.txt"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), public.join("bad.txt")).unwrap();
        std::os::unix::fs::symlink(project.path().join("shared.txt"), public.join("good.txt")).unwrap();
        let config = WorkerConfig { dir: project.path().to_owned(), ..WorkerConfig::default() };
        let inside = Inside::new(&config, &public).unwrap();
        assert!(inside.check(&public.join("good.txt")).is_ok());
        assert!(inside.check(&public.join("bad.txt")).unwrap_err().contains("outside of the project"));
    }

    #[test]
    fn secrets_are_lines_or_json_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "A=1\nB=\"two\\nlines\"\n").unwrap();
        assert_eq!(secrets(&path).unwrap()["B"], "two\nlines");
        std::fs::write(&path, r#"{ "A": "1" }"#).unwrap();
        assert_eq!(secrets(&path).unwrap()["A"], "1");
        std::fs::write(&path, r#"{ "A": 1 }"#).unwrap();
        assert!(secrets(&path).unwrap_err().contains("\"A\" is not a string"));
        assert!(limited(&path, 3).unwrap_err().contains("more than 3 bytes"));
    }
}
