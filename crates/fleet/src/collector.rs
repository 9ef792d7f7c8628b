//! Has the code of a process collect its garbage: when [that is due](crate::memory) is seen from outside.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skep_wire::UnixClient;
use tokio::sync::Notify;

use crate::memory::{Memory, Step};
use crate::render::{COLLECT_SOCKET, EVENTS_SOCKET};
use crate::watch::{answers, memory};

/// How long a process that has something to do is left alone between two looks, and one that has nothing.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_AT_REST: Duration = Duration::from_secs(2);

/// The isolates of a process that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    application: Arc<UnixClient>,
    events: Option<Arc<UnixClient>>,
}

impl Collector {
    /// Of the process whose sockets are in `folder`.
    pub(crate) fn new(folder: &Path, takes_events: bool) -> Self {
        let application = UnixClient::new(folder.join(COLLECT_SOCKET));
        let events = takes_events.then(|| UnixClient::new(folder.join(EVENTS_SOCKET)));
        Self { application, events }
    }

    /// Calls the application's isolate, and no more.
    pub(crate) async fn call(&self) {
        answers(&self.application, "/ready").await;
    }

    /// Returns when it has happened, or cannot.
    pub(crate) async fn collect(&self) {
        answers(&self.application, "/").await;
        if let Some(events) = &self.events {
            answers(events, "/collect").await;
        }
    }

    /// Follows a process that may have as much memory as there is; `busy` says that something has come in. Never returns.
    pub(crate) async fn tend(self, pid: u32, busy: Arc<Notify>) {
        let mut followed = Memory::new(u64::MAX, true);
        loop {
            let _ = tokio::time::timeout(LOOK_AT_REST, busy.notified()).await;
            tokio::time::sleep(LOOK).await;
            if followed.note(memory(pid), Duration::ZERO) == Step::Collect {
                self.collect().await;
                followed.collected();
            }
        }
    }
}
