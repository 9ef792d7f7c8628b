//! What visitors do that belongs to no site, and how many there may be.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::guard::EdgeLimits;

/// Counts of a node: all listeners share one.
#[derive(Debug, Default)]
pub struct Traffic {
    accepted: AtomicU64,
    closed: AtomicU64,
    unrouted: AtomicU64,
    refused: AtomicU64,
    turned_away: AtomicU64,
    /// Open connections by address.
    by_address: Mutex<HashMap<IpAddr, u64>>,
}

impl Traffic {
    /// Connections that were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub fn connections(&self) -> u64 {
        let closed = self.closed.load(Ordering::Relaxed);
        self.accepted().saturating_sub(closed)
    }

    /// Requests for a host that nothing is deployed at.
    pub fn unrouted(&self) -> u64 {
        self.unrouted.load(Ordering::Relaxed)
    }

    /// Requests that were refused for the size of their URL, headers or body.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections that were closed at once, as there were too many.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub(crate) fn note_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_unrouted(&self) {
        self.unrouted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection from `peer` until the result is dropped; `None` if it is one too many.
    pub(crate) fn open(self: &Arc<Self>, peer: IpAddr, limits: &EdgeLimits) -> Option<Open> {
        let fits = self.connections() < limits.connections;
        let place = place(peer).filter(|_| limits.connections_per_address > 0);
        if !fits || !place.is_none_or(|place| self.take(place, limits.connections_per_address)) {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Open { traffic: self.clone(), place })
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
pub(crate) struct Open {
    traffic: Arc<Traffic>,
    place: Option<IpAddr>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.traffic.closed.fetch_add(1, Ordering::Relaxed);
        let Some(place) = self.place else { return };
        let mut all = self.traffic.by_address();
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
        let traffic = Arc::new(Traffic::default());
        let limits = EdgeLimits { connections: 7, connections_per_address: 2, ..EdgeLimits::default() };
        let open = |address: &str| traffic.open(address.parse().unwrap(), &limits);
        let (first, second) = (open("192.0.2.1"), open("192.0.2.1"));
        assert!(first.is_some() && second.is_some() && open("::ffff:192.0.2.1").is_none());
        let others = [open("192.0.2.2"), open("2001:db8::1"), open("2001:db8::2")];
        assert!(others.iter().all(Option::is_some) && open("2001:db8::3").is_none());
        assert_eq!((traffic.connections(), traffic.turned_away()), (5, 2));
        drop(first);
        let again = open("192.0.2.1");
        assert!(again.is_some() && open("192.0.2.1").is_none());
        // This machine is not counted by itself, only with all.
        let here = [open("127.0.0.1"), open("::1")];
        assert!(here.iter().all(Option::is_some));
        assert!(open("127.0.0.1").is_none() && open("198.51.100.1").is_none());
        drop((second, others, again, here));
        assert_eq!(traffic.connections(), 0);
        assert!(traffic.by_address().is_empty());
    }

    #[test]
    fn an_address_may_have_any_number_if_there_is_no_bound() {
        let traffic = Arc::new(Traffic::default());
        let limits = EdgeLimits { connections_per_address: 0, ..EdgeLimits::default() };
        let all: Vec<_> = (0..2000).map_while(|_| traffic.open([192, 0, 2, 1].into(), &limits)).collect();
        assert_eq!(all.len(), 2000);
    }
}
