//! All indexes of one machine, and one of them as a binding.

use std::path::Path;
use std::sync::Arc;

use skep_runtime::Clock;
use skep_store::{Folders, Quota, StoreError};

use crate::error::VectorizeError;
use crate::index::Index;
use crate::metric::Metric;
use crate::rows::Shape;

/// The indexes in one folder. No two processes may have the same folder open.
#[derive(Clone, Debug)]
pub struct VectorizeStore {
    clock: Clock,
    indexes: Arc<Folders<Index>>,
    quota: Arc<Quota>,
}

/// An index that nobody has to make: it comes with its first vector, and all its metadata is indexed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Numbers of each vector; `None`: as many as the first one has.
    pub dimensions: Option<usize>,
    /// How they are compared.
    pub metric: Metric,
}

/// An index as a binding: the one that has the name when it is called.
#[derive(Clone, Debug)]
pub struct Binding {
    store: VectorizeStore,
    name: String,
    local: Option<Local>,
}

impl VectorizeStore {
    /// Opens or creates the folder.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, StoreError> {
        Ok(Self { clock, indexes: Arc::new(Folders::open(dir)?), quota: Arc::default() })
    }

    /// What is stored in indexes that are opened from now on counts towards `quota`.
    #[must_use]
    pub fn within(self, quota: Arc<Quota>) -> Self {
        Self { quota, ..self }
    }

    /// Makes an empty index, in place of what has its name. Blocking.
    pub fn create(&self, name: &str, shape: Shape) -> Result<Arc<Index>, StoreError> {
        self.indexes.remove(name)?;
        self.get(name, shape, true)
    }

    /// The index with this name. Blocking when it is first asked for.
    pub fn index(&self, name: &str) -> Result<Arc<Index>, VectorizeError> {
        if !self.indexes.is_open(name) && !self.indexes.folder(name).join("index.sqlite").exists() {
            return Err(VectorizeError::NoIndex(name.to_owned()));
        }
        // What it is stands in its file.
        Ok(self.get(name, Shape { dimensions: 0, metric: Metric::Cosine }, true)?)
    }

    /// Removes an index with all that is in it; one that is not there is no error. Blocking.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.indexes.remove(name)
    }

    /// An index as a binding. Where there is none, `local` says what it will be; without it there has to be one when it is
    /// called.
    pub fn binding(&self, name: &str, local: Option<Local>) -> Arc<Binding> {
        Arc::new(Binding { store: self.clone(), name: name.to_owned(), local })
    }

    fn get(&self, name: &str, shape: Shape, made: bool) -> Result<Arc<Index>, StoreError> {
        self.indexes
            .get(name, |folder| Index::open(folder, shape, made, self.clock.clone(), self.quota.clone()))
    }
}

impl Binding {
    /// The index. Blocking when it is first asked for.
    pub async fn index(&self) -> Result<Arc<Index>, VectorizeError> {
        match self.local {
            None => self.store.index(&self.name),
            Some(Local { dimensions, metric }) => {
                let shape = Shape { dimensions: dimensions.unwrap_or(0), metric };
                let index = self.store.get(&self.name, shape, false)?;
                index.adopt(shape).await?;
                Ok(index)
            }
        }
    }
}
