//! What containers have written, where Docker's storage keeps none of them to a size.
//!
//! Most storages cannot: a container is then looked at now and then, and ended if it has more than its class may have. What it
//! writes between two looks is not kept from it.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::containers::{CLASS, Containers, DISK, OBJECT};
use crate::engine::EngineError;

/// What a file or folder costs beside its blocks: a disk has a number of them, too.
const INODE: u64 = 1024;

/// A container that is ended for what it has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oversized {
    /// What people call its class.
    pub class: String,
    /// The object's id.
    pub object: String,
    /// What it may have, in bytes.
    pub most: u64,
}

impl Containers {
    /// Ends the containers that have written more than they may, of those that Docker keeps to no size, and says how many. Each
    /// is passed to `report` before its end, so that who sees the end finds the reason.
    pub async fn end_oversized(&self, report: impl Fn(&Oversized)) -> Result<usize, EngineError> {
        let mut ended = 0;
        for own in self.found(None, true).await? {
            let text = |key: &str| own["Labels"][key].as_str().unwrap_or_default().to_owned();
            let (Some(id), Ok(most)) = (own["Id"].as_str(), text(DISK).parse::<u64>()) else { continue };
            let inspected = self.engine().get(&format!("/containers/{id}/json")).await?.json();
            let over = match folders(&inspected) {
                Some(folders) => {
                    let walked = tokio::task::spawn_blocking(move || is_over(&folders, most)).await;
                    walked.unwrap_or_default()
                }
                // Its files are somewhere else, or kept otherwise: Docker counts.
                None => {
                    let counted =
                        self.engine().get(&format!("/containers/{id}/json?size=true")).await?.json();
                    counted["SizeRw"].as_u64().is_some_and(|used| used > most)
                }
            };
            if over {
                report(&Oversized { class: text(CLASS), object: text(OBJECT), most });
                self.engine().post(&format!("/containers/{id}/kill"), None).await?;
                ended += 1;
            }
        }
        Ok(ended)
    }
}

/// Where a container's own files are on this machine: its layer, and the volumes that its image makes. `None` where they cannot
/// be seen.
fn folders(inspected: &Json) -> Option<Vec<PathBuf>> {
    let layer = inspected["GraphDriver"]["Data"]["UpperDir"].as_str().map(PathBuf::from)?;
    let mounts = inspected["Mounts"].as_array().into_iter().flatten();
    let volumes = mounts.filter_map(|own| own["Source"].as_str().map(PathBuf::from));
    let all: Vec<PathBuf> = std::iter::once(layer).chain(volumes).collect();
    all.iter().all(|folder| folder.is_dir()).then_some(all)
}

/// Whether there is more than `most` in these folders, or something that cannot be looked at. Blocking.
fn is_over(folders: &[PathBuf], most: u64) -> bool {
    let (mut used, mut linked) = (0, HashSet::new());
    folders.iter().any(|folder| match add(folder, most, &mut used, &mut linked) {
        Ok(()) => used > most,
        Err(error) => {
            tracing::warn!(%error, "what a container has written cannot be measured");
            true
        }
    })
}

/// Adds what is in a folder, until it is more than `most`. Of files with several names each is counted once.
fn add(folder: &Path, most: u64, used: &mut u64, linked: &mut HashSet<(u64, u64)>) -> io::Result<()> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        // Files come and go meanwhile. A path longer than the kernel takes is made to hide.
        let gone = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        };
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if gone(&error) => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Err(error) if gone(&error) => continue,
                metadata => metadata?,
            };
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.nlink() > 1 && !linked.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            *used += metadata.blocks() * 512 + INODE;
            if *used > most {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn over(folder: &Path, most: u64) -> bool {
        is_over(&[folder.to_owned()], most)
    }

    #[test]
    fn blocks_and_files_count_and_names_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join("file"), vec![1; 1 << 20]).unwrap();
        assert!(over(dir.path(), 1 << 20) && !over(dir.path(), (1 << 20) + (64 << 10)));
        for name in 0..100 {
            std::fs::hard_link(below.join("file"), below.join(format!("again{name}"))).unwrap();
        }
        // One without blocks, and a link that leads out of it.
        std::fs::File::create(dir.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("out")).unwrap();
        assert!(!over(dir.path(), (1 << 20) + (128 << 10)));
        let many = tempfile::tempdir().unwrap();
        for name in 0..200 {
            std::fs::File::create(many.path().join(name.to_string())).unwrap();
        }
        assert!(over(many.path(), 100 << 10), "empty files take room, too");
    }

    #[test]
    fn what_hides_behind_too_long_a_path_is_over() {
        use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let mut at = openat(CWD, dir.path(), flags, Mode::empty()).unwrap();
        let name = "n".repeat(200);
        for _ in 0..30 {
            mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
            at = openat(&at, name.as_str(), flags, Mode::empty()).unwrap();
        }
        assert!(over(dir.path(), u64::MAX));
    }

    #[test]
    fn folders_are_the_layer_and_the_volumes() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().to_str().unwrap();
        let inspected = |layer: &str| {
            json!({ "GraphDriver": { "Name": "overlay2", "Data": { "UpperDir": layer } },
                "Mounts": [{ "Type": "volume", "Source": own }] })
        };
        assert_eq!(folders(&inspected(own)), Some(vec![dir.path().to_owned(); 2]));
        assert_eq!(folders(&inspected("/not/there")), None);
        assert_eq!(folders(&json!({ "GraphDriver": { "Data": null, "Name": "vfs" }, "Mounts": [] })), None);
    }
}
