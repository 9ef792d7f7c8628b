//! Backups of a node that runs: archives, and those in a place, by hand and by the clock. One at a time.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_backup::{Repository, Saved, Snapshot};
use skep_runtime::{Clock, Jobs, Shutdown};
use tokio::sync::OwnedMutexGuard;

use super::accounts::Accounts;
use super::backup;
use crate::backups::Destination;

/// The file in a data folder that says whose its backups are.
pub const OWNER: &str = "backup-owner";
/// How often it is looked whether a backup is due, at most.
const LOOK: Duration = Duration::from_secs(60);
/// Until the next attempt after one that failed.
const AGAIN: Duration = Duration::from_secs(300);

/// Makes backups of a node.
pub struct Keeper {
    data: PathBuf,
    key_file: PathBuf,
    accounts: Arc<Accounts>,
    shutdown: Shutdown,
    /// When the last backup by the clock began, in seconds since 1970; 0 if there is none.
    last: AtomicU64,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Backups by the clock.
pub struct Schedule {
    /// Where they go.
    pub to: Destination,
    /// The time between two.
    pub every: Duration,
    /// How long they are kept.
    pub keep: Duration,
}

impl Keeper {
    /// Of the node with that data folder.
    pub fn new(data: PathBuf, key_file: PathBuf, accounts: Arc<Accounts>, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self { data, key_file, accounts, shutdown, last: AtomicU64::new(0), turn: Arc::default() })
    }

    /// When the last backup by the clock began, in seconds since 1970; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// The node at one moment. While the guard lives there is no other backup.
    pub async fn snapshot(self: &Arc<Self>) -> Result<(Snapshot, OwnedMutexGuard<()>), String> {
        let turn = self.turn().await;
        let this = self.clone();
        let taken = tokio::task::spawn_blocking(move || Ok((this.take()?, turn))).await;
        taken.map_err(|e| e.to_string())?
    }

    /// Waits until there is no other backup. The guard goes with the work, which goes on when nobody waits for it any more.
    async fn turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    fn take(&self) -> Result<Snapshot, String> {
        let mut settle = || Box::new(self.accounts.pause_d1()) as Box<dyn Any>;
        let mut hold_still = || Box::new(self.accounts.hold_still()) as Box<dyn Any>;
        backup::take(&self.data, &self.key_file, &mut settle, &mut hold_still)
    }

    /// Makes a backup in a place.
    pub async fn save(self: &Arc<Self>, to: &Destination) -> Result<Saved, String> {
        let turn = self.turn().await;
        let (this, repository) = (self.clone(), to.open(&self.shutdown)?);
        let saved = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let owner = owner(&this.data)?;
            save(&repository, &owner, &mut || this.take())
        });
        saved.await.map_err(|e| e.to_string())?
    }

    /// Removes backups in a place that are older than `keep`, and what nobody needs there.
    async fn prune(&self, to: &Destination, keep: Duration) -> Result<(), String> {
        let turn = self.turn().await;
        let (owner, repository) = (owner(&self.data)?, to.open(&self.shutdown)?);
        let pruned = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            repository.prune(&owner, keep, now())
        });
        let pruned = pruned.await;
        let pruned = pruned.map_err(|e| e.to_string())?;
        let pruned = pruned.map_err(|e| format!("old backups could not be removed: {e}"))?;
        tracing::info!(backups = pruned.backups, bytes = pruned.freed, "old backups are removed");
        Ok(())
    }
}

/// Makes a backup in a place, of what `take` takes when the place is ready for it. Blocking.
pub fn save(
    repository: &Repository,
    owner: &str,
    take: &mut dyn FnMut() -> Result<Snapshot, String>,
) -> Result<Saved, String> {
    let begun = repository.begin(owner, env!("CARGO_PKG_VERSION"), now()).map_err(|e| e.to_string())?;
    begun.save(take()?).map_err(|e| e.to_string())
}

fn now() -> u64 {
    Clock::system().now_ms() / 1000
}

/// Whose backups those of a data folder are; it is said in the folder from the first one on.
pub fn owner(data: &Path) -> Result<String, String> {
    let file = data.join(OWNER);
    match std::fs::read_to_string(&file) {
        Ok(owner) => Ok(owner.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let owner = uuid::Uuid::new_v4().to_string();
            let cannot = |e: std::io::Error| format!("cannot write {}: {e}", file.display());
            std::fs::write(&file, &owner).map_err(cannot)?;
            Ok(owner)
        }
        Err(error) => Err(format!("cannot read {}: {error}", file.display())),
    }
}

/// Makes backups by the clock: the first one when the last one that is there is old enough.
pub fn schedule(keeper: Arc<Keeper>, schedule: Schedule, jobs: &Jobs) {
    let Schedule { to, every, keep } = schedule;
    let (to, due) = (Arc::new(to), Arc::new(Mutex::new(Due::default())));
    jobs.every("backup", every.min(LOOK), move || {
        let (keeper, to, due) = (keeper.clone(), to.clone(), due.clone());
        async move {
            let locked = || due.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut next, last) = {
                let due = locked();
                (due.next, due.last.clone())
            };
            if next == 0 {
                let repository = to.open(&keeper.shutdown)?;
                let last = tokio::task::spawn_blocking(move || repository.backups()).await;
                let last = last.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?.pop();
                let last = last.map_or(0, |last| last.made_at);
                keeper.last.store(last, Ordering::Relaxed);
                next = last + every.as_secs();
                locked().next = next;
            }
            if now() < next {
                return last;
            }
            let begun = now();
            let mut done = keeper.save(&to).await.map(|saved| summary(&saved));
            let mut pause = every.min(AGAIN);
            if done.is_ok() {
                keeper.last.store(begun, Ordering::Relaxed);
                pause = every;
                done = keeper.prune(&to, keep).await.and(done);
            }
            *locked() = Due { next: now() + pause.as_secs(), last: done.clone() };
            done
        }
    });
}

/// When the next backup is due, in seconds since 1970, or 0 where that is not known; and what the last one came to.
struct Due {
    next: u64,
    last: Result<String, String>,
}

impl Default for Due {
    fn default() -> Self {
        Self { next: 0, last: Ok(String::new()) }
    }
}

/// A backup in a few words.
pub fn summary(saved: &Saved) -> String {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    format!(
        "{}: {} files, {:.1} MB, of which {:.1} MB were stored",
        saved.id,
        saved.files,
        mb(saved.size),
        mb(saved.stored)
    )
}
