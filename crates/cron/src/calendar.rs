//! Days and months, without a time zone.

/// Milliseconds of a minute.
pub(crate) const MINUTE_MS: u64 = 60_000;
/// Minutes of a day.
pub(crate) const DAY_MINUTES: u64 = 24 * 60;

/// A month of the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Month {
    pub year: u64,
    /// 1 to 12.
    pub month: u8,
}

impl Month {
    /// The month of a day, counted from 1970-01-01, and the day of the month, from 1.
    pub fn of_day(day: u64) -> (Self, u8) {
        // Eras of 400 years from 0000-03-01, so that the leap day is a year's last: H. Hinnant,
        // "chrono-Compatible Low-Level Date Algorithms".
        let shifted = day + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day_of_month = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        (Self { year, month: month as u8 }, day_of_month as u8)
    }

    /// Its first day, counted from 1970-01-01. Only for years from 1970 on.
    pub fn first_day(self) -> u64 {
        let year = self.year - u64::from(self.month <= 2);
        let shifted_month = u64::from(if self.month > 2 { self.month - 3 } else { self.month + 9 });
        let (era, year_of_era) = (year / 400, year % 400);
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * shifted_month + 2) / 5;
        era * 146_097 + of_era - 719_468
    }

    /// How many days it has.
    pub fn len(self) -> u8 {
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if self.year.is_multiple_of(4)
                && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400)) =>
            {
                29
            }
            2 => 28,
            _ => 31,
        }
    }

    /// The weekday of its first day, 0 for Sunday.
    pub fn first_weekday(self) -> u8 {
        // 1970-01-01 was a Thursday.
        ((self.first_day() + 4) % 7) as u8
    }

    /// The month after it.
    pub fn next(self) -> Self {
        match self.month {
            12 => Self { year: self.year + 1, month: 1 },
            month => Self { year: self.year, month: month + 1 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_five_centuries_is_where_it_should_be() {
        let (mut month, mut day, mut weekday) = (Month { year: 1970, month: 1 }, 1, 4);
        for number in 0..(500 * 365) {
            assert_eq!(Month::of_day(number), (month, day));
            assert_eq!((month.first_day() + u64::from(day) - 1), number);
            assert_eq!((month.first_weekday() + day - 1) % 7, weekday);
            weekday = (weekday + 1) % 7;
            if day == month.len() {
                (month, day) = (month.next(), 1);
            } else {
                day += 1;
            }
        }
        assert_eq!(Month::of_day(20_780).0, Month { year: 2026, month: 11 });
    }
}
