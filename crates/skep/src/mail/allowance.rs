//! How much mail an account may send: the relay is the operator's, and so is the name that it gets.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::refused::{Code, Refused};

const MINUTE_MS: u64 = 60 * 1000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const HOURS: usize = 24;

/// Recipients that an account may write to. A mail to ten people is ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// In any 24 hours, counted by hours of the clock.
    pub per_day: u32,
    /// In a minute of the clock.
    pub per_minute: u32,
}

/// What an account has sent.
#[derive(Debug, Default)]
struct Sent {
    /// The minute since the epoch, and how many in it.
    minute: (u64, u32),
    /// The same for the last hours, each in its place.
    hours: [(u64, u32); HOURS],
}

impl Sent {
    /// Counts `recipients`, unless they are too many.
    fn take(&mut self, recipients: u32, allowed: Allowed, now_ms: u64) -> Result<(), Refused> {
        let (minute, hour) = (now_ms / MINUTE_MS, now_ms / HOUR_MS);
        if self.minute.0 != minute {
            self.minute = (minute, 0);
        }
        let recent = |(at, _): &&(u64, u32)| hour.saturating_sub(*at) < HOURS as u64;
        let today: u32 = self.hours.iter().filter(recent).map(|(_, count)| count).sum();
        if today.saturating_add(recipients) > allowed.per_day {
            return Err(Refused::new(Code::DailyLimit, "Daily limit exceeded"));
        }
        if self.minute.1.saturating_add(recipients) > allowed.per_minute {
            return Err(Refused::new(Code::RateLimit, "Rate limit exceeded"));
        }
        let place = &mut self.hours[hour as usize % HOURS];
        if place.0 != hour {
            *place = (hour, 0);
        }
        place.1 += recipients;
        self.minute.1 += recipients;
        Ok(())
    }
}

/// What all accounts have sent, in memory: a node that starts anew begins at nothing.
#[derive(Debug)]
pub struct Allowance {
    allowed: Allowed,
    accounts: Mutex<HashMap<String, Sent>>,
}

impl Allowance {
    /// The same for every account.
    pub fn new(allowed: Allowed) -> Self {
        Self { allowed, accounts: Mutex::default() }
    }

    /// Counts `recipients` of a mail of `account`, unless they are too many.
    pub(super) fn take(&self, account: &str, recipients: usize, now_ms: u64) -> Result<(), Refused> {
        let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if !accounts.contains_key(account) {
            accounts.insert(account.to_owned(), Sent::default());
        }
        accounts.get_mut(account).map_or(Ok(()), |sent| sent.take(recipients, self.allowed, now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_counted_by_account_minute_and_day() {
        let allowance = Allowance::new(Allowed { per_day: 10, per_minute: 4 });
        let take =
            |account: &str, count, now| allowance.take(account, count, now).map_err(|refused| refused.code);
        let start = 100 * HOUR_MS;
        assert_eq!(take("a", 3, start), Ok(()));
        assert_eq!(take("a", 2, start + 1), Err(Code::RateLimit));
        assert_eq!(take("a", 1, start + 1), Ok(()));
        assert_eq!(take("b", 4, start + 1), Ok(()));
        assert_eq!(take("a", 4, start + MINUTE_MS), Ok(()));
        assert_eq!(take("a", 2, start + HOUR_MS), Ok(()));
        // What was refused is not counted.
        assert_eq!(take("a", 1, start + 23 * HOUR_MS), Err(Code::DailyLimit));
        assert_eq!(take("a", 4, start + 24 * HOUR_MS), Ok(()));
        assert_eq!(take("a", 4, start + 24 * HOUR_MS + MINUTE_MS), Ok(()));
        assert_eq!(take("a", 1, start + 24 * HOUR_MS + 2 * MINUTE_MS), Err(Code::DailyLimit));
        assert_eq!(take("a", usize::MAX, start + 90 * HOUR_MS), Err(Code::DailyLimit));
    }
}
