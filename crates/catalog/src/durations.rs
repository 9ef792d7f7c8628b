//! Durations as Workflows take them. <https://developers.cloudflare.com/workflows/build/sleeping-and-retrying/>

use serde_json::Value as Json;

const DAY: f64 = 86_400_000.0;
const UNITS: [(&str, f64); 8] = [
    ("millisecond", 1.0),
    ("second", 1_000.0),
    ("minute", 60_000.0),
    ("hour", 3_600_000.0),
    ("day", DAY),
    ("week", 7.0 * DAY),
    ("month", 30.0 * DAY),
    ("year", 365.0 * DAY),
];

/// The longest that is taken: 1,000 years, which no clock overflows at.
const LONGEST: f64 = 365_000.0 * DAY;

/// Milliseconds of a number of them, or of a text like `3 days`; `None` if it is neither, or not above 0.
pub fn duration_ms(value: &Json) -> Option<u64> {
    let ms = match value {
        Json::Number(number) => number.as_u64()? as f64,
        Json::String(text) => {
            let text = text.trim();
            let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, unit) = text.split_at(end);
            let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let sound = number.split_once('.').map_or(plain(number), |(a, b)| plain(a) && plain(b));
            let unit = unit.trim_start();
            let unit = unit.strip_suffix('s').unwrap_or(unit);
            let (_, ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
            number.parse::<f64>().ok().filter(|_| sound)? * ms
        }
        _ => return None,
    };
    // Within bounds, and parts of a millisecond mean nothing.
    (1.0..=LONGEST).contains(&ms).then_some(ms as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_numbers_or_words() {
        for (value, expected) in [
            (json!(1500), Some(1500)),
            (json!("3 days"), Some(259_200_000)),
            (json!(" 1.5 hour "), Some(5_400_000)),
            (json!("2weeks"), Some(1_209_600_000)),
            (json!(0), None),
            (json!("0 seconds"), None),
            (json!("3 fortnights"), None),
            (json!("1.2.3 days"), None),
            (json!("days"), None),
            (json!("5"), None),
            (json!("999999999999 years"), None),
            (json!(-1), None),
            (json!(null), None),
        ] {
            assert_eq!(duration_ms(&value), expected, "{value}");
        }
    }
}
