//! When a request is made again. Pure.
//! <https://opentelemetry.io/docs/specs/otlp/#failures-1>

use std::time::{Duration, SystemTime};

/// The first delay, and the longest one that is not asked for.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// A batch is given up after so many tries.
const TRIES: u32 = 6;
/// Who asks for more time than this does not get the batch.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It arrived, as far as it was taken.
    Taken,
    /// It is made again after a while.
    Again(Duration),
    /// It will never be taken.
    Lost,
}

/// `status` is `None` where there was no answer; `tries` counts those that were made; `chance`, from 0 to 1, spreads the
/// tries of many nodes.
pub(crate) fn outcome(
    status: Option<u16>,
    retry_after: Option<Duration>,
    tries: u32,
    chance: f64,
) -> Outcome {
    match status {
        Some(200..=299) => return Outcome::Taken,
        None | Some(429 | 502 | 503 | 504) => {}
        Some(_) => return Outcome::Lost,
    }
    if tries >= TRIES || retry_after.is_some_and(|wait| wait > PATIENCE) {
        return Outcome::Lost;
    }
    let doubled = FIRST.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST);
    Outcome::Again(retry_after.unwrap_or_else(|| doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)))
}

/// What `Retry-After` says: seconds, or a date.
pub(crate) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    match header.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(header).ok()?.duration_since(now).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again_and_not_for_ever() {
        assert_eq!(outcome(Some(200), None, 1, 0.5), Outcome::Taken);
        for status in [400, 401, 404, 413, 500, 501] {
            assert_eq!(outcome(Some(status), None, 1, 0.5), Outcome::Lost, "{status}");
        }
        for status in [None, Some(429), Some(502), Some(503), Some(504)] {
            assert!(matches!(outcome(status, None, 1, 0.5), Outcome::Again(_)), "{status:?}");
            assert_eq!(outcome(status, None, TRIES, 0.5), Outcome::Lost);
        }
        assert_eq!(
            outcome(Some(503), Some(Duration::from_secs(7)), 1, 0.5),
            Outcome::Again(Duration::from_secs(7))
        );
        assert_eq!(outcome(Some(503), Some(Duration::from_secs(3600)), 1, 0.5), Outcome::Lost);
        let waits: Vec<_> = (1..TRIES).map(|tries| outcome(None, None, tries, 1.0)).collect();
        let expected = [500, 1000, 2000, 4000, 8000].map(|ms| Outcome::Again(Duration::from_millis(ms)));
        assert_eq!(waits, expected);
        assert_eq!(outcome(None, None, 1, 0.0), Outcome::Again(Duration::from_millis(250)));
    }

    #[test]
    fn a_date_is_a_delay_too() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after("5", now), Some(Duration::from_secs(5)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:27 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
