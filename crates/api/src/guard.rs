//! Who keeps trying wrong tokens has to wait.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// Wrong tokens that an address may send within [`WINDOW_MS`].
const FAILURES: u32 = 30;
/// A minute, in milliseconds.
const WINDOW_MS: i64 = 60_000;
/// Addresses and tokens remembered at most.
const REMEMBERED: usize = 10_000;

/// Counts failures by address.
#[derive(Debug, Default)]
pub(crate) struct Guard(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Since when, and how many.
    failures: HashMap<IpAddr, (i64, u32)>,
    /// Hashes of tokens that were right: who has one is not locked out by others behind the same address.
    known: HashSet<[u8; 32]>,
}

impl Guard {
    /// Whether `token` may be tried; otherwise for how many seconds not.
    pub fn admit(&self, from: Option<IpAddr>, token: &str, now_ms: i64) -> Result<(), u64> {
        let Some(from) = from.map(network) else { return Ok(()) };
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.failures.get(&from) {
            Some((since, count))
                if *count >= FAILURES
                    && now_ms - since < WINDOW_MS
                    && !state.known.contains(&hash(token)) =>
            {
                Err(u64::try_from(since + WINDOW_MS - now_ms).unwrap_or(0).div_ceil(1000))
            }
            _ => Ok(()),
        }
    }

    /// Takes note of how a try ended.
    pub fn tried(&self, from: Option<IpAddr>, token: &str, right: bool, now_ms: i64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if right {
            if state.known.len() >= REMEMBERED {
                state.known.clear();
            }
            state.known.insert(hash(token));
            return;
        }
        let Some(from) = from.map(network) else { return };
        if state.failures.len() >= REMEMBERED {
            state.failures.retain(|_, (since, _)| now_ms - *since < WINDOW_MS);
        }
        if state.failures.len() >= REMEMBERED {
            state.failures.clear();
        }
        let entry = state.failures.entry(from).or_insert((now_ms, 0));
        if now_ms - entry.0 >= WINDOW_MS {
            *entry = (now_ms, 0);
        }
        entry.1 += 1;
    }
}

/// The address, or the network of 64 bits that one customer has in IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_too_often_waits_and_others_do_not() {
        let guard = Guard::default();
        let [here, there] = ["2001:db8::1", "192.0.2.1"].map(|text| Some(text.parse().unwrap()));
        guard.tried(here, "right", true, 0);
        for n in 0..FAILURES {
            assert_eq!(guard.admit(here, "wrong", 1000), Ok(()), "{n}");
            guard.tried(here, "wrong", false, 1000);
        }
        assert_eq!(guard.admit(here, "wrong", 1500), Err(60));
        let neighbour = Some("2001:db8::2".parse().unwrap());
        assert_eq!(guard.admit(neighbour, "wrong", 2000), Err(59));
        assert_eq!(guard.admit(here, "right", 2000), Ok(()), "what was right before still is");
        assert_eq!(guard.admit(there, "wrong", 2000), Ok(()));
        assert_eq!(guard.admit(here, "wrong", 61_000), Ok(()), "a minute later");
        guard.tried(here, "wrong", false, 61_000);
        assert_eq!(guard.admit(here, "wrong", 61_001), Ok(()));
    }
}
