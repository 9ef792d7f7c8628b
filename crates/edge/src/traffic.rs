//! What visitors do that belongs to no site, and how many there may be.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skep_wire::{Crowd, CrowdLimits, Entered};

use crate::guard::EdgeLimits;

/// Counts of a node: all listeners share one.
#[derive(Debug, Default)]
pub struct Traffic {
    accepted: AtomicU64,
    unrouted: AtomicU64,
    refused: AtomicU64,
    turned_away: AtomicU64,
    crowd: Arc<Crowd>,
}

impl Traffic {
    /// Connections that were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub fn connections(&self) -> u64 {
        self.crowd.open()
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
    pub(crate) fn open(&self, peer: IpAddr, limits: &EdgeLimits) -> Option<Entered> {
        let limits = CrowdLimits { all: limits.connections, per_address: limits.connections_per_address };
        let entered = self.crowd.enter(peer, limits);
        let count = if entered.is_some() { &self.accepted } else { &self.turned_away };
        count.fetch_add(1, Ordering::Relaxed);
        entered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_whether_they_were_let_in_or_not() {
        let traffic = Traffic::default();
        let limits = EdgeLimits { connections: 2, ..EdgeLimits::default() };
        let open = || traffic.open([192, 0, 2, 1].into(), &limits);
        let (first, second) = (open(), open());
        assert!(first.is_some() && second.is_some() && open().is_none());
        drop(first);
        assert_eq!((traffic.accepted(), traffic.connections(), traffic.turned_away()), (2, 1, 1));
    }
}
