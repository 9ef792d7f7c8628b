//! D1 databases as they were. <https://developers.cloudflare.com/d1/reference/time-travel/>

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use skep_d1::{Restored, TimeTravelError};

use crate::call::Call;
use crate::d1::database;
use crate::reply::{Answer, ApiError, ok};

fn refused(error: &TimeTravelError) -> ApiError {
    match error {
        TimeTravelError::Failed(_) => ApiError::internal(error),
        TimeTravelError::Off => ApiError::bad(
            7500,
            "This node keeps no earlier states of databases (--d1-history): restore an export, or a backup of the node.",
        ),
        other => ApiError::bad(7400, other.to_string()),
    }
}

/// A date and time of ISO 8601, with `Z` or an offset, in milliseconds since 1970.
fn time_of(text: &str) -> Option<u64> {
    let (date, clock) = text.split_once('T')?;
    let (clock, offset) = match clock.find(['Z', '+', '-']) {
        Some(at) => clock.split_at(at),
        None => (clock, "Z"),
    };
    let minutes = match offset.strip_prefix(['+', '-']) {
        None => (offset == "Z").then_some(0)?,
        Some(ahead) => {
            let (hours, minutes) = ahead.split_once(':')?;
            let number = |text: &str, below: u8| {
                (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten().filter(|n| *n < below)
            };
            u64::from(number(hours, 24)?) * 60 + u64::from(number(minutes, 60)?)
        }
    };
    let clock = if clock.matches(':').count() == 1 { format!("{clock}:00") } else { clock.to_owned() };
    let at = humantime::parse_rfc3339(&format!("{date}T{clock}Z")).ok()?;
    let offset_of = Duration::from_secs(minutes * 60);
    let at: SystemTime = if offset.starts_with('-') { at + offset_of } else { at.checked_sub(offset_of)? };
    u64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

fn timestamp(call: &Call) -> Result<Option<u64>, ApiError> {
    let Some(text) = call.query("timestamp") else { return Ok(None) };
    let wrong = || ApiError::bad(7400, format!("Invalid timestamp: {text} is no date and time of ISO 8601."));
    time_of(&text).map(Some).ok_or_else(wrong)
}

pub(crate) async fn bookmark(call: Call) -> Answer {
    let at = timestamp(&call)?;
    let bookmark = database(&call)?.bookmark_at(at).await.map_err(|error| refused(&error))?;
    ok(json!({ "bookmark": bookmark }))
}

pub(crate) async fn restore(call: Call) -> Answer {
    let at = timestamp(&call)?;
    let asked = call.query("bookmark").filter(|bookmark| !bookmark.is_empty());
    let database = database(&call)?;
    let bookmark = match (asked, at) {
        (Some(bookmark), None) => bookmark,
        (None, Some(at)) => database.bookmark_at(Some(at)).await.map_err(|error| refused(&error))?,
        _ => {
            return Err(ApiError::bad(
                7400,
                "Say to which state: one of 'bookmark' and 'timestamp' is required.",
            ));
        }
    };
    let Restored { previous, bookmark } =
        database.restore(&bookmark).await.map_err(|error| refused(&error))?;
    ok(json!({
        "bookmark": bookmark, "previous_bookmark": previous, "message": "Database restored successfully",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_have_an_offset() {
        let second = 1_785_844_800_000; // 2026-08-04T12:00:00Z
        for (text, ms) in [
            ("2026-08-04T12:00:00Z", second),
            ("2026-08-04T12:00Z", second),
            ("2026-08-04T12:00:00.250Z", second + 250),
            ("2026-08-04T14:30:00+02:30", second),
            ("2026-08-04T11:00-01:00", second),
            ("1970-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(time_of(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "1785844800",
            "2026-08-04",
            "2026-13-04T12:00:00Z",
            "2026-08-04T12:00:00+2",
            "1970-01-01T00:00:00+01:00",
            "2026-08-04T12:00:00+24:00",
            "2026-08-04T12:00:00-01:60",
        ] {
            assert_eq!(time_of(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_time_or_not(
            text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?([-+][0-9]{2}:[0-9]{2}|Z)?|\\PC{0,30}",
        ) {
            if let Some(ms) = time_of(&text) {
                crate::reply::time(i64::try_from(ms).unwrap());
            }
        }
    }
}
