//! When a process has to collect its garbage, and when it has too much memory after that: decisions without a clock.
//!
//! V8 counts its own heap. What hangs on it outside (requests, streams, buffers) is freed when the objects that hold it are
//! collected, and while the heap is small that is rarely: a hello world under load came to 200 MB, of which 50 MB were
//! in use. So a process is asked for a collection when it has grown. What is freed stays with it, in pieces that serve what comes
//! next more or less well, so that nobody can see from outside how much of its memory is in use: who comes above the limit in small
//! steps, with a collection after each, is left alone for longer than who jumps.

use std::time::Duration;

/// A collection is asked for after so much growth.
const STEP: u64 = 16 << 20;
/// And not before this: a cell at rest has 9 to 15 MB.
const FIRST: u64 = 48 << 20;
/// Code that does not give others their turn for so much CPU time, with too much memory, has its collections from V8 itself.
const PATIENCE: Duration = Duration::from_millis(250);
/// So much beyond the limit a process is ended whatever its memory is.
pub(crate) const SLACK: u64 = 64 << 20;
/// So much beyond the limit it is ended if a collection does not help, or is not to be had.
const TOLERATED: u64 = 32 << 20;
/// Growth from one collection to the end of the next that is not made of small steps.
const JUMP: u64 = 32 << 20;

/// What to do about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Fine,
    /// Have it collect its garbage, and say so by [`Memory::collected`].
    Collect,
    /// End it.
    End,
}

/// Follows the memory of one process.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: u64,
    /// Whether it can be asked for a collection.
    collects: bool,
    /// What it had after the last collection.
    settled: u64,
    /// The CPU time at which a collection was asked for that has not come to its end.
    asked: Option<Duration>,
    /// A collection has ended, and nobody has looked since.
    fresh: bool,
}

impl Memory {
    /// Of a process that may have `limit` bytes.
    pub fn new(limit: u64, collects: bool) -> Self {
        Self { limit, collects, settled: FIRST - STEP, asked: None, fresh: false }
    }

    /// Takes note of the bytes that it has, after `cpu` of CPU time.
    pub fn note(&mut self, bytes: u64, cpu: Duration) -> Step {
        let over = |by: u64| bytes > self.limit.saturating_add(by);
        if over(SLACK) || over(0) && !self.collects {
            return Step::End;
        }
        let is_far = over(TOLERATED);
        if std::mem::take(&mut self.fresh) {
            let jumped = bytes.saturating_sub(self.settled) >= JUMP;
            self.settled = bytes.max(FIRST - STEP);
            if is_far && jumped {
                return Step::End;
            }
        }
        match self.asked {
            Some(since) if is_far && cpu.saturating_sub(since) >= PATIENCE => Step::End,
            Some(_) => Step::Fine,
            None if self.collects && bytes >= self.settled.saturating_add(STEP) => {
                self.asked = Some(cpu);
                Step::Collect
            }
            None => Step::Fine,
        }
    }

    /// It has collected its garbage.
    pub fn collected(&mut self) {
        self.asked = None;
        self.fresh = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MB: u64 = 1 << 20;

    fn of(limit: u64) -> Memory {
        Memory::new(limit * MB, true)
    }

    #[test]
    fn growth_is_followed_by_a_collection() {
        let mut memory = of(160);
        let mut note = |mb| memory.note(mb * MB, Duration::ZERO);
        assert_eq!([10, 30, 47].map(&mut note), [Step::Fine; 3]);
        assert_eq!([48, 100].map(&mut note), [Step::Collect, Step::Fine]);
        memory.collected();
        let mut note = |mb| memory.note(mb * MB, Duration::ZERO);
        assert_eq!([60, 75, 76].map(&mut note), [Step::Fine, Step::Fine, Step::Collect]);
        memory.collected();
        // Less than before counts as well.
        let mut note = |mb| memory.note(mb * MB, Duration::ZERO);
        assert_eq!([40, 55, 56].map(&mut note), [Step::Fine, Step::Fine, Step::Collect]);
    }

    #[test]
    fn who_jumps_above_the_limit_and_stays_there_is_ended() {
        let mut memory = of(160);
        let mut at = |mb| memory.note(mb * MB, Duration::ZERO);
        assert_eq!([30, 215].map(&mut at), [Step::Fine, Step::Collect]);
        memory.collected();
        assert_eq!(memory.note(200 * MB, Duration::ZERO), Step::End);
        // It was garbage.
        let mut memory = of(160);
        assert_eq!(memory.note(215 * MB, Duration::ZERO), Step::Collect);
        memory.collected();
        assert_eq!(memory.note(190 * MB, Duration::ZERO), Step::Fine);
        // More than anybody may have.
        assert_eq!(memory.note(225 * MB, Duration::ZERO), Step::End);
    }

    #[test]
    fn who_comes_there_in_small_steps_is_left_alone_for_longer() {
        let mut memory = of(160);
        for mb in (48..=224).step_by(16) {
            assert_eq!(memory.note(mb * MB, Duration::ZERO), Step::Collect, "{mb}");
            memory.collected();
            assert_eq!(memory.note(mb * MB, Duration::ZERO), Step::Fine, "{mb}");
        }
        assert_eq!(memory.note(225 * MB, Duration::ZERO), Step::End);
    }

    #[test]
    fn who_has_no_time_for_a_collection_is_not_waited_for() {
        let mut memory = of(160);
        assert_eq!(memory.note(150 * MB, Duration::from_secs(1)), Step::Collect);
        assert_eq!(memory.note(192 * MB, Duration::from_secs(9)), Step::Fine);
        let mut memory = of(160);
        assert_eq!(memory.note(150 * MB, Duration::from_secs(1)), Step::Collect);
        assert_eq!(memory.note(193 * MB, Duration::from_millis(1249)), Step::Fine);
        assert_eq!(memory.note(193 * MB, Duration::from_millis(1250)), Step::End);
    }

    #[test]
    fn who_cannot_collect_is_judged_as_it_is() {
        let mut memory = Memory::new(160 * MB, false);
        assert_eq!(
            [100, 160, 161].map(|mb| memory.note(mb * MB, Duration::ZERO)),
            [Step::Fine, Step::Fine, Step::End]
        );
    }

    proptest! {
        /// Whatever comes: within the limit nobody is ended, far beyond it everybody is.
        #[test]
        fn limits_hold(seen in proptest::collection::vec((0..300_u64, 0..500_u64, any::<bool>()), 0..100)) {
            let mut memory = of(160);
            for (mb, cpu, ends) in seen {
                let step = memory.note(mb * MB, Duration::from_millis(cpu));
                if mb <= 160 {
                    prop_assert_ne!(step, Step::End);
                }
                if mb > 224 {
                    prop_assert_eq!(step, Step::End);
                }
                if ends && memory.asked.is_some() {
                    memory.collected();
                }
            }
        }
    }
}
