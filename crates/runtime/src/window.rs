//! How busy a thread was for a while.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long a thread is watched before anything is concluded, in nanoseconds.
pub(crate) const WINDOW: u64 = 50_000_000;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// When watching began, and the thread's CPU time then, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    since: u64,
    cpu: u64,
}

/// What the calling thread has used in a window, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub elapsed: u64,
    pub cpu: u64,
}

impl Window {
    /// One that begins with the first question.
    pub const FIRST: Self = Self { since: 0, cpu: 0 };

    /// What was used, if it is over; then another one begins at `now`. For the calling thread.
    pub fn over(&mut self, now: u64) -> Option<Used> {
        let elapsed = now.saturating_sub(self.since);
        if elapsed < WINDOW {
            return None;
        }
        let cpu = thread_cpu();
        let used = Used { elapsed, cpu: cpu.saturating_sub(self.cpu) };
        *self = Self { since: now, cpu };
        Some(used)
    }
}

impl Used {
    /// Of a thousand.
    pub fn share(self) -> u64 {
        self.cpu.saturating_mul(1000) / self.elapsed.max(1)
    }
}

/// Nanoseconds since the first question.
pub(crate) fn now() -> u64 {
    nanos(START.elapsed())
}

/// CPU time of the calling thread, in nanoseconds.
pub(crate) fn thread_cpu() -> u64 {
    nanos(Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
