//! `skep dev`: runs one or several projects on this machine and follows their files.

mod boxes;
mod consumers;
mod dispatch;
mod listen;
mod local;
mod origin;
mod output;
mod project;
mod s3;
mod session;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_config::LoadOptions;
use skep_edge::{EdgeLimits, EdgeOptions, Router, Site};
use skep_fleet::{Fleet, FleetOptions, Machine, MachineOptions, print_config};
use skep_runtime::{Clock, Jobs, Shutdown};
use skep_sandbox::Sandbox;
use skep_toolchain::Toolchain;

use crate::args::DevArgs;
use crate::bundling::install_dependencies;
use crate::keys::{HELP, Key, Keyboard, REBUILD};
use crate::mail::Inbox;
use crate::named::{Named, named};
use crate::signals::Signals;
use crate::stores::{Keeping, Stores};
use crate::terminal::{Style, is_interactive, paint, say, table};
use crate::watch::Watcher;
use crate::{inspector, terminal};
use boxes::Boxes;
use dispatch::Namespaces;
use local::{Events, Local};
use output::Output;
use project::Project;
use s3::S3;
use session::Session;

pub use listen::timezone;

/// Engines that wait for the next save: one shows whether the code starts, one runs it.
const WAITING: usize = 2;

/// Runs until a signal or a key ends it.
pub async fn run(args: DevArgs) -> Result<(), String> {
    let (trigger, shutdown) = Shutdown::new();
    let signals = Signals::listen()?;
    let projects = load_projects(&args)?;
    for project in &projects {
        install_dependencies(&project.config, args.yes, &say).await?;
    }

    // Before anything asks how many these may be.
    crate::files::open_many();
    let ai = args.ai.open(|name| std::env::var(name).ok())?;
    let clock = Clock::system();
    let jobs = Jobs::new(clock.clone(), shutdown.clone());
    crate::stores::let_sleep(&jobs);
    let state = state_folder(&args, &projects);
    // What a database was a while ago is not kept: this state is there to be thrown away.
    let stores =
        Stores::open(&state, "--persist-to", &clock, &jobs, &shutdown, Keeping::default(), &Arc::default())?;
    let images = crate::images::open()?;
    let tools = Toolchain::locate(args.workerd.clone()).map_err(|e| e.to_string())?;
    let browsers = crate::browser::open(args.browser.clone(), &tools);
    let engine = {
        let tools = tools.clone();
        tokio::task::spawn_blocking(move || tools.engine())
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?
    };
    let output = Arc::new(Output::default());
    let machine = Machine::new(MachineOptions {
        launcher: std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?,
        engine,
        sandbox: Sandbox::none(),
        max_cells: usize::MAX,
        waiting: WAITING,
        // A site of assets alone needs none.
        wait_at_once: false,
    });
    let machine = machine.map_err(|e| format!("cannot make the folder for cells' sockets: {e}"))?;
    let fleet = Fleet::new(FleetOptions {
        machine: machine.clone(),
        log: {
            let output = output.clone();
            Arc::new(move |log| output.print(&log))
        },
        wanted: None,
        rest: None,
        per_script: std::thread::available_parallelism().map_or(1, usize::from),
        requests: usize::MAX,
    });

    let namespaces = Namespaces::open(&state.join("dispatch.key"))?;
    let inbox = Arc::new(Inbox::new(stores.mail()));
    let mut session = Session {
        projects,
        stores,
        images,
        ai,
        browsers,
        tools,
        fleet,
        output,
        namespaces,
        inbox,
        clock,
        shutdown: shutdown.clone(),
        maps: None,
        boxes: Boxes::new(args.container_engine.clone(), args.enable_containers),
    };
    if args.print_config {
        for spec in session.specs().await? {
            say(&print_config(&spec));
        }
        return Ok(());
    }
    let result = serve(&args, &mut session, &jobs, &shutdown, signals).await;
    trigger.trigger();
    session.stop().await;
    machine.stop().await;
    result
}

async fn serve(
    args: &DevArgs,
    session: &mut Session,
    jobs: &Jobs,
    shutdown: &Shutdown,
    mut signals: Signals,
) -> Result<(), String> {
    let config = &session.projects[0].config;
    let listener = listen::visitors(args, &config.dev).await?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let inspector = listen::inspector(args, &config.dev).await?;
    let inspector_port = inspector.local_addr().map_err(|e| e.to_string())?.port();
    let first = session.fleet.worker(&config.name);
    let maps = Arc::new(inspector::Sources::new(inspector_port));
    session.maps = Some(maps.clone());
    tokio::spawn(inspector::serve(inspector, first, maps, shutdown.clone()));

    let mut watcher = Watcher::new()?;
    let rows = session.start().await;
    session.watch(&mut watcher);
    if !rows.is_empty() {
        say(&table(["Binding", "Kind", "Backed by"], &rows));
        say(&paint(Style::Dim, &format!("  State is kept in {}", session.stores.dir.display())));
    }
    let site = Arc::new(OneSite(std::sync::RwLock::new(session.site(args.test_scheduled))));
    let options = EdgeOptions {
        show_errors: true,
        timezone: listen::timezone(),
        places: None,
        tls: None,
        limits: EdgeLimits::default(),
        traffic: Arc::default(),
    };
    let edge = tokio::spawn(skep_edge::serve(listener, site.clone(), options, shutdown.clone()));
    let url = format!("http://{address}");
    say(&format!("{} Ready on {}", paint(Style::Green, "⬢"), paint(Style::Bold, &url)));

    let keyboard = if is_interactive() { Keyboard::open() } else { None };
    let (_guard, mut keys) = keyboard.unzip();
    if keys.is_some() {
        let more = if session.boxes.any() { REBUILD } else { "" };
        say(&paint(Style::Dim, &format!("{HELP}{more}")));
    }
    loop {
        let key = async {
            match &mut keys {
                Some(keys) => keys.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signals.any() => break,
            key = key => match key {
                Some(Key::Exit) => break,
                Some(Key::Browser) => listen::open(&url),
                Some(Key::DevTools) => listen::open(&inspector::devtools_url(inspector_port)),
                Some(Key::Clear) => say("\x1b[2J\x1b[H"),
                Some(Key::Jobs) => print_jobs(jobs),
                Some(Key::Rebuild) => session.rebuild().await,
                None => keys = None,
            },
            changed = watcher.changed() => {
                session.follow(&changed).await;
                session.watch(&mut watcher);
                let new = session.site(args.test_scheduled);
                *site.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = new;
            }
        }
    }
    edge.abort();
    Ok(())
}

/// All requests go to the first worker.
struct OneSite(std::sync::RwLock<Site>);

impl Router for OneSite {
    fn route(&self, _: &http::request::Parts) -> Option<Site> {
        Some(self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }
}

impl Session {
    fn site(&self, test_scheduled: bool) -> Site {
        let project = &self.projects[0];
        let worker = project.config.main.is_some().then(|| self.fleet.worker(&project.config.name));
        let events = worker.clone().map(|worker| {
            let (script, inbox) = (project.config.name.clone(), self.inbox.clone());
            Events { worker, script, inbox, test_scheduled }
        });
        let configs = self.projects.iter().map(|project| &project.config);
        let s3 = S3::of(configs, &self.stores, &self.clock);
        let local = Some(Arc::new(Local { events, s3 }) as _);
        Site { worker, assets: project.assets.clone(), local, meter: None, traced: None }
    }
}

fn print_jobs(jobs: &Jobs) {
    let rows: Vec<[String; 3]> = jobs
        .list()
        .into_iter()
        .map(|(name, state)| {
            let said = state.last_result.unwrap_or_else(|error| format!("failed: {error}"));
            [name, format!("{} runs", state.runs), said]
        })
        .collect();
    say(&table(["Background job", "Runs", "Last result"], &rows));
}

/// The projects that the arguments name, the first one first.
fn load_projects(args: &DevArgs) -> Result<Vec<Project>, String> {
    let found = |dir: &Path| {
        skep_config::find(dir).ok_or_else(|| {
            format!(
                "there is no wrangler.jsonc, wrangler.json or wrangler.toml in {}: name the project's folder, or \
                 the file by --config",
                dir.display()
            )
        })
    };
    let Named { config, main } = named(&args.dir);
    let mut paths: Vec<(PathBuf, Option<String>)> = match (args.config.is_empty(), config) {
        (false, _) => args.config.iter().map(|path| (path.clone(), None)).collect(),
        (true, Some(path)) => vec![(path, None)],
        (true, None) => vec![(found(&args.dir)?, None)],
    };
    for (namespace, path) in &args.namespaced {
        let path = if path.is_dir() { found(path)? } else { path.clone() };
        paths.push((path, Some(namespace.clone())));
    }
    let mut projects: Vec<Project> = Vec::new();
    for (path, namespace) in paths {
        let path = path.canonicalize().map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        // The entry file and variables of the command line are for the first worker, as with wrangler.
        let own = if projects.is_empty() { (main.clone(), args.vars.clone()) } else { Default::default() };
        let options =
            LoadOptions { environment: args.env.clone(), main: own.0, vars: own.1, ..LoadOptions::default() };
        let project = Project::load(&path, namespace, options)?;
        if let Some(other) = projects.iter().find(|other| other.config.name == project.config.name) {
            return Err(format!(
                "{} and {} have the same name \"{}\"",
                other.config.path.display(),
                path.display(),
                project.config.name
            ));
        }
        projects.push(project);
    }
    unbound(&projects)?;
    Ok(projects)
}

/// An error where a worker is in a dispatch namespace that nobody calls: nothing could ever reach it.
fn unbound(projects: &[Project]) -> Result<(), String> {
    let bound = |namespace: &String| {
        projects.iter().flat_map(|p| &p.config.dispatch_namespaces).any(|b| b.namespace == *namespace)
    };
    match projects.iter().filter_map(|project| project.namespace.as_ref()).find(|name| !bound(name)) {
        Some(namespace) => Err(format!(
            "no worker has the dispatch namespace \"{namespace}\" among its `dispatch_namespaces`: add the dispatcher's \
             configuration with -c"
        )),
        None => Ok(()),
    }
}

fn state_folder(args: &DevArgs, projects: &[Project]) -> PathBuf {
    let folder = match (&args.persist_to, projects.first()) {
        (Some(folder), _) => folder.clone(),
        (None, Some(project)) => project.config.project_dir.join(".skep"),
        (None, None) => PathBuf::from(".skep"),
    };
    // Cells name it in their configuration.
    std::path::absolute(&folder).unwrap_or(folder)
}

/// A path as people write it: relative to where they are, if that is shorter.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

/// Prints an error without ending.
fn complain(what: &str, error: &str) {
    say(&terminal::error(&format!("{what}: {error}")));
}
