//! What the engine takes for the Durable Objects of a process that are awake.
//!
//! Each has a database that is open: three files, and about 200 KB for SQLite's caches, from its first call to ten seconds after its
//! last one. That is not the application's memory, and a thousand of them would be all that it may have.

/// What is taken for one (190 KB were measured for an object that stores nothing, 220 KB for one that does).
const EACH: u64 = 208 << 10;
/// The database, its log and the index of that.
const FILES: u64 = 3;
/// Files are counted after so much growth: before Linux 6.2 it takes a look at each.
const STEP: u64 = 4 << 20;

/// Follows the objects of one process.
#[derive(Debug)]
pub(crate) struct Awake {
    most: u64,
    seen: u64,
    /// The memory at which files are counted next.
    next: u64,
}

impl Awake {
    /// Of a process whose objects may have `most` bytes together; 0 if it has none.
    pub fn new(most: u64) -> Self {
        Self { most, seen: 0, next: 0 }
    }

    /// What of the `memory` of process `pid` is the application's.
    pub fn without(&mut self, pid: u32, memory: u64) -> u64 {
        self.without_files(|| open_files(pid), memory)
    }

    fn without_files(&mut self, files: impl FnOnce() -> u64, memory: u64) -> u64 {
        if self.most > 0 && memory >= self.next {
            // What is given back when they sleep stays with the process, for the next ones.
            self.seen = self.seen.max((files() / FILES).saturating_mul(EACH).min(self.most));
            self.next = memory + STEP;
        }
        memory.saturating_sub(self.seen)
    }
}

/// The files that a process has open, sockets among them; 0 if it is gone.
fn open_files(pid: u32) -> u64 {
    let folder = format!("/proc/{pid}/fd");
    match std::fs::metadata(&folder) {
        // Before Linux 6.2 the folder does not say how many there are.
        Ok(about) if about.len() == 0 => std::fs::read_dir(&folder).map_or(0, |files| files.count() as u64),
        Ok(about) => about.len(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn objects_that_are_awake_and_those_that_were_have_room_of_their_own() {
        let mut awake = Awake::new(100 * MB);
        assert_eq!(awake.without_files(|| 0, 30 * MB), 30 * MB);
        assert_eq!(awake.without_files(|| 300, 50 * MB), 50 * MB - 100 * EACH);
        assert_eq!(awake.without_files(|| 30, 55 * MB), 55 * MB - 100 * EACH, "they sleep, the memory stays");
        assert_eq!(
            awake.without_files(|| 900, 58 * MB),
            58 * MB - 100 * EACH,
            "they are not counted each time"
        );
        assert_eq!(awake.without_files(|| 30_000, 150 * MB), 50 * MB, "up to a bound");
        assert_eq!(awake.without_files(|| 30_000, 90 * MB), 0);
    }

    #[test]
    fn files_are_counted() {
        let own = std::process::id();
        let before = open_files(own);
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/proc/self/status").unwrap()).collect();
        assert!(open_files(own) >= before.max(50), "{before}");
        drop(files);
        assert_eq!(open_files(0), 0);
        assert_eq!(Awake::new(0).without(own, 7), 7);
    }
}
