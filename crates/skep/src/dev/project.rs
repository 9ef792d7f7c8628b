//! One worker of a `skep dev` session: its files, its builds, what runs of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_assets::Assets;
use skep_bundle::{Bundle, Bundler, SourceMapper};
use skep_catalog::name_within;
use skep_config::{LoadOptions, Severity, WorkerConfig};
use skep_cron::{CronHandle, Expression};
use skep_fleet::Worker;
use skep_queues::ConsumerHandle;
use skep_runtime::{Clock, Shutdown};
use skep_toolchain::Toolchain;

use crate::assets::assets_config;
use crate::bundling::bundler;
use crate::dates;
use crate::events::{AtTimes, Noted, Report};
use crate::site;
use crate::stores::Stores;
use crate::terminal::{Style, paint, say};
use crate::wiring::workflows_of;

/// A worker's project.
pub struct Project {
    /// The configuration as it was last read. In a dispatch namespace the name is that of the two together.
    pub config: WorkerConfig,
    /// The dispatch namespace that it is in.
    pub namespace: Option<String>,
    /// Its static assets.
    pub assets: Option<Arc<Assets>>,
    /// What it was last built to.
    pub bundle: Option<Bundle>,
    /// Feeds its `queue()` handler while it lives.
    pub consumers: Vec<ConsumerHandle>,
    /// Fire its `scheduled()` handler and make instances of its Workflows while they live.
    pub crons: Vec<CronHandle>,
    bundler: Option<Bundler>,
    options: LoadOptions,
    /// Notes that have been printed: each is said once.
    said: BTreeSet<String>,
}

impl Project {
    /// Reads the configuration at `path`; `namespace` is the dispatch namespace that the worker is in.
    pub fn load(path: &Path, namespace: Option<String>, options: LoadOptions) -> Result<Self, String> {
        let mut project = Self {
            config: WorkerConfig { path: path.to_owned(), ..WorkerConfig::default() },
            namespace,
            assets: None,
            bundle: None,
            consumers: Vec::new(),
            crons: Vec::new(),
            bundler: None,
            options,
            said: BTreeSet::new(),
        };
        project.reload()?;
        Ok(project)
    }

    /// Reads the configuration again. On an error the old one stays.
    pub fn reload(&mut self) -> Result<(), String> {
        let loaded = skep_config::load(&self.config.path, &self.options).map_err(|e| e.to_string())?;
        for note in loaded.notes {
            let (text, style) = match note.severity {
                Severity::Note => (note.brief(), Style::Dim),
                Severity::Warning | Severity::Error => (note.to_string(), Style::Yellow),
            };
            if self.said.insert(text.clone()) {
                say(&paint(style, &text));
            }
        }
        for cron in &loaded.config.crons {
            cron.parse::<Expression>().map_err(|e| format!("the cron trigger \"{cron}\": {e}"))?;
        }
        for workflow in workflows_of(&loaded.config) {
            for cron in &workflow.settings.schedules {
                let wrong = |e| format!("the schedule \"{cron}\" of the Workflow \"{}\": {e}", workflow.name);
                cron.parse::<Expression>().map_err(wrong)?;
            }
        }
        self.config = loaded.config;
        if let Some(namespace) = &self.namespace {
            enter(namespace, &mut self.config);
        }
        self.bundler = None;
        if self.config.main.is_some() {
            let asked = self.config.compatibility_date.take();
            let supported = dates::supported(asked.as_deref(), &dates::today());
            if let Some(warning) = dates::warning(asked.as_deref(), &supported)
                && self.said.insert(warning.clone())
            {
                say(&paint(Style::Yellow, &format!("▲ {warning}")));
            }
            self.config.compatibility_date = Some(supported);
        }
        Ok(())
    }

    /// Starts what happens at certain times; `worker` runs it, `report` says what came of it.
    pub fn schedule(&mut self, worker: &Arc<Worker>, report: &Report, clock: &Clock, shutdown: &Shutdown) {
        let at_times = AtTimes { worker, report, clock, shutdown };
        let workflows = workflows_of(&self.config).into_iter();
        let mut crons: Vec<CronHandle> = workflows
            .filter_map(|workflow| at_times.workflow(&workflow.name, &workflow.settings.schedules))
            .collect();
        crons.extend(at_times.handler(&self.config.crons, Box::new(Noted::not)));
        self.crons = crons;
    }

    /// Builds the code; `None` for a project of assets alone.
    pub async fn build(&mut self, tools: &Toolchain) -> Result<Option<&Bundle>, String> {
        let Some(main) = self.config.main.clone() else { return Ok(None) };
        if let Some(command) = &self.config.bundle.command {
            let folder = self.config.bundle.command_dir.clone().unwrap_or_else(|| self.config.dir.clone());
            say(&paint(Style::Dim, &format!("Running: {command}")));
            let print = |line: &str| say(&paint(Style::Dim, line));
            skep_bundle::run_custom_build(command, &folder, print).await.map_err(|e| e.to_string())?;
        }
        if self.bundler.is_none() {
            self.bundler = Some(bundler(&self.config, &main, tools, "development").await?);
        }
        let Some(bundler) = &mut self.bundler else { return Ok(None) };
        let bundle = bundler.build().await.map_err(|e| e.to_string())?;
        for warning in &bundle.warnings {
            let text = warning.render("▲ [WARNING]");
            if self.said.insert(text.clone()) {
                say(&paint(Style::Yellow, &text));
            }
        }
        Ok(Some(self.bundle.insert(bundle)))
    }

    /// Puts the files of a Workers Site where its code reads them; `is_start`: nothing of it runs yet, or all is made anew.
    pub async fn publish_site(&mut self, stores: &Stores, is_start: bool) -> Result<(), String> {
        let Some(bundle) = &mut self.bundle else { return Ok(()) };
        site::publish(&self.config, stores, bundle, is_start).await
    }

    /// Opens the assets folder, or reads it again.
    pub async fn load_assets(&mut self) -> Result<(), String> {
        let Some(config) = &self.config.assets else {
            self.assets = None;
            return Ok(());
        };
        let directory = config.directory.clone();
        let options = assets_config(&self.config)?;
        let opened = tokio::task::spawn_blocking(move || Assets::open(&directory, options)).await;
        let (assets, warnings) = opened.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        for warning in warnings {
            let text = warning.to_string();
            if self.said.insert(text.clone()) {
                say(&paint(Style::Yellow, &text));
            }
        }
        self.assets = Some(assets);
        Ok(())
    }

    /// The source map of the last build.
    pub fn sources(&self) -> Option<Arc<SourceMapper>> {
        let map = self.bundle.as_ref()?.source_map.as_ref()?;
        SourceMapper::new(map).ok().map(Arc::new)
    }

    /// Files whose change asks for a new build, and folders for which every change does.
    pub fn watched(&self) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
        let mut files: BTreeSet<PathBuf> = self
            .bundle
            .iter()
            .flat_map(|b| &b.inputs)
            .filter(|path| crate::watch::is_source(path))
            .cloned()
            .collect();
        files.extend(self.config.main.iter().cloned());
        files.insert(self.config.path.clone());
        let mut trees = BTreeSet::new();
        trees.extend(self.config.assets.iter().map(|a| a.directory.clone()));
        trees.extend(self.config.site.iter().map(|site| site.bucket.clone()));
        if self.config.bundle.command.is_some() {
            trees.extend(self.config.bundle.watch_dirs.iter().filter(|dir| dir.is_dir()).cloned());
        }
        (files, trees)
    }

    /// What a change to `path` means for this project.
    pub fn affected(&self, path: &Path) -> Affected {
        if path == self.config.path
            || (path.parent() == Some(&self.config.dir) && skep_config::is_read_too(path))
        {
            return Affected::Configuration;
        }
        if self.config.assets.as_ref().is_some_and(|assets| path.starts_with(&assets.directory)) {
            return Affected::Assets;
        }
        let (files, trees) = self.watched();
        match files.contains(path) || trees.iter().any(|tree| path.starts_with(tree)) {
            true => Affected::Code,
            false => Affected::Nothing,
        }
    }
}

/// Gives a worker the name that it has within a dispatch namespace. What it calls by its own name stays its own.
fn enter(namespace: &str, config: &mut WorkerConfig) {
    let name = name_within(namespace, &config.name);
    let label = std::mem::replace(&mut config.name, name);
    let scripts = config.durable_objects.iter_mut().map(|binding| &mut binding.script_name);
    for script in scripts.chain(config.workflows.iter_mut().map(|binding| &mut binding.script_name)) {
        if script.as_ref() == Some(&label) {
            *script = None;
        }
    }
}

/// What has to be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Affected {
    /// Nothing.
    Nothing,
    /// The assets are to be read again.
    Assets,
    /// The code is to be built again.
    Code,
    /// Everything.
    Configuration,
}
