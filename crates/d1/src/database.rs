//! One database: which thread runs a call.

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use skep_store::{Quota, StoreError};
use tokio::sync::Semaphore;

use crate::bookmark::{Bookmarks, Place};
use crate::error::D1Error;
use crate::gate::Gate;
use crate::held::Output;
use crate::history::{History, Keeping, TimeTravelError};
use crate::plan::Plans;
use crate::request::{ExportOptions, ResultsFormat, Statement, without_comments};
use crate::run::{Effects, Runner, Stop, may_read};
use crate::session::{Patience, Session};
use crate::store::Claim;
use crate::writer::{Body, Shared, Writer};

/// `application_id` of our files: "Sk", then the format's version.
const MAGIC: i64 = 0x536b_0000;
/// The newest format of a file.
const FORMAT: i64 = 1;
/// Reading connections kept for reuse; more may exist for a moment under load.
const IDLE_READERS: usize = 4;
/// Statements of a call that may run on the caller's thread, each at least some microseconds.
const INLINE_STATEMENTS: usize = 100;
/// Long queries of one database at a time; further ones wait. Cloudflare runs one.
const LONG_QUERIES: usize = 2;

/// A D1 database. Calls may come from any thread; what is acknowledged is on the disk.
#[derive(Debug)]
pub struct D1Database {
    inner: Arc<Inner>,
    writer: Writer,
    // Dropped last: the next one to open the file waits for it.
    _claim: Claim,
}

#[derive(Debug)]
struct Inner {
    readers: Mutex<Vec<Session>>,
    long: Arc<Semaphore>,
    /// The place that the database has whatever others do: who has many databases would otherwise keep everybody else's waiting.
    own: Arc<Semaphore>,
    /// Further places, for all databases of the store.
    all_long: Arc<Semaphore>,
    /// By which others know it.
    number: u64,
    /// After the readers: it has the database's file open, and closing that would drop SQLite's locks.
    shared: Arc<Shared>,
}

/// The outcome of going back in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The state before: going back to it undoes this.
    pub previous: String,
    /// The state after.
    pub bookmark: String,
}

impl D1Database {
    /// Opens or creates the file of a database. Blocking.
    pub(crate) fn open(
        path: &Path,
        id: &str,
        keeping: Option<&Keeping>,
        gate: Arc<Gate>,
        quota: Arc<Quota>,
        all_long: Arc<Semaphore>,
        claim: Claim,
    ) -> Result<Self, StoreError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let session = Session::writer(path)?;
        session.belongs_to(number);
        let (opening, stamp) = next_opening(&session, path)?;
        let history = match keeping {
            Some(keeping) => {
                session.keep_log()?;
                Some(History::open(path, keeping.clone())?)
            }
            None => {
                crate::history::remove(path).map_err(|e| StoreError::io("cannot remove history", e))?;
                None
            }
        };
        // A history that has not begun yet begins later than this.
        let since =
            keeping.map_or(opening, |keeping| u32::try_from(keeping.clock.now_secs()).unwrap_or(u32::MAX));
        let now = history.as_ref().and_then(History::now).unwrap_or((since, 0));
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            plans: Plans::default(),
            bookmarks: Bookmarks::new(id, Place { era: now.0, commits: now.1 }),
            history: history.map(Mutex::new),
            gate,
            quota,
            last_row_id: AtomicI64::new(0),
            size: AtomicI64::new(session.size()?),
        });
        let writer = Writer::start(session, shared.clone(), stamp)
            .map_err(|e| StoreError::io("cannot start a D1 writer thread", e))?;
        let long = Arc::new(Semaphore::new(LONG_QUERIES));
        let own = Arc::new(Semaphore::new(1));
        let inner = Inner { readers: Mutex::default(), long, own, all_long, number, shared };
        Ok(Self { inner: Arc::new(inner), writer, _claim: claim })
    }

    /// Runs statements as one transaction: all of them or, if one fails, none. The result is the JSON array
    /// that the engine's client reads, one object per statement.
    ///
    /// Short reads run on the calling thread; nothing blocks it for longer than about a millisecond.
    pub async fn run(&self, statements: Vec<Statement>, format: ResultsFormat) -> Result<Bytes, D1Error> {
        self.output(statements, format).await.map(Output::into_bytes)
    }

    async fn output(&self, statements: Vec<Statement>, format: ResultsFormat) -> Body {
        let statements = without_comments(statements)?;
        if !statements.iter().all(|statement| may_read(&statement.sql)) {
            return self.writer.run(statements, format).await;
        }
        if statements.len() > INLINE_STATEMENTS {
            return self.run_long(statements, format).await;
        }
        match self.inner.read(&statements, format, Patience::Inline) {
            Ok(body) => Ok(body),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::NeedsWriter) => self.writer.run(statements, format).await,
            Err(Stop::TooLong) => self.run_long(statements, format).await,
        }
    }

    async fn run_long(&self, statements: Vec<Statement>, format: ResultsFormat) -> Body {
        let result = self
            .on_blocking_thread(move |inner| {
                match inner.read(&statements, format, Patience::Full) {
                    Ok(body) => Ok(Ok(body)),
                    Err(Stop::Failed(error)) => Err(error),
                    // The schema changed in between: what was a table of ours is now something else.
                    Err(Stop::NeedsWriter | Stop::TooLong) => Ok(Err(statements)),
                }
            })
            .await?;
        match result {
            Ok(body) => Ok(body),
            Err(statements) => self.writer.run(statements, format).await,
        }
    }

    /// The database as lines of SQL, as the reply's body.
    pub(crate) async fn export(&self, options: ExportOptions) -> Result<Vec<u8>, D1Error> {
        self.on_blocking_thread(move |inner| {
            inner.with_reader(|session| {
                session.start_timer(Patience::Full);
                session.trusted(|connection| crate::export::export(connection, &options))
            })
        })
        .await
    }

    /// The database as SQL, in the form of SQLite's `.dump`.
    pub async fn export_sql(
        &self,
        no_schema: bool,
        no_data: bool,
        tables: Vec<String>,
    ) -> Result<String, D1Error> {
        #[derive(serde::Deserialize)]
        struct Exported {
            results: [Vec<String>; 1],
        }
        let body = self.export(ExportOptions { no_schema, no_data, tables }).await?;
        let Exported { results: [lines] } =
            serde_json::from_slice(&body).map_err(|error| D1Error::new(error.to_string()))?;
        Ok(lines.join("\n") + "\n")
    }

    /// A consistent copy of the database as a SQLite file. The file has no name and is gone once closed.
    pub(crate) async fn dump(&self) -> Result<std::fs::File, D1Error> {
        self.on_blocking_thread(|inner| {
            inner.with_reader(|session| crate::export::copy(session, &inner.shared.path))
        })
        .await
    }

    /// The bookmark of everything acknowledged by now.
    pub fn bookmark(&self) -> String {
        self.inner.shared.bookmarks.now()
    }

    /// The bookmark of the present state, or of the one that was present at `at_ms`, in milliseconds since 1970: one
    /// that can be gone back to.
    pub async fn bookmark_at(&self, at_ms: Option<u64>) -> Result<String, TimeTravelError> {
        let shared = self.inner.shared.clone();
        on_its_own_thread(move || {
            let mut history = shared.history().ok_or(TimeTravelError::Off)?;
            history.begin();
            shared.mark(&history);
            let (era, _) = history.now().ok_or(TimeTravelError::Off)?;
            match at_ms {
                None => Ok(shared.bookmarks.now()),
                Some(ms) => Ok(shared.bookmarks.of(Place { era, commits: history.at(ms)? })),
            }
        })
        .await
    }

    /// Makes the state that a bookmark names the present one, in one transaction that counts as any other.
    pub async fn restore(&self, bookmark: &str) -> Result<Restored, TimeTravelError> {
        let (shared, asked) = (self.inner.shared.clone(), bookmark.to_owned());
        let (commits, previous) = on_its_own_thread(move || {
            let history = shared.history().ok_or(TimeTravelError::Off)?;
            let invalid = || TimeTravelError::Invalid(asked.clone());
            let place = shared.bookmarks.parse(&asked).ok_or_else(invalid)?;
            match history.now() {
                Some((era, _)) if era == place.era => history.reaches(place.commits, &asked)?,
                _ => return Err(invalid()),
            }
            Ok((place.commits, shared.bookmarks.now()))
        })
        .await?;
        self.writer.go_back(commits).await?;
        Ok(Restored { previous, bookmark: self.bookmark() })
    }

    /// Stores what history knows. Blocking; the caller holds the gate.
    pub(crate) fn settle(&self) {
        if let Some(mut history) = self.inner.shared.history() {
            history.settle();
        }
    }

    async fn on_blocking_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, D1Error> + Send + 'static,
    ) -> Result<T, D1Error> {
        let inner = self.inner.clone();
        let permit = inner.long.clone().acquire_owned().await.map_err(|_| D1Error::closed())?;
        let seat = tokio::select! {
            biased;
            own = inner.own.clone().acquire_owned() => own,
            other = inner.all_long.clone().acquire_owned() => other,
        };
        let seat = seat.map_err(|_| D1Error::closed())?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work(&inner);
            drop((permit, seat));
            result
        });
        task.await.map_err(|_| D1Error::closed())?
    }
}

/// What blocks for some milliseconds.
async fn on_its_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TimeTravelError> + Send + 'static,
) -> Result<T, TimeTravelError> {
    let task = tokio::task::spawn_blocking(work);
    task.await.map_err(|_| TimeTravelError::Failed(D1Error::closed().to_string()))?
}

impl Inner {
    /// Runs a call on a connection that can only read; several statements see one state.
    fn read(
        &self,
        statements: &[Statement],
        format: ResultsFormat,
        patience: Patience,
    ) -> Result<Output, Stop> {
        self.with_reader(|session| {
            let mut runner = Runner {
                session,
                plans: &self.shared.plans,
                format,
                patience,
                writes: false,
                alone: statements.len() == 1,
                facts: self.shared.facts(),
                effects: Effects::default(),
            };
            if runner.alone {
                session.start_timer(patience);
                return runner.run(statements);
            }
            session.own("BEGIN")?;
            session.start_timer(patience);
            let result = runner.run(statements);
            session.own("COMMIT")?;
            result
        })
    }

    /// Lends a connection. One that is left inside a transaction is not lent again.
    fn with_reader<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, E>,
    ) -> Result<T, E> {
        let idle = self.idle().pop();
        let session = match idle {
            Some(session) => session,
            None => self.new_reader()?,
        };
        let result = work(&session);
        session.rests();
        if session.connection.is_autocommit() {
            let mut idle = self.idle();
            if idle.len() < IDLE_READERS {
                idle.push(session);
            }
        }
        result
    }

    fn new_reader(&self) -> rusqlite::Result<Session> {
        let session = Session::reader(&self.shared.path)?;
        session.belongs_to(self.number);
        if self.shared.history.is_some() {
            session.keep_log()?;
        }
        Ok(session)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of this opening, which bookmarks begin with, and what marks the file with it and with the
/// format's version. The first write does that: opening a file writes nothing, so that a full disk can be read.
fn next_opening(session: &Session, path: &Path) -> Result<(u32, String), StoreError> {
    session.trusted(|connection| {
        let ask = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let found = ask("application_id")?;
        if found & !0xffff == MAGIC && found - MAGIC > FORMAT {
            return Err(StoreError::TooNew { path: path.to_owned(), found: found - MAGIC, known: FORMAT });
        }
        let opening = (ask("user_version")? as u32).wrapping_add(1);
        let (format, count) = (MAGIC | FORMAT, opening as i32);
        Ok((opening, format!("PRAGMA application_id = {format}; PRAGMA user_version = {count}")))
    })
}
