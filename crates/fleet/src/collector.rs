//! Has the code of a process collect its garbage: when [that is due](crate::memory) is seen from outside.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skep_wire::UnixClient;
use tokio::sync::Notify;

use crate::memory::{Memory, SLACK, Step};
use crate::render::{COLLECT_SOCKET, EVENTS_SOCKET};
use crate::watch::{answers, memory};

/// How long a process that has something to do is left alone between two looks, and one that has nothing.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_AT_REST: Duration = Duration::from_secs(2);
/// From this much on it is looked at all the time: calls in circles take half a gigabyte a second.
const MUCH: u64 = 512 << 20;
/// What a process without limits may have: sixteen times what a node gives it by default, and less than what makes a developer's
/// machine stand still.
pub(crate) const MOST: u64 = 2 << 30;

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
}

/// Follows a process that has no limit but `most` bytes of memory; `busy` says that something has come in. Returns when it has more.
pub(crate) async fn tend(collector: Option<Collector>, pid: u32, busy: Arc<Notify>, most: u64) {
    let mut followed = Memory::new(most, collector.is_some());
    let mut pause = LOOK_AT_REST;
    loop {
        let _ = tokio::time::timeout(pause, busy.notified()).await;
        tokio::time::sleep(LOOK).await;
        let bytes = memory(pid);
        pause = if bytes >= MUCH { LOOK } else { LOOK_AT_REST };
        match (followed.note(bytes, Duration::ZERO), &collector) {
            (Step::End, _) => return,
            (Step::Collect, Some(collector)) => tokio::select! {
                () = collector.collect() => followed.collected(),
                () = grown(pid, most) => return,
            },
            _ => {}
        }
    }
}

/// Waits until a process has too much memory whatever it is.
async fn grown(pid: u32, most: u64) {
    while memory(pid) <= most.saturating_add(SLACK) {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that has, or has not, a collection that never ends.
    async fn follow(with_collector: bool) {
        let folder = tempfile::tempdir().unwrap();
        // It is let in, and nobody answers.
        let _listener =
            with_collector.then(|| skep_wire::bind_unix(&folder.path().join(COLLECT_SOCKET)).unwrap());
        let collector = with_collector.then(|| Collector::new(folder.path(), false));
        let (pid, busy) = (std::process::id(), Arc::new(Notify::new()));
        let most = memory(pid) + (64 << 20);
        let mut tended = Box::pin(tend(collector, pid, busy.clone(), most));
        busy.notify_one();
        let early = tokio::time::timeout(LOOK * 5, &mut tended).await;
        assert!(early.is_err(), "it has not so much");
        let taken = std::hint::black_box(vec![1_u8; usize::try_from(2 * SLACK + (64 << 20)).unwrap()]);
        busy.notify_one();
        tended.await;
        drop(taken);
    }

    #[tokio::test]
    async fn who_takes_too_much_is_noticed_also_while_it_should_collect_garbage() {
        follow(false).await;
        follow(true).await;
    }
}
