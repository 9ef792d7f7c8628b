//! When a call is made again, and after how long. Pure.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode};

use crate::http::TransportError;

/// How often and how patiently.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts in all.
    pub attempts: u32,
    /// The first delay; it doubles.
    pub base: Duration,
    /// The longest delay of one's own choice.
    pub max: Duration,
    /// The longest that the server may ask for: beyond it the error is reported.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 4,
            base: Duration::from_millis(500),
            max: Duration::from_secs(8),
            max_retry_after: Duration::from_secs(60),
        }
    }
}

/// What an attempt came to.
pub(crate) enum Attempt<'a> {
    /// No answer.
    Failed(&'a TransportError),
    /// An answer.
    Answered(StatusCode, &'a HeaderMap),
}

/// Whether making a call of this method twice is like making it once.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE)
}

impl RetryPolicy {
    /// How long to wait before the next attempt; `None` if there is to be none. `jitter` is from 0 to 1.
    pub(crate) fn delay(
        &self,
        attempt: u32,
        came_to: &Attempt<'_>,
        repeatable: bool,
        jitter: f64,
        now: SystemTime,
    ) -> Option<Duration> {
        let again = match came_to {
            // The request was not sent.
            Attempt::Failed(TransportError::Connect { .. }) => true,
            Attempt::Failed(TransportError::Invalid(_)) => false,
            Attempt::Failed(_) => repeatable,
            // The server did not act on it.
            Attempt::Answered(StatusCode::TOO_MANY_REQUESTS, _) => true,
            Attempt::Answered(status, _) => repeatable && status.is_server_error(),
        };
        if !again || attempt >= self.attempts {
            return None;
        }
        if let Attempt::Answered(_, headers) = came_to
            && let Some(asked) = retry_after(headers, now)
        {
            return (asked <= self.max_retry_after).then_some(asked);
        }
        let doubled = self.base.saturating_mul(1 << (attempt.saturating_sub(1)).min(16));
        // Half of it by chance, so that those who failed together do not come back together.
        Some(doubled.min(self.max).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0))
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lost() -> TransportError {
        TransportError::Lost { host: "h".into(), text: "reset".into() }
    }

    fn answered(status: u16, after: Option<&str>) -> (StatusCode, HeaderMap) {
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert("retry-after", after.parse().unwrap());
        }
        (StatusCode::from_u16(status).unwrap(), headers)
    }

    fn delay_of(policy: RetryPolicy, answer: &(StatusCode, HeaderMap), repeatable: bool) -> Option<Duration> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        policy.delay(1, &Attempt::Answered(answer.0, &answer.1), repeatable, 0.0, now)
    }

    #[test]
    fn only_what_is_safe_is_done_again() {
        let policy = RetryPolicy::default();
        let again = |attempt: &Attempt<'_>, repeatable| {
            policy.delay(1, attempt, repeatable, 0.5, SystemTime::UNIX_EPOCH).is_some()
        };
        assert!(again(&Attempt::Failed(&lost()), true) && !again(&Attempt::Failed(&lost()), false));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let unsent = TransportError::Connect { host: "h".into(), source: refused };
        assert!(again(&Attempt::Failed(&unsent), false));
        assert!(delay_of(policy, &answered(429, None), false).is_some());
        assert!(delay_of(policy, &answered(503, None), true).is_some());
        assert!(delay_of(policy, &answered(503, None), false).is_none());
        assert!(delay_of(policy, &answered(400, None), true).is_none());
    }

    #[test]
    fn the_server_may_say_how_long_to_wait() {
        let policy = RetryPolicy::default();
        let asked = |text| delay_of(policy, &answered(429, Some(text)), false);
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:30 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("3600"), None);
        assert_eq!(asked("soon"), Some(Duration::from_millis(250)));
    }

    proptest! {
        #[test]
        fn delays_grow_and_are_bounded(attempt in 1u32..40, jitter in 0.0f64..1.0) {
            let policy = RetryPolicy { attempts: 100, ..RetryPolicy::default() };
            let delay = policy.delay(attempt, &Attempt::Failed(&lost()), true, jitter, SystemTime::UNIX_EPOCH).unwrap();
            prop_assert!(delay >= policy.base / 2 && delay <= policy.max);
        }
    }
}
