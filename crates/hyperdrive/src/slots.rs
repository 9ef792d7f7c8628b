//! How many connections a database has at once.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of a configuration. There is one count of them, whatever becomes of how many may be.
#[derive(Debug)]
pub(crate) struct Slots {
    permits: Arc<Semaphore>,
    limit: Mutex<Limit>,
}

/// Permits that are there or with somebody are `most` and `excess` together.
#[derive(Debug)]
struct Limit {
    most: usize,
    /// Those that end when they come back, since fewer may be than there were.
    excess: usize,
}

/// One of the places, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    slots: Arc<Slots>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// `most` places, all of them free.
    pub fn new(most: usize) -> Arc<Self> {
        let limit = Mutex::new(Limit { most, excess: 0 });
        Arc::new(Self { permits: Arc::new(Semaphore::new(most)), limit })
    }

    /// There may be `most` from now on. Who waits gets what is more; who has a place keeps it, also where those are too many by now.
    pub fn limit(&self, most: usize) {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        let more = most.saturating_sub(limit.most);
        let kept = more.min(limit.excess);
        limit.excess -= kept;
        self.permits.add_permits(more - kept);
        let fewer = limit.most.saturating_sub(most);
        limit.excess += fewer - self.permits.forget_permits(fewer);
        limit.most = most;
    }

    /// Waits for a place, behind those that wait already.
    pub async fn enter(self: Arc<Self>) -> Option<Place> {
        loop {
            let permit = self.permits.clone().acquire_owned().await.ok()?;
            if let Some(permit) = self.still_good(permit) {
                return Some(Place { slots: self, permit: Some(permit) });
            }
        }
    }

    /// Ends a permit if there are too many.
    fn still_good(&self, permit: OwnedSemaphorePermit) -> Option<OwnedSemaphorePermit> {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if limit.excess == 0 {
            return Some(permit);
        }
        limit.excess -= 1;
        permit.forget();
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.permit.take().and_then(|permit| self.slots.still_good(permit)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::task::yield_now;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Come,
        /// One of those that have a place.
        Go(usize),
        /// The one that has waited the shortest.
        GiveUp,
        Limit(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Come),
            2 => any::<usize>().prop_map(Step::Go),
            1 => Just(Step::GiveUp),
            3 => (0..8_usize).prop_map(Step::Limit),
        ]
    }

    proptest! {
        /// Whatever becomes of the limit: who comes gets a place as soon as fewer have one than may, in turn, and not before.
        #[test]
        fn there_are_as_many_as_may_be_however_that_changes(
            first in 0..8_usize,
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let slots = Slots::new(first);
                let (enter, mut entered) = unbounded_channel();
                let (mut most, mut next) = (first, 0);
                let mut inside: Vec<(usize, Place)> = Vec::new();
                let mut waiting = VecDeque::new();
                for step in steps {
                    match step {
                        Step::Come => {
                            let (slots, enter, number) = (slots.clone(), enter.clone(), next);
                            let task = async move {
                                let place = slots.enter().await;
                                let _ = enter.send((number, place.unwrap()));
                            };
                            waiting.push_back((number, tokio::spawn(task)));
                            next += 1;
                        }
                        Step::Go(which) if !inside.is_empty() => {
                            drop(inside.swap_remove(which % inside.len()));
                        }
                        Step::Go(_) => {}
                        Step::GiveUp => {
                            if let Some((_, task)) = waiting.pop_back() {
                                task.abort();
                            }
                        }
                        Step::Limit(new) => {
                            most = new;
                            slots.limit(new);
                        }
                    }
                    for _ in 0..8 {
                        yield_now().await;
                    }
                    while inside.len() < most && let Some((number, _)) = waiting.pop_front() {
                        let (got, place) = entered.try_recv().unwrap();
                        assert_eq!(got, number);
                        inside.push((number, place));
                    }
                    assert!(entered.try_recv().is_err(), "{} of {most}", inside.len() + 1);
                }
            });
        }
    }
}
