//! A jail, and how a process goes into it.

use std::path::PathBuf;

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::layer::{Layer, Layers};
use crate::{connections, files, filter, groups, namespaces, privileges};

/// What a process may do. Passed as JSON to the process that enters it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Jail {
    /// What holds it. Each must be possible here, as [`probe`](crate::Sandbox::probe) says.
    pub layers: Layers,
    /// The files of control groups that it enters by writing to them.
    pub groups: Vec<PathBuf>,
    /// What it will be.
    pub program: PathBuf,
    /// Files and folders that it may read and execute. What does not exist is left out.
    pub read: Vec<PathBuf>,
    /// Folders whose names it may list, and no more.
    pub list: Vec<PathBuf>,
    /// Folders that it may do everything in; the first one must exist.
    pub write: Vec<PathBuf>,
    /// Whether it may open connections to other machines.
    pub network: bool,
    /// Whether it may listen on a port, which the kernel chooses.
    pub listen: bool,
}

/// A layer that could not be set up: the process must not go on.
#[derive(Debug, thiserror::Error)]
#[error("{layer}: {cause}")]
pub struct JailError {
    /// Which, or which step of it.
    pub layer: &'static str,
    /// Why.
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

impl JailError {
    pub(crate) fn new(
        layer: &'static str,
    ) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> Self + Copy {
        move |cause| Self { layer, cause }
    }
}

/// Names the step that failed.
pub(crate) trait Step<T> {
    fn step(self, layer: &'static str) -> Result<T, JailError>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Step<T> for Result<T, E> {
    fn step(self, layer: &'static str) -> Result<T, JailError> {
        self.map_err(|e| JailError::new(layer)(e.into()))
    }
}

impl Jail {
    /// Whether its connections are opened by the process that made it, which then gets the listener: see [`listener`].
    ///
    /// [`listener`]: crate::listener
    pub fn is_guarded(&self) -> bool {
        self.network && self.layers.contains(&Layer::Connections)
    }

    /// Puts this process into the jail, for good, and has it killed when its parent thread ends. It must have one thread. On an error it is partly in and must end.
    pub fn enter(&self) -> Result<(), JailError> {
        let has = |layer| self.layers.contains(&layer);
        groups::enter(&self.groups)?;
        if has(Layer::Privileges) {
            privileges::limit_resources()?;
        }
        namespaces::enter(self)?;
        if has(Layer::Privileges) {
            privileges::drop_all()?;
        }
        // After what changes a process's rights, which undoes it; before the filter, which forbids it.
        set_parent_process_death_signal(Some(Signal::KILL)).step("the parent's death signal")?;
        if self.is_guarded() {
            connections::hand_over()?;
        }
        if has(Layer::Landlock) {
            files::restrict(self)?;
        }
        if has(Layer::Seccomp) {
            filter::restrict(self.network)?;
        }
        Ok(())
    }
}
