//! What the operator is told of connections that are refused: something of each configuration, and not everything.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often one hears of a configuration.
const EVERY: Duration = Duration::from_secs(10);
/// After that what was not told is not told any more.
const OLD: Duration = Duration::from_secs(600);

/// When one heard of a configuration, and how many there were since, by its id.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<String, (Instant, u64)>>);

impl Refusals {
    /// One more at `now`. If it is to be told: how many were not, before it.
    pub fn tell(&self, id: &str, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |told: Instant| now.saturating_duration_since(told);
        let untold = match all.get_mut(id) {
            Some((told, untold)) if age(*told) < EVERY => {
                *untold += 1;
                return None;
            }
            Some((_, untold)) => *untold,
            None => 0,
        };
        all.retain(|_, (told, _)| age(*told) < OLD);
        all.insert(id.to_owned(), (now, 0));
        Some(untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hears_of_each_configuration_from_time_to_time_and_how_many_there_were() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.tell("a", start), Some(0));
        for _ in 0..1000 {
            assert_eq!(refusals.tell("a", start + EVERY / 2), None);
        }
        assert_eq!(refusals.tell("b", start + EVERY / 2), Some(0));
        assert_eq!(refusals.tell("a", start + EVERY), Some(1000));
        assert_eq!(refusals.tell("a", start + EVERY), None);
        assert_eq!(refusals.tell("c", start + EVERY + OLD), Some(0));
        assert_eq!(refusals.0.lock().unwrap().len(), 1);
    }
}
