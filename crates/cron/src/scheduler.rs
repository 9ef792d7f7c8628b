//! The task that waits and fires.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use skep_runtime::{Clock, Shutdown};
use tokio::sync::watch;

use crate::expression::Expression;
use crate::plan::Plan;

/// A moment of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The expression as it was written.
    pub cron: String,
    /// The minute for which it fired, in milliseconds since the Unix epoch; it may have passed a while ago.
    pub scheduled_time_ms: u64,
}

/// Whatever a schedule fires: a worker's `scheduled()` handler in its cell.
pub trait Fire: Send + Sync + 'static {
    /// Runs the handler. Runs of different moments may overlap; errors are for the implementation to report.
    fn fire(&self, fired: Fired) -> BoxFuture<'_, ()>;
}

/// The cron triggers of one worker.
#[derive(Debug)]
pub struct Cron;

/// Keeps a worker's schedules running; dropping it, or [`CronHandle::stop`], ends them. Handlers that run are
/// not interrupted.
#[derive(Debug)]
pub struct CronHandle(watch::Sender<bool>);

impl CronHandle {
    /// Fires nothing more.
    pub fn stop(self) {}
}

impl Drop for CronHandle {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Cron {
    /// Fires `fire` at every moment of `schedules` that comes after now, until the handle is dropped or
    /// `shutdown`. Call it inside a tokio runtime.
    ///
    /// It sleeps until the next moment of the wall clock, also when the machine is suspended or the clock is
    /// set meanwhile. Moments that were missed are made up for by the last of them, if it is not older than
    /// an hour. No schedule fires a minute twice.
    pub fn start(
        schedules: Vec<Expression>,
        clock: Clock,
        shutdown: Shutdown,
        fire: Arc<dyn Fire>,
    ) -> CronHandle {
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(run(Plan::new(schedules, clock.now_ms()), clock, shutdown, stopped, fire));
        CronHandle(stop)
    }
}

async fn run(
    mut plan: Plan,
    clock: Clock,
    shutdown: Shutdown,
    mut stopped: watch::Receiver<bool>,
    fire: Arc<dyn Fire>,
) {
    while let Some(next_ms) = plan.next_ms() {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = shutdown.requested() => return,
            () = clock.sleep_until(next_ms) => {}
        }
        for fired in plan.wake(clock.now_ms()) {
            tracing::debug!(cron = %fired.cron, time = fired.scheduled_time_ms, "a schedule fires");
            let fire = fire.clone();
            tokio::spawn(async move { fire.fire(fired).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use skep_runtime::ManualClock;
    use tokio::sync::mpsc;

    use super::*;

    struct Report(mpsc::UnboundedSender<Fired>);

    impl Fire for Report {
        fn fire(&self, fired: Fired) -> BoxFuture<'_, ()> {
            let _ = self.0.send(fired);
            Box::pin(async {})
        }
    }

    const MINUTE: u64 = 60_000;

    fn start(text: &str, clock: &ManualClock) -> (CronHandle, mpsc::UnboundedReceiver<Fired>) {
        let (tx, rx) = mpsc::unbounded_channel();
        let (trigger, shutdown) = Shutdown::new();
        std::mem::forget(trigger);
        let schedules = vec![text.parse().unwrap()];
        (Cron::start(schedules, clock.clock(), shutdown, Arc::new(Report(tx))), rx)
    }

    async fn nothing(rx: &mut mpsc::UnboundedReceiver<Fired>) {
        let got = tokio::time::timeout(Duration::from_millis(20), rx.recv()).await;
        assert!(!matches!(got, Ok(Some(_))), "{got:?}");
    }

    #[tokio::test]
    async fn a_schedule_fires_when_the_clock_gets_there() {
        let clock = ManualClock::at(30_000);
        let (_handle, mut rx) = start("*/5 * * * *", &clock);
        clock.advance_ms(5 * MINUTE - 30_001);
        nothing(&mut rx).await;
        clock.advance_ms(1);
        let expected = Fired { cron: "*/5 * * * *".into(), scheduled_time_ms: 5 * MINUTE };
        assert_eq!(rx.recv().await, Some(expected));
        clock.set_ms(4 * MINUTE);
        clock.set_ms(5 * MINUTE + 1);
        nothing(&mut rx).await;
        clock.advance_ms(30 * MINUTE);
        assert_eq!(rx.recv().await.unwrap().scheduled_time_ms, 35 * MINUTE);
        nothing(&mut rx).await;
    }

    #[tokio::test]
    async fn a_stopped_schedule_fires_no_more() {
        let clock = ManualClock::at(0);
        let (handle, mut rx) = start("* * * * *", &clock);
        clock.advance_ms(MINUTE);
        assert!(rx.recv().await.is_some());
        handle.stop();
        clock.advance_ms(MINUTE);
        assert_eq!(rx.recv().await, None);
    }
}
