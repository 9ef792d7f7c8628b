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
}

/// CPU time between two looks that an engine without work may use: collecting garbage, once.
const RESTING_TICKS: u64 = 2;

/// Since when a process has had nothing to do.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    last: Option<(Seen, Instant)>,
}

impl Idle {
    /// Takes note of what is seen at `now`; returns for how long there has been nothing to do.
    pub fn note(&mut self, seen: Seen, now: Instant) -> Duration {
        match &mut self.last {
            Some((last, since))
                if !seen.busy
                    && seen.uses == last.uses
                    && seen.cpu.saturating_sub(last.cpu) <= RESTING_TICKS =>
            {
                last.cpu = seen.cpu;
                now.saturating_duration_since(*since)
            }
            last => {
                *last = Some((seen, now));
                Duration::ZERO
            }
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
        let seen = |busy, uses, cpu| Seen { busy, uses, cpu };
        let mut idle = Idle::default();
        assert_eq!(idle.note(seen(false, 1, 5), at(0)), Duration::ZERO);
        assert_eq!(idle.note(seen(false, 1, 5), at(10)), Duration::from_secs(10));
        assert_eq!(idle.note(seen(false, 1, 6), at(20)), Duration::from_secs(20), "resting costs a little");
        assert_eq!(idle.note(seen(false, 2, 6), at(30)), Duration::ZERO, "a request came and went");
        assert_eq!(idle.note(seen(false, 2, 60), at(40)), Duration::ZERO, "it worked by itself");
        assert_eq!(idle.note(seen(true, 2, 60), at(50)), Duration::ZERO, "a request is in it");
        assert_eq!(idle.note(seen(false, 2, 60), at(60)), Duration::from_secs(10));
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
