//! A connection as an application may use it: limited, guarded, interruptible.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use crate::appetite::{Appetite, Reading};
use crate::functions;
use crate::guard::Guard;
use crate::turns::TURNS;

/// The longest that one query may take (developers.cloudflare.com/d1/platform/limits).
pub(crate) const QUERY_TIME: Duration = Duration::from_secs(30);
/// Bytes of a row, text or BLOB at most; same page.
pub(crate) const LENGTH: i32 = 2_000_000;
/// Steps of SQLite's virtual machine between two looks at the clock, some 2 µs.
const STEPS: i32 = 200;
/// How many such looks a query gets on the caller's thread before it has to move to a blocking one:
/// 40,000 steps, about half a millisecond, some thousand rows.
const INLINE_LOOKS: u64 = 200;
/// Microseconds after which it has to move whatever it did: a step may copy megabytes.
const INLINE_TIME: u64 = 5_000;
/// The deadline while no statement of an application runs: our own take the time that they need, and no turns.
const UNTIMED: u64 = u64::MAX;
/// Microseconds that a statement may compute before it needs a turn, and before another one may have it.
const BRIEF: u64 = 20_000;
const TURN: u64 = 100_000;
/// Bytes of a database at most; same page.
const DATABASE: i64 = 10_000_000_000;
/// Bytes that the journal keeps once its content is in the database.
const JOURNAL: i64 = 16 << 20;
/// Statements that stay compiled per connection.
const STATEMENT_CACHE: usize = 128;

/// The engine's limits (workerd `setupSecurity`), but for the three that D1 documents lower: the length
/// above, and 32 function arguments.
const LIMITS: &[(Limit, i32)] = &[
    (Limit::SQLITE_LIMIT_LENGTH, LENGTH),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 100_000),
    (Limit::SQLITE_LIMIT_COLUMN, 100),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 5),
    (Limit::SQLITE_LIMIT_VDBE_OP, 25_000),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 32),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 10),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];

/// How long a query may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A few hundred microseconds, then stop: the thread is the caller's.
    Inline,
    /// The session's `query_time`.
    Full,
}

/// Read by the progress handler, which SQLite calls every [`STEPS`].
#[derive(Debug)]
struct Timer {
    started: Instant,
    /// Microseconds after `started`; 0 while looks are counted instead; [`UNTIMED`].
    deadline: AtomicU64,
    looks: AtomicU64,
    fired: AtomicBool,
    /// Which database it is.
    database: AtomicU64,
    /// Whether it has a turn, and since when it has that, or computes without.
    has_turn: AtomicBool,
    /// It has another kind of turn, and takes none of these: it may never come to give one back.
    exempt: AtomicBool,
    /// It was stopped for its time, which the machine may have taken.
    late: AtomicBool,
    since: AtomicU64,
    /// What it takes, and whether that was too much.
    appetite: Mutex<Appetite>,
    greedy: AtomicBool,
    /// Whether it may write the database.
    writes: bool,
}

impl Timer {
    fn now(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn should_stop(&self) -> bool {
        let deadline = self.deadline.load(Ordering::Relaxed);
        let stop = match deadline {
            UNTIMED => return false,
            0 => self.looks.fetch_add(1, Ordering::Relaxed) >= INLINE_LOOKS || self.is_late(),
            _ => self.take_turns(deadline) > deadline || self.greedy.load(Ordering::Relaxed),
        };
        if stop {
            self.fired.store(true, Ordering::Relaxed);
        }
        stop
    }

    /// Waits for its turn, if it has computed for long; returns the time after that.
    fn take_turns(&self, deadline: u64) -> u64 {
        let now = self.now();
        let has_turn = self.has_turn.load(Ordering::Relaxed);
        let most = if has_turn { TURN } else { BRIEF };
        if now < self.since.load(Ordering::Relaxed) + most || now > deadline {
            return now;
        }
        if self.has_eaten() {
            return now;
        }
        if !self.exempt.load(Ordering::Relaxed) && (!has_turn || TURNS.are_wanted()) {
            self.give_back();
            let patience = Duration::from_micros(deadline - now);
            let has_turn = TURNS.take(self.database.load(Ordering::Relaxed), patience);
            self.has_turn.store(has_turn, Ordering::Relaxed);
        }
        self.appetite().begin(Reading::now());
        let now = self.now();
        self.since.store(now, Ordering::Relaxed);
        now
    }

    /// Takes note of what it has taken since it had its turn; returns whether that is too much.
    fn has_eaten(&self) -> bool {
        let greedy = self.appetite().end(Reading::now(), self.writes);
        self.greedy.store(greedy, Ordering::Relaxed);
        greedy
    }

    fn appetite(&self) -> std::sync::MutexGuard<'_, Appetite> {
        self.appetite.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its time on the caller's thread is up.
    fn is_late(&self) -> bool {
        let late = self.now() - self.since.load(Ordering::Relaxed) >= INLINE_TIME;
        self.late.store(late, Ordering::Relaxed);
        late
    }

    fn give_back(&self) {
        if self.has_turn.swap(false, Ordering::Relaxed) {
            TURNS.give_back();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Statements of a session compute without turns.
#[derive(Debug)]
pub(crate) struct Exempt<'a>(&'a Timer);

impl Drop for Exempt<'_> {
    fn drop(&mut self) {
        self.0.exempt.store(false, Ordering::Relaxed);
    }
}

/// Pages that a database may have.
#[derive(Debug)]
struct Room {
    page: i64,
    /// Whether an account's quota lets it have fewer than it may have at most.
    is_short: Cell<bool>,
}

/// One connection, with what watches it.
#[derive(Debug)]
pub(crate) struct Session {
    pub connection: Connection,
    pub guard: Arc<Guard>,
    /// The longest that one query may take: [`QUERY_TIME`], but for tests.
    pub query_time: Duration,
    timer: Arc<Timer>,
    room: Room,
}

impl Session {
    /// Opens the writing connection; creates the file.
    pub(crate) fn writer(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", JOURNAL)?;
        let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = DATABASE / page.max(1);
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        let session = Self::new(connection, true)?;
        Ok(Self { room: Room { page: page.max(1), is_short: Cell::new(false) }, ..session })
    }

    /// Opens a connection that can only read.
    pub(crate) fn reader(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::new(Connection::open_with_flags(path, flags)?, false)
    }

    fn new(connection: Connection, writes: bool) -> rusqlite::Result<Self> {
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        for (limit, value) in LIMITS {
            connection.set_limit(*limit, *value)?;
        }
        let timer = Arc::new(Timer {
            started: Instant::now(),
            deadline: AtomicU64::new(UNTIMED),
            looks: AtomicU64::new(0),
            fired: AtomicBool::new(false),
            database: AtomicU64::new(0),
            has_turn: AtomicBool::new(false),
            exempt: AtomicBool::new(false),
            late: AtomicBool::new(false),
            since: AtomicU64::new(0),
            appetite: Mutex::default(),
            greedy: AtomicBool::new(false),
            writes,
        });
        let watch = timer.clone();
        connection.progress_handler(STEPS, Some(move || watch.should_stop()))?;
        functions::install(&connection, usize::try_from(LENGTH).unwrap_or(0))?;
        let guard = Guard::install(&connection)?;
        let room = Room { page: 1, is_short: Cell::new(false) };
        Ok(Self { connection, guard, query_time: QUERY_TIME, timer, room })
    }

    /// Says which database it is of: databases take turns when they compute for long.
    pub(crate) fn belongs_to(&self, database: u64) {
        self.timer.database.store(database, Ordering::Relaxed);
    }

    /// Has statements compute without turns, until the result is dropped.
    pub(crate) fn exempt(&self) -> Exempt<'_> {
        self.timer.give_back();
        self.timer.exempt.store(true, Ordering::Relaxed);
        Exempt(&self.timer)
    }

    /// Which database it is of.
    pub(crate) fn database(&self) -> u64 {
        self.timer.database.load(Ordering::Relaxed)
    }

    /// Nothing of an application runs on it any more: who would keep a turn now would keep it from all databases.
    pub(crate) fn rests(&self) {
        self.timer.deadline.store(UNTIMED, Ordering::Relaxed);
        self.timer.give_back();
        *self.timer.appetite() = Appetite::default();
    }

    /// Leaves the log alone: whoever reads it says when it may be begun anew.
    pub(crate) fn keep_log(&self) -> rusqlite::Result<()> {
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.trusted(|connection| connection.pragma_update(None, "wal_autocheckpoint", 0))
    }

    /// Takes the log over into the database, as far as readers let it be.
    pub(crate) fn checkpoint(&self, mode: &str) -> rusqlite::Result<()> {
        self.trusted(|connection| {
            connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
        })
    }

    /// Gives the statements that follow this much time.
    pub(crate) fn start_timer(&self, patience: Patience) {
        let deadline = match patience {
            Patience::Inline => 0,
            Patience::Full => (self.timer.started.elapsed() + self.query_time).as_micros() as u64,
        };
        self.timer.give_back();
        self.timer.since.store(self.timer.now(), Ordering::Relaxed);
        self.timer.deadline.store(deadline, Ordering::Relaxed);
        self.timer.looks.store(0, Ordering::Relaxed);
        self.timer.fired.store(false, Ordering::Relaxed);
        self.timer.late.store(false, Ordering::Relaxed);
        *self.timer.appetite() = Appetite::default();
        self.timer.greedy.store(false, Ordering::Relaxed);
    }

    /// Whether the last statement was stopped because its time was up.
    pub(crate) fn timed_out(&self) -> bool {
        self.timer.fired.load(Ordering::Relaxed)
    }

    /// Whether it was stopped for what it took of memory or of the disk.
    pub(crate) fn was_greedy(&self) -> bool {
        self.timer.greedy.load(Ordering::Relaxed)
    }

    /// Whether it was stopped for that, and not for the steps that it took.
    pub(crate) fn was_late(&self) -> bool {
        self.timer.late.load(Ordering::Relaxed)
    }

    /// Runs our own SQL, which may do what an application's may not.
    pub(crate) fn trusted<T>(&self, work: impl FnOnce(&Connection) -> T) -> T {
        struct Trusted<'a>(&'a Guard);
        impl Drop for Trusted<'_> {
            fn drop(&mut self) {
                self.0.set_trusted(false);
            }
        }
        self.guard.set_trusted(true);
        let _until_done = Trusted(&self.guard);
        work(&self.connection)
    }

    /// Runs one of our own statements without result, compiled once. No clock runs for it.
    pub(crate) fn own(&self, sql: &str) -> rusqlite::Result<()> {
        self.rests();
        self.trusted(|connection| connection.prepare_cached(sql)?.raw_execute().map(|_| ()))
    }

    /// Lets the database grow by `bytes` from here on. Returns how large it is, in bytes.
    pub(crate) fn let_grow(&self, bytes: u64) -> rusqlite::Result<u64> {
        let Room { page, is_short } = &self.room;
        self.trusted(|connection| {
            let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
            let now = ask("PRAGMA page_count")?;
            let more = i64::try_from(bytes).unwrap_or(i64::MAX) / page;
            let (most, pages) = (DATABASE / page, now.saturating_add(more));
            is_short.set(pages < most);
            ask(&format!("PRAGMA max_page_count = {}", pages.min(most).max(1)))?;
            Ok(u64::try_from(now * page).unwrap_or(0))
        })
    }

    /// How large the file is, with its free pages, in bytes.
    pub(crate) fn file_size(&self) -> rusqlite::Result<u64> {
        let pages = self.trusted(|c| c.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)))?;
        Ok(u64::try_from(pages * self.room.page).unwrap_or(0))
    }

    /// Whether the database is so near its largest size that this, not the disk, must be why it is full.
    pub(crate) fn at_capacity(&self) -> bool {
        if self.room.is_short.get() {
            return true;
        }
        self.trusted(|connection| {
            let ask = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            matches!((ask("page_count"), ask("max_page_count")), (Ok(now), Ok(most)) if now >= most / 20 * 19)
        })
    }

    /// Bytes of the file that hold data: free pages are not counted, as the engine does not.
    pub(crate) fn size(&self) -> rusqlite::Result<i64> {
        self.trusted(|connection| {
            let ask = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
            Ok((ask("PRAGMA page_count")? - ask("PRAGMA freelist_count")?) * ask("PRAGMA page_size")?)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const LONG: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 400000) SELECT count(*) FROM n";

    #[test]
    fn what_we_do_ourselves_takes_no_turn_and_has_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let session = Session::writer(&folder.path().join("db.sqlite")).unwrap();
        let session = Session { query_time: Duration::from_secs(9), ..session };
        let has_turn = || session.timer.has_turn.load(Ordering::Relaxed);
        let count = |connection: &Connection| connection.query_row(LONG, [], |row| row.get::<_, i64>(0));
        session.start_timer(Patience::Full);
        assert_eq!(count(&session.connection).unwrap(), 400_000);
        assert!(has_turn(), "an application's statement of this length computes in turns");
        session.own("SAVEPOINT s").unwrap();
        assert!(!has_turn(), "it is over");
        let exempt = session.exempt();
        session.start_timer(Patience::Full);
        assert_eq!(count(&session.connection).unwrap(), 400_000);
        assert!(!has_turn(), "it has another turn");
        drop(exempt);
        session.start_timer(Patience::Full);
        assert_eq!(count(&session.connection).unwrap(), 400_000);
        assert!(has_turn());
        session.rests();
        let session = Session { query_time: Duration::ZERO, ..session };
        let has_turn = || session.timer.has_turn.load(Ordering::Relaxed);
        session.start_timer(Patience::Full);
        assert!(count(&session.connection).is_err(), "its time is up at once");
        session.own("RELEASE s").unwrap();
        assert_eq!(session.trusted(count).unwrap(), 400_000);
        assert!(!has_turn(), "nobody would give it back");
    }
}
