//! When an expression fires next.

use crate::calendar::{DAY_MINUTES, MINUTE_MS, Month};
use crate::expression::Expression;

/// The calendar repeats itself after 400 years: what does not fire within them never does.
const MONTHS_TO_TRY: usize = 400 * 12 + 1;

impl Expression {
    /// The first moment after `time_ms` at which it fires, in milliseconds since the Unix epoch; a whole
    /// minute. `None` if it never fires.
    pub fn next_after(&self, time_ms: u64) -> Option<u64> {
        let minute = time_ms / MINUTE_MS + 1;
        let (first_day, of_day) = (minute / DAY_MINUTES, minute % DAY_MINUTES);
        let (mut month, day) = Month::of_day(first_day);
        let mut days = self.days_of(month) & (u32::MAX << day);
        if days & (1 << day) != 0 {
            if let Some(of_day) = self.minute_from(of_day) {
                return moment(first_day, of_day);
            }
            days &= !(1 << day);
        }
        for _ in 0..MONTHS_TO_TRY {
            if days != 0 {
                let day = month.first_day() + u64::from(days.trailing_zeros()) - 1;
                return moment(day, self.minute_from(0)?);
            }
            month = month.next();
            days = self.days_of(month);
        }
        None
    }

    /// The first minute of a day, from `from` on, at which it fires.
    fn minute_from(&self, from: u64) -> Option<u64> {
        let (hour, minute) = ((from / 60) as u32, (from % 60) as u32);
        let now = self.minutes & (u64::MAX << minute);
        if self.hours & (1 << hour) != 0 && now != 0 {
            return Some(u64::from(hour * 60 + now.trailing_zeros()));
        }
        let later = self.hours & (u32::MAX << (hour + 1));
        (later != 0).then(|| u64::from(later.trailing_zeros() * 60 + self.minutes.trailing_zeros()))
    }
}

fn moment(day: u64, minute: u64) -> Option<u64> {
    day.checked_mul(DAY_MINUTES)?.checked_add(minute)?.checked_mul(MINUTE_MS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::expression::{Days, Weekdays};

    const DAY_MS: u64 = DAY_MINUTES * MINUTE_MS;

    fn at(year: u64, month: u8, day: u8, hour: u64, minute: u64) -> u64 {
        let day = Month { year, month }.first_day() + u64::from(day) - 1;
        day * DAY_MS + (hour * 60 + minute) * MINUTE_MS
    }

    fn next(text: &str, from: u64) -> u64 {
        text.parse::<Expression>().unwrap().next_after(from).unwrap()
    }

    #[test]
    fn the_examples_of_cloudflares_page() {
        let now = at(2026, 11, 23, 13, 20) + 12_345;
        assert_eq!(next("* * * * *", now), at(2026, 11, 23, 13, 21));
        assert_eq!(next("*/30 * * * *", now), at(2026, 11, 23, 13, 30));
        assert_eq!(next("45 * * * *", now), at(2026, 11, 23, 13, 45));
        assert_eq!(next("0 17 * * sun", now), at(2026, 11, 29, 17, 0));
        assert_eq!(next("10 7 * * mon-fri", now), at(2026, 11, 24, 7, 10));
        assert_eq!(next("0 15 1 * *", now), at(2026, 12, 1, 15, 0));
        assert_eq!(next("0 18 * * 6L", now), at(2026, 11, 27, 18, 0));
        assert_eq!(next("59 23 LW * *", now), at(2026, 11, 30, 23, 59));
    }

    #[test]
    fn the_corners_of_the_calendar() {
        let now = at(2026, 11, 23, 0, 0);
        assert_eq!(next("0 0 29 2 *", now), at(2028, 2, 29, 0, 0));
        assert_eq!(next("0 0 29 2 *", at(2096, 3, 1, 0, 0)), at(2104, 2, 29, 0, 0));
        assert_eq!(next("0 0 * 2 MON#5", now), at(2044, 2, 29, 0, 0));
        assert_eq!(next("0 0 L-30 * *", at(2026, 2, 2, 0, 0)), at(2026, 3, 1, 0, 0));
        assert_eq!(next("0 0 1W * *", at(2026, 7, 20, 0, 0)), at(2026, 8, 3, 0, 0));
        assert_eq!(next("0 0 31W * *", at(2026, 5, 2, 0, 0)), at(2026, 5, 29, 0, 0));
        assert_eq!(next("0 0 13 * FRI", now), at(2026, 11, 27, 0, 0));
        assert_eq!("0 0 31 2 *".parse::<Expression>().unwrap().next_after(now), None);
        assert_eq!(next("* * * * *", at(2026, 12, 31, 23, 59)), at(2027, 1, 1, 0, 0));
        assert_eq!("* * * * *".parse::<Expression>().unwrap().next_after(u64::MAX), None);
    }

    /// Whether it fires at a minute, told from the fields one day at a time.
    fn matches(cron: &Expression, minute: u64) -> bool {
        let (month, day) = Month::of_day(minute / DAY_MINUTES);
        let of_day = minute % DAY_MINUTES;
        let weekday = (month.first_weekday() + day - 1) % 7;
        let weekday_fits = |day: u8| (1..=5).contains(&((month.first_weekday() + day - 1) % 7));
        let closest = |target: u8| {
            let distance = |d: &u8| (d.abs_diff(target), *d);
            target >= 1
                && target <= month.len()
                && (1..=month.len()).filter(|d| weekday_fits(*d)).min_by_key(distance) == Some(day)
        };
        let by_day = match cron.days {
            Days::Any => None,
            Days::Set(set) => Some(set & (1 << day) != 0),
            Days::Last(before) => Some(day + before == month.len()),
            Days::LastWeekday(before) => Some(closest(month.len().saturating_sub(before))),
            Days::Closest(target) => Some(closest(target)),
        };
        let by_weekday = match cron.weekdays {
            Weekdays::Any => None,
            Weekdays::Set(set) => Some(set & (1 << weekday) != 0),
            Weekdays::Last(wanted) => Some(weekday == wanted && day + 7 > month.len()),
            Weekdays::Nth(wanted, nth) => Some(weekday == wanted && (day - 1) / 7 + 1 == nth),
        };
        cron.minutes & (1 << (of_day % 60)) != 0
            && cron.hours & (1 << (of_day / 60)) != 0
            && cron.months & (1 << month.month) != 0
            && match (by_day, by_weekday) {
                (None, None) => true,
                (Some(fits), None) | (None, Some(fits)) => fits,
                (Some(day), Some(weekday)) => day || weekday,
            }
    }

    /// Texts of one field.
    fn field(low: u8, high: u8, special: Vec<String>) -> impl Strategy<Value = String> {
        let value = low..=high;
        let step = 1..=(high - low);
        let item = prop_oneof![
            4 => value.clone().prop_map(|n| n.to_string()),
            2 => (value.clone(), value.clone()).prop_map(|(a, b)| format!("{a}-{b}")),
            1 => (value.clone(), value.clone(), step.clone()).prop_map(|(a, b, s)| format!("{a}-{b}/{s}")),
            1 => (value, step.clone()).prop_map(|(a, s)| format!("{a}/{s}")),
        ];
        prop_oneof![
            3 => Just("*".to_owned()),
            1 => step.prop_map(|s| format!("*/{s}")),
            3 => proptest::collection::vec(item, 1..4).prop_map(|items| items.join(",")),
            2 => proptest::sample::select(if special.is_empty() { vec!["*".to_owned()] } else { special }),
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        let days = ["L", "LW", "L-1", "L-5", "L-30", "L-2W", "L-29W", "1W", "15W", "28W", "31W"];
        let weekdays = ["L", "1L", "satL", "MON#1", "6#5", "sun", "MON-FRI", "FRI-MON", "tue,thu"];
        let months = ["JAN", "feb", "MAR-jun", "nov-FEB"];
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        (
            field(0, 59, vec![]),
            field(0, 23, vec![]),
            field(1, 31, owned(&days)),
            field(1, 12, owned(&months)),
            field(1, 7, owned(&weekdays)),
        )
            .prop_map(|(m, h, d, mo, w)| format!("{m} {h} {d} {mo} {w}"))
    }

    proptest! {
        #[test]
        fn the_next_moment_is_later_matches_and_nothing_between_does(
            text in text(), from in 0u64..4_102_444_800_000,
        ) {
            let cron: Expression = text.parse().unwrap();
            let Some(next) = cron.next_after(from) else { return Ok(()) };
            prop_assert!(next > from);
            prop_assert_eq!(next % MINUTE_MS, 0);
            prop_assert!(matches(&cron, next / MINUTE_MS), "{text} does not fire at {next}");
            let first = from / MINUTE_MS + 1;
            for minute in first..(next / MINUTE_MS).min(first + 50_000) {
                prop_assert!(!matches(&cron, minute), "{text} fires at minute {minute} too");
            }
        }

        #[test]
        fn arbitrary_texts_never_panic(text in r"[ -~]{0,20}|([0-9*/,LW#-]{1,6} ){4}[0-9*/,LW#-]{1,6}|\PC{0,20}") {
            if let Ok(cron) = text.parse::<Expression>() { cron.next_after(1_700_000_000_000); }
        }

        #[test]
        fn cloudflares_own_parser_accepts_the_same_texts(
            text in prop_oneof![
                text(),
                r"([0-9*/,LWa-cA-C#-]{1,5}[ \t]{1,2}){4}[0-9*/,LW#-]{1,5}",
                r"(\*|[0-9]{1,2}(-[0-9]{1,2})?(/[0-9]{1,2})?|\*/[0-9]{1,2}|[0-9],\*(/2)?)( (\*|[1-9])){4}",
                r"\* \* [0-9L*]{1,2}[-W/,]?[0-9]{0,2}W? (\*|jan|FEBR?) ([1-7]|MON|tues?)?[L#]?[1-6]?",
            ],
        ) {
            let ours = text.parse::<Expression>().is_ok();
            prop_assert_eq!(ours, text.parse::<saffron::parse::CronExpr>().is_ok(), "{}", text);
        }

        #[test]
        fn and_fires_when_ours_does(text in text(), from in 1_500_000_000_000u64..2_500_000_000_000) {
            use saffron::parse::CronExpr;
            let cron: Expression = text.parse().unwrap();
            // Where saffron is known to be wrong: ranges that wrap take one value too many, a `W` at the edge
            // of a month or after `L-` matches twice, or a day that the month does not have.
            let wraps = text.split([' ', ',']).any(|item| wrapping(item.split('/').next().unwrap_or("")));
            let odd = matches!(cron.days, Days::LastWeekday(1..) | Days::Closest(29..));
            if wraps || odd || !cron.fires() { return Ok(()); }
            let saffron = saffron::Cron::new(text.parse::<CronExpr>().unwrap());
            let mut now = from;
            for _ in 0..5 {
                let next = cron.next_after(now).unwrap();
                let theirs = saffron.next_after(rfc3339(now).parse().unwrap());
                let after = theirs.map(|time| time.timestamp_millis() as u64);
                prop_assert_eq!(Some(next), after, "{}", text);
                now = next;
            }
        }
    }

    fn rfc3339(time_ms: u64) -> String {
        let (month, day) = Month::of_day(time_ms / DAY_MS);
        let second = time_ms % DAY_MS / 1000;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", month.year, month.month)
    }

    fn wrapping(range: &str) -> bool {
        let Some((first, last)) = range.split_once('-') else { return false };
        match (first.parse::<u8>(), last.parse::<u8>()) {
            (Ok(first), Ok(last)) => first > last,
            // Names: of those above, these two wrap.
            _ => ["FRI-MON", "nov-FEB"].contains(&range),
        }
    }
}
