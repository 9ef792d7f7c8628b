//! What a binding allows.

/// Buckets of one window at most: bounds the memory of one key.
const MAX_BUCKETS: u64 = 120;
/// Buckets of one window where the binding does not say how large one is.
const DEFAULT_BUCKETS: u64 = 30;
/// The longest period, in seconds: a day.
const MAX_PERIOD_SECS: f64 = 86_400.0;
/// The shortest bucket, in milliseconds.
const MIN_BUCKET_MS: u64 = 10;

/// The limits of a binding: `limit` calls of a key in any `period`, and no more than `burst` of them in any
/// `burstWindow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) limit: u64,
    pub(crate) period_ms: u64,
    pub(crate) burst: Option<Burst>,
    pub(crate) bucket_ms: u64,
}

/// At most `limit` calls in any `window_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burst {
    pub limit: u64,
    pub window_ms: u64,
}

/// Why limits make no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LimitsError {
    /// A span of time that is not above 0, or too long.
    #[error("{name} must be more than 0 and at most {max} seconds, not {found}")]
    Span {
        /// Which: `period`, `burstWindow`, `bucketSize`.
        name: &'static str,
        /// At most this many seconds.
        max: f64,
        /// What it is.
        found: f64,
    },
    /// A bucket so small that a window would need too many.
    #[error("bucketSize must be at least {min} seconds for a period of {period} seconds, not {found}")]
    Bucket {
        /// The smallest for the period, in seconds.
        min: f64,
        /// The period, in seconds.
        period: f64,
        /// What it is.
        found: f64,
    },
}

impl Limits {
    /// `limit` calls in any `period_secs`: wrangler's `simple: {limit, period}`.
    pub fn simple(limit: u64, period_secs: f64) -> Result<Self, LimitsError> {
        let period_ms = span("period", period_secs, MAX_PERIOD_SECS)?;
        let bucket_ms = (period_ms / DEFAULT_BUCKETS).max(1);
        Ok(Self { limit, period_ms, burst: None, bucket_ms })
    }

    /// And no more than `burst` of them in any `window_secs`, which is no longer than the period.
    pub fn with_burst(mut self, burst: u64, window_secs: f64) -> Result<Self, LimitsError> {
        let window_ms = span("burstWindow", window_secs, self.period_secs())?;
        self.bucket_ms = self.bucket_ms.min((window_ms / 4).max(self.smallest_bucket_ms())).min(window_ms);
        self.burst = Some(Burst { limit: burst, window_ms });
        Ok(self)
    }

    /// Counts in buckets of `bucket_secs`: the smaller, the sooner a call leaves the count after its window;
    /// the larger, the less memory a key takes. By default a thirtieth of the period, and a quarter of the
    /// burst window if that is less.
    pub fn with_bucket(mut self, bucket_secs: f64) -> Result<Self, LimitsError> {
        let longest = self.burst.map_or(self.period_secs(), |burst| burst.window_ms as f64 / 1000.0);
        let bucket_ms = span("bucketSize", bucket_secs, longest)?;
        let smallest = self.smallest_bucket_ms();
        if bucket_ms < smallest {
            return Err(LimitsError::Bucket {
                min: smallest as f64 / 1000.0,
                period: self.period_secs(),
                found: bucket_secs,
            });
        }
        self.bucket_ms = bucket_ms;
        Ok(self)
    }

    /// The same with another limit or period, as a call may ask; a period of its own has no burst.
    pub(crate) fn overridden(self, limit: Option<u64>, period_ms: Option<u64>) -> Self {
        let limit = limit.unwrap_or(self.limit);
        match period_ms {
            Some(period_ms) if period_ms != self.period_ms => {
                Self { limit, period_ms, burst: None, bucket_ms: (period_ms / DEFAULT_BUCKETS).max(1) }
            }
            _ => Self { limit, ..self },
        }
    }

    fn period_secs(&self) -> f64 {
        self.period_ms as f64 / 1000.0
    }

    fn smallest_bucket_ms(&self) -> u64 {
        self.period_ms.div_ceil(MAX_BUCKETS).max(MIN_BUCKET_MS)
    }
}

/// Seconds as whole milliseconds, at least one.
fn span(name: &'static str, seconds: f64, max: f64) -> Result<u64, LimitsError> {
    if seconds > 0.0 && seconds <= max {
        Ok(((seconds * 1000.0).round() as u64).max(1))
    } else {
        Err(LimitsError::Span { name, max, found: seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_make_no_sense_are_refused_by_name() {
        let text = |r: Result<Limits, LimitsError>| r.unwrap_err().to_string();
        let minute = Limits::simple(10, 60.0).unwrap();
        assert_eq!(
            text(Limits::simple(1, 0.0)),
            "period must be more than 0 and at most 86400 seconds, not 0"
        );
        assert!(Limits::simple(1, f64::NAN).is_err());
        assert_eq!(
            text(minute.with_burst(5, 61.0)),
            "burstWindow must be more than 0 and at most 60 seconds, not 61"
        );
        assert_eq!(
            text(minute.with_bucket(0.1)),
            "bucketSize must be at least 0.5 seconds for a period of 60 seconds, not 0.1"
        );
        assert!(minute.with_bucket(61.0).is_err());
        assert!(minute.with_burst(2, 5.0).unwrap().with_bucket(6.0).is_err());
    }
}
