//! Which files changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Editors write a file in several steps; changes this close together are one.
const SETTLE: Duration = Duration::from_millis(15);

/// Watches folders and reports changed paths.
#[derive(Debug)]
pub struct Watcher {
    watcher: RecommendedWatcher,
    watched: BTreeMap<PathBuf, bool>,
    changes: mpsc::UnboundedReceiver<PathBuf>,
}

impl Watcher {
    /// A watcher of nothing yet.
    pub fn new() -> Result<Self, String> {
        let (tx, changes) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            if !matches!(event.kind, EventKind::Access(_)) {
                for path in event.paths {
                    let _ = tx.send(path);
                }
            }
        })
        .map_err(|e| format!("cannot watch files: {e}"))?;
        Ok(Self { watcher, watched: BTreeMap::new(), changes })
    }

    /// Watches exactly these from now on: the folders of `files`, and `trees` with all that is in them.
    pub fn set(&mut self, files: &BTreeSet<PathBuf>, trees: &BTreeSet<PathBuf>) {
        let mut wanted: BTreeMap<PathBuf, bool> =
            files.iter().filter_map(|file| file.parent()).map(|dir| (dir.to_owned(), false)).collect();
        wanted.extend(trees.iter().map(|tree| (tree.clone(), true)));
        for (dir, _) in self.watched.iter().filter(|(dir, deep)| wanted.get(*dir) != Some(deep)) {
            let _ = self.watcher.unwatch(dir);
        }
        for (dir, deep) in wanted.iter().filter(|(dir, deep)| self.watched.get(*dir) != Some(deep)) {
            let mode = if *deep { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            if let Err(error) = self.watcher.watch(dir, mode) {
                tracing::warn!(%error, dir = %dir.display(), "cannot watch a folder");
            }
        }
        self.watched = wanted;
    }

    /// Resolves with what changed, once a burst of changes has settled.
    pub async fn changed(&mut self) -> BTreeSet<PathBuf> {
        let mut changed = BTreeSet::new();
        match self.changes.recv().await {
            Some(path) => changed.insert(path),
            None => std::future::pending().await,
        };
        while let Ok(Some(path)) = tokio::time::timeout(SETTLE, self.changes.recv()).await {
            changed.insert(path);
        }
        changed
    }
}

/// Whether a path is a developer's own file: not a dependency, not state.
pub fn is_source(path: &Path) -> bool {
    !path.components().any(|part| {
        matches!(part.as_os_str().to_str(), Some("node_modules" | ".skep" | ".git" | ".wrangler"))
    })
}
