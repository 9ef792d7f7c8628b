//! A cron expression, as sets of minutes, hours, days, months and weekdays.

use std::fmt;
use std::str::FromStr;

use crate::calendar::Month;
use crate::parse::{self, CronError};

/// A cron expression as Cloudflare reads it: minute, hour, day of the month, month, weekday.
///
/// Source: <https://developers.cloudflare.com/workers/configuration/cron-triggers/#supported-cron-expressions>.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expression {
    pub(crate) text: String,
    /// Bit `n` is minute `n`.
    pub(crate) minutes: u64,
    /// Bit `n` is hour `n`.
    pub(crate) hours: u32,
    pub(crate) days: Days,
    /// Bit `n` is month `n`, from 1.
    pub(crate) months: u16,
    pub(crate) weekdays: Weekdays,
}

/// Days of the month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Days {
    /// `*`: the weekdays alone decide.
    Any,
    /// Bit `n` is day `n`, from 1.
    Set(u32),
    /// `L`, `L-3`: the last day, or so many days before it.
    Last(u8),
    /// `LW`, `L-3W`: the weekday (Monday to Friday) closest to that, within the month.
    LastWeekday(u8),
    /// `15W`: the weekday closest to that day, within the month.
    Closest(u8),
}

/// Days of the week, 0 for Sunday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Weekdays {
    /// `*`: the days of the month alone decide.
    Any,
    /// Bit `n` is weekday `n`.
    Set(u8),
    /// `6L`: the last of the month.
    Last(u8),
    /// `6#3`: the third of the month.
    Nth(u8, u8),
}

impl Expression {
    /// Whether it ever fires: `0 0 31 2 *` does not.
    pub fn fires(&self) -> bool {
        self.next_after(0).is_some()
    }

    /// The days of `month` on which it fires; bit `n` is day `n`, from 1. Where both fields say something a
    /// day that matches either will do, as in cron(8).
    pub(crate) fn days_of(&self, month: Month) -> u32 {
        if self.months & (1 << month.month) == 0 {
            return 0;
        }
        let all = (u32::MAX >> (31 - month.len())) & !1;
        let days = self.days.of(month) & all;
        let weekdays = self.weekdays.of(month) & all;
        match (self.days, self.weekdays) {
            (Days::Any, Weekdays::Any) => all,
            (_, Weekdays::Any) => days,
            (Days::Any, _) => weekdays,
            _ => days | weekdays,
        }
    }
}

impl Days {
    fn of(self, month: Month) -> u32 {
        let len = month.len();
        match self {
            Self::Any => u32::MAX,
            Self::Set(days) => days,
            Self::Last(before) if before < len => 1 << (len - before),
            Self::LastWeekday(before) if before < len => 1 << closest_weekday(month, len - before),
            Self::Closest(day) if day <= len => 1 << closest_weekday(month, day),
            // This month has no such day.
            Self::Last(_) | Self::LastWeekday(_) | Self::Closest(_) => 0,
        }
    }
}

/// Friday for a Saturday and Monday for a Sunday, but the other one where that is in another month.
fn closest_weekday(month: Month, day: u8) -> u8 {
    match (month.first_weekday() + day - 1) % 7 {
        0 if day == month.len() => day - 2,
        0 => day + 1,
        6 if day == 1 => 3,
        6 => day - 1,
        _ => day,
    }
}

/// The bit of a day; a fifth week's may lie past the end of any month, and has none.
fn day_bit(day: u8) -> u32 {
    1u32.checked_shl(day.into()).unwrap_or(0)
}

impl Weekdays {
    fn of(self, month: Month) -> u32 {
        // The first day of the month that is that weekday.
        let first = |weekday: u8| 1 + (weekday + 7 - month.first_weekday()) % 7;
        let all = |weekday: u8| (0..5).fold(0, |set, week| set | day_bit(first(weekday) + 7 * week));
        match self {
            Self::Any => u32::MAX,
            Self::Set(set) => (0..7).filter(|n| set & (1 << n) != 0).map(all).fold(0, |a, b| a | b),
            Self::Last(weekday) => {
                let fifth = first(weekday) + 28;
                1 << if fifth <= month.len() { fifth } else { fifth - 7 }
            }
            Self::Nth(weekday, nth) => day_bit(first(weekday) + 7 * (nth - 1)),
        }
    }
}

impl FromStr for Expression {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        parse::expression(text)
    }
}

/// As it was written: this is what the application's `controller.cron` shows.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
