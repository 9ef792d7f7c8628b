//! From a configuration to its bundler, and to the packages that it needs.

use std::path::{Path, PathBuf};

use skep_bundle::{BundleOptions, Bundler};
use skep_config::WorkerConfig;
use skep_toolchain::Toolchain;

use crate::dates;
use crate::terminal::is_interactive;

/// The bundler of the project whose entry file is `main`; `node_env` is what `NODE_ENV` is unless the environment says
/// another: wrangler's is `development` while one develops, `production` for a deploy.
pub async fn bundler(
    config: &WorkerConfig,
    main: &Path,
    tools: &Toolchain,
    node_env: &str,
) -> Result<Bundler, String> {
    let mut options = BundleOptions::new(main, &config.dir);
    let bundle = &config.bundle;
    options.config_path = Some(config.path.clone());
    options.rules = rules(config);
    options.alias = bundle.alias.clone().into_iter().collect();
    options.define = bundle.define.clone().into_iter().collect();
    options.compatibility_date =
        config.compatibility_date.clone().unwrap_or_else(|| dates::ENGINE_DATE.into());
    options.compatibility_flags.clone_from(&config.compatibility_flags);
    options.no_bundle = bundle.no_bundle;
    options.find_additional_modules = bundle.find_additional_modules;
    options.base_dir.clone_from(&bundle.base_dir);
    options.preserve_file_names = bundle.preserve_file_names;
    options.keep_names = bundle.keep_names.unwrap_or(true);
    options.minify = bundle.minify;
    options.tsconfig.clone_from(&bundle.tsconfig);
    if bundle.jsx_factory.is_some() {
        options.jsx_factory.clone_from(&bundle.jsx_factory);
    }
    if bundle.jsx_fragment.is_some() {
        options.jsx_fragment.clone_from(&bundle.jsx_fragment);
    }
    options.node_env =
        std::env::var("NODE_ENV").ok().filter(|v| !v.is_empty()).unwrap_or(node_env.to_owned());
    let (tools, needs_unenv) = (tools.clone(), options.needs_unenv());
    let fetched = tokio::task::spawn_blocking(move || {
        let unenv = if needs_unenv { tools.unenv()? } else { PathBuf::new() };
        Ok::<_, skep_toolchain::ToolchainError>((tools.esbuild()?, unenv))
    });
    let (esbuild, unenv) = fetched.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    options.unenv = unenv;
    Ok(Bundler::new(esbuild, options))
}

/// The rules of the configuration.
pub fn rules(config: &WorkerConfig) -> Vec<skep_bundle::Rule> {
    config.bundle.rules.iter().filter_map(rule).collect()
}

fn rule(rule: &skep_config::Rule) -> Option<skep_bundle::Rule> {
    use skep_bundle::RuleKind;
    let kinds =
        [RuleKind::EsModule, RuleKind::CommonJs, RuleKind::Text, RuleKind::Data, RuleKind::CompiledWasm];
    let kind = kinds.into_iter().find(|kind| kind.name() == rule.kind)?;
    Some(skep_bundle::Rule { kind, globs: rule.globs.clone(), fallthrough: rule.fallthrough })
}

/// Installs the npm dependencies of a project with a lock file and no `node_modules`; asks first where somebody is there to
/// answer, unless `yes`.
pub async fn install_dependencies(
    config: &WorkerConfig,
    yes: bool,
    print: &impl Fn(&str),
) -> Result<(), String> {
    let Some(missing) = skep_bundle::missing_dependencies(&config.dir) else { return Ok(()) };
    let command = missing.client.command().join(" ");
    let place = missing.folder.display();
    let question = format!("{place} has no node_modules. Run `{command}` there? [Y/n] ");
    if !yes && is_interactive() && !confirmed(&question) {
        return Ok(());
    }
    print(&format!("Installing dependencies: {command} in {place}"));
    missing.install().await.map_err(|e| e.to_string())
}

fn confirmed(question: &str) -> bool {
    use std::io::Write;
    print!("{question}");
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer).is_ok();
    read && !answer.trim().to_lowercase().starts_with('n')
}
