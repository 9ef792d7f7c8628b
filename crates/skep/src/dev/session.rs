//! All that runs during `skep dev`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use skep_browser::Browsers;
use skep_config::ObjectExport;
use skep_d1::Migrations;
use skep_fleet::{CellSpec, Code, Fleet, expose};
use skep_images::Images;
use skep_runtime::{Clock, Shutdown};
use skep_toolchain::Toolchain;

use super::boxes::Boxes;
use super::consumers;
use super::dispatch::Namespaces;
use super::output::Output;
use super::project::{Affected, Project};
use super::{complain, shown};
use crate::events::{Noted, QueueConsumer, Report, consumer_settings};
use crate::inspector::Sources;
use crate::mail::Inbox;
use crate::namespaces::{follow_exports, migrate};
use crate::stand_ins::Running;
use crate::stores::Stores;
use crate::terminal::{Style, paint, say};
use crate::watch::Watcher;
use crate::wiring::{Wired, wire};

/// The projects and everything that they run on.
pub struct Session {
    pub projects: Vec<Project>,
    pub stores: Stores,
    pub images: Images,
    /// What runs models.
    pub ai: Arc<skep_ai::Ai>,
    pub browsers: Arc<Browsers>,
    pub tools: Toolchain,
    pub fleet: Fleet,
    pub output: Arc<Output>,
    /// What is in dispatch namespaces.
    pub namespaces: Arc<Namespaces>,
    /// Takes mail for the first worker.
    pub inbox: Arc<Inbox>,
    pub clock: Clock,
    pub shutdown: Shutdown,
    /// The source maps of the first worker, once DevTools can ask for them.
    pub maps: Option<Arc<Sources>>,
    /// What runs beside Durable Objects.
    pub boxes: Boxes,
}

impl Session {
    /// Brings everything up; returns the table of the first worker's bindings. What does not start is
    /// reported, and waits for the next change.
    pub async fn start(&mut self) -> Vec<[String; 3]> {
        let mut rows = Vec::new();
        for n in 0..self.projects.len() {
            if let Err(error) = self.prepare(n, Affected::Configuration).await {
                self.failed(n, &error).await;
            }
        }
        if let Err((n, error)) = self.hand_over().await {
            self.failed(n, &error).await;
        }
        for (n, wired) in self.wire_all() {
            match wired {
                Ok(wired) => {
                    if n == 0 {
                        rows = wired.table;
                    }
                    if let Err(error) = self.deploy(n, wired.spec).await {
                        self.failed(n, &error).await;
                    }
                }
                Err(error) => self.failed(n, &error).await,
            }
        }
        rows
    }

    /// The cells of all projects, without starting them.
    pub async fn specs(&mut self) -> Result<Vec<CellSpec>, String> {
        for n in 0..self.projects.len() {
            self.prepare(n, Affected::Configuration).await?;
        }
        self.hand_over().await.map_err(|(_, error)| error)?;
        self.wire_all().into_iter().map(|(_, wired)| Ok(wired?.spec)).collect()
    }

    /// Does again what the changed files make necessary.
    pub async fn follow(&mut self, changed: &BTreeSet<PathBuf>) {
        for n in 0..self.projects.len() {
            let project = &self.projects[n];
            let affected =
                changed.iter().map(|path| project.affected(path)).max().unwrap_or(Affected::Nothing);
            if affected == Affected::Nothing {
                continue;
            }
            let start = Instant::now();
            match self.again(n, affected).await {
                Ok(()) => {
                    let project = &self.projects[n];
                    let name = paint(Style::Dim, &format!("[{}]", project.config.name));
                    say(&format!("{name} Reloaded in {} ms", start.elapsed().as_millis()));
                }
                Err(error) => self.failed(n, &error).await,
            }
        }
    }

    async fn again(&mut self, n: usize, affected: Affected) -> Result<(), String> {
        if affected == Affected::Configuration {
            self.projects[n].reload()?;
        }
        self.prepare(n, affected).await?;
        if affected == Affected::Assets {
            return Ok(());
        }
        if affected == Affected::Configuration {
            self.hand_over().await.map_err(|(_, error)| error)?;
        }
        // Others may be exposed to this one: their sockets are made from all configurations.
        for (other, wired) in self.wire_all() {
            let wired = wired?;
            if other == n || affected == Affected::Configuration {
                self.deploy(other, wired.spec).await?;
            }
        }
        Ok(())
    }

    /// Gives away the classes that workers declare transferred, now that the others have said what they expect. On an
    /// error it says of which worker.
    async fn hand_over(&self) -> Result<(), (usize, String)> {
        let gives = |export: &ObjectExport| matches!(export, ObjectExport::Transferred { .. });
        for (n, project) in self.projects.iter().enumerate() {
            if project.config.exports.values().any(gives) {
                follow_exports(&project.config, &self.stores).await.map_err(|error| (n, error))?;
            }
        }
        Ok(())
    }

    /// Everything before a cell: migrations, assets, the build.
    async fn prepare(&mut self, n: usize, affected: Affected) -> Result<(), String> {
        let (stores, tools) = (&self.stores, &self.tools);
        let project = &mut self.projects[n];
        if affected == Affected::Configuration {
            migrate(&project.config, stores).await?;
            apply_d1_migrations(project, stores).await?;
            self.boxes.prepare(&project.config, &stores.dir, false).await?;
        }
        match (&project.assets, affected) {
            (Some(assets), Affected::Assets | Affected::Code) => {
                let assets = assets.clone();
                let reload = tokio::task::spawn_blocking(move || assets.reload()).await;
                let warnings = reload.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
                for warning in warnings {
                    say(&paint(Style::Yellow, &warning.to_string()));
                }
            }
            _ => project.load_assets().await?,
        }
        if affected >= Affected::Code {
            project.build(tools).await?;
            project.publish_site(stores, affected == Affected::Configuration).await?;
        }
        Ok(())
    }

    /// Builds the images of all containers again. Containers that run end; the next use of each starts the new image.
    pub async fn rebuild(&mut self) {
        for n in 0..self.projects.len() {
            if let Err(error) = self.rebuild_one(n).await {
                self.failed(n, &error).await;
            }
        }
    }

    async fn rebuild_one(&mut self, n: usize) -> Result<(), String> {
        let config = &self.projects[n].config;
        if config.containers.is_empty() {
            return Ok(());
        }
        self.boxes.prepare(config, &self.stores.dir, true).await?;
        let name = config.name.clone();
        for (other, wired) in self.wire_all() {
            if other == n {
                self.deploy(other, wired?.spec).await?;
            }
        }
        self.boxes.remove_all(&name).await?;
        say(&format!("{} Containers are rebuilt", paint(Style::Dim, &format!("[{name}]"))));
        Ok(())
    }

    /// The cell of every project that has been built.
    fn wire_all(&mut self) -> Vec<(usize, Result<Wired, String>)> {
        let mut all = Vec::new();
        let mut specs = Vec::new();
        let (scripts, sites): (Vec<_>, Vec<_>) =
            self.projects.iter().partition(|project| project.config.main.is_some());
        let running = Running {
            scripts: scripts
                .iter()
                .filter(|project| project.namespace.is_none())
                .map(|project| project.config.name.clone())
                .collect(),
            sites: sites.iter().filter_map(|p| Some((p.config.name.clone(), p.assets.clone()?))).collect(),
        };
        self.namespaces.learn(&self.projects, |name| self.fleet.worker(name));
        for (n, project) in self.projects.iter().enumerate() {
            let Some(bundle) = &project.bundle else { continue };
            match wire(
                &project.config,
                bundle,
                &self.stores,
                &self.images,
                project.assets.as_ref(),
                &running,
                None,
            ) {
                Ok(mut wired) => {
                    wired.spec.absent = running.missed(wired.spec.bindings.values());
                    if let (0, Some(maps), Some(map)) = (n, &self.maps, &bundle.source_map) {
                        lead(&mut wired.spec.code, maps, map);
                    }
                    if n == 0 {
                        wired.spec.services.insert("inbox".into(), self.inbox.clone());
                        wired.spec.mail = Some("inbox".into());
                    }
                    let rows =
                        crate::ai::add(&self.ai, &project.config.name, &project.config, &mut wired.spec);
                    wired.table.extend(rows);
                    wired.table.extend(crate::browser::add(
                        Some(&self.browsers),
                        &project.config,
                        &mut wired.spec,
                    ));
                    self.namespaces.add(project, &mut wired);
                    consumers::add(project, &running, &self.fleet, &mut wired);
                    match self.stores.catalog.namespaces(&project.config.name) {
                        Ok(own) => self.boxes.add(&project.config, &own, &mut wired),
                        Err(error) => complain("containers", &error.to_string()),
                    }
                    specs.push(wired.spec);
                    all.push((n, Ok(wired.table)));
                }
                Err(error) => all.push((n, Err(error))),
            }
        }
        expose(&mut specs);
        self.namespaces.expose(&mut specs);
        specs.iter_mut().for_each(CellSpec::hide_gone);
        let mut specs = specs.into_iter();
        all.into_iter()
            .filter_map(|(n, table)| match table {
                Ok(table) => specs.next().map(|spec| (n, Ok(Wired { spec, table }))),
                Err(error) => Some((n, Err(error))),
            })
            .collect()
    }

    async fn deploy(&mut self, n: usize, spec: CellSpec) -> Result<(), String> {
        let project = &mut self.projects[n];
        let sources = project.sources();
        let deployed = self.fleet.deploy(spec).await;
        if let Err(error) = deployed {
            let text = error.to_string();
            return Err(match sources {
                Some(sources) => sources.map_stack(&text),
                None => text,
            });
        }
        self.output.set_sources(&project.config.name, sources);
        let worker = self.fleet.worker(&project.config.name);
        let queues = &self.stores.queues;
        project.consumers = project
            .config
            .queue_consumers
            .iter()
            .map(|c| {
                let deliver = QueueConsumer { worker: worker.clone(), note: Box::new(Noted::not) };
                queues.consume(&c.queue, consumer_settings(c), Arc::new(deliver))
            })
            .collect();
        let name = project.config.name.clone();
        let report: Report =
            Arc::new(move |text: &str| say(&format!("{} {text}", paint(Style::Dim, &format!("[{name}]")))));
        project.schedule(&worker, &report, &self.clock, &self.shutdown);
        Ok(())
    }

    async fn failed(&self, n: usize, error: &str) {
        let config = &self.projects[n].config;
        complain(&shown(&config.path), error);
        self.fleet.set_broken(&config.name, error).await;
    }

    /// Follows the files that all projects are made of now.
    pub fn watch(&self, watcher: &mut Watcher) {
        let mut files = BTreeSet::new();
        let mut trees = BTreeSet::new();
        for project in &self.projects {
            let (own_files, own_trees) = project.watched();
            files.extend(own_files);
            trees.extend(own_trees);
        }
        watcher.set(&files, &trees);
    }

    /// Ends everything: nothing new is delivered, cells end.
    pub async fn stop(&mut self) {
        for project in &mut self.projects {
            project.consumers.clear();
            project.crons.clear();
        }
        self.fleet.stop().await;
        self.browsers.close_all().await;
        self.boxes.stop().await;
    }
}

/// Has the main module say where DevTools find its source map.
fn lead(code: &mut Code, maps: &Sources, map: &Bytes) {
    let content = match code {
        Code::Modules(modules) => modules.first_mut().map(|main| &mut main.content),
        Code::ServiceWorker(script) => Some(script),
    };
    if let Some(content) = content {
        *content = maps.lead(content, map);
    }
}

/// Applies the SQL migrations of a project's databases, as `wrangler d1 migrations apply` does.
async fn apply_d1_migrations(project: &Project, stores: &Stores) -> Result<(), String> {
    for database in &project.config.d1_databases {
        if !database.migrations_dir.is_dir() {
            continue;
        }
        let server = stores.d1.database(&database.database_id).map_err(|e| e.to_string())?;
        let migrations = Migrations {
            dir: database.migrations_dir.clone(),
            pattern: database.migrations_pattern.clone(),
            table: database.migrations_table.clone(),
        };
        let applied = server.migrate(&migrations).await;
        let applied = applied.map_err(|e| format!("the migrations of {}: {e}", database.binding))?;
        for name in applied {
            say(&paint(Style::Dim, &format!("Applied migration {name} to {}", database.binding)));
        }
    }
    Ok(())
}
