//! The processes of `exec()`: whose each is, and how many of a container's are led to a cell.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;

use crate::names::Instance;
use crate::policy::Refusal;

/// Processes of one container that are remembered.
const MOST: usize = 10_000;
/// Processes of one container whose input and output are led to a cell at the same time: each takes connections here and in Docker.
const MOST_ATTACHED: usize = 1000;

/// The processes of all containers of one Skep.
#[derive(Clone, Debug, Default)]
pub(crate) struct Execs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Whose processes are whose, by Docker's ids.
    owners: HashMap<String, Instance>,
    /// The processes of each container, the oldest first.
    made: HashMap<Instance, VecDeque<String>>,
    /// How many are led to a cell.
    attached: HashMap<Instance, usize>,
}

/// A process that is led to a cell; counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Attached {
    execs: Execs,
    instance: Instance,
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Entry::Occupied(mut attached) = self.execs.state().attached.entry(self.instance.clone()) {
            match *attached.get() {
                0 | 1 => drop(attached.remove()),
                more => *attached.get_mut() = more - 1,
            }
        }
    }
}

impl Execs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a process, and forgets the oldest one of a container that has had very many.
    pub fn add(&self, id: &str, instance: &Instance) {
        let mut state = self.state();
        let made = state.made.entry(instance.clone()).or_default();
        made.push_back(id.to_owned());
        let oldest = if made.len() > MOST { made.pop_front() } else { None };
        if let Some(oldest) = oldest {
            state.owners.remove(&oldest);
        }
        state.owners.insert(id.to_owned(), instance.clone());
    }

    /// Whose process it is.
    pub fn owner(&self, id: &str) -> Option<Instance> {
        self.state().owners.get(id).cloned()
    }

    /// Counts a process that is led to a cell, if one more may be.
    pub fn attach(&self, instance: &Instance) -> Result<Attached, Refusal> {
        let mut state = self.state();
        let attached = state.attached.entry(instance.clone()).or_default();
        if *attached >= MOST_ATTACHED {
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("a container has at most {MOST_ATTACHED} processes of exec() at the same time"),
            ));
        }
        *attached += 1;
        Ok(Attached { execs: self.clone(), instance: instance.clone() })
    }

    /// Forgets those of a container.
    pub fn forget(&self, instance: &Instance) {
        let mut state = self.state();
        for id in state.made.remove(instance).unwrap_or_default() {
            state.owners.remove(&id);
        }
    }

    /// Forgets all.
    pub fn clear(&self) {
        let mut state = self.state();
        state.owners.clear();
        state.made.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(n: u8) -> Instance {
        Instance { unique_key: "k".into(), id: format!("{n:064x}") }
    }

    #[test]
    fn one_container_does_not_take_the_processes_of_others() {
        let execs = Execs::default();
        execs.add("other", &instance(2));
        for n in 0..=MOST {
            execs.add(&n.to_string(), &instance(1));
        }
        assert_eq!((execs.owner("0"), execs.owner("1")), (None, Some(instance(1))));
        execs.forget(&instance(1));
        assert_eq!((execs.owner("1"), execs.owner("other")), (None, Some(instance(2))));
    }

    #[test]
    fn no_more_are_led_to_a_cell_than_may_be() {
        let execs = Execs::default();
        let mut attached: Vec<_> = (0..MOST_ATTACHED).map(|_| execs.attach(&instance(1)).unwrap()).collect();
        let refused = execs.attach(&instance(1)).unwrap_err();
        assert!(refused.status == StatusCode::TOO_MANY_REQUESTS && refused.message.contains("exec()"));
        let other = execs.attach(&instance(2)).unwrap();
        attached.pop();
        attached.push(execs.attach(&instance(1)).unwrap());
        drop((attached, other));
        assert!(execs.state().attached.is_empty());
    }
}
