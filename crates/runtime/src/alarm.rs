//! Waiting for a moment of the machine's clock rather than for a span of time.
//!
//! A tokio timer counts the time that the machine is awake; after a suspend, or when the clock is set, it
//! fires at the wrong moment. A kernel timer on `CLOCK_REALTIME` (timerfd_create(2)) does not, and tells
//! when the clock was set.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// Up to here a tokio timer will do: it costs no file descriptor, and is late by this much at most.
const SHORT_MS: u64 = 1_000;
/// How long to wait at most when the kernel has no timer left to give.
const FALLBACK: Duration = Duration::from_secs(30);

/// Waits until the system clock, which shows `now_ms`, shows `at_ms`; less if the clock is set.
pub(crate) async fn wait(at_ms: u64, now_ms: u64) {
    let left = Duration::from_millis(at_ms.saturating_sub(now_ms));
    if left.as_millis() as u64 <= SHORT_MS {
        return tokio::time::sleep(left).await;
    }
    match arm(at_ms) {
        // Readable when it is due, and when the clock was set (the read would say ECANCELED).
        Ok(timer) => {
            if timer.readable().await.is_err() {
                tokio::time::sleep(left.min(FALLBACK)).await;
            }
        }
        Err(error) => {
            tracing::debug!(%error, "no kernel timer");
            tokio::time::sleep(left.min(FALLBACK)).await;
        }
    }
}

fn arm(at_ms: u64) -> std::io::Result<AsyncFd<OwnedFd>> {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    // The kernel refuses times beyond the year 2262 (KTIME_MAX); nothing we wait for is that far away.
    let seconds = (at_ms / 1000).min(9_000_000_000) as i64;
    let at = Timespec { tv_sec: seconds, tv_nsec: (at_ms % 1000) as i64 * 1_000_000 };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &once)?;
    watch(timer)
}

/// `AsyncFd::new` is deprecated because a type may give it a descriptor that it does not own; an `OwnedFd`
/// owns its own, and the successor is `unsafe`.
#[allow(deprecated)]
fn watch(timer: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(timer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    #[tokio::test]
    async fn a_kernel_timer_fires_at_its_moment_of_the_clock() {
        let clock = Clock::system();
        let at = clock.now_ms() + 30;
        let timer = arm(at).unwrap();
        let _ready = timer.readable().await.unwrap();
        assert!(clock.now_ms() >= at);
    }
}
