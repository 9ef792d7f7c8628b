//! The nearest of many, one after the other.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A vector and how far it is away; of two at the same distance the one that was kept first is nearer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Near {
    pub distance: f64,
    pub slot: i64,
}

impl Eq for Near {}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.slot.cmp(&other.slot))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The nearest so far, at most `most` of them.
pub(crate) struct Top {
    most: usize,
    heap: BinaryHeap<Near>,
}

impl Top {
    pub fn new(most: usize) -> Self {
        Self { most, heap: BinaryHeap::with_capacity(most + 1) }
    }

    /// Whether it would be among them.
    pub fn takes(&self, near: Near) -> bool {
        self.heap.len() < self.most || self.heap.peek().is_some_and(|farthest| near < *farthest)
    }

    /// Adds one that would be among them.
    pub fn add(&mut self, near: Near) {
        self.heap.push(near);
        if self.heap.len() > self.most {
            self.heap.pop();
        }
    }

    /// All of them, the nearest first.
    pub fn sorted(self) -> Vec<Near> {
        self.heap.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn they_are_the_first_of_all_in_order(distances in proptest::collection::vec(-3i8..3, 0..60), most in 1..20usize) {
            let mut all: Vec<Near> = distances.iter().zip(0..).map(|(&d, slot)| Near { distance: d.into(), slot }).collect();
            let mut top = Top::new(most);
            for near in &all {
                if top.takes(*near) {
                    top.add(*near);
                }
            }
            all.sort();
            all.truncate(most);
            proptest::prop_assert_eq!(top.sorted(), all);
        }
    }
}
