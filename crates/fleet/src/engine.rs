//! An engine process before it is a script's: what it may do is fixed, what it runs is not known to it yet.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use skep_sandbox::{Group, Permissions};

use crate::certificates::Certificates;
use crate::process::Started;
use crate::render::{DEBUG_SOCKET, Storage, object_folder, object_keys};
use crate::spec::CellSpec;
use crate::stock::Kind;

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Folder(pub PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A started engine.
pub(crate) struct Engine {
    pub folder: Folder,
    pub started: Started,
    pub group: Option<Group>,
    /// The folders whose sockets it may connect to.
    pub own: Vec<PathBuf>,
}

impl Engine {
    /// Ends one that was never used.
    pub async fn end(self) {
        if let Ok(killer) = self.started.process.killer() {
            killer.kill();
        }
        let _ = self.started.process.reap().await;
    }
}

impl Kind {
    /// The kind of waiting engine that can become a process of `spec`; `None` where the jail has to know more of it than
    /// its kind, or the configuration is no message.
    pub fn of(spec: &CellSpec, storage: Storage) -> Option<Self> {
        let has_folders = spec.is_exclusive() && storage == Storage::Real;
        let plain = spec.limits.is_some() && !spec.inspector && spec.workflows.is_empty() && !has_folders;
        // What goes out through an outbound worker needs no network of its own.
        plain.then_some(Self { network: spec.outbound.is_none(), dispatched: spec.dispatched })
    }

    /// What it may do.
    pub fn permissions(self, folder: &Path, certificates: &Certificates) -> Permissions {
        Permissions {
            read: certificates.files.clone(),
            write: vec![folder.to_owned()],
            network: self.network,
            ..Permissions::default()
        }
    }

    /// How it is started.
    pub fn options(self, folder: &Path) -> Vec<OsString> {
        match self.dispatched {
            true => vec![format!("--debug-port=unix:{}", folder.join(DEBUG_SOCKET).display()).into()],
            false => Vec::new(),
        }
    }
}

/// What the engine may do for `spec`, beside being the engine.
pub(crate) fn permissions(
    spec: &CellSpec,
    folder: &Path,
    storage: Storage,
    certificates: &Certificates,
) -> Permissions {
    let kind = Kind { network: spec.outbound.is_none(), dispatched: spec.dispatched };
    let objects = object_folder(spec, folder, storage);
    let mut permissions = kind.permissions(folder, certificates);
    permissions.write.extend(object_keys(spec).map(|key| objects.join(key)));
    permissions.list.extend(spec.is_exclusive().then_some(objects));
    permissions.listen = spec.inspector;
    permissions
}

/// How the engine is started for `spec`, beside its configuration.
pub(crate) fn options(spec: &CellSpec, folder: &Path) -> Vec<OsString> {
    let kind = Kind { network: spec.outbound.is_none(), dispatched: spec.dispatched };
    let inspector = spec.inspector.then(|| "--inspector-addr=127.0.0.1:0".into());
    inspector.into_iter().chain(kind.options(folder)).collect()
}
