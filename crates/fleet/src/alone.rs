//! What a process does while nobody asks it anything: timers and calls of its objects, what `waitUntil` got, calls of others that
//! it has not answered. When that has an end, and when an object's alarm is a new beginning: decisions without a clock.

use std::time::{Duration, SystemTime};

use crate::spec::CellSpec;

/// An object without events is evicted after 70 to 140 s, whatever it does by itself.
/// <https://developers.cloudflare.com/durable-objects/concepts/durable-object-lifecycle/>
const OBJECTS: Duration = Duration::from_secs(140);
/// Timers, calls and `waitUntil` each keep an object for so long, where they keep it at all.
/// <https://developers.cloudflare.com/changelog/post/2026-10-01-pending-io-keep-alive/>
pub(crate) const TASKS: Duration = Duration::from_secs(15 * 60);
const KEEPS_DATE: &str = "2026-10-01";
const KEEPS: &str = "durable_object_io_tasks_prevent_eviction";
const KEEPS_NOT: &str = "durable_object_io_tasks_do_not_prevent_eviction";
/// How much later than the code of ours in it we end what `waitUntil` got.
const SLACK: Duration = Duration::from_secs(30);

/// How long a process of `spec` may work by itself. `is_called`: others have connections to it, over which calls may be under way.
pub(crate) fn most(spec: &CellSpec, is_called: bool) -> Duration {
    if spec.is_exclusive() {
        let has = |flag: &str| spec.compatibility_flags.iter().any(|other| other == flag);
        let keeps = has(KEEPS) || spec.compatibility_date.as_str() >= KEEPS_DATE && !has(KEEPS_NOT);
        let usual = if keeps { TASKS } else { OBJECTS };
        return spec.limits.and_then(|limits| limits.alone).unwrap_or(usual);
    }
    match spec.limits {
        Some(limits) if !is_called => limits.after.saturating_add(SLACK),
        _ => TASKS,
    }
}

/// Follows the alarms of a process's objects, of which nobody outside is told when they ring: what is known is when the next one is
/// due, and that a due one that has not gone is about to ring or has not come to its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alarms {
    next: Option<SystemTime>,
    rang: Option<SystemTime>,
}

impl Alarms {
    /// Takes note of the next alarm; returns whether one has rung since the last time.
    pub fn note(&mut self, next: Option<SystemTime>, now: SystemTime) -> bool {
        let due =
            |at: Option<SystemTime>| at.filter(|at| *at <= now && self.rang.is_none_or(|rang| *at > rang));
        let rang = due(self.next).max(due(next));
        self.next = next;
        self.rang = rang.or(self.rang);
        rang.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_rings_once() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut alarms = Alarms::default();
        assert!(!alarms.note(None, at(1)));
        assert!(!alarms.note(Some(at(10)), at(2)));
        assert!(!alarms.note(Some(at(10)), at(9)));
        assert!(alarms.note(Some(at(10)), at(11)), "it is about to ring");
        assert!(!alarms.note(Some(at(10)), at(50)), "the same one has not come to its end");
        assert!(!alarms.note(None, at(60)));
        assert!(!alarms.note(Some(at(70)), at(61)));
        assert!(alarms.note(Some(at(90)), at(80)), "another one has followed it");
        assert!(alarms.note(None, at(95)));
    }
}
