//! What the engine takes for the Durable Objects of a process that are awake.
//!
//! Each has a database that is open: three files, and about 250 KB for SQLite's caches, from its first call to ten seconds after its
//! last one. That is not the application's memory, and a thousand of them would be all that it may have. So they have memory of their own, as
//! much as the machine can spare.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};

use skep_runtime::{Backlog, Bounds, Waiting};

/// What is taken for one (245 KB were measured for each of 5,000 that store a number, 190 KB for one that stores nothing).
const EACH: usize = 256 << 10;
/// The database, its log and the index of that.
const FILES: usize = 3;
/// Files are counted after so much growth: before Linux 6.2 it takes a look at each.
const STEP: u64 = 4 << 20;

/// What the objects of all processes take.
pub(crate) static ALL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Follows the objects of one process.
#[derive(Debug)]
pub(crate) struct Awake {
    room: Bounds,
    /// What they have. What is given back when they sleep stays with the process, for the next ones.
    taken: Waiting,
    seen: usize,
    /// The memory at which files are counted next.
    next: u64,
}

impl Awake {
    /// Of a process whose objects have this room, of which `all` is what those of all processes take.
    pub fn new(room: Bounds, all: Arc<AtomicUsize>) -> Self {
        Self { room, taken: Backlog::new(all).hold(0), seen: 0, next: 0 }
    }

    /// What of the `memory` of process `pid` is the application's.
    pub fn without(&mut self, pid: u32, memory: u64) -> u64 {
        self.without_files(|| open_files(pid), memory)
    }

    fn without_files(&mut self, files: impl FnOnce() -> usize, memory: u64) -> u64 {
        if self.room.own > 0 && memory >= self.next {
            self.seen = self.taken.grow_within((files() / FILES).saturating_mul(EACH), self.room);
            self.next = memory + STEP;
        }
        memory.saturating_sub(self.seen as u64)
    }
}

/// The files that a process has open, sockets among them; 0 if it is gone.
fn open_files(pid: u32) -> usize {
    let folder = format!("/proc/{pid}/fd");
    match std::fs::metadata(&folder) {
        // Before Linux 6.2 the folder does not say how many there are.
        Ok(about) if about.len() == 0 => std::fs::read_dir(&folder).map_or(0, |files| files.count()),
        Ok(about) => usize::try_from(about.len()).unwrap_or(usize::MAX),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    const MB: u64 = 1 << 20;

    fn awake(own: usize, all: usize, little: usize, taken: &Arc<AtomicUsize>) -> Awake {
        Awake::new(Bounds { own: own << 20, all: all << 20, little: little << 20 }, taken.clone())
    }

    #[test]
    fn objects_that_are_awake_and_those_that_were_have_room_of_their_own() {
        let mut awake = awake(100, 1000, 1, &Arc::default());
        assert_eq!(awake.without_files(|| 0, 30 * MB), 30 * MB);
        assert_eq!(awake.without_files(|| 300, 50 * MB), 50 * MB - 100 * EACH as u64);
        assert_eq!(
            awake.without_files(|| 30, 55 * MB),
            55 * MB - 100 * EACH as u64,
            "they sleep, the memory stays"
        );
        assert_eq!(
            awake.without_files(|| 900, 58 * MB),
            58 * MB - 100 * EACH as u64,
            "they are not counted each time"
        );
        assert_eq!(awake.without_files(|| 30_000, 150 * MB), 50 * MB, "up to a bound");
        assert_eq!(awake.without_files(|| 30_000, 90 * MB), 0);
    }

    #[test]
    fn where_all_have_much_nobody_gets_more_than_little() {
        let taken = Arc::default();
        let [mut first, mut second] = [(); 2].map(|()| awake(100, 120, 10, &taken));
        let many = || 30_000;
        assert_eq!(first.without_files(many, 200 * MB), 100 * MB);
        assert_eq!(second.without_files(many, 200 * MB), 190 * MB);
        assert_eq!(second.without_files(many, 210 * MB), 200 * MB);
        assert_eq!(first.without_files(many, 210 * MB), 110 * MB, "what it has it keeps");
        assert_eq!(taken.load(Ordering::Relaxed), 110 << 20);
        drop(first);
        assert_eq!(second.without_files(many, 220 * MB), 120 * MB);
        drop(second);
        assert_eq!(taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn files_are_counted() {
        let own = std::process::id();
        let before = open_files(own);
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/proc/self/status").unwrap()).collect();
        assert!(open_files(own) >= before.max(50), "{before}");
        drop(files);
        assert_eq!(open_files(0), 0);
        assert_eq!(Awake::new(Bounds::default(), Arc::default()).without(own, 7), 7);
    }
}
