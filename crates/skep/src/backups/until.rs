//! A place that is over when Skep ends.

use std::ops::Range;

use skep_backup::{Listed, Place, PlaceError};
use skep_runtime::Shutdown;

/// A place, until Skep is asked to end.
pub struct Until<P> {
    place: P,
    shutdown: Shutdown,
}

impl<P: Place> Until<P> {
    /// `place` until `shutdown`.
    pub fn new(place: P, shutdown: Shutdown) -> Self {
        Self { place, shutdown }
    }
}

impl<P: Place> Place for Until<P> {
    fn shown(&self) -> String {
        self.place.shown()
    }

    fn put(&self, key: &str, content: Vec<u8>) -> Result<(), PlaceError> {
        self.place.put(key, content)
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Vec<u8>>, PlaceError> {
        self.place.get(key, range)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, PlaceError> {
        self.place.list(prefix)
    }

    fn remove(&self, key: &str) -> Result<(), PlaceError> {
        self.place.remove(key)
    }

    fn is_over(&self) -> bool {
        self.shutdown.is_requested()
    }
}
