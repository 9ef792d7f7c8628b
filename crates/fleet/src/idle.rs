//! When a cell has had nothing to do for long enough to be stopped.

use std::time::{Duration, Instant};

/// What can be seen of a process from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Requests or connections are in it.
    pub busy: bool,
    /// How often it has been used.
    pub uses: u64,
    /// Its CPU time in clock ticks: what it does by itself, such as timers and `waitUntil`, shows here.
    pub cpu: u64,
    /// Other cells have connections to it.
    pub called: bool,
}

/// For how long a process has had nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quiet {
    /// Nothing at all.
    pub idle: Duration,
    /// Nothing but what it does by itself, which it does still; zero if it does nothing.
    pub alone: Duration,
}

/// CPU time between two looks that an engine without work may use: collecting garbage, once.
const RESTING_TICKS: u64 = 2;

/// Since when a process has had nothing to do.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    last: Option<Look>,
}

#[derive(Debug)]
struct Look {
    seen: Seen,
    /// Since when it has done nothing.
    idle: Instant,
    /// Since when nobody has used it.
    alone: Instant,
}

impl Idle {
    /// Takes note of what is seen at `now`; returns for how long there has been nothing to do.
    pub fn note(&mut self, seen: Seen, now: Instant) -> Quiet {
        let unused = |last: &Look| !seen.busy && !last.seen.busy && seen.uses == last.seen.uses;
        let last = self.last.take().filter(unused);
        let Some(mut last) = last else {
            self.last = Some(Look { seen, idle: now, alone: now });
            return Quiet::default();
        };
        let works = seen.cpu.saturating_sub(last.seen.cpu) > RESTING_TICKS;
        if works {
            last.idle = now;
        }
        let quiet = Quiet {
            idle: now.saturating_duration_since(last.idle),
            alone: if works { now.saturating_duration_since(last.alone) } else { Duration::ZERO },
        };
        self.last = Some(Look { seen, ..last });
        quiet
    }

    /// An event has begun that nobody outside is told of.
    pub fn begun(&mut self, now: Instant) {
        if let Some(last) = &mut self.last {
            last.alone = now;
        }
    }
}

/// User and system time of a process in clock ticks; 0 if it is gone.
pub(crate) fn cpu_ticks(pid: u32) -> u64 {
    ticks_in(&format!("/proc/{pid}/stat"))
}

/// User and system time in such a file.
pub(crate) fn ticks_in(file: &str) -> u64 {
    let stat = std::fs::read_to_string(file).unwrap_or_default();
    // Field 2 may contain anything, in parentheses; utime and stime are fields 14 and 15.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_whitespace().skip(11).map(|field| field.parse::<u64>().unwrap_or(0));
    fields.next().unwrap_or(0) + fields.next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_use_starts_the_time_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let seen = |busy, uses, cpu| Seen { busy, uses, cpu, called: false };
        let mut idle = Idle::default();
        let mut note = |seen, now| idle.note(seen, now).idle;
        assert_eq!(note(seen(false, 1, 5), at(0)), Duration::ZERO);
        assert_eq!(note(seen(false, 1, 5), at(10)), Duration::from_secs(10));
        assert_eq!(note(seen(false, 1, 6), at(20)), Duration::from_secs(20), "resting costs a little");
        assert_eq!(note(seen(false, 2, 6), at(30)), Duration::ZERO, "a request came and went");
        assert_eq!(note(seen(false, 2, 60), at(40)), Duration::ZERO, "it worked by itself");
        assert_eq!(note(seen(true, 2, 60), at(50)), Duration::ZERO, "a request is in it");
        assert_eq!(note(seen(false, 2, 60), at(60)), Duration::ZERO);
        assert_eq!(note(seen(false, 2, 60), at(70)), Duration::from_secs(10));
    }

    #[test]
    fn what_a_process_does_by_itself_does_not_start_the_time_anew_that_it_has_for_that() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let seen = |uses, cpu| Seen { busy: false, uses, cpu, called: false };
        let alone = |seconds| Quiet { idle: Duration::ZERO, alone: Duration::from_secs(seconds) };
        let mut idle = Idle::default();
        idle.note(seen(1, 0), at(0));
        assert_eq!(
            [(50, 10), (100, 20)].map(|(cpu, s)| idle.note(seen(1, cpu), at(s))),
            [alone(10), alone(20)]
        );
        let rests = Quiet { idle: Duration::from_secs(10), alone: Duration::ZERO };
        assert_eq!(idle.note(seen(1, 100), at(30)), rests, "it does nothing now");
        assert_eq!(idle.note(seen(1, 200), at(40)), alone(40));
        idle.begun(at(40));
        assert_eq!(idle.note(seen(1, 300), at(50)), alone(10), "an alarm rang");
        assert_eq!(idle.note(seen(2, 400), at(60)), Quiet::default(), "somebody used it");
        assert_eq!(idle.note(seen(2, 500), at(70)), alone(10));
    }

    #[test]
    fn this_process_has_used_some_cpu() {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        assert!(cpu_ticks(std::process::id()) > 0);
        assert_eq!(cpu_ticks(0), 0);
    }
}
