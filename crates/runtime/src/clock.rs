//! The one place that reads the time.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::alarm;

/// Where a component reads wall-clock time. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<watch::Sender<u64>>>);

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Some(manual) => *manual.borrow(),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
        }
    }

    /// Whole seconds since the Unix epoch.
    pub fn now_secs(&self) -> u64 {
        self.now_ms() / 1000
    }

    /// Waits until this clock shows `at_ms`, in milliseconds since the Unix epoch, whether the machine
    /// slept meanwhile or not. It may resolve early when somebody sets the clock: read the time again.
    pub async fn sleep_until(&self, at_ms: u64) {
        match &self.0 {
            Some(manual) => {
                let _ = manual.subscribe().wait_for(|now| *now >= at_ms).await;
            }
            None => alarm::wait(at_ms, self.now_ms()).await,
        }
    }
}

/// A clock that moves only when told to, for tests.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<watch::Sender<u64>>);

impl ManualClock {
    /// A clock that stands at `now_ms`, in milliseconds since the Unix epoch.
    pub fn at(now_ms: u64) -> Self {
        Self(Arc::new(watch::Sender::new(now_ms)))
    }

    /// The [`Clock`] to hand to the component under test.
    pub fn clock(&self) -> Clock {
        Clock(Some(self.0.clone()))
    }

    /// Moves the time forward by `ms` milliseconds.
    pub fn advance_ms(&self, ms: u64) {
        self.0.send_modify(|now| *now += ms);
    }

    /// Sets the time, forward or back, as an administrator or NTP would.
    pub fn set_ms(&self, now_ms: u64) {
        self.0.send_replace(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let manual = ManualClock::at(1_500);
        let clock = manual.clock();
        assert_eq!(clock.now_ms(), 1_500);
        assert_eq!(clock.now_secs(), 1);
        manual.advance_ms(600);
        assert_eq!(clock.now_ms(), 2_100);
        manual.set_ms(100);
        assert_eq!(clock.now_ms(), 100);
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_a_manual_clock_gets_there() {
        let manual = ManualClock::at(0);
        let clock = manual.clock();
        let sleeper = tokio::spawn(async move { clock.sleep_until(10).await });
        manual.advance_ms(9);
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        manual.advance_ms(1);
        sleeper.await.unwrap();
    }

    #[tokio::test]
    async fn a_sleeper_on_the_system_clock_wakes_in_time() {
        let clock = Clock::system();
        let at = clock.now_ms() + 20;
        clock.sleep_until(at).await;
        assert!(clock.now_ms() >= at);
        clock.sleep_until(at).await;
    }
}
