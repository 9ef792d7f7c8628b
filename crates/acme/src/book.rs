//! Which name is ordered when: a function of what has happened and of the time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::certificate::Times;
use crate::name::HostName;

/// Orders at once.
const AT_ONCE: usize = 4;
/// Names without a certificate that are remembered.
const MOST_WAITING: usize = 10_000;
/// The delay after failures stops doubling at so many times the first one: with a minute, six hours.
const LONGEST_FACTOR: u64 = 360;
/// An authority that is asked to slow down for one name is left alone for all of them for so long at most: its limits
/// are often those of one domain.
const LONGEST_HOLD: Duration = Duration::from_secs(5 * 60);
/// A name that is not served any more is looked at again after so long, for as long as its certificate is valid.
const NOT_SERVED: Duration = Duration::from_secs(60 * 60);

/// How often an authority may be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// First certificates per hour; as many may come at once.
    pub per_hour: u32,
    /// After a failure; it doubles.
    pub retry: Duration,
}

/// What is known of every name.
#[derive(Debug)]
pub(crate) struct Book {
    pace: Pace,
    names: BTreeMap<HostName, Entry>,
    under_way: usize,
    /// First certificates that may be ordered now, in thousandths.
    budget: u64,
    counted_at: u64,
    held_until: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Its certificate.
    held: Option<Times>,
    not_before: u64,
    failures: u32,
    under_way: bool,
}

/// Why there is no certificate, as far as the next attempt is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Setback {
    /// What the authority asked for.
    pub retry_after: Option<Duration>,
    /// It is not about this name alone.
    pub for_all: bool,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub held: usize,
    pub failing: usize,
    pub first_to_expire: Option<u64>,
}

impl Book {
    /// An empty book.
    pub fn new(pace: Pace, now: u64) -> Self {
        let budget = u64::from(pace.per_hour) * 1000;
        Self { pace, names: BTreeMap::new(), under_way: 0, budget, counted_at: now, held_until: 0 }
    }

    /// A certificate is there.
    pub fn hold(&mut self, name: HostName, times: Times) {
        self.names.entry(name).or_default().held = Some(times);
    }

    /// A certificate is wanted. `false`: too many wait already.
    pub fn ask(&mut self, name: &HostName) -> bool {
        let known = self.names.contains_key(name);
        if !known && self.names.values().filter(|entry| entry.held.is_none()).count() < MOST_WAITING {
            self.names.insert(name.clone(), Entry::default());
            return true;
        }
        known
    }

    /// The next name to order, which is then under way: renewals first, those that expire soonest.
    pub fn next(&mut self, now: u64) -> Option<HostName> {
        self.fill(now);
        if self.under_way >= AT_ONCE || now < self.held_until {
            return None;
        }
        let due = |entry: &Entry| {
            !entry.under_way
                && entry.not_before <= now
                && entry.held.is_none_or(|times| times.renew_at() <= now)
        };
        let urgency =
            |entry: &Entry| entry.held.map_or((u64::MAX, entry.not_before), |times| (times.until, 0));
        let (name, entry) =
            self.names.iter_mut().filter(|(_, entry)| due(entry)).min_by_key(|(_, entry)| urgency(entry))?;
        if entry.held.is_none() {
            self.budget = self.budget.checked_sub(1000)?;
        }
        entry.under_way = true;
        self.under_way += 1;
        Some(name.clone())
    }

    fn fill(&mut self, now: u64) {
        let rate = u64::from(self.pace.per_hour) * 1000;
        let more = now.saturating_sub(self.counted_at) * rate / HOUR_MS;
        if more > 0 || now < self.counted_at {
            self.budget = (self.budget + more).min(rate);
            self.counted_at = now;
        }
    }

    /// An order came to a certificate. However soon it expires, the next order is not at once.
    pub fn issued(&mut self, name: &HostName, now: u64, times: Times) {
        self.end(name);
        let not_before = now + millis(self.pace.retry);
        self.names.insert(name.clone(), Entry { held: Some(times), not_before, ..Entry::default() });
    }

    /// An order came to nothing; the name's next attempt is at the moment returned.
    pub fn failed(&mut self, name: &HostName, now: u64, setback: Setback) -> u64 {
        self.end(name);
        let asked = setback.retry_after.unwrap_or_default();
        if setback.for_all {
            self.held_until = self.held_until.max(now + millis(asked.min(LONGEST_HOLD)));
        }
        let Some(entry) = self.names.get_mut(name) else { return now };
        let factor = 1u64.checked_shl(entry.failures).unwrap_or(u64::MAX).min(LONGEST_FACTOR);
        entry.failures = entry.failures.saturating_add(1);
        entry.not_before = now + millis(self.pace.retry).saturating_mul(factor).max(millis(asked));
        entry.not_before
    }

    /// A name that came up is not served any more. `true`: it is forgotten, with its certificate.
    pub fn not_served(&mut self, name: &HostName, now: u64) -> bool {
        self.end(name);
        match self.names.get_mut(name) {
            Some(entry) if entry.held.is_some_and(|times| times.until > now) => {
                // It was no attempt.
                entry.not_before = now + millis(NOT_SERVED);
                false
            }
            _ => self.names.remove(name).is_some(),
        }
    }

    fn end(&mut self, name: &HostName) {
        if let Some(entry) = self.names.get_mut(name).filter(|entry| entry.under_way) {
            entry.under_way = false;
            self.under_way -= 1;
        }
    }

    /// When the certificate of a name ends to be valid.
    pub fn expiry(&self, name: &HostName) -> Option<u64> {
        self.names.get(name)?.held.map(|times| times.until)
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        Counts {
            held: self.names.values().filter(|entry| entry.held.is_some()).count(),
            failing: self.names.values().filter(|entry| entry.failures > 0).count(),
            first_to_expire: self
                .names
                .values()
                .filter_map(|entry| entry.held)
                .map(|times| times.until)
                .min(),
        }
    }
}

const HOUR_MS: u64 = 60 * 60 * 1000;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
