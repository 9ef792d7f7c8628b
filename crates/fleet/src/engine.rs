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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::limits::Limits;
    use crate::spec::{Code, DurableClass};

    fn spec() -> CellSpec {
        let limits =
            Limits { memory: 1, cpu: Duration::ZERO, subrequests: 1, after: Duration::ZERO, alone: None };
        CellSpec {
            name: "s".into(),
            code: Code::Modules(Vec::new()),
            compatibility_date: String::new(),
            compatibility_flags: Vec::new(),
            bindings: BTreeMap::new(),
            classes: Vec::new(),
            workflows: Vec::new(),
            object_storage: "/objects".into(),
            services: BTreeMap::new(),
            cache: None,
            front: None,
            events: false,
            dispatched: false,
            outbound: None,
            egress: Vec::new(),
            next_alarm: None,
            file_limit: None,
            exposed: BTreeSet::new(),
            tail: None,
            trace: None,
            limits: Some(limits),
            usage: Arc::default(),
            inspector: false,
        }
    }

    #[test]
    fn who_gets_a_waiting_engine_may_do_what_he_could_in_one_of_his_own() {
        let certificates = Certificates { variables: Vec::new(), files: vec!["/certificates".into()] };
        let folder = Path::new("/run/7");
        for (network, dispatched) in [(true, true), (true, false), (false, true), (false, false)] {
            let outbound = (!network).then(|| "outbound".to_owned());
            let spec = CellSpec { outbound, dispatched, ..spec() };
            let kind = Kind::of(&spec, Storage::Real).unwrap();
            assert_eq!(kind, Kind { network, dispatched });
            let own = permissions(&spec, folder, Storage::Real, &certificates);
            assert_eq!(kind.permissions(folder, &certificates), own);
            assert_eq!(kind.options(folder), options(&spec, folder));
        }
    }

    #[test]
    fn what_a_jail_must_know_before_is_not_for_waiting_engines() {
        let class = DurableClass { name: "C".into(), unique_key: "k".into(), sqlite: true };
        let with_objects = CellSpec { classes: vec![class], ..spec() };
        assert_eq!(Kind::of(&with_objects, Storage::Real), None);
        // A trial keeps its objects in its own folder.
        assert!(Kind::of(&with_objects, Storage::Throwaway).is_some());
        assert_eq!(Kind::of(&CellSpec { inspector: true, ..spec() }, Storage::Real), None);
        assert_eq!(Kind::of(&CellSpec { limits: None, ..spec() }, Storage::Real), None);
    }
}
