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
    /// What a process of `spec` has to be.
    fn needed_by(spec: &CellSpec) -> Self {
        // What goes out through an outbound worker needs no network of its own.
        let network = spec.outbound.is_none();
        Self { network, dispatched: spec.dispatched, inspector: spec.inspector }
    }

    /// The kind of waiting engine that can become a process of `spec`; `None` where its jail, if it is in one, has to know
    /// more of it than its kind.
    pub fn of(spec: &CellSpec, storage: Storage, jailed: bool) -> Option<Self> {
        let has_folders = spec.is_exclusive() && storage == Storage::Real;
        (!jailed || !has_folders).then(|| Self::needed_by(spec))
    }

    /// What it may do.
    pub fn permissions(self, folder: &Path, certificates: &Certificates) -> Permissions {
        Permissions {
            read: certificates.files.clone(),
            write: vec![folder.to_owned()],
            network: self.network,
            listen: self.inspector,
            ..Permissions::default()
        }
    }

    /// How it is started.
    pub fn options(self, folder: &Path) -> Vec<OsString> {
        let debug = || format!("--debug-port=unix:{}", folder.join(DEBUG_SOCKET).display()).into();
        let inspector = self.inspector.then(|| "--inspector-addr=127.0.0.1:0".into());
        inspector.into_iter().chain(self.dispatched.then(debug)).collect()
    }
}

/// What the engine may do for `spec`, beside being the engine.
pub(crate) fn permissions(
    spec: &CellSpec,
    folder: &Path,
    storage: Storage,
    certificates: &Certificates,
) -> Permissions {
    let kind = Kind::needed_by(spec);
    let objects = object_folder(spec, folder, storage);
    let mut permissions = kind.permissions(folder, certificates);
    // Where it takes what containers send out. One whose requests go through an outbound worker has no network to do so in.
    permissions.listen |= permissions.network && storage == Storage::Real && spec.containers.is_some();
    permissions.write.extend(object_keys(spec).map(|key| objects.join(key)));
    permissions.list.extend(spec.is_exclusive().then_some(objects));
    permissions
}

/// How the engine is started for `spec`, beside its configuration.
pub(crate) fn options(spec: &CellSpec, folder: &Path) -> Vec<OsString> {
    Kind::needed_by(spec).options(folder)
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
        let limits = Limits {
            memory: 1,
            objects: skep_runtime::Bounds::default(),
            cpu: Duration::ZERO,
            subrequests: 1,
            after: Duration::ZERO,
            alone: None,
        };
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
            connections: BTreeMap::new(),
            containers: None,
            cache: None,
            front: None,
            events: false,
            mail: None,
            dispatched: false,
            outbound: None,
            egress: Vec::new(),
            next_alarm: None,
            file_limit: None,
            absent: BTreeSet::new(),
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
        for n in 0..8 {
            let [network, dispatched, inspector] = [1, 2, 4].map(|bit| n & bit != 0);
            let outbound = (!network).then(|| "outbound".to_owned());
            let spec = CellSpec { outbound, dispatched, inspector, ..spec() };
            let kind = Kind::of(&spec, Storage::Real, true).unwrap();
            assert_eq!(kind, Kind { network, dispatched, inspector });
            let own = permissions(&spec, folder, Storage::Real, &certificates);
            assert_eq!(kind.permissions(folder, &certificates), own);
            assert_eq!(kind.options(folder), options(&spec, folder));
        }
    }

    #[test]
    fn what_a_jail_must_know_before_is_not_for_waiting_engines() {
        let class = DurableClass { name: "C".into(), unique_key: "k".into(), sqlite: true };
        let with_objects = CellSpec { classes: vec![class], ..spec() };
        assert_eq!(Kind::of(&with_objects, Storage::Real, true), None);
        assert!(Kind::of(&with_objects, Storage::Real, false).is_some());
        // A trial keeps its objects in its own folder.
        assert!(Kind::of(&with_objects, Storage::Throwaway, true).is_some());
    }
}
