//! When the next batch is cut: a pure function of what waits and the time.

use crate::settings::ConsumerSettings;

/// The first pause after a delivery that found no consumer, in milliseconds; it doubles up to the last.
const FIRST_PAUSE_MS: u64 = 100;
const LAST_PAUSE_MS: u64 = 30_000;

/// What a dispatcher sees.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct View {
    /// Messages that are due and not under delivery, counted up to a full batch.
    pub ready: usize,
    /// Since when the first of them is due.
    pub oldest_due_ms: u64,
    /// When the next message becomes due that is not yet.
    pub next_due_ms: Option<u64>,
    /// Batches under delivery.
    pub in_flight: usize,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Deliver so many messages now.
    Deliver(usize),
    /// Wait for something to happen, or for this moment if there is one.
    Wait(Option<u64>),
}

/// Decides what to do at `now`. A batch is cut when it is full or its oldest message has waited for the
/// batch timeout. Every batch that is cut is delivered at once, beside others, up to the concurrency: so
/// the number of deliveries follows the backlog.
pub(crate) fn step(view: &View, backoff: &Backoff, settings: &ConsumerSettings, now_ms: u64) -> Step {
    let concurrency = if backoff.failing() { 1 } else { settings.concurrency() };
    if view.in_flight >= concurrency {
        return Step::Wait(None);
    }
    if now_ms < backoff.until_ms {
        return Step::Wait(Some(backoff.until_ms));
    }
    if view.ready >= settings.max_batch_size as usize {
        return Step::Deliver(settings.max_batch_size as usize);
    }
    let cut_ms = view.oldest_due_ms.saturating_add(u64::from(settings.max_batch_timeout_s) * 1000);
    match view.ready {
        0 => Step::Wait(view.next_due_ms),
        ready if cut_ms <= now_ms => Step::Deliver(ready),
        _ => Step::Wait(Some(view.next_due_ms.map_or(cut_ms, |next| next.min(cut_ms)))),
    }
}

/// The pause after deliveries that found no consumer. While it lasts, and until one delivery gets through,
/// one batch at a time probes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    until_ms: u64,
}

impl Backoff {
    pub fn reached(&mut self) {
        *self = Self::default();
    }

    pub fn unreachable(&mut self, now_ms: u64) {
        let pause = (FIRST_PAUSE_MS << self.failures.min(16)).min(LAST_PAUSE_MS);
        self.failures = self.failures.saturating_add(1);
        self.until_ms = now_ms + pause;
    }

    fn failing(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn view(ready: usize, oldest_due_ms: u64, next_due_ms: Option<u64>, in_flight: usize) -> View {
        View { ready, oldest_due_ms, next_due_ms, in_flight }
    }

    #[test]
    fn a_batch_is_cut_by_size_or_by_time() {
        let settings = ConsumerSettings::default();
        let calm = Backoff::default();
        let at = |view: View, now| step(&view, &calm, &settings, now);
        assert_eq!(at(view(10, 1000, None, 0), 1000), Step::Deliver(10));
        assert_eq!(at(view(9, 1000, None, 0), 5999), Step::Wait(Some(6000)));
        assert_eq!(at(view(9, 1000, None, 0), 6000), Step::Deliver(9));
        assert_eq!(at(view(9, 1000, Some(2000), 0), 1500), Step::Wait(Some(2000)));
        assert_eq!(at(view(0, 0, Some(9000), 0), 1500), Step::Wait(Some(9000)));
        assert_eq!(at(view(10, 0, None, 10), 1500), Step::Wait(None));
    }

    #[test]
    fn an_absent_consumer_is_probed_ever_more_slowly_by_one_batch() {
        let settings = ConsumerSettings::default();
        let mut backoff = Backoff::default();
        let full = view(10, 0, None, 0);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            backoff.unreachable(50_000);
            let Step::Wait(Some(until)) = step(&full, &backoff, &settings, 50_000) else {
                panic!("no pause")
            };
            pauses.push(until - 50_000);
        }
        assert_eq!(&pauses[..3], [100, 200, 400]);
        assert_eq!(pauses.last(), Some(&30_000));
        assert_eq!(step(&full, &backoff, &settings, 90_000), Step::Deliver(10));
        assert_eq!(step(&View { in_flight: 1, ..full }, &backoff, &settings, 90_000), Step::Wait(None));
        backoff.reached();
        assert_eq!(step(&View { in_flight: 1, ..full }, &backoff, &settings, 90_000), Step::Deliver(10));
    }

    proptest! {
        #[test]
        fn a_step_keeps_the_limits_and_never_stalls(
            size in 1u32..=100, timeout in 0u32..=60, concurrency in 1u32..=250,
            ready in 0usize..=100, oldest in 0u64..100_000, next in proptest::option::of(1u64..100_000),
            in_flight in 0usize..300, now in 0u64..100_000, failures in 0u32..4,
        ) {
            let settings = ConsumerSettings {
                max_batch_size: size, max_batch_timeout_s: timeout, max_concurrency: Some(concurrency),
                ..ConsumerSettings::default()
            };
            let ready = ready.min(size as usize);
            let view = View {
                ready, oldest_due_ms: oldest.min(now), next_due_ms: next.map(|n| n + now), in_flight,
            };
            let mut backoff = Backoff::default();
            for _ in 0..failures { backoff.unreachable(now.saturating_sub(300)); }
            match step(&view, &backoff, &settings, now) {
                Step::Deliver(n) => {
                    prop_assert!(n >= 1 && n <= ready);
                    prop_assert!(in_flight < concurrency as usize);
                    prop_assert!(n == size as usize || view.oldest_due_ms + u64::from(timeout) * 1000 <= now);
                }
                Step::Wait(Some(until)) => prop_assert!(until > now, "a wait that ends at once is a busy loop"),
                Step::Wait(None) => prop_assert!(
                    in_flight >= 1 || (ready == 0 && view.next_due_ms.is_none()),
                    "nobody would ever wake the dispatcher"
                ),
            }
        }
    }
}
