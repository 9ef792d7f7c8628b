//! How many processes a script has: one, and more while requests wait for its code's only thread. Decisions without a
//! clock; looking is at the end.

use std::time::{Duration, Instant};

/// How often to look at a script that has something to do, and at one that has not.
pub(crate) const LOOK: Duration = Duration::from_millis(250);
pub(crate) const LOOK_AT_REST: Duration = Duration::from_secs(1);

/// Of a core that the code's thread uses or waits for: with more, others wait for it.
const SATURATED: f64 = 0.85;
/// Requests in each process below which nothing waits: the one that is being worked on.
const WAITING: usize = 2;
/// How often in a row that has to be seen.
const PATIENCE: u32 = 2;
/// One process is too many when the others would be used no more than this,
const RELAXED: f64 = 0.5;
/// for so long.
const SHRINK_AFTER: Duration = Duration::from_secs(30);

/// What one process did since the last look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    /// Requests in it.
    pub in_flight: usize,
    /// Cores that the code's thread used or would have used: 0 to 1.
    pub busy: f64,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Stay,
    Grow,
    Shrink,
}

/// What was seen of a script.
#[derive(Debug, Default)]
pub(crate) struct Scale {
    saturated: u32,
    relaxed_since: Option<Instant>,
    /// So many there were before a deploy, which begins with one.
    owed: usize,
}

impl Scale {
    /// A deploy replaces `cells` processes by one, for now.
    pub(crate) fn replaced(&mut self, cells: usize) {
        *self = Self { owed: cells, ..Self::default() };
    }

    /// Takes note of all processes of a script at `now`; there may be `most`.
    pub(crate) fn note(&mut self, loads: &[Load], most: usize, now: Instant) -> Step {
        let cells = loads.len();
        let owed = std::mem::take(&mut self.owed).min(most);
        if cells < owed {
            self.owed = owed;
            return Step::Grow;
        }
        let in_flight: usize = loads.iter().map(|load| load.in_flight).sum();
        let busy: f64 = loads.iter().map(|load| load.busy).sum();
        let saturated = in_flight >= WAITING * cells && loads.iter().all(|load| load.busy >= SATURATED);
        self.saturated = if saturated { self.saturated + 1 } else { 0 };
        if self.saturated >= PATIENCE && cells < most {
            self.saturated = 0;
            self.relaxed_since = None;
            return Step::Grow;
        }
        let relaxed = cells > 1 && busy <= RELAXED * (cells - 1) as f64;
        if !relaxed && cells <= most {
            self.relaxed_since = None;
            return Step::Stay;
        }
        let since = *self.relaxed_since.get_or_insert(now);
        if cells > 1 && (cells > most || now.saturating_duration_since(since) >= SHRINK_AFTER) {
            self.relaxed_since = None;
            return Step::Shrink;
        }
        Step::Stay
    }
}

/// Time that the thread of a process that runs the code has used or waited for a core; zero where the kernel does not
/// count it, or the process is gone.
pub(crate) fn demand(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().take(2).filter_map(|n| n.parse::<u64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(of: &[(usize, f64)]) -> Vec<Load> {
        of.iter().map(|(in_flight, busy)| Load { in_flight: *in_flight, busy: *busy }).collect()
    }

    #[test]
    fn a_script_whose_requests_wait_for_a_core_gets_another_process() {
        let (mut scale, now) = (Scale::default(), Instant::now());
        let full = loads(&[(8, 0.97)]);
        assert_eq!(scale.note(&full, 2, now), Step::Stay, "once may be chance");
        assert_eq!(scale.note(&full, 2, now), Step::Grow);
        let both = loads(&[(4, 0.9), (4, 0.9)]);
        for _ in 0..5 {
            assert_eq!(scale.note(&both, 2, now), Step::Stay, "no more than there may be");
        }
        assert_eq!(scale.note(&both, 3, now), Step::Grow);
    }

    #[test]
    fn what_would_not_help_is_not_done() {
        let (mut scale, now) = (Scale::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(scale.note(&loads(&[(1, 1.0)]), 4, now), Step::Stay, "one long request");
            assert_eq!(scale.note(&loads(&[(90, 0.2)]), 4, now), Step::Stay, "they wait for something else");
            assert_eq!(scale.note(&loads(&[(9, 1.0), (0, 0.1)]), 4, now), Step::Stay, "another one is free");
        }
    }

    #[test]
    fn processes_that_are_not_needed_for_long_enough_go() {
        let (mut scale, start) = (Scale::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let quiet = loads(&[(1, 0.2), (0, 0.2)]);
        assert_eq!(scale.note(&quiet, 2, at(0)), Step::Stay);
        assert_eq!(scale.note(&loads(&[(3, 0.6), (3, 0.6)]), 2, at(20)), Step::Stay, "needed in between");
        assert_eq!(scale.note(&quiet, 2, at(21)), Step::Stay);
        assert_eq!(scale.note(&quiet, 2, at(50)), Step::Stay);
        assert_eq!(scale.note(&quiet, 2, at(51)), Step::Shrink);
        assert_eq!(
            scale.note(&loads(&[(0, 0.0)]), 2, at(60)),
            Step::Stay,
            "the last one is not its business"
        );
        assert_eq!(scale.note(&loads(&[(0, 0.0)]), 2, at(90)), Step::Stay);
    }

    #[test]
    fn a_deploy_comes_back_to_as_many_as_there_were() {
        let (mut scale, now) = (Scale::default(), Instant::now());
        scale.replaced(3);
        assert_eq!(scale.note(&loads(&[(1, 0.0)]), 4, now), Step::Grow);
        assert_eq!(scale.note(&loads(&[(1, 0.0); 2]), 4, now), Step::Grow);
        assert_eq!(scale.note(&loads(&[(1, 0.9); 3]), 4, now), Step::Stay);
        scale.replaced(3);
        assert_eq!(scale.note(&loads(&[(1, 0.0)]), 1, now), Step::Stay, "there may be fewer by now");
    }

    #[test]
    fn the_main_thread_has_wanted_some_cpu() {
        assert_eq!(demand(0), Duration::ZERO);
        assert!(demand(std::process::id()) > Duration::ZERO);
    }
}
