//! A root folder in which only a jail's files are, each at its usual path.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, StatVfsMountFlags, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use crate::files;
use crate::jail::{Jail, JailError, Step};

const LAYER: &str = "the root folder";

/// A file or folder on its way into the new root.
struct Piece {
    path: PathBuf,
    tree: OwnedFd,
    is_folder: bool,
    /// How it will be mounted.
    flags: MountFlags,
}

/// What a new root has.
pub(crate) struct Root<'a> {
    /// Files and folders that can be read and executed.
    pub read: &'a [PathBuf],
    /// Folders whose names can be listed.
    pub list: &'a [PathBuf],
    /// Folders that can be written to.
    pub write: &'a [PathBuf],
    /// Any folder that exists, to build the new root over.
    pub base: &'a Path,
}

/// Replaces this process's root folder by that of an engine. It must be in a mount namespace of its own.
pub(crate) fn change(jail: &Jail) -> Result<(), JailError> {
    let base = jail.write.first().ok_or("no folder").step(LAYER)?;
    let root = Root { read: &jail.read, list: &jail.list, write: &jail.write, base };
    replace(&root, || {
        // There is no /proc; the engine looks there for itself.
        std::fs::create_dir_all("proc/self").step(LAYER)?;
        std::os::unix::fs::symlink(&jail.program, "proc/self/exe").step(LAYER)
    })
}

/// Replaces this process's root folder; `more` adds to the new one, which is the current folder then.
pub(crate) fn replace(
    root: &Root<'_>,
    more: impl FnOnce() -> Result<(), JailError>,
) -> Result<(), JailError> {
    // What is mounted here must not be seen outside.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).step(LAYER)?;
    let mut pieces = Vec::new();
    for path in root.read {
        pieces.extend(piece(path, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV)?);
    }
    for path in root.write {
        pieces.extend(piece(path, MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV)?);
    }
    for device in files::DEVICES {
        pieces.extend(piece(Path::new(device), MountFlags::NOEXEC | MountFlags::NOSUID)?);
    }
    // All pieces are at hand.
    let options = c"mode=0755,size=1m";
    mount("skep", root.base, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options)).step(LAYER)?;
    chdir(root.base).step(LAYER)?;
    for folder in root.list {
        std::fs::create_dir_all(inside(folder)).step(LAYER)?;
    }
    for piece in &pieces {
        attach(piece)?;
    }
    more()?;
    // The old root goes over the new one, and then away.
    pivot_root(".", ".").step(LAYER)?;
    unmount(".", UnmountFlags::DETACH).step(LAYER)?;
    chdir("/").step(LAYER)?;
    let sealed = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::BIND;
    mount_remount("/", sealed, c"").step(LAYER)
}

fn inside(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

/// Takes hold of `path`, to be mounted with `flags`; `None` if there is nothing.
fn piece(path: &Path, mut flags: MountFlags) -> Result<Option<Piece>, JailError> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(None) };
    let clone =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, clone).step(LAYER)?;
    let now = statvfs(path).step(LAYER)?.f_flag;
    // A user namespace may not take any of them away.
    for (has, flag) in [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if now.contains(has) {
            flags |= flag;
        }
    }
    Ok(Some(Piece { path: path.to_owned(), tree, is_folder: metadata.is_dir(), flags }))
}

/// Puts a piece at its path below the current folder.
fn attach(piece: &Piece) -> Result<(), JailError> {
    let target = inside(&piece.path);
    // It may be there already, as a part of another piece.
    if !target.exists() {
        let folder = if piece.is_folder { Some(target.as_path()) } else { target.parent() };
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).step(LAYER)?;
        }
        if !piece.is_folder {
            std::fs::File::create(&target).step(LAYER)?;
        }
    }
    move_mount(&piece.tree, "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(LAYER)?;
    mount_remount(&target, piece.flags | MountFlags::BIND, c"").step(LAYER)
}
