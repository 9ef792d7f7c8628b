//! What all jails of one engine have in common.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cage::Cage;
use crate::groups::{Group, Groups};
use crate::jail::Jail;
use crate::layer::{Layer, Layers};
use crate::probe::probe;

/// The resolver's settings: for processes with a network.
const NETWORK_FILES: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
];
/// Read at any start. Certificates too: without any the engine does not start.
const COMMON_FILES: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo/Etc/UTC",
    // Not all of these folders: some hold private keys.
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/usr/lib/ssl/certs",
    "/usr/lib/ssl/cert.pem",
    "/usr/lib/ssl/openssl.cnf",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];
/// What older C libraries load when a name is resolved.
const RESOLVER_LIBRARIES: &[&str] = &["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];

/// The layers that this machine has, and the files that the engine needs.
#[derive(Clone, Debug)]
pub struct Sandbox {
    layers: Layers,
    groups: Arc<Groups>,
    engine: PathBuf,
    engine_files: Vec<PathBuf>,
}

/// What one process needs beyond the engine's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// More files and folders to read.
    pub read: Vec<PathBuf>,
    /// Folders whose names it may list.
    pub list: Vec<PathBuf>,
    /// Folders that are its own; the first one must exist.
    pub write: Vec<PathBuf>,
    /// Whether it may open connections to other machines.
    pub network: bool,
    /// Whether it may listen on a port, which the kernel chooses.
    pub listen: bool,
}

impl Sandbox {
    /// Finds out what this machine can do. `launcher` calls [`probe_here`](crate::probe_here) when it is started with
    /// `command` and [`PROBE`](crate::PROBE). Blocking.
    pub fn probe(launcher: &Path, command: &str, engine: &Path) -> std::io::Result<Self> {
        probe(launcher, command, engine)
    }

    /// No layer at all: jails that hold nothing.
    pub fn none() -> Self {
        Self::new(Layers::new(), Groups::none(), PathBuf::new(), Vec::new())
    }

    pub(crate) fn new(
        mut layers: Layers,
        groups: Arc<Groups>,
        engine: PathBuf,
        engine_files: Vec<PathBuf>,
    ) -> Self {
        layers.extend(groups.layers());
        Self { layers, groups, engine, engine_files }
    }

    /// Whether there is no layer at all.
    pub fn is_none(&self) -> bool {
        self.layers.is_empty()
    }

    /// The layers that this machine lacks.
    pub fn missing(&self) -> Vec<Layer> {
        Layer::ALL.into_iter().filter(|layer| !self.layers.contains(layer)).collect()
    }

    /// A control group for a process of the engine, which has no limits yet.
    pub fn group(&self) -> std::io::Result<Group> {
        self.groups.make()
    }

    /// The cage for a program of several processes, which is to be in `group` and may read `read`; or the layers that are missing for it.
    pub fn cage(&self, mut read: Vec<PathBuf>, scratch: u64, group: &Group) -> Result<Cage, Vec<Layer>> {
        let missing = self.missing().into_iter().filter(|layer| Cage::NEEDED.contains(layer));
        let missing: Vec<Layer> = missing.collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let given = read.clone();
        // What is in a folder that is there is there.
        let is_new = |file: &PathBuf| !given.iter().any(|folder| file.starts_with(folder));
        read.extend(COMMON_FILES.iter().map(PathBuf::from).filter(is_new));
        Ok(Cage { layers: self.layers.clone(), groups: group.entrances(), read, scratch })
    }

    /// The jail for a process of the engine, which is to be in `group`.
    pub fn jail(&self, permissions: Permissions, group: Option<&Group>) -> Jail {
        let Permissions { read, list, write, network, listen } = permissions;
        let mut all = self.engine_files.clone();
        all.push(self.engine.clone());
        all.extend(COMMON_FILES.iter().map(PathBuf::from));
        all.extend(read);
        if network {
            all.extend(NETWORK_FILES.iter().map(PathBuf::from));
            let folders = self.engine_files.iter().filter(|file| file.ends_with("libc.so.6"));
            let folders = folders.filter_map(|libc| libc.parent());
            all.extend(folders.flat_map(|folder| RESOLVER_LIBRARIES.iter().map(|name| folder.join(name))));
        }
        let groups = group.map(Group::entrances).unwrap_or_default();
        Jail {
            layers: self.layers.clone(),
            groups,
            program: self.engine.clone(),
            read: all,
            list,
            write,
            network,
            listen,
        }
    }
}
