//! Whose process goes where there are as many as may be and another one starts: a decision without processes.

/// An account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// How many processes it has.
    pub cells: usize,
    /// When the one of its scripts was used that could rest now and has not been used for longest; `None` where none could.
    pub oldest: Option<u64>,
}

/// Which of `holders` gives up the process that was not used for longest, so that `starter`, one of them, can have
/// another: of those that have more than it, and itself, the one with the most. Who has few keeps them, however many
/// others start.
pub(crate) fn gives_up(holders: &[Holder], starter: usize) -> Option<usize> {
    let own = holders.get(starter)?.cells;
    let may =
        |(n, holder): &(usize, &Holder)| holder.oldest.is_some() && (*n == starter || holder.cells > own);
    let all = holders.iter().enumerate().filter(may);
    let first = all.min_by_key(|(_, holder)| (std::cmp::Reverse(holder.cells), holder.oldest));
    first.map(|(n, _)| n)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holder(cells: usize, oldest: impl Into<Option<u64>>) -> Holder {
        Holder { cells, oldest: oldest.into() }
    }

    #[test]
    fn who_has_the_most_gives_up_first_and_who_has_few_keeps_them() {
        let holders = [holder(1, 5), holder(90, 70), holder(20, 10)];
        assert_eq!(gives_up(&holders, 0), Some(1));
        assert_eq!(gives_up(&holders, 2), Some(1));
        // Its own, though others have not been used for longer.
        assert_eq!(gives_up(&holders, 1), Some(1));
        let busy = [holder(1, 5), holder(90, None), holder(20, 10)];
        assert_eq!(gives_up(&busy, 0), Some(2));
        assert_eq!(gives_up(&busy, 1), None);
        assert_eq!(gives_up(&[holder(2, 3), holder(2, 1)], 0), Some(0));
    }

    proptest! {
        #[test]
        fn nobody_becomes_poorer_than_who_starts_was(
            all in proptest::collection::vec((0_usize..6, proptest::option::of(0_u64..100)), 1..8),
            starter in 0_usize..8,
        ) {
            let holders: Vec<Holder> = all.into_iter().map(|(cells, oldest)| holder(cells, oldest)).collect();
            let starter = starter % holders.len();
            match gives_up(&holders, starter) {
                Some(one) => {
                    prop_assert!(holders[one].oldest.is_some());
                    prop_assert!(one == starter || holders[one].cells > holders[starter].cells);
                    let richer = holders.iter().filter(|other| other.cells > holders[one].cells);
                    prop_assert_eq!(richer.filter(|other| other.oldest.is_some()).count(), 0);
                }
                None => prop_assert!(holders[starter].oldest.is_none()),
            }
        }
    }
}
