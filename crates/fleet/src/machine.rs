//! What the fleets of all accounts share: how engines are started, how many at once, and how many there may be.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use skep_runtime::Fair;
use skep_sandbox::{Group, Permissions, Sandbox};

use crate::certificates::Certificates;
use crate::engine::{Engine, Folder};
use crate::fleet::Shared;
use crate::process::{Launch, Spawner};
use crate::room::{Holder, gives_up};
use crate::rundir::RunDir;
use crate::stock::Kind;
use crate::waiting::Waiting;

/// How a machine runs cells.
pub struct MachineOptions {
    /// The binary that handles [`LAUNCHER_COMMAND`](crate::LAUNCHER_COMMAND): our own.
    pub launcher: PathBuf,
    /// The engine's binary.
    pub engine: PathBuf,
    /// What holds cells.
    pub sandbox: Sandbox,
    /// While there are more processes than this, one that was not used for long goes as soon as it has no work.
    pub max_cells: usize,
    /// So many engines are started ahead and wait for a script; each holds about 5 MB.
    pub waiting: usize,
    /// Whether they wait before a script was ever started.
    pub wait_at_once: bool,
}

/// What runs cells on this machine, for any number of [fleets](crate::Fleet).
pub struct Machine {
    /// Processes that start now have one of its turns.
    pub(crate) starts: Arc<Fair>,
    /// Processes that serve.
    pub(crate) cells: Arc<AtomicUsize>,
    launch: Launch,
    sandbox: Sandbox,
    spawner: Spawner,
    max_cells: usize,
    waiting: Arc<Waiting>,
    run_dir: RunDir,
    next_folder: AtomicU64,
    certificates: OnceLock<Certificates>,
    fleets: Mutex<Vec<Weak<Shared>>>,
    next_account: AtomicU64,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("launch", &self.launch).finish_non_exhaustive()
    }
}

impl Machine {
    /// One without fleets. In a runtime, where engines are to wait.
    pub fn new(options: MachineOptions) -> io::Result<Arc<Self>> {
        let ordinary = Kind { network: true, dispatched: false, inspector: false };
        let first = options.wait_at_once.then_some(ordinary);
        let this = Arc::new(Self {
            starts: Fair::new(std::thread::available_parallelism().map_or(2, |n| n.get() * 2)),
            cells: Arc::default(),
            launch: Launch { launcher: options.launcher, engine: options.engine },
            sandbox: options.sandbox,
            spawner: Spawner::start()?,
            max_cells: options.max_cells,
            waiting: Waiting::new(options.waiting, first),
            run_dir: RunDir::create()?,
            next_folder: AtomicU64::new(0),
            certificates: OnceLock::new(),
            fleets: Mutex::default(),
            next_account: AtomicU64::new(0),
        });
        if options.waiting > 0 {
            tokio::spawn(this.waiting.clone().fill(Arc::downgrade(&this)));
        }
        Ok(this)
    }

    /// Ends the engines that wait. Fleets end their own.
    pub async fn stop(&self) {
        self.waiting.stop().await;
    }

    /// A number for the account of another fleet.
    pub(crate) fn next_account(&self) -> u64 {
        self.next_account.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes note of a fleet.
    pub(crate) fn add(&self, fleet: &Arc<Shared>) {
        let mut fleets = self.fleets.lock().unwrap_or_else(PoisonError::into_inner);
        fleets.retain(|fleet| fleet.strong_count() > 0);
        fleets.push(Arc::downgrade(fleet));
    }

    /// Whether there are as many processes as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.cells.load(Ordering::Relaxed) >= self.max_cells
    }

    /// Before another process of `account` is started: asks one to rest that was not used for long, if there are too
    /// many.
    pub(crate) fn make_room(&self, account: u64) {
        if !self.is_full() {
            return;
        }
        let fleets: Vec<Arc<Shared>> = {
            let fleets = self.fleets.lock().unwrap_or_else(PoisonError::into_inner);
            fleets.iter().filter_map(Weak::upgrade).collect()
        };
        let Some(starter) = fleets.iter().position(|fleet| fleet.account == account) else { return };
        let resting: Vec<_> = fleets.iter().map(|fleet| fleet.oldest_resting()).collect();
        let holders: Vec<Holder> = fleets
            .iter()
            .zip(&resting)
            .map(|(fleet, resting)| Holder {
                cells: fleet.cells.load(Ordering::Relaxed),
                oldest: resting.as_ref().map(|(used, _)| *used),
            })
            .collect();
        if let Some((_, worker)) = gives_up(&holders, starter).and_then(|n| resting.get(n)?.as_ref()) {
            worker.ask_to_rest();
        }
    }

    /// Where cells find certificates; written when it is first asked for.
    pub(crate) fn certificates(&self) -> io::Result<&Certificates> {
        if let Some(known) = self.certificates.get() {
            return Ok(known);
        }
        let gathered = Certificates::gather(self.run_dir.path())?;
        Ok(self.certificates.get_or_init(|| gathered))
    }

    /// An empty folder for another process.
    pub(crate) fn new_folder(&self) -> io::Result<Folder> {
        let number = self.next_folder.fetch_add(1, Ordering::Relaxed);
        let folder = self.run_dir.path().join(number.to_string());
        std::fs::create_dir(&folder)?;
        Ok(Folder(folder))
    }

    /// A control group for another process, which has no limits yet.
    pub(crate) fn group(&self) -> io::Result<Group> {
        self.sandbox.group()
    }

    /// Starts an engine. It reads its configuration from `file`, or waits for it.
    pub(crate) async fn start(
        &self,
        folder: Folder,
        permissions: Permissions,
        group: Option<Group>,
        options: &[OsString],
        file: Option<&Path>,
    ) -> io::Result<Engine> {
        let jail = self.sandbox.jail(permissions, group.as_ref());
        let started = self.launch.start(&self.spawner, file, options, &jail, self.certificates()?).await?;
        Ok(Engine { folder, started, group, own: jail.write })
    }

    /// Starts an engine that waits for anybody's configuration.
    pub(crate) async fn blank(&self, kind: Kind) -> io::Result<Engine> {
        let folder = self.new_folder()?;
        let permissions = kind.permissions(&folder.0, self.certificates()?);
        let options = kind.options(&folder.0);
        self.start(folder, permissions, Some(self.group()?), &options, None).await
    }

    /// Whether what a process may do is fixed before it is the engine.
    pub(crate) fn is_jailed(&self) -> bool {
        !self.sandbox.is_none()
    }

    /// An engine of that kind that waits already.
    pub(crate) fn take(&self, kind: Kind) -> Option<Engine> {
        self.waiting.take(kind)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.waiting.close());
    }
}
