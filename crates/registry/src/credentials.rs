//! Who may ask: names and passwords that are good for a short time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use skep_runtime::Clock;

/// The longest that a password can be good for.
pub const MOST_MINUTES: u64 = 24 * 60;
/// Who a password is for: wrangler takes this one, whatever it was told.
pub const USER: &str = "v1";
/// Passwords of one account that are good at the same time; the one that ends first makes room for another.
const MOST: usize = 256;

/// What somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// In this account.
    pub account: String,
    /// Write.
    pub push: bool,
    /// Read.
    pub pull: bool,
    until_ms: u64,
}

/// Passwords that were given out. They are in memory: after a restart of the node new ones are asked for.
#[derive(Debug)]
pub struct Credentials {
    clock: Clock,
    /// By the hash of the password: looking one up says nothing about others.
    issued: Mutex<HashMap<[u8; 32], Grant>>,
}

impl Credentials {
    /// None yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, issued: Mutex::default() }
    }

    fn issued(&self) -> MutexGuard<'_, HashMap<[u8; 32], Grant>> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new password for `account`, good for so many minutes, at most [`MOST_MINUTES`].
    pub fn issue(&self, account: &str, push: bool, pull: bool, minutes: u64) -> String {
        let password =
            [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(|id| id.simple().to_string()).concat();
        let now = self.clock.now_ms();
        let until_ms = now.saturating_add(minutes.min(MOST_MINUTES) * 60_000);
        let mut issued = self.issued();
        issued.retain(|_, grant| grant.until_ms > now);
        let of_account = issued.iter().filter(|(_, grant)| grant.account == account);
        if of_account.clone().count() >= MOST
            && let Some(first) = of_account.min_by_key(|(_, grant)| grant.until_ms).map(|(key, _)| *key)
        {
            issued.remove(&first);
        }
        issued.insert(key(&password), Grant { account: account.to_owned(), push, pull, until_ms });
        password
    }

    /// What the bearer of an `Authorization` header may do.
    pub(crate) fn check(&self, header: &str) -> Option<Grant> {
        let (scheme, encoded) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        let now = self.clock.now_ms();
        let grant = self.issued().get(&key(password)).filter(|_| user == USER).cloned();
        grant.filter(|grant| grant.until_ms > now)
    }
}

fn key(password: &str) -> [u8; 32] {
    Sha256::digest(password.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use skep_runtime::ManualClock;

    use super::*;

    fn header(user: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    #[test]
    fn a_password_is_good_for_its_time_and_its_account() {
        let clock = ManualClock::at(0);
        let credentials = Credentials::new(clock.clock());
        let password = credentials.issue("a1", false, true, 5);
        let grant = credentials.check(&header("v1", &password)).unwrap();
        assert_eq!((grant.account.as_str(), grant.push, grant.pull), ("a1", false, true));
        for wrong in [
            header("v2", &password),
            header("v1", "x"),
            header("v1", ""),
            format!("Bearer {password}"),
            "Basic %%".to_owned(),
            String::new(),
        ] {
            assert_eq!(credentials.check(&wrong), None, "{wrong}");
        }
        clock.advance_ms(5 * 60_000);
        assert_eq!(credentials.check(&header("v1", &password)), None);
    }

    #[test]
    fn who_asks_without_end_loses_its_own_first_ones() {
        let credentials = Credentials::new(ManualClock::at(0).clock());
        let other = credentials.issue("b", true, true, 1);
        let first = credentials.issue("a", true, true, 1);
        let last = (0..MOST).map(|_| credentials.issue("a", true, true, 2)).last().unwrap();
        assert!(credentials.check(&header("v1", &first)).is_none());
        for good in [other, last] {
            assert!(credentials.check(&header("v1", &good)).is_some());
        }
    }
}
