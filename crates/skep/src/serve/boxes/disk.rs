//! When containers are looked at for what they have written: walking through their files costs something, so it waits until the
//! disk has become fuller.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use skep_containers::Oversized;
use skep_runtime::Jobs;

use super::Boxes;

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How much fuller it has to be for a walk.
const GROWN: u64 = 16 << 20;
/// How many more files.
const MORE_FILES: u64 = 10_000;
/// How long to go without a walk, whatever the disk says: what is written may replace what others remove.
const AT_LEAST: Duration = Duration::from_secs(60);

/// A disk at a moment: bytes and files that are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    bytes: u64,
    files: u64,
}

/// Whether to walk now. `since` is the time that has passed since the last walk. Pure.
fn is_due(before: Option<Used>, now: Option<Used>, since: Duration) -> bool {
    let grown = match (before, now) {
        (Some(before), Some(now)) => {
            now.bytes.saturating_sub(before.bytes) >= GROWN
                || now.files.saturating_sub(before.files) >= MORE_FILES
        }
        _ => false,
    };
    grown || since >= AT_LEAST
}

fn used(root: Option<&PathBuf>) -> Option<Used> {
    let at = rustix::fs::statvfs(root?).ok()?;
    Some(Used {
        bytes: at.f_blocks.saturating_sub(at.f_bfree).saturating_mul(at.f_frsize),
        files: at.f_files.saturating_sub(at.f_ffree),
    })
}

/// Looks from now on.
pub fn watch(boxes: &Arc<Boxes>, jobs: &Jobs) {
    let boxes = Arc::downgrade(boxes);
    let last: Arc<Mutex<(Option<Used>, Instant)>> = Arc::new(Mutex::new((None, Instant::now())));
    jobs.every("containers: what they have written", LOOK, move || {
        let (boxes, last) = (boxes.clone(), last.clone());
        async move {
            let Some(boxes) = boxes.upgrade() else { return Ok(String::new()) };
            let now = used(boxes.root.as_ref());
            {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if !is_due(last.0, now, last.1.elapsed()) {
                    // One that has become emptier may grow again from there.
                    if let (Some(before), Some(now)) = (&mut last.0, now) {
                        before.bytes = before.bytes.min(now.bytes);
                        before.files = before.files.min(now.files);
                    } else {
                        last.0 = now;
                    }
                    return Ok("nothing new".to_owned());
                }
                *last = (now, Instant::now());
            }
            let mut ended = 0;
            for containers in boxes.all() {
                let report = |own: &Oversized| {
                    tracing::warn!(
                        class = own.class,
                        object = own.object,
                        "a container is ended: it has written more than the {} MB of its disk",
                        own.most / 1_000_000
                    );
                };
                ended += containers.end_oversized(report).await.map_err(|e| e.to_string())?;
            }
            Ok(format!("{ended} ended"))
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_waits_until_the_disk_is_fuller() {
        let at = |mib: u64, files| Some(Used { bytes: mib << 20, files });
        let soon = Duration::from_secs(2);
        assert!(!is_due(None, at(5, 0), soon));
        assert!(!is_due(at(5, 0), at(6, 9_000), soon));
        assert!(!is_due(at(50, 0), at(5, 0), soon));
        assert!(is_due(at(5, 0), at(21, 0), soon));
        assert!(is_due(at(5, 0), at(5, 10_000), soon));
        assert!(is_due(at(5, 0), at(5, 0), AT_LEAST) && is_due(None, None, AT_LEAST));
    }
}
