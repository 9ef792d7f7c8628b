//! Reading an expression.
//!
//! The grammar is that of Cloudflare's `saffron`: fields are parted by spaces or tabs; a list's items are
//! values, ranges (which may wrap around) and steps; `L`, `W` and `#` stand alone in their field; names are
//! in any case, `L` and `W` in upper case. A `*` in a list after its first item stands for the lowest value.

use crate::expression::{Days, Expression, Weekdays};

/// Why a text is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid cron string \"{text}\": {reason}")]
pub struct CronError {
    text: String,
    reason: String,
}

impl CronError {
    /// The error's number in Cloudflare's API, where its text is `invalid cron string`.
    pub const CODE: u32 = 10100;
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// What a field may hold.
struct Field {
    name: &'static str,
    /// What the numbers are, for errors.
    range: &'static str,
    low: u8,
    high: u8,
    /// Names of the values from `low` on.
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", range: "0 to 59", low: 0, high: 59, names: &[] };
const HOUR: Field = Field { name: "hour", range: "0 to 23", low: 0, high: 23, names: &[] };
const DAY: Field = Field { name: "day of the month", range: "1 to 31", low: 1, high: 31, names: &[] };
const MONTH: Field =
    Field { name: "month", range: "1 to 12, or JAN to DEC", low: 1, high: 12, names: &MONTHS };
const WEEKDAY: Field =
    Field { name: "weekday", range: "1 (Sunday) to 7, or SUN to SAT", low: 1, high: 7, names: &WEEKDAYS };

/// Reads a whole expression.
pub(crate) fn expression(text: &str) -> Result<Expression, CronError> {
    let failed = |reason: String| CronError { text: text.chars().take(100).collect(), reason };
    if text.starts_with([' ', '\t']) || text.ends_with([' ', '\t']) {
        return Err(failed("it begins or ends with a space".to_owned()));
    }
    let fields: Vec<&str> = text.split([' ', '\t']).filter(|field| !field.is_empty()).collect();
    let &[minutes, hours, days, months, weekdays] = fields.as_slice() else {
        let expected = "expected 5 fields (minute, hour, day of the month, month, weekday)";
        return Err(failed(format!("{expected}, found {}", fields.len())));
    };
    let set = |field: &Field, text| match text {
        "*" => Ok(all(field)),
        text => list(field, text),
    };
    Ok(Expression {
        text: text.to_owned(),
        minutes: set(&MINUTE, minutes).map_err(failed)?,
        hours: set(&HOUR, hours).map_err(failed)? as u32,
        days: days_of_month(days).map_err(failed)?,
        months: set(&MONTH, months).map_err(failed)? as u16,
        weekdays: days_of_week(weekdays).map_err(failed)?,
    })
}

fn days_of_month(text: &str) -> Result<Days, String> {
    if text == "*" {
        return Ok(Days::Any);
    }
    if let Some(rest) = text.strip_prefix('L') {
        let (offset, weekday) = rest.strip_suffix('W').map_or((rest, false), |offset| (offset, true));
        let before = match offset.strip_prefix('-') {
            Some(number) => {
                number_in(number, 1, 30).ok_or("day of the month: L- takes a number from 1 to 30")?
            }
            None if offset.is_empty() => 0,
            None => return Err(format!("day of the month: L stands alone, not in \"{text}\"")),
        };
        return Ok(if weekday { Days::LastWeekday(before) } else { Days::Last(before) });
    }
    if let Some(day) = text.strip_suffix('W') {
        return Ok(Days::Closest(value(&DAY, day)?));
    }
    Ok(Days::Set(list(&DAY, text)? as u32))
}

fn days_of_week(text: &str) -> Result<Weekdays, String> {
    // From here on Sunday is 0.
    let day = |text| value(&WEEKDAY, text).map(|day| day - 1);
    match text {
        "*" => return Ok(Weekdays::Any),
        "L" => return Ok(Weekdays::Set(1 << 6)),
        _ => {}
    }
    if let Some((weekday, nth)) = text.split_once('#') {
        let nth = number_in(nth, 1, 5).ok_or("weekday: # takes a number from 1 to 5")?;
        return Ok(Weekdays::Nth(day(weekday)?, nth));
    }
    if let Some(weekday) = text.strip_suffix('L') {
        return Ok(Weekdays::Last(day(weekday)?));
    }
    Ok(Weekdays::Set((list(&WEEKDAY, text)? >> 1) as u8))
}

fn all(field: &Field) -> u64 {
    (field.low..=field.high).fold(0, |set, n| set | 1 << n)
}

/// Values, ranges and steps, parted by commas. A whole `*` is for the caller.
fn list(field: &Field, text: &str) -> Result<u64, String> {
    let mut set = 0;
    for (place, item) in text.split(',').enumerate() {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => {
                let most = field.high - field.low;
                let step = number_in(step, 1, most)
                    .ok_or_else(|| format!("{}: a step is from 1 to {most}, not \"{step}\"", field.name))?;
                (range, Some(step))
            }
            None => (item, None),
        };
        if place == 0 && range.starts_with('*') && (range != "*" || step.is_none()) {
            return Err(format!("{}: * stands alone or before a step, not in \"{text}\"", field.name));
        }
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (start(field, first)?, value(field, last)?),
            None => {
                let first = start(field, range)?;
                (first, if step.is_some() { field.high } else { first })
            }
        };
        for n in around(field, first, last).step_by(step.unwrap_or(1).into()) {
            set |= 1 << n;
        }
    }
    Ok(set)
}

/// From the first to the last, past the end to the beginning if need be.
fn around(field: &Field, first: u8, last: u8) -> impl Iterator<Item = u8> {
    let wraps = first > last;
    let head = first..=(if wraps { field.high } else { last });
    let tail = wraps.then_some(field.low..=last).into_iter().flatten();
    head.chain(tail)
}

fn start(field: &Field, text: &str) -> Result<u8, String> {
    if text == "*" { Ok(field.low) } else { value(field, text) }
}

/// A number or a name.
fn value(field: &Field, text: &str) -> Result<u8, String> {
    let named = field.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    number_in(text, field.low, field.high)
        .or(named.map(|place| place as u8 + field.low))
        .ok_or_else(|| format!("{}: expected {}, found \"{text}\"", field.name, field.range))
}

fn number_in(text: &str, low: u8, high: u8) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && (low..=high).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        expression(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(
            reason("0 22 * * 0"),
            "invalid cron string \"0 22 * * 0\": weekday: expected 1 (Sunday) to 7, or SUN to SAT, found \"0\""
        );
        assert_eq!(
            reason("* * * *"),
            "invalid cron string \"* * * *\": expected 5 fields (minute, hour, day of the month, month, weekday), found 4"
        );
        assert!(reason("60 * * * *").ends_with("minute: expected 0 to 59, found \"60\""));
        assert!(reason("*/60 * * * *").ends_with("minute: a step is from 1 to 59, not \"60\""));
        assert!(reason("*,5 * * * *").contains("* stands alone"));
        assert!(reason("* * LX * *").contains("L stands alone"));
        assert!(reason("* * L-31 * *").contains("from 1 to 30"));
        assert!(reason("* * * * MON#6").contains("from 1 to 5"));
        assert!(reason(" * * * * *").contains("begins or ends with a space"));
        for text in
            ["", "* * * * * *", "* * 1W,2 * *", "* * * * 1L,2", "- * * * *", "1- * * * *", "+1 * * * *"]
        {
            assert!(expression(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_ranges_and_steps_are_read() {
        let read = |text: &str| expression(text).unwrap();
        assert_eq!(read("0 0 * JAN-mar Mon-FRI").months, 0b1110);
        assert_eq!(read("0 0 * * MON-FRI").weekdays, Weekdays::Set(0b0111110));
        assert_eq!(read("0 0 * * FRI-SUN").weekdays, Weekdays::Set(0b1100001));
        assert_eq!(read("0 0 * * L").weekdays, Weekdays::Set(0b1000000));
        assert_eq!(read("0 0 * * 6L").weekdays, Weekdays::Last(5));
        assert_eq!(read("0 0 * * 2#1").weekdays, Weekdays::Nth(1, 1));
        assert_eq!(read("0 0 L-3W * *").days, Days::LastWeekday(3));
        assert_eq!(read("0 22-1 * * *").hours, 0b11 | 0b11 << 22);
        assert_eq!(read("58-3/2 * * * *").minutes, 1 << 58 | 0b101);
    }
}
