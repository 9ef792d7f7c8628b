//! SQLite's write-ahead log, read from outside. <https://www.sqlite.org/fileformat2.html#walformat>
//!
//! Relies on three things: nobody else checkpoints (both the content of a page before a commit is still in one of the two
//! files, and no commit is overwritten before it was read), it is read between transactions, and the descriptors of the
//! database stay open for as long as any connection does (closing one would drop SQLite's locks).

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of the log's own header.
const HEADER: usize = 32;
/// Bytes before each page.
const FRAME: usize = 24;
/// The format that SQLite has written since 3.7.0.
const VERSION: u32 = 3_007_000;
/// The last bit of the magic number says in which order of bytes checksums are computed.
const MAGIC: u32 = 0x377f_0682;

/// A place in the log: everything up to there has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Two numbers that change whenever the log is begun anew.
    pub salts: (u32, u32),
    /// Frames read.
    pub frames: u32,
    /// The checksum up to there, which the next frame's continues.
    pub sums: (u32, u32),
    /// Pages of the database there.
    pub pages: u32,
}

/// A database and its log.
#[derive(Debug)]
pub(super) struct Wal {
    main: File,
    path: PathBuf,
    log: Option<File>,
    /// Bytes of a page.
    pub page_size: usize,
    big_endian: bool,
    /// Up to where it has been read.
    pub at: Position,
    /// The frame that holds the newest version of a page, for pages that the log has, up to `at`.
    index: HashMap<u32, u32>,
}

/// A commit in the log.
#[derive(Debug)]
pub(super) struct Commit {
    /// The frame of each page that it wrote.
    pub pages: HashMap<u32, u32>,
    /// The place after it.
    pub end: Position,
}

/// Where a log stands in relation to a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// What follows the place can be read.
    Place,
    /// The log does not contain the place.
    Nothing,
}

impl Wal {
    /// Opens the files of a database. Nothing is read yet.
    pub fn open(database: &Path) -> io::Result<Self> {
        let main = File::open(database)?;
        let mut head = [0; 18];
        let page_size = match main.read_exact_at(&mut head, 0) {
            Ok(()) => usize::from(u16::from_be_bytes([head[16], head[17]])),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error),
        };
        // 1 stands for 65536; a file without a page gets SQLite's default.
        let page_size = [(0, 4096), (1, 65536)]
            .iter()
            .find_map(|(said, meant)| (page_size == *said).then_some(*meant))
            .unwrap_or(page_size);
        let mut path = database.to_owned().into_os_string();
        path.push("-wal");
        Ok(Self {
            main,
            path: path.into(),
            log: None,
            page_size,
            big_endian: false,
            at: Position::default(),
            index: HashMap::new(),
        })
    }

    /// Goes to the end: what is there is taken as it is.
    pub fn skip_to_end(&mut self) -> io::Result<()> {
        self.at = Position { pages: self.pages_of_file()?, ..Position::default() };
        self.index.clear();
        while let Some(commit) = self.next()? {
            self.advance(commit);
        }
        Ok(())
    }

    /// Goes to a place where it was before. If the log was begun anew since, that was when all of it had been read and
    /// checkpointed: then the place is its beginning.
    pub fn seek(&mut self, place: Position) -> io::Result<Found> {
        self.at = Position { pages: place.pages, ..Position::default() };
        self.index.clear();
        if self.salts()? != Some(place.salts) {
            return Ok(Found::Place);
        }
        while self.at.frames < place.frames {
            match self.next()? {
                Some(commit) => self.advance(commit),
                None => return Ok(Found::Nothing),
            }
        }
        Ok(if self.at == place { Found::Place } else { Found::Nothing })
    }

    /// The next commit after `at`, if one is there.
    pub fn next(&mut self) -> io::Result<Option<Commit>> {
        let Some(salts) = self.salts()? else {
            // Emptied since: all of it is in the database now.
            self.index.clear();
            self.at = Position { pages: self.at.pages, ..Position::default() };
            return Ok(None);
        };
        if salts != self.at.salts {
            self.index.clear();
            self.at = Position { salts, frames: 0, sums: self.header_sums()?, pages: self.at.pages };
        }
        let mut frame = vec![0; FRAME + self.page_size];
        let mut place = self.at;
        let mut pages = HashMap::new();
        while self.read(&mut frame, place.frames)? {
            let word = |at: usize| word(&frame, at);
            place.sums = checksum(place.sums, &frame[..8], self.big_endian);
            place.sums = checksum(place.sums, &frame[FRAME..], self.big_endian);
            if (word(8), word(12)) != place.salts || (word(16), word(20)) != place.sums {
                return Ok(None);
            }
            place.frames += 1;
            pages.insert(word(0), place.frames);
            place.pages = word(4);
            // A frame that ends a transaction says how large the database is after it.
            if place.pages != 0 {
                return Ok(Some(Commit { pages, end: place }));
            }
        }
        Ok(None)
    }

    /// Moves behind a commit that [`Self::next`] gave.
    pub fn advance(&mut self, commit: Commit) {
        self.index.extend(commit.pages);
        self.at = commit.end;
    }

    /// The content of a page at `at`; zeros where the files have none.
    pub fn page(&self, number: u32, content: &mut [u8]) -> io::Result<()> {
        match self.index.get(&number) {
            Some(frame) => self.frame(*frame, content),
            None => {
                let start = u64::from(number.saturating_sub(1)) * self.page_size as u64;
                read_or_zeros(&self.main, content, start)
            }
        }
    }

    /// The page in a frame.
    pub fn frame(&self, frame: u32, content: &mut [u8]) -> io::Result<()> {
        let log = self.log.as_ref().ok_or(io::ErrorKind::NotFound)?;
        log.read_exact_at(content, self.place_of(frame.saturating_sub(1)) + FRAME as u64)
    }

    /// When the log was written last, in milliseconds since 1970.
    pub fn written_ms(&self) -> Option<u64> {
        let written = self.log.as_ref()?.metadata().ok()?.modified().ok()?;
        let since = written.duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    }

    /// Where the frame after so many begins.
    fn place_of(&self, frames: u32) -> u64 {
        HEADER as u64 + u64::from(frames) * (FRAME + self.page_size) as u64
    }

    fn read(&self, frame: &mut [u8], frames: u32) -> io::Result<bool> {
        let Some(log) = &self.log else { return Ok(false) };
        whole(log.read_exact_at(frame, self.place_of(frames)))
    }

    fn header(&mut self) -> io::Result<Option<[u8; HEADER]>> {
        if self.log.is_none() {
            match File::open(&self.path) {
                Ok(log) => self.log = Some(log),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let mut header = [0; HEADER];
        let Some(log) = &self.log else { return Ok(None) };
        Ok(whole(log.read_exact_at(&mut header, 0))?.then_some(header))
    }

    /// The salts of a log that is sound. Takes over what its header says.
    fn salts(&mut self) -> io::Result<Option<(u32, u32)>> {
        let Some(header) = self.header()? else { return Ok(None) };
        let (magic, size) = (word(&header, 0), word(&header, 8) as usize);
        let big_endian = magic & 1 == 1;
        let sums = checksum((0, 0), &header[..24], big_endian);
        let sound = magic & !1 == MAGIC
            && word(&header, 4) == VERSION
            && size == self.page_size
            && sums == (word(&header, 24), word(&header, 28));
        self.big_endian = big_endian;
        Ok(sound.then(|| (word(&header, 16), word(&header, 20))))
    }

    fn header_sums(&mut self) -> io::Result<(u32, u32)> {
        let header = self.header()?.unwrap_or([0; HEADER]);
        Ok((word(&header, 24), word(&header, 28)))
    }

    fn pages_of_file(&self) -> io::Result<u32> {
        Ok(u32::try_from(self.main.metadata()?.len() / self.page_size as u64).unwrap_or(u32::MAX))
    }
}

/// Whether all was there to be read.
fn whole(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_or_zeros(file: &File, mut content: &mut [u8], mut at: u64) -> io::Result<()> {
    while !content.is_empty() {
        match file.read_at(content, at)? {
            0 => {
                content.fill(0);
                break;
            }
            read => {
                content = &mut content[read..];
                at += read as u64;
            }
        }
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn checksum((mut a, mut b): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let read = |at: usize| {
            let word = [pair[at], pair[at + 1], pair[at + 2], pair[at + 3]];
            if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
        };
        a = a.wrapping_add(read(0)).wrapping_add(b);
        b = b.wrapping_add(read(4)).wrapping_add(a);
    }
    (a, b)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn database(dir: &Path) -> (PathBuf, Connection) {
        let path = dir.join("a.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        connection.execute_batch("CREATE TABLE t (a)").unwrap();
        (path, connection)
    }

    fn commits(wal: &mut Wal) -> usize {
        std::iter::from_fn(|| wal.next().unwrap().map(|commit| wal.advance(commit))).count()
    }

    /// The database as the files have it at the place.
    fn image(wal: &Wal) -> Vec<u8> {
        let mut image = vec![0; wal.at.pages as usize * wal.page_size];
        for (content, page) in image.chunks_mut(wal.page_size).zip(1..) {
            wal.page(page, content).unwrap();
        }
        image
    }

    #[test]
    fn commits_are_read_one_after_the_other_and_what_was_rolled_back_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (path, connection) = database(dir.path());
        let mut wal = Wal::open(&path).unwrap();
        wal.skip_to_end().unwrap();
        assert_eq!(commits(&mut wal), 0);
        for n in 0..3 {
            connection.execute("INSERT INTO t VALUES (?)", [n]).unwrap();
        }
        connection.pragma_update(None, "cache_size", 2).unwrap();
        connection.execute_batch("BEGIN; INSERT INTO t SELECT value FROM generate(9); ROLLBACK").unwrap_err();
        connection
            .execute_batch(
                "ROLLBACK; BEGIN; CREATE TABLE u (b); INSERT INTO u VALUES (zeroblob(100000)); ROLLBACK",
            )
            .unwrap();
        assert_eq!(commits(&mut wal), 3);
        connection.execute("INSERT INTO t VALUES (3)", []).unwrap();
        assert_eq!(commits(&mut wal), 1);
    }

    #[test]
    fn a_log_that_is_begun_anew_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (path, connection) = database(dir.path());
        let mut wal = Wal::open(&path).unwrap();
        wal.skip_to_end().unwrap();
        for round in 0..4 {
            connection.execute("INSERT INTO t VALUES (zeroblob(?))", [round * 5000]).unwrap();
            assert_eq!(commits(&mut wal), 1);
            let place = wal.at;
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
            assert_eq!(commits(&mut wal), 0);
            let mut again = Wal::open(&path).unwrap();
            assert_eq!(again.seek(place).unwrap(), Found::Place);
            assert_eq!(again.at, place);
            assert_eq!(image(&again), std::fs::read(&path).unwrap());
        }
    }

    #[test]
    fn what_was_in_a_log_that_is_emptied_is_read_from_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let (path, connection) = database(dir.path());
        let mut wal = Wal::open(&path).unwrap();
        wal.skip_to_end().unwrap();
        for round in 1..4 {
            connection.execute("INSERT INTO t VALUES (zeroblob(?))", [round * 5000]).unwrap();
            assert_eq!(commits(&mut wal), 1);
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            assert_eq!(commits(&mut wal), 0);
            assert_eq!(image(&wal), std::fs::read(&path).unwrap());
        }
    }

    #[test]
    fn a_place_that_the_log_has_not_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let (path, connection) = database(dir.path());
        let mut wal = Wal::open(&path).unwrap();
        wal.skip_to_end().unwrap();
        connection.execute("INSERT INTO t VALUES (1)", []).unwrap();
        assert_eq!(commits(&mut wal), 1);
        let place = wal.at;
        let beyond = Position { frames: place.frames + 1, ..place };
        let other = Position { sums: (1, 2), ..place };
        assert_eq!(wal.seek(beyond).unwrap(), Found::Nothing);
        assert_eq!(wal.seek(other).unwrap(), Found::Nothing);
        assert_eq!(wal.seek(place).unwrap(), Found::Place);
    }
}
