//! Times in time zones. Pure, but for the machine's rules of time zones.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::types::Unit;

/// A time zone by its name, `None` if this machine does not know it.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    match name {
        "UTC" | "Etc/UTC" => Some(TimeZone::UTC),
        name => TimeZone::get(name).ok(),
    }
}

/// The names of all time zones that this machine knows.
pub(crate) fn zones() -> Vec<String> {
    let mut names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    names.push("Etc/UTC".into());
    names.sort();
    names.dedup();
    names
}

fn local(at: i64, zone: &TimeZone) -> Option<DateTime> {
    Some(zone.to_datetime(Timestamp::from_second(at).ok()?))
}

fn instant(local: DateTime, zone: &TimeZone) -> Option<i64> {
    zone.to_timestamp(local).ok().map(Timestamp::as_second)
}

/// The time that a text says: seconds since 1970, or `YYYY-MM-DD hh:mm:ss`, or a day.
pub(crate) fn parse(text: &str, zone: &TimeZone) -> Option<i64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok().map(Timestamp::as_second);
    }
    let (day, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    // Only these forms: a time zone in the text would be ignored.
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.'));
    if !plain(day) || !plain(time) {
        return None;
    }
    let (day, time) = (day.parse::<Date>().ok()?, time.parse::<Time>().ok()?);
    instant(day.to_datetime(time), zone)
}

/// `at` with `n` units more.
pub(crate) fn add(at: i64, n: i64, unit: Unit, zone: &TimeZone) -> Option<i64> {
    if let Some(seconds) = unit.seconds() {
        return at.checked_add(n.checked_mul(seconds)?);
    }
    let span = match unit {
        Unit::Year => Span::new().try_years(n).ok()?,
        _ => Span::new().try_months(n).ok()?,
    };
    instant(local(at, zone)?.checked_add(span).ok()?, zone)
}

/// The beginning of the `n` units that `at` is in.
pub(crate) fn start(at: i64, n: i64, unit: Unit, zone: &TimeZone) -> Option<i64> {
    let n = n.max(1);
    let local = local(at, zone)?;
    let days = |date: Date| i64::from(date.duration_since(Date::constant(1970, 1, 1)).as_hours() as i32 / 24);
    let first = Date::constant(1970, 1, 1);
    let day = |count: i64| first.checked_add(Span::new().try_days(count).ok()?).ok();
    let floor = |value: i64| value.div_euclid(n) * n;
    match unit {
        Unit::Second | Unit::Minute | Unit::Hour => {
            // By the clock on the wall, so that an hour begins with its minute 0.
            let offset = instant_offset(at, zone)?;
            let length = unit.seconds()?.checked_mul(n)?;
            Some((at + offset).div_euclid(length) * length - offset)
        }
        Unit::Day => instant(day(floor(days(local.date())))?.into(), zone),
        Unit::Week => {
            let back = i64::from(local.weekday().since(Weekday::Monday));
            // 1970-01-05 was a Monday.
            let monday = days(local.date()) - back - 4;
            instant(day((monday / 7).div_euclid(n) * n * 7 + 4)?.into(), zone)
        }
        Unit::Month => {
            let months = (i64::from(local.year()) - 1970) * 12 + i64::from(local.month()) - 1;
            let months = floor(months);
            let (year, month) = (1970 + months.div_euclid(12), months.rem_euclid(12) + 1);
            let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, 1).ok()?;
            instant(date.into(), zone)
        }
        Unit::Year => {
            let date = Date::new(i16::try_from(floor(i64::from(local.year()))).ok()?, 1, 1).ok()?;
            instant(date.into(), zone)
        }
    }
}

fn instant_offset(at: i64, zone: &TimeZone) -> Option<i64> {
    Some(i64::from(zone.to_offset(Timestamp::from_second(at).ok()?).seconds()))
}

/// A part of a time, by its name.
pub(crate) fn part(at: i64, part: &str, zone: &TimeZone) -> Option<i64> {
    let local = local(at, zone)?;
    Some(match part {
        "year" => local.year().into(),
        "month" => local.month().into(),
        "day" => local.day().into(),
        "weekday" => local.weekday().to_monday_one_offset().into(),
        "hour" => local.hour().into(),
        "minute" => local.minute().into(),
        "second" => local.second().into(),
        "yyyymm" => i64::from(local.year()) * 100 + i64::from(local.month()),
        _ => return None,
    })
}

/// A time in words, by ClickHouse's format.
/// <https://clickhouse.com/docs/sql-reference/functions/date-time-functions#formatDateTime>
pub(crate) fn format(at: i64, format: &str, zone: &TimeZone) -> Option<String> {
    let local = local(at, zone)?;
    let mut text = String::with_capacity(format.len() + 16);
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        // What means something else in `strftime`.
        let spec = match rest.next()? {
            'i' => "%M",
            'M' => "%B",
            'W' => "%A",
            'h' => "%I",
            'r' => "%I:%M %p",
            'R' => "%H:%M",
            'T' => "%H:%M:%S",
            'D' => "%m/%d/%y",
            'F' => "%Y-%m-%d",
            'Q' => {
                text.push_str(&((local.month() - 1) / 3 + 1).to_string());
                continue;
            }
            'w' => {
                text.push_str(&local.weekday().to_sunday_zero_offset().to_string());
                continue;
            }
            'f' => "000000",
            'n' => "\n",
            't' => "\t",
            '%' => {
                text.push('%');
                continue;
            }
            other @ ('Y' | 'y' | 'm' | 'd' | 'e' | 'H' | 'I' | 'S' | 'p' | 'a' | 'b' | 'j' | 'u' | 'V'
            | 'G' | 'g' | 'k' | 'l' | 'C') => {
                let spec = format!("%{other}");
                text.push_str(&jiff::fmt::strtime::format(&spec, local).ok()?);
                continue;
            }
            'z' => {
                let offset = instant_offset(at, zone)?;
                let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
                text.push_str(&format!("{sign}{:02}{:02}", minutes / 60, minutes % 60));
                continue;
            }
            _ => return None,
        };
        text.push_str(&jiff::fmt::strtime::format(spec, local).ok()?);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown_in_their_zone() {
        let utc = TimeZone::UTC;
        let york = zone("America/New_York").unwrap();
        assert_eq!(parse("355924804", &utc), Some(355_924_804));
        assert_eq!(parse("1981-04-12 12:00:04", &utc), Some(355_924_804));
        let at = parse("2022-12-01 16:17:00", &york).unwrap();
        assert_eq!(format(at, "%F %T", &utc).unwrap(), "2022-12-01 21:17:00");
        assert_eq!(
            format(at, "%Y-%m-%d %H:%i:%S %z %M %Q%%", &york).unwrap(),
            "2022-12-01 16:17:00 -0500 December 4%"
        );
        for wrong in ["", "yesterday", "2022-13-01", "2022-12-01 16:17:00+01:00", "2022-12-01T16:17:00Z"] {
            assert_eq!(parse(wrong, &utc), None, "{wrong}");
        }
        assert_eq!(format(at, "%J", &utc), None);
        assert_eq!((zone("Mars/Olympus").is_none(), zones().contains(&"Europe/Berlin".into())), (true, true));
    }

    #[test]
    fn units_begin_where_they_do() {
        let utc = TimeZone::UTC;
        let started = |text: &str, n, unit| {
            let at = start(parse(text, &utc).unwrap(), n, unit, &utc).unwrap();
            format(at, "%F %T", &utc).unwrap()
        };
        assert_eq!(started("2025-10-27 16:55:25", 1, Unit::Year), "2025-01-01 00:00:00");
        assert_eq!(started("2025-10-27 16:55:25", 1, Unit::Month), "2025-10-01 00:00:00");
        assert_eq!(started("2025-10-29 00:00:00", 1, Unit::Week), "2025-10-27 00:00:00");
        assert_eq!(started("2025-10-27 00:00:00", 1, Unit::Week), "2025-10-27 00:00:00");
        assert_eq!(started("1969-12-31 23:00:00", 1, Unit::Week), "1969-12-29 00:00:00");
        assert_eq!(started("2025-10-27 16:55:25", 15, Unit::Minute), "2025-10-27 16:45:00");
        assert_eq!(started("2025-10-27 16:55:25", 10, Unit::Minute), "2025-10-27 16:50:00");
        assert_eq!(started("2025-10-27 16:55:25", 1, Unit::Day), "2025-10-27 00:00:00");
        let york = zone("America/New_York").unwrap();
        let at = start(parse("2025-10-27 02:00:00", &utc).unwrap(), 1, Unit::Day, &york).unwrap();
        assert_eq!(format(at, "%F %T", &utc).unwrap(), "2025-10-26 04:00:00");
        let leap = parse("2024-03-31 00:00:00", &utc).unwrap();
        let back = add(leap, -1, Unit::Month, &utc).unwrap();
        assert_eq!(format(back, "%F", &utc).unwrap(), "2024-02-29");
    }
}
