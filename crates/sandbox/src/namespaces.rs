//! Namespaces: a process in them sees nothing of the machine but what it is given.

use rustix::process::{getgid, getuid};
use rustix::thread::UnshareFlags;

use crate::jail::{Jail, JailError, Step};
use crate::layer::{Layer, Layers};
use crate::root;

/// Puts this process into namespaces of its own.
pub(crate) fn enter(jail: &Jail) -> Result<(), JailError> {
    let wanted = jail.layers.iter().copied().filter(|layer| layer.is_namespace());
    let flags = wanted.filter(|layer| *layer != Layer::NetworkNamespace || !needs_network(jail));
    let flags = flags.fold(UnshareFlags::empty(), |flags, layer| flags | flag(layer));
    if flags.is_empty() {
        return Ok(());
    }
    part(&jail.layers, flags)?;
    match jail.layers.contains(&Layer::MountNamespace) {
        true => root::change(jail),
        false => Ok(()),
    }
}

/// Makes the namespaces, and a host name where it is of one's own.
pub(crate) fn part(layers: &Layers, flags: UnshareFlags) -> Result<(), JailError> {
    unshare(flags)?;
    match layers.contains(&Layer::UtsNamespace) {
        true => rustix::system::sethostname(b"cell").step("the host name"),
        false => Ok(()),
    }
}

fn needs_network(jail: &Jail) -> bool {
    jail.network || jail.listen
}

/// Makes the namespaces. In a user namespace this process stays the user that it is, so that files are its own as
/// before.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), JailError> {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    // The safe form is deprecated because of flags that unshare file descriptors; these are others.
    #[expect(deprecated, reason = "only namespaces are unshared")]
    rustix::thread::unshare(flags).step("namespaces")?;
    if flags.contains(UnshareFlags::NEWUSER) {
        std::fs::write("/proc/self/setgroups", "deny").step("the user namespace")?;
        std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).step("the user namespace")?;
        std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).step("the user namespace")?;
    }
    Ok(())
}

pub(crate) fn flag(layer: Layer) -> UnshareFlags {
    match layer {
        Layer::UserNamespace => UnshareFlags::NEWUSER,
        Layer::MountNamespace => UnshareFlags::NEWNS,
        Layer::IpcNamespace => UnshareFlags::NEWIPC,
        Layer::UtsNamespace => UnshareFlags::NEWUTS,
        Layer::NetworkNamespace => UnshareFlags::NEWNET,
        _ => UnshareFlags::empty(),
    }
}
