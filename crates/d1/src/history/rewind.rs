//! Going back.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use skep_store::StoreError;

use super::record::{Change, Record};
use super::wal::Wal;
use super::{History, Running, TimeTravelError, delta};

/// The pages in which a state differs from the present.
#[derive(Debug)]
pub(crate) struct Rewound {
    /// Their content, each at its place; the file has no name.
    content: File,
    page_size: usize,
    /// Those that differ, or may.
    changed: BTreeSet<u32>,
    /// Pages of the database then.
    pub size: u32,
    /// Pages of it now.
    pub size_now: u32,
    /// The state that it is.
    pub seq: u64,
}

impl History {
    /// The state after commit `target`, or the last one before it that was kept.
    pub fn rewind(&mut self, target: u64) -> Result<Rewound, TimeTravelError> {
        self.settle();
        let running = self.running.as_ref().ok_or(TimeTravelError::Off)?;
        if running.ahead {
            return Err(TimeTravelError::Failed(StoreError::DiskFull.to_string()));
        }
        let mut rewound = Rewound::of_now(&self.database, &self.wal, running.about.seq)?;
        // One state of the file, while it may be tidied.
        let read = running.file.connection.unchecked_transaction()?;
        for chunk in running.file.chunks("WHERE last_seq > ? ORDER BY id DESC", [as_stored(target)])? {
            for record in running.file.records(&chunk)?.into_iter().rev() {
                if record.last > target {
                    rewound.take_back(&record, &self.wal)?;
                }
            }
        }
        drop(read);
        Ok(rewound)
    }

    /// The bookmark's number of the state that was the database's at a time.
    pub fn at(&mut self, ms: u64) -> Result<u64, TimeTravelError> {
        let asked = || humantime(ms);
        if ms > self.keeping.clock.now_ms() {
            return Err(TimeTravelError::Future(asked()));
        }
        self.settle();
        let running = self.running.as_ref().ok_or(TimeTravelError::Off)?;
        let (base_seq, base_ms) = running.base()?;
        let which = "WHERE first_ms <= ? ORDER BY first_ms DESC, id DESC LIMIT 1";
        if let Some(chunk) = running.file.chunks(which, [as_stored(ms)])?.first() {
            let records = running.file.records(chunk)?;
            if let Some(record) = records.iter().rev().find(|record| record.ms <= ms) {
                return Ok(record.last);
            }
        }
        match base_ms <= ms {
            true => Ok(base_seq),
            false => Err(TimeTravelError::TooOld { asked: asked(), oldest: humantime(base_ms) }),
        }
    }

    /// Whether a state is within reach.
    pub fn reaches(&self, seq: u64, asked: &str) -> Result<(), TimeTravelError> {
        let running = self.running.as_ref().ok_or(TimeTravelError::Off)?;
        let (base_seq, base_ms) = running.base()?;
        match () {
            () if seq > running.about.seq => Err(TimeTravelError::Invalid(asked.to_owned())),
            () if seq < base_seq => Err(TimeTravelError::TooOld {
                asked: format!("Bookmark {asked}"),
                oldest: humantime(base_ms),
            }),
            () => Ok(()),
        }
    }
}

impl Running {
    /// The oldest state: tidying moves it.
    fn base(&self) -> Result<(u64, u64), TimeTravelError> {
        let about = self.file.about()?.unwrap_or(self.about);
        Ok((about.base_seq, about.base_ms))
    }
}

impl Rewound {
    fn of_now(database: &Path, wal: &Wal, seq: u64) -> Result<Self, TimeTravelError> {
        static FILES: AtomicU64 = AtomicU64::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = database.with_extension(format!("rewind-{}-{number}", std::process::id()));
        let made = File::options().read(true).write(true).create_new(true).open(&path);
        // It lives on until it is closed.
        let content = made.and_then(|file| std::fs::remove_file(&path).map(|()| file)).map_err(failed)?;
        let size = wal.at.pages;
        Ok(Self { content, page_size: wal.page_size, changed: BTreeSet::new(), size, size_now: size, seq })
    }

    /// Goes one record back.
    fn take_back(&mut self, record: &Record, wal: &Wal) -> Result<(), TimeTravelError> {
        let broken = || TimeTravelError::Failed("a page is not what was written".into());
        // But for another part of a commit of which a part was taken back already.
        if record.last <= self.seq && (record.last < self.seq || record.after != self.size) {
            return Err(broken());
        }
        let mut page = vec![0; self.page_size];
        for (number, change) in &record.pages {
            let delta = match change {
                Change::Anew { delta } => {
                    page.fill(0);
                    delta
                }
                Change::Back { crc, delta } => {
                    self.read(*number, wal, &mut page)?;
                    if crc32fast::hash(&page) != *crc {
                        return Err(broken());
                    }
                    delta
                }
            };
            delta::apply(delta, &mut page).ok_or_else(broken)?;
            self.content.write_all_at(&page, self.place(*number)).map_err(failed)?;
            self.changed.insert(*number);
        }
        self.size = record.before;
        self.seq = record.first.saturating_sub(1);
        Ok(())
    }

    fn read(&self, number: u32, wal: &Wal, page: &mut [u8]) -> Result<(), TimeTravelError> {
        match self.changed.contains(&number) {
            true => self.content.read_exact_at(page, self.place(number)).map_err(failed),
            false => wal.page(number, page).map_err(failed),
        }
    }

    fn place(&self, number: u32) -> u64 {
        u64::from(number.saturating_sub(1)) * self.page_size as u64
    }

    /// The pages that are to be written, in their order, but for the first, which is [`Self::first_page`].
    pub fn pages(&self) -> impl Iterator<Item = u32> {
        self.changed.iter().copied().filter(|page| *page > 1 && *page <= self.size)
    }

    /// What such a page held.
    pub fn content(&self, number: u32, page: &mut Vec<u8>) -> std::io::Result<()> {
        page.resize(self.page_size, 0);
        self.content.read_exact_at(page, self.place(number))
    }

    /// The first page: as it was, but for how often the database was opened and the schema's version.
    pub fn first_page(&self, now: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut page = now.to_vec();
        if self.changed.contains(&1) {
            self.content(1, &mut page)?;
        }
        for at in [COOKIE, OPENINGS] {
            if let (Some(to), Some(from)) = (page.get_mut(at..at + 4), now.get(at..at + 4)) {
                to.copy_from_slice(from);
            }
        }
        Ok(page)
    }
}

/// Where the header has its schema version and its `user_version`. <https://www.sqlite.org/fileformat2.html#the_database_header>
const COOKIE: usize = 40;
const OPENINGS: usize = 60;

fn failed(error: std::io::Error) -> TimeTravelError {
    TimeTravelError::Failed(error.to_string())
}

/// A number as SQLite has it.
fn as_stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time in RFC 3339.
/// A moment for people; none after the year 9999 can be written.
fn humantime(ms: u64) -> String {
    const LATEST_MS: u64 = 253_402_300_799_999;
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms.min(LATEST_MS));
    ::humantime::format_rfc3339_millis(at).to_string()
}
