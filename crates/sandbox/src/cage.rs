//! A jail for a program of several processes that is not the engine.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::jail::{JailError, Step};
use crate::layer::{Layer, Layers};
use crate::namespaces::{self, flag};
use crate::{files, filter_many, groups, loopback, privileges, root};

/// The folder that such a program may write to.
pub const SCRATCH: &str = "/scratch";

/// What such a program may do: beside its files it has a folder in memory, process ids of its own, and a network in which nobody
/// else is and from which no way leads anywhere. Passed as JSON to the processes that enter it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cage {
    /// What holds it. Each must be possible here, as [`probe`](crate::Sandbox::probe) says.
    pub layers: Layers,
    /// The files of control groups that it enters by writing to them.
    pub groups: Vec<PathBuf>,
    /// Files and folders that it may read and execute. What does not exist is left out.
    pub read: Vec<PathBuf>,
    /// Bytes that its [`SCRATCH`] folder may take.
    pub scratch: u64,
}

impl Cage {
    /// The layers that such a program is not run without: each of the others holds what these hold already.
    pub const NEEDED: [Layer; 7] = [
        Layer::Privileges,
        Layer::MountNamespace,
        Layer::IpcNamespace,
        Layer::NetworkNamespace,
        Layer::Seccomp,
        Layer::MemoryGroup,
        Layer::ThreadGroup,
    ];

    /// The first step, for a process of one thread: it leaves the namespaces of this machine, and its next child is the first process
    /// of its own, which has to [`enter`](Self::enter). On an error it must end.
    pub fn part(&self) -> Result<(), JailError> {
        groups::enter(&self.groups)?;
        let own = self.layers.iter().copied().filter(|layer| layer.is_namespace());
        let flags = own.fold(UnshareFlags::NEWPID, |flags, layer| flags | flag(layer));
        namespaces::part(&self.layers, flags)?;
        privileges::keep_for_setup()
    }

    /// The second step, for good: what this process starts afterwards is held as it is itself. It is killed when its parent ends, and all
    /// that it started with it. On an error it must end.
    pub fn enter(&self) -> Result<(), JailError> {
        let root = root::Root { read: &self.read, list: &[], write: &[], base: Path::new("/usr") };
        root::replace(&root, || self.mount_own())?;
        loopback::up()?;
        privileges::limit_resources()?;
        privileges::drop_all()?;
        // After what changes a process's rights, which undoes both. What it starts may not look into it.
        set_parent_process_death_signal(Some(Signal::KILL)).step("the parent's death signal")?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable).step("the guard of memory")?;
        if self.layers.contains(&Layer::Landlock) {
            files::restrict_many(self)?;
        }
        filter_many::restrict()
    }

    /// `/proc` of its processes alone, and its folder.
    fn mount_own(&self) -> Result<(), JailError> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        std::fs::create_dir("proc").step("/proc")?;
        mount("proc", "proc", "proc", flags | MountFlags::RDONLY, Some(c"subset=pid")).step("/proc")?;
        let folder = SCRATCH.trim_start_matches('/');
        let options = format!("mode=0700,size={}", self.scratch);
        let options = std::ffi::CString::new(options).step("the folder in memory")?;
        std::fs::create_dir(folder).step("the folder in memory")?;
        mount("skep", folder, "tmpfs", flags, Some(options.as_c_str())).step("the folder in memory")
    }
}
