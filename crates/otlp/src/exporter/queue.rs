//! Messages that wait: bounded in number and in bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prost::Message;
use tokio::sync::Notify;

use crate::span::Resource;

/// Bytes that wait at most, of spans and of log records, each, and bytes of one request.
const MAX_WAITING: usize = 32 << 20;
const MAX_REQUEST: usize = 4 << 20;

/// Messages on their way into a request.
pub(super) struct Queue<M> {
    waiting: Mutex<Waiting<M>>,
    /// There is a first message, or a full batch.
    pub more: Notify,
}

/// Messages by whose they are.
pub(super) type ByResource<M> = Vec<(Resource, Vec<M>)>;

struct Waiting<M> {
    messages: VecDeque<(Resource, M, usize)>,
    bytes: usize,
}

impl<M> Default for Queue<M> {
    fn default() -> Self {
        Self { waiting: Mutex::new(Waiting { messages: VecDeque::new(), bytes: 0 }), more: Notify::new() }
    }
}

impl<M: Message> Queue<M> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<M>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was room.
    pub fn push(&self, resource: Resource, message: M, most: usize, batch: usize) -> bool {
        let size = message.encoded_len();
        let mut waiting = self.waiting();
        if waiting.messages.len() >= most || waiting.bytes + size > MAX_WAITING {
            return false;
        }
        waiting.bytes += size;
        waiting.messages.push_back((resource, message, size));
        if waiting.messages.len() == 1 || waiting.messages.len() == batch {
            self.more.notify_one();
        }
        true
    }

    /// What one request takes, by whose it is.
    pub fn take(&self, batch: usize) -> ByResource<M> {
        let (mut taken, mut count, mut bytes): (ByResource<M>, _, _) = (Vec::new(), 0, 0);
        let mut waiting = self.waiting();
        while let Some((_, _, size)) = waiting.messages.front() {
            if count == batch || count > 0 && bytes + size > MAX_REQUEST {
                break;
            }
            let Some((resource, message, size)) = waiting.messages.pop_front() else { break };
            waiting.bytes -= size;
            (count, bytes) = (count + 1, bytes + size);
            match taken.iter_mut().find(|(other, _)| *other == resource) {
                Some((_, messages)) => messages.push(message),
                None => taken.push((resource, vec![message])),
            }
        }
        taken
    }

    pub fn len(&self) -> usize {
        self.waiting().messages.len()
    }
}
