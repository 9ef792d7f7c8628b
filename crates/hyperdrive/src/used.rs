//! What several have together, by its name, for as long as one of them has it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What is in use. It is handed out here alone, so what nobody has stays so while this is locked.
#[derive(Debug)]
pub(crate) struct Used<T>(Mutex<HashMap<String, Arc<T>>>);

impl<T> Default for Used<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Used<T> {
    /// That of `name`; a new one if nobody has any.
    pub fn of(&self, name: &str, new: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(name) {
            return known.clone();
        }
        // Of what is gone nothing is kept.
        all.retain(|_, one| Arc::strong_count(one) > 1);
        let new = new();
        all.insert(name.to_owned(), new.clone());
        new
    }

    /// That of `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Forgets that of `name`, unless somebody has it.
    pub fn forget(&self, name: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(name).is_some_and(|one| Arc::strong_count(one) == 1) {
            all.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_is_the_same_for_all_and_the_rest_goes() {
        let used = Used::default();
        let a = used.of("a", || Arc::new(1));
        used.forget("a");
        assert!(Arc::ptr_eq(&a, &used.of("a", || Arc::new(2))));
        drop(used.of("b", || Arc::new(3)));
        let _c = used.of("c", || Arc::new(4));
        assert_eq!((used.get("a").as_deref(), used.get("b")), (Some(&1), None));
        drop(a);
        used.forget("a");
        assert_eq!((used.get("a"), used.get("c").as_deref()), (None, Some(&4)));
    }
}
