//! What a query that takes long takes of the machine: memory of this process, and temporary files of its sorts.
//!
//! SQLite bounds neither for one connection. A hundred columns of two megabytes each, gathered by a dozen queries at once, were gigabytes; a sort
//! wrote gigabytes into the folder for temporary files within its thirty seconds. So both are looked at while it computes, as the kernel
//! counts them. What a thread writes is its own. Memory is the process's, of which a query is charged what comes while it has its turn; few have one
//! at a time.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that this process may grow by while a query has its turns.
const MEMORY: u64 = 256 << 20;
/// The same while all queries together have taken more than [`ALL`], in bytes.
const LITTLE: u64 = 64 << 20;
/// Bytes that all queries may take together before each has to be content with little.
const ALL: u64 = 1 << 30;
/// Bytes that a query may write where it only reads the database: temporary files.
const FILES: u64 = 1 << 30;
/// The same where it writes the database, too.
const FILES_AND_DATABASE: u64 = 4 << 30;

/// What the kernel counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Bytes of this process's own memory.
    memory: u64,
    /// Bytes that this thread has ever written.
    written: u64,
}

impl Reading {
    /// As it is now; `None` where the kernel does not say.
    pub fn now() -> Option<Self> {
        let memory = number("/proc/self/status", "RssAnon:")? * 1024;
        Some(Self { memory, written: number("/proc/thread-self/io", "wchar:")? })
    }
}

/// The number after `name` in a file of `/proc`.
fn number(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What all queries have taken that are not over.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Whether a query may have no more memory, of which all have taken `all`.
fn is_too_much(memory: u64, all: u64) -> bool {
    memory > if all > ALL { LITTLE } else { MEMORY }
}

/// What one query has taken.
#[derive(Debug, Default)]
pub(crate) struct Appetite {
    /// When it began to compute this time.
    since: Option<Reading>,
    memory: u64,
    written: u64,
}

impl Appetite {
    /// It computes from now on.
    pub fn begin(&mut self, now: Option<Reading>) {
        self.since = now;
    }

    /// It has computed until now. Returns whether it has taken too much; `writes` if it may write the database, too.
    pub fn end(&mut self, now: Option<Reading>, writes: bool) -> bool {
        let (Some(since), Some(now)) = (self.since.take(), now) else { return false };
        let before = self.memory;
        self.memory = (self.memory + now.memory).saturating_sub(since.memory);
        self.written += now.written.saturating_sub(since.written);
        let all = TAKEN
            .fetch_add(self.memory.wrapping_sub(before), Relaxed)
            .wrapping_add(self.memory.wrapping_sub(before));
        is_too_much(self.memory, all) || self.written > if writes { FILES_AND_DATABASE } else { FILES }
    }
}

impl Drop for Appetite {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.memory, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// What becomes of a query after turns from one reading to another, in MiB of memory and of files.
    fn after(turns: &[[(u64, u64); 2]], writes: bool) -> bool {
        let mut appetite = Appetite::default();
        let reading =
            |(memory, written): (u64, u64)| Some(Reading { memory: memory * MIB, written: written * MIB });
        turns.iter().fold(false, |_, [start, end]| {
            appetite.begin(reading(*start));
            appetite.end(reading(*end), writes)
        })
    }

    #[test]
    fn a_query_is_charged_what_comes_while_it_computes() {
        assert!(after(&[[(100, 0), (400, 0)]], false));
        assert!(!after(&[[(100, 0), (300, 0)]], false));
        // What others take meanwhile is not its own, and what it gives back it may take again.
        assert!(!after(&[[(100, 0), (300, 0)], [(900, 0), (950, 0)]], false));
        assert!(!after(&[[(100, 0), (300, 0)], [(300, 0), (100, 0)], [(100, 0), (300, 0)]], false));
        assert!(after(&[[(100, 0), (300, 0)], [(900, 0), (1000, 0)]], false));
    }

    #[test]
    fn where_all_have_taken_much_each_has_to_be_content_with_little() {
        assert!(!is_too_much(200 * MIB, 900 * MIB));
        assert!(is_too_much(200 * MIB, 1100 * MIB));
        assert!(!is_too_much(60 * MIB, 9000 * MIB));
    }

    #[test]
    fn temporary_files_are_bounded_and_whoever_writes_may_write_more() {
        let turns = [[(0, 0), (0, 600)], [(0, 700), (0, 1200)]];
        assert!(after(&turns, false) && !after(&turns, true));
        assert!(after(&[[(0, 0), (0, 4097)]], true));
        assert!(!after(&turns[..1], false));
    }

    #[test]
    fn the_kernel_says_what_a_thread_has_written() {
        let before = Reading::now().unwrap();
        std::fs::write(tempfile::tempdir().unwrap().path().join("a"), vec![0; 1 << 20]).unwrap();
        let after = Reading::now().unwrap();
        assert!(after.written >= before.written + MIB && after.memory > 0);
        assert!(!Appetite::default().end(Some(after), false), "nothing has begun");
    }
}
