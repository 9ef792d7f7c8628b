//! `limits` of a script.

use serde_json::Value as Json;

use crate::reply::ApiError;

/// Five minutes, the most that Cloudflare lets a script ask for.
pub(crate) const MOST_CPU_MS: u64 = 300_000;

/// Ten million, likewise.
pub(crate) const MOST_SUBREQUESTS: u64 = 10_000_000;

/// Refuses what is no limit.
pub(crate) fn check(limits: &Json) -> Result<(), ApiError> {
    let invalid = |what: &str| ApiError::bad(10021, format!("limits: {what}"));
    if limits.is_null() {
        return Ok(());
    }
    if !limits.is_object() {
        return Err(invalid("not an object"));
    }
    for (key, most) in [("cpu_ms", MOST_CPU_MS), ("subrequests", MOST_SUBREQUESTS)] {
        let value = &limits[key];
        if !value.is_null() && !value.as_u64().is_some_and(|n| (1..=most).contains(&n)) {
            return Err(invalid(&format!("{key} is not a whole number from 1 to {most}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_numbers_within_bounds() {
        for good in
            [json!(null), json!({}), json!({ "cpu_ms": 1 }), json!({ "cpu_ms": 300_000, "subrequests": 5 })]
        {
            assert!(check(&good).is_ok(), "{good}");
        }
        for bad in [
            json!(5),
            json!([]),
            json!({ "subrequests": 10_000_001 }),
            json!({ "cpu_ms": 0 }),
            json!({ "cpu_ms": 300_001 }),
        ] {
            assert!(check(&bad).is_err(), "{bad}");
        }
        for bad in [json!({ "cpu_ms": "50" }), json!({ "cpu_ms": 1.5 }), json!({ "subrequests": -1 })] {
            assert!(check(&bad).is_err(), "{bad}");
        }
    }
}
