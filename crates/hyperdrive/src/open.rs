//! How much of the node connections to databases take: files that the process may open, which all accounts have together.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use skep_runtime::{Backlog, Bounds, Waiting};
use skep_wire::part_of_files;

use crate::used::Used;

/// Files of a connection: the worker's side and the database's, also while it waits for that. Where a worker does not read, there may be
/// a third one.
pub(crate) const EACH: usize = 2;

/// Files that may be open: of an owner, of all, and of an owner while all have more.
pub(crate) fn bounds() -> Bounds {
    // Where there are few files: as many as a configuration may have connections, and some that wait; and the fewest that one may have.
    Bounds {
        own: part_of_files(16).clamp(128 * EACH, 4096),
        all: part_of_files(8).max(128 * EACH),
        little: part_of_files(512).max(5 * EACH),
    }
}

/// What is open.
#[derive(Debug)]
pub(crate) struct Open {
    bounds: Bounds,
    all: Arc<AtomicUsize>,
    each: Used<Backlog>,
}

impl Open {
    /// Nothing yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, all: Arc::default(), each: Used::default() }
    }

    /// Counts one more connection of `owner` for as long as the result lives; `None` if there are as many as may be.
    pub fn begin(&self, owner: &str) -> Option<Waiting> {
        let one = self.each.of(owner, || Backlog::new(self.all.clone())).hold(EACH);
        (!one.is_over(self.bounds)).then_some(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_many_gets_no_more_and_others_get_theirs() {
        let open = Open::new(Bounds { own: 3 * EACH, all: 4 * EACH, little: EACH });
        let many = |owner: &str| std::iter::from_fn(|| open.begin(owner)).collect::<Vec<_>>();
        let mut one = many("one");
        assert_eq!(one.len(), 3);
        let other = many("other");
        assert_eq!(other.len(), 1, "all have as many as may be");
        let third = many("third");
        assert_eq!(third.len(), 1, "a little in any case");
        one.pop();
        assert!(many("one").is_empty(), "it has more than a little, and all have more than may be");
        drop((other, third));
        assert_eq!(many("one").len(), 1);
        drop(one);
        assert_eq!(many("other").len(), 3);
    }

    #[test]
    fn a_whole_configuration_fits_into_what_one_may_have() {
        let Bounds { own, all, little } = bounds();
        assert!((100 * EACH..=4096).contains(&own) && own <= all && (5 * EACH..=own).contains(&little));
    }
}
