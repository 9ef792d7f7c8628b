//! Packs, and how they get to their place while others are filled.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::Repository;
use super::place::PlaceError;
use crate::BackupError;

/// A pack of so many bytes is full.
pub(super) const FULL: usize = 4 << 20;
/// Packs on their way at once: what a place far away takes in one connection is little.
const UPLOADS: usize = 4;

/// Where full packs go.
pub(super) struct Outbox<'a> {
    repository: &'a Repository,
    waiting: Mutex<Receiver<(String, Vec<u8>)>>,
    failed: Mutex<Option<PlaceError>>,
}

/// Puts packs into an [`Outbox`].
pub(super) struct Sender<'a> {
    outbox: &'a Outbox<'a>,
    send: SyncSender<(String, Vec<u8>)>,
}

impl<'a> Outbox<'a> {
    /// Calls `work` with a sender while packs are put to the place; its result counts when all of them are there.
    pub fn run<T>(
        repository: &'a Repository,
        work: impl FnOnce(Sender<'_>) -> Result<T, BackupError>,
    ) -> Result<T, BackupError> {
        let (send, waiting) = sync_channel(1);
        let outbox = Outbox { repository, waiting: Mutex::new(waiting), failed: Mutex::new(None) };
        let result = std::thread::scope(|scope| {
            for _ in 0..UPLOADS {
                scope.spawn(|| outbox.carry());
            }
            work(Sender { outbox: &outbox, send })
        });
        outbox.failure().map_or(result, |error| Err(repository.failed(error)))
    }

    /// Until there is no sender any more. After a failure packs are taken, so that nobody waits, and left.
    fn carry(&self) {
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((key, content)) = next else { return };
            if self.failure().is_none()
                && let Err(error) = self.repository.place.put(&key, content)
            {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    }

    fn failure(&self) -> Option<PlaceError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sender<'_> {
    /// An error if the work is to be given up.
    pub fn go_on(&self) -> Result<(), BackupError> {
        let repository = self.outbox.repository;
        let over = (repository.is_over)().then(|| PlaceError("it was given up, as Skep ends".into()));
        over.or_else(|| self.outbox.failure()).map_or(Ok(()), |error| Err(repository.failed(error)))
    }

    /// Hands over a pack, when there is room for it. An error if one before it did not get to its place.
    pub fn send(&self, key: String, content: Vec<u8>) -> Result<(), BackupError> {
        self.go_on()?;
        let nobody = |_| self.outbox.repository.failed(PlaceError("nobody takes packs any more".into()));
        self.send.send((key, content)).map_err(nobody)
    }
}
