//! How many connections each database has at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// Places, by the id of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<HashMap<String, (usize, Arc<Semaphore>)>>);

impl Slots {
    /// The places of `id`, of which there are `most`. Where that was changed, connections that are there do not count.
    pub fn of(&self, id: &str, most: usize) -> Arc<Semaphore> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(id) {
            Some((known, places)) if *known == most => places.clone(),
            _ => {
                let places = Arc::new(Semaphore::new(most));
                all.insert(id.to_owned(), (most, places.clone()));
                places
            }
        }
    }

    /// Forgets what is gone.
    pub fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
