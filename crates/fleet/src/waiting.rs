//! Engines that were started ahead: each is in its jail and waits for a configuration, so that a script starts sooner.
//!
//! An engine takes a third of the CPU time of a start before it asks for its configuration, and the jail comes before
//! that. One that waits has seen nothing of anybody; it is given to one script and never comes back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::engine::Engine;
use crate::machine::Machine;
use crate::stock::{Kind, Need, Stock};

/// An engine needs about so long until it waits; the next one is started after it.
const PACE: Duration = Duration::from_millis(20);
/// How often to look whether those that wait still do.
const LOOK: Duration = Duration::from_secs(60);
/// After one did not come so far, others would not either.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Those that wait.
pub(crate) struct Waiting {
    stock: Mutex<Stock<Engine>>,
    changed: Notify,
}

impl Waiting {
    /// At most so many, at first of that kind or none.
    pub fn new(most: usize, first: Option<Kind>) -> Arc<Self> {
        Arc::new(Self { stock: Mutex::new(Stock::new(most, first)), changed: Notify::new() })
    }

    /// Gives one away, and sees to it that there will be others.
    pub fn take(&self, kind: Kind) -> Option<Engine> {
        self.bury();
        let taken = self.stock().take(kind);
        self.changed.notify_one();
        taken
    }

    /// Ends all, and has no more started.
    pub async fn stop(&self) {
        futures_util::future::join_all(self.close().into_iter().map(Engine::end)).await;
    }

    /// Gives all away, and has no more started.
    pub fn close(&self) -> Vec<Engine> {
        let all = self.stock().close();
        self.changed.notify_one();
        all
    }

    /// Forgets those that have ended.
    fn bury(&self) {
        let gone = self.stock().retain(|engine| engine.started.process.is_running());
        for engine in gone {
            tracing::warn!("an engine that waited for a script has ended");
            tokio::spawn(engine.end());
        }
    }

    fn stock(&self) -> MutexGuard<'_, Stock<Engine>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts engines, one after the other, while no script starts.
    pub async fn fill(self: Arc<Self>, machine: Weak<Machine>) {
        loop {
            let Some(starts) = machine.upgrade().map(|machine| machine.starts.clone()) else { return };
            starts.quiet().await;
            self.bury();
            let need = self.stock().need();
            match need {
                Need::Nothing => {
                    let _ = tokio::time::timeout(LOOK, self.changed.notified()).await;
                }
                Need::Less(engine) => engine.end().await,
                Need::More(kind) => {
                    let Some(machine) = machine.upgrade() else { return };
                    let started = machine.blank(kind).await;
                    drop(machine);
                    tokio::time::sleep(PACE).await;
                    match started {
                        Ok(engine) if engine.started.process.is_running() => self.put(kind, engine).await,
                        Ok(engine) => {
                            tracing::warn!("an engine does not wait for a script");
                            engine.end().await;
                            tokio::time::sleep(AFTER_FAILURE).await;
                        }
                        Err(error) => {
                            tracing::warn!(%error, "no engine can be started ahead");
                            tokio::time::sleep(AFTER_FAILURE).await;
                        }
                    }
                }
            }
        }
    }

    /// Another one waits, unless all were ended meanwhile.
    async fn put(&self, kind: Kind, engine: Engine) {
        let left = {
            let mut stock = self.stock();
            match stock.is_closed() {
                true => Some(engine),
                false => {
                    stock.put(kind, engine);
                    None
                }
            }
        };
        if let Some(engine) = left {
            engine.end().await;
        }
    }
}
