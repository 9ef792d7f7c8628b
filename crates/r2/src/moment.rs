//! A moment as a rule says it.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A date and time in RFC 3339, from 1970 on, in UTC. Kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment {
    text: String,
    ms: i64,
}

impl Moment {
    /// The moment so many milliseconds after 1970.
    pub fn at_ms(ms: u64) -> Self {
        let text = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string();
        Self { text, ms: i64::try_from(ms).unwrap_or(i64::MAX) }
    }

    /// Milliseconds since 1970.
    pub fn ms(&self) -> i64 {
        self.ms
    }
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a date and time such as 2026-01-01T00:00:00Z");
        let at = humantime::parse_rfc3339_weak(&text).map_err(|_| wrong())?;
        let since = at.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
        let ms = i64::try_from(since.as_millis()).map_err(|_| wrong())?;
        Ok(Self { text, ms })
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_stays_as_it_was_written() {
        for (text, ms) in [("2026-01-01T00:00:00.000Z", 1_767_225_600_000), ("1970-01-01T00:00:01Z", 1000)] {
            let moment = Moment::try_from(text.to_owned()).unwrap();
            assert_eq!((moment.ms(), String::from(moment)), (ms, text.to_owned()));
        }
        assert_eq!(Moment::at_ms(1000).ms(), 1000);
        for wrong in ["", "soon", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z"] {
            assert!(Moment::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
