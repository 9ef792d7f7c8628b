//! What a consumer said of a batch, and what becomes of each message.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::message::Message;
use crate::settings::{ConsumerSettings, MAX_DELAY_SECS};

/// What the engine's `queue()` call on a worker answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeliveryOutcome {
    /// `ok`, or how the handler ended: `exception`, `exceededCpu`, `canceled`, ...
    pub outcome: String,
    /// `batch.ackAll()` was called.
    pub ack_all: bool,
    /// Whether `batch.retryAll()` was called.
    pub retry_batch: RetryBatch,
    /// Messages of which `ack()` was called.
    pub explicit_acks: Vec<String>,
    /// Messages of which `retry()` was called.
    pub retry_messages: Vec<RetryMessage>,
}

/// `batch.retryAll()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBatch {
    /// It was called.
    pub retry: bool,
    /// With this delay, in seconds.
    pub delay_seconds: Option<i64>,
}

/// `message.retry()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryMessage {
    /// The message.
    pub msg_id: String,
    /// With this delay, in seconds.
    pub delay_seconds: Option<i64>,
}

impl DeliveryOutcome {
    /// The outcome of a handler that ended as `outcome` and said nothing of any message.
    pub fn ended(outcome: impl Into<String>) -> Self {
        Self { outcome: outcome.into(), ..Self::default() }
    }

    /// Reads the reply of `shims/events.js`. A reply other than 200 means that the cell was there but the
    /// event failed before or around the handler: it counts as a failed delivery.
    pub fn from_reply(status: http::StatusCode, body: &[u8]) -> Self {
        if status == http::StatusCode::OK {
            return serde_json::from_slice(body).unwrap_or_else(|error| {
                tracing::warn!(%error, "a cell's answer to a batch cannot be read");
                Self::ended("internalError")
            });
        }
        tracing::warn!(%status, error = %String::from_utf8_lossy(body), "a batch failed inside its cell");
        Self::ended("exception")
    }

    fn is_ok(&self) -> bool {
        self.outcome == "ok"
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done: it is removed.
    Acked,
    /// It is delivered again, in so many seconds.
    Retried(u32),
    /// Its retries are used up: to the dead letter queue, or away.
    Exhausted,
}

/// Decides about each message, in order. What was said of a message itself goes first; then
/// `ackAll()`, which holds "regardless of whether the handler returns successfully"; then a handler that
/// failed, or `retryAll()`; and what nothing was said of is acknowledged. A retry's delay is the message's
/// own, else the batch's, else the consumer's.
///
/// Source: <https://developers.cloudflare.com/queues/configuration/javascript-apis/#messagebatch>.
pub(crate) fn verdicts(
    outcome: &DeliveryOutcome,
    messages: &[Message],
    settings: &ConsumerSettings,
) -> Vec<Verdict> {
    let acked: HashSet<&str> = outcome.explicit_acks.iter().map(String::as_str).collect();
    let retried: HashMap<&str, Option<i64>> =
        outcome.retry_messages.iter().map(|r| (r.msg_id.as_str(), r.delay_seconds)).collect();
    let batch_delay = outcome.retry_batch.delay_seconds;
    let retry_rest = !outcome.ack_all && (!outcome.is_ok() || outcome.retry_batch.retry);
    let judge = |message: &Message| {
        let own = retried.get(message.id.as_str());
        if acked.contains(message.id.as_str()) || (own.is_none() && !retry_rest) {
            return Verdict::Acked;
        }
        if message.attempts > settings.max_retries {
            return Verdict::Exhausted;
        }
        let asked = own.copied().flatten().or(batch_delay).map(|s| s.clamp(0, MAX_DELAY_SECS.into()) as u32);
        Verdict::Retried(asked.or(settings.retry_delay).unwrap_or(0))
    };
    messages.iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::message::Format;

    fn message(n: usize, attempts: u32) -> Message {
        Message {
            id: format!("{n:032x}"),
            timestamp_ms: 0,
            attempts,
            format: Format::Text,
            body: Bytes::new(),
        }
    }

    fn judge(outcome: &str) -> Vec<Verdict> {
        let outcome: DeliveryOutcome = serde_json::from_str(outcome).unwrap();
        let settings = ConsumerSettings { retry_delay: Some(7), ..ConsumerSettings::default() };
        verdicts(&outcome, &[message(1, 1), message(2, 1), message(3, 4)], &settings)
    }

    const ONE: &str = "00000000000000000000000000000001";
    use Verdict::{Acked, Exhausted, Retried};

    #[test]
    fn a_handler_that_returns_acknowledges_all() {
        assert_eq!(
            judge(
                r#"{"outcome":"ok","ackAll":false,"retryBatch":{"retry":false},"explicitAcks":[],"retryMessages":[]}"#
            ),
            [Acked, Acked, Acked]
        );
    }

    #[test]
    fn a_handler_that_throws_retries_all_but_what_it_acknowledged() {
        let said = format!(r#"{{"outcome":"exception","explicitAcks":["{ONE}"]}}"#);
        assert_eq!(judge(&said), [Acked, Retried(7), Exhausted]);
        assert_eq!(judge(r#"{"outcome":"exception","ackAll":true}"#), [Acked, Acked, Acked]);
    }

    #[test]
    fn retry_all_spares_what_was_acknowledged_and_the_messages_own_delay_wins() {
        let said = format!(
            r#"{{"outcome":"ok","retryBatch":{{"retry":true,"delaySeconds":30}},"retryMessages":[{{"msgId":"{ONE}","delaySeconds":60}}]}}"#
        );
        assert_eq!(judge(&said), [Retried(60), Retried(30), Exhausted]);
    }

    #[test]
    fn a_single_retry_beats_ack_all() {
        let said = format!(r#"{{"outcome":"ok","ackAll":true,"retryMessages":[{{"msgId":"{ONE}"}}]}}"#);
        assert_eq!(judge(&said), [Retried(7), Acked, Acked]);
    }

    #[test]
    fn a_reply_that_is_no_outcome_is_a_failed_delivery() {
        let ok = http::StatusCode::OK;
        assert_eq!(DeliveryOutcome::from_reply(ok, b"<html>").outcome, "internalError");
        let failed = DeliveryOutcome::from_reply(http::StatusCode::INTERNAL_SERVER_ERROR, b"{}");
        assert_eq!(failed.outcome, "exception");
    }

    proptest! {
        #[test]
        fn every_message_gets_one_verdict_that_keeps_the_rules(
            ok in any::<bool>(), ack_all in any::<bool>(), retry in any::<bool>(),
            batch_delay in proptest::option::of(-5i64..200_000),
            attempts in proptest::collection::vec(1u32..6, 1..20),
            acks in proptest::collection::vec(0usize..25, 0..10),
            retries in proptest::collection::vec((0usize..25, proptest::option::of(-5i64..200_000)), 0..10),
            max_retries in 0u32..5,
        ) {
            let messages: Vec<Message> = attempts.iter().enumerate().map(|(n, a)| message(n, *a)).collect();
            let outcome = DeliveryOutcome {
                outcome: if ok { "ok" } else { "exception" }.into(),
                ack_all,
                retry_batch: RetryBatch { retry, delay_seconds: batch_delay },
                explicit_acks: acks.iter().map(|n| format!("{n:032x}")).collect(),
                retry_messages: retries
                    .iter()
                    .map(|(n, d)| RetryMessage { msg_id: format!("{n:032x}"), delay_seconds: *d })
                    .collect(),
            };
            let settings = ConsumerSettings { max_retries, ..ConsumerSettings::default() };
            let verdicts = verdicts(&outcome, &messages, &settings);
            prop_assert_eq!(verdicts.len(), messages.len());
            for (n, verdict) in verdicts.iter().enumerate() {
                if acks.contains(&n) {
                    prop_assert_eq!(*verdict, Acked);
                } else if !ok && !ack_all {
                    prop_assert_ne!(*verdict, Acked, "a failed delivery acknowledges nothing by itself");
                }
                match verdict {
                    Retried(delay) => {
                        prop_assert!(*delay <= MAX_DELAY_SECS);
                        prop_assert!(messages[n].attempts <= max_retries);
                    }
                    Exhausted => prop_assert!(messages[n].attempts > max_retries),
                    Acked => {}
                }
            }
        }

        #[test]
        fn arbitrary_replies_never_panic(status in 100u16..600, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(status) = http::StatusCode::from_u16(status) {
                DeliveryOutcome::from_reply(status, &body);
            }
        }
    }
}
