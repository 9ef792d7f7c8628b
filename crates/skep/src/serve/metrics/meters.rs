//! The meters of scripts, of which there are never more than a bound.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_edge::Meter;
use skep_fleet::Usage;

/// What is counted of one script, whichever version answers.
#[derive(Debug, Default)]
pub struct ScriptMeter {
    /// Its requests.
    pub requests: Arc<Meter>,
    /// Queue batches and crons that it was given.
    pub events: Events,
    /// Its processes.
    pub usage: Arc<Usage>,
}

/// What calls a script without a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A batch of a queue.
    Queue,
    /// A cron trigger.
    Scheduled,
}

impl EventKind {
    /// All of them.
    const ALL: [Self; 2] = [Self::Queue, Self::Scheduled];

    /// The handler's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Scheduled => "scheduled",
        }
    }
}

/// What events come to, as tails name it; the last one is for all others.
/// <https://developers.cloudflare.com/workers/runtime-apis/handlers/tail/#tailitems>
const OUTCOMES: [&str; 7] =
    ["ok", "exception", "exceededCpu", "exceededMemory", "canceled", "internalError", "unknown"];

/// Counts of events, by kind and outcome.
#[derive(Debug, Default)]
pub struct Events([[AtomicU64; OUTCOMES.len()]; EventKind::ALL.len()]);

impl Events {
    /// One more.
    pub fn note(&self, kind: EventKind, outcome: &str) {
        let n = OUTCOMES.iter().position(|known| *known == outcome).unwrap_or(OUTCOMES.len() - 1);
        self.0[kind as usize][n].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that there were: kind, outcome, how many.
    pub fn read(&self) -> Vec<(EventKind, &'static str, u64)> {
        let all = EventKind::ALL.iter().flat_map(|kind| {
            let counts = self.0[*kind as usize].iter().zip(OUTCOMES);
            counts.map(|(count, outcome)| (*kind, outcome, count.load(Ordering::Relaxed)))
        });
        all.filter(|(_, _, count)| *count > 0).collect()
    }
}

/// By account and script.
type Key = (String, String);

/// All meters. The first scripts that are used since the start get one of their own, up to a bound; the others share
/// one, so that a node with a hundred thousand scripts has no more series than one with as many as the bound.
#[derive(Debug)]
pub struct Meters {
    most: usize,
    own: Mutex<BTreeMap<Key, Arc<ScriptMeter>>>,
    others: Arc<ScriptMeter>,
}

impl Meters {
    /// At most so many scripts have a meter of their own.
    pub fn new(most: usize) -> Self {
        Self { most, own: Mutex::default(), others: Arc::default() }
    }

    fn own(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<ScriptMeter>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The meter of a script; asked for when it is loaded or started, not for each request.
    pub fn of(&self, account: &str, script: &str) -> Arc<ScriptMeter> {
        let key = (account.to_owned(), script.to_owned());
        let mut own = self.own();
        if let Some(meter) = own.get(&key) {
            return meter.clone();
        }
        if own.len() >= self.most {
            return self.others.clone();
        }
        own.entry(key).or_default().clone()
    }

    /// A script has been deleted: its place is free.
    pub fn forget(&self, account: &str, script: &str) {
        self.own().remove(&(account.to_owned(), script.to_owned()));
    }

    /// The meters of scripts by account and name, and the one that the others share.
    pub fn all(&self) -> (Vec<(Key, Arc<ScriptMeter>)>, Arc<ScriptMeter>) {
        (self.own().iter().map(|(key, meter)| (key.clone(), meter.clone())).collect(), self.others.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_under_its_kind_and_an_outcome_that_tails_know() {
        let events = Events::default();
        for outcome in ["ok", "exception", "ok", "somethingNew"] {
            events.note(EventKind::Scheduled, outcome);
        }
        events.note(EventKind::Queue, "canceled");
        let seen: Vec<_> =
            events.read().into_iter().map(|(kind, outcome, n)| (kind.name(), outcome, n)).collect();
        let scheduled = [("scheduled", "ok", 2), ("scheduled", "exception", 1), ("scheduled", "unknown", 1)];
        assert_eq!(seen, [&[("queue", "canceled", 1)][..], &scheduled].concat());
    }

    #[test]
    fn scripts_beyond_the_bound_share_a_meter_until_a_place_is_free() {
        let meters = Meters::new(2);
        let (a, b, c) = (meters.of("x", "a"), meters.of("x", "b"), meters.of("x", "c"));
        assert!(Arc::ptr_eq(&a, &meters.of("x", "a")) && !Arc::ptr_eq(&a, &b));
        assert!(Arc::ptr_eq(&c, &meters.of("y", "a")) && Arc::ptr_eq(&c, &meters.all().1));
        meters.forget("x", "a");
        assert!(!Arc::ptr_eq(&meters.of("y", "a"), &c));
        assert_eq!(meters.all().0.len(), 2);
    }
}
