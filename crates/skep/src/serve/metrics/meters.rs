//! The meters of scripts, of which there are never more than a bound.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_edge::Meter;
use skep_fleet::Usage;

/// What is counted of one script, whichever version answers.
#[derive(Debug, Default)]
pub struct ScriptMeter {
    /// Its requests.
    pub requests: Arc<Meter>,
    /// Its processes.
    pub usage: Arc<Usage>,
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
