//! Who is connected, and how many there may be.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Those who are connected to something.
#[derive(Debug, Default)]
pub struct Crowd {
    open: AtomicU64,
    /// By address.
    by_address: Mutex<HashMap<IpAddr, u64>>,
}

/// How large a [`Crowd`] may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrowdLimits {
    /// Connections at once.
    pub all: u64,
    /// Connections at once from one address; 0: any number.
    pub per_address: u64,
}

impl Crowd {
    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a connection from `peer` until the result is dropped; `None` if it is one too many.
    pub fn enter(self: &Arc<Self>, peer: IpAddr, limits: CrowdLimits) -> Option<Entered> {
        let place = place(peer).filter(|_| limits.per_address > 0);
        let fits = self.open() < limits.all;
        if !fits || !place.is_none_or(|place| self.take(place, limits.per_address)) {
            return None;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Entered { crowd: self.clone(), place })
    }

    /// Counts one more at `place`, unless it has `most` already.
    fn take(&self, place: IpAddr, most: u64) -> bool {
        let mut all = self.by_address();
        let count = all.entry(place).or_default();
        let fits = *count < most;
        *count += u64::from(fits);
        fits
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, u64>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom a connection is counted to: an address, or a network of IPv6, as who has one address there has 2^64. `None` for
/// this machine: a proxy here stands for many visitors.
fn place(peer: IpAddr) -> Option<IpAddr> {
    match peer.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into()),
        address => Some(address),
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Entered {
    crowd: Arc<Crowd>,
    place: Option<IpAddr>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.crowd.open.fetch_sub(1, Ordering::Relaxed);
        let Some(place) = self.place else { return };
        let mut all = self.crowd.by_address();
        if let Some(count) = all.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                all.remove(&place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_connections() {
        let crowd = Arc::new(Crowd::default());
        let limits = CrowdLimits { all: 7, per_address: 2 };
        let open = |address: &str| crowd.enter(address.parse().unwrap(), limits);
        let (first, second) = (open("192.0.2.1"), open("192.0.2.1"));
        assert!(first.is_some() && second.is_some() && open("::ffff:192.0.2.1").is_none());
        let others = [open("192.0.2.2"), open("2001:db8::1"), open("2001:db8::2")];
        assert!(others.iter().all(Option::is_some) && open("2001:db8::3").is_none());
        assert_eq!(crowd.open(), 5);
        drop(first);
        let again = open("192.0.2.1");
        assert!(again.is_some() && open("192.0.2.1").is_none());
        // This machine is not counted by itself, only with all.
        let here = [open("127.0.0.1"), open("::1")];
        assert!(here.iter().all(Option::is_some));
        assert!(open("127.0.0.1").is_none() && open("198.51.100.1").is_none());
        drop((second, others, again, here));
        assert_eq!(crowd.open(), 0);
        assert!(crowd.by_address().is_empty());
    }

    #[test]
    fn an_address_may_have_any_number_if_there_is_no_bound() {
        let crowd = Arc::new(Crowd::default());
        let limits = CrowdLimits { all: 10_000, per_address: 0 };
        let all: Vec<_> = (0..2000).map_while(|_| crowd.enter([192, 0, 2, 1].into(), limits)).collect();
        assert_eq!(all.len(), 2000);
    }
}
