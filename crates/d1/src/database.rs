//! One database: which thread runs a call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use skep_runtime::Backlog;
use skep_store::{Sleeper, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::apart::{Job, Place};
use crate::bookmark::{self, Bookmarks};
use crate::error::D1Error;
use crate::held::{BEFORE, Output};
use crate::history::TimeTravelError;
use crate::opened::{Opened, Opening};
use crate::request::{ExportOptions, ResultsFormat, Statement, without_comments};
use crate::run::{Stop, may_read};
use crate::session::Patience;
use crate::writer::Body;

/// Statements of a call that may run on the caller's thread, each at least some microseconds.
const INLINE_STATEMENTS: usize = 100;
/// Bytes of SQL that are looked at there.
const INLINE_SQL: usize = 64 << 10;
/// Long queries of one database at a time; further ones wait. Cloudflare runs one.
const LONG_QUERIES: usize = 2;

/// A D1 database. Calls may come from any thread; what is acknowledged is on the disk.
///
/// While nobody uses it, it sleeps (`skep_store`): no thread, no open file. The next call opens it again.
#[derive(Debug)]
pub struct D1Database {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    opening: Opening,
    long: Arc<Semaphore>,
    /// The place that the database has whatever others do: who has many databases would otherwise keep everybody else's waiting.
    own: Arc<Semaphore>,
    /// One copy at a time is on the disk until it is sent.
    copies: Arc<Semaphore>,
    /// What its results take until they are sent.
    results: Arc<Backlog>,
    /// By which others know it.
    number: u64,
    opened: Mutex<Option<Arc<Opened>>>,
    /// When it was last used.
    used: AtomicU64,
    bookmarks: Mutex<Arc<Bookmarks>>,
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
    pub(crate) fn open(opening: Opening) -> Result<Self, StoreError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let results = Backlog::new(opening.all_results.clone());
        let opened = Arc::new(Opened::new(&opening, &results, number, true)?);
        let core = Arc::new(Core {
            opening,
            results,
            copies: Arc::new(Semaphore::new(1)),
            long: Arc::new(Semaphore::new(LONG_QUERIES)),
            own: Arc::new(Semaphore::new(1)),
            number,
            bookmarks: Mutex::new(opened.shared.bookmarks.clone()),
            opened: Mutex::new(Some(opened)),
            used: AtomicU64::new(skep_store::now()),
        });
        let sleeper: Weak<Core> = Arc::downgrade(&core);
        skep_store::has_woken(sleeper);
        Ok(Self { core })
    }

    /// By which those who take turns know it.
    pub(crate) fn who(&self) -> u64 {
        self.core.number
    }

    /// Runs statements as one transaction: all of them or, if one fails, none. The result is the JSON array
    /// that the engine's client reads, one object per statement.
    ///
    /// Short reads run on the calling thread; nothing blocks it for longer than about a millisecond.
    pub async fn run(&self, statements: Vec<Statement>, format: ResultsFormat) -> Result<Bytes, D1Error> {
        self.output(statements, format).await.map(Output::into_bytes)
    }

    async fn output(&self, statements: Vec<Statement>, format: ResultsFormat) -> Body {
        let length: usize = statements.iter().map(|statement| statement.sql.len()).sum();
        let is_long = statements.len() > INLINE_STATEMENTS || length > INLINE_SQL;
        let sort = move || {
            let statements = without_comments(statements)?;
            let reads = statements.iter().all(|statement| may_read(&statement.sql));
            Ok::<_, D1Error>((statements, reads))
        };
        let (statements, reads) = match is_long {
            false => sort()?,
            true => {
                let sorted = tokio::task::spawn_blocking(sort).await;
                sorted.map_err(|error| D1Error::new(error.to_string()))??
            }
        };
        let opened = self.core.awake().await?;
        if !reads {
            return opened.writer.run(statements, format).await;
        }
        if statements.len() > INLINE_STATEMENTS {
            return self.run_long(opened, statements, format).await;
        }
        match opened.read(&statements, format, Patience::Inline) {
            Ok(body) => Ok(body),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::NeedsWriter) => opened.writer.run(statements, format).await,
            Err(Stop::TooLong) => self.run_long(opened, statements, format).await,
            Err(Stop::Apart) => self.run_apart(opened, statements, format).await,
        }
    }

    async fn run_long(&self, opened: Arc<Opened>, statements: Vec<Statement>, format: ResultsFormat) -> Body {
        let result = self
            .on_blocking_thread(opened.clone(), move |opened| {
                match opened.read(&statements, format, Patience::Full) {
                    Ok(body) => Ok(Ok(body)),
                    Err(Stop::Failed(error)) => Err(error),
                    Err(stop) => Ok(Err((stop, statements))),
                }
            })
            .await?;
        match result {
            Ok(body) => Ok(body),
            Err((Stop::Apart, statements)) => self.run_apart(opened, statements, format).await,
            // The schema changed in between: what was a table of ours is now something else.
            Err((_, statements)) => opened.writer.run(statements, format).await,
        }
    }

    /// What searches full-text indexes.
    async fn run_apart(
        &self,
        opened: Arc<Opened>,
        statements: Vec<Statement>,
        format: ResultsFormat,
    ) -> Body {
        let (core, shared) = (&self.core, &opened.shared);
        let apart = core.opening.apart.as_ref().ok_or_else(D1Error::closed)?;
        let _permit = core.long.acquire().await.map_err(|_| D1Error::closed())?;
        shared.results.ready(BEFORE).await;
        let file = Place { file: &shared.path, keeps_log: shared.history.is_some() };
        let job = Job::new(&statements, format, shared.facts());
        match opened.searcher.ask(apart, file, &job, &shared.results).await {
            Ok(body) => Ok(body),
            Err(Stop::Failed(error)) => Err(error),
            Err(_) => opened.writer.run(statements, format).await,
        }
    }

    /// The database as lines of SQL, as the reply's body.
    pub(crate) async fn export(&self, options: ExportOptions) -> Result<Vec<u8>, D1Error> {
        self.on_blocking_thread(self.core.awake().await?, move |opened| {
            opened.with_reader(|session| {
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
        let join = move || {
            let exported = serde_json::from_slice(&body);
            let Exported { results: [lines] } = exported.map_err(|error| D1Error::new(error.to_string()))?;
            Ok(lines.join("\n") + "\n")
        };
        let joined = tokio::task::spawn_blocking(join).await;
        joined.map_err(|error| D1Error::new(error.to_string()))?
    }

    /// A consistent copy of the database as a SQLite file. The file has no name and is gone once closed; the next one is made then.
    pub(crate) async fn dump(&self) -> Result<(std::fs::File, OwnedSemaphorePermit), D1Error> {
        let copy = self.core.copies.clone().acquire_owned().await.map_err(|_| D1Error::closed())?;
        let file = self.on_blocking_thread(self.core.awake().await?, |opened| {
            opened.with_reader(|session| crate::export::copy(session, &opened.shared.path))
        });
        Ok((file.await?, copy))
    }

    /// The bookmark of everything acknowledged by now.
    pub fn bookmark(&self) -> String {
        self.core.bookmarks().now()
    }

    /// The bookmark of the present state, or of the one that was present at `at_ms`, in milliseconds since 1970: one
    /// that can be gone back to.
    pub async fn bookmark_at(&self, at_ms: Option<u64>) -> Result<String, TimeTravelError> {
        let opened = self.core.awake().await.map_err(failed)?;
        on_its_own_thread(move || {
            let shared = &opened.shared;
            let mut history = shared.history().ok_or(TimeTravelError::Off)?;
            history.begin();
            shared.mark(&history);
            let (era, _) = history.now().ok_or(TimeTravelError::Off)?;
            match at_ms {
                None => Ok(shared.bookmarks.now()),
                Some(ms) => Ok(shared.bookmarks.of(bookmark::Place { era, commits: history.at(ms)? })),
            }
        })
        .await
    }

    /// Makes the state that a bookmark names the present one, in one transaction that counts as any other.
    pub async fn restore(&self, bookmark: &str) -> Result<Restored, TimeTravelError> {
        let (opened, asked) = (self.core.awake().await.map_err(failed)?, bookmark.to_owned());
        let held = opened.clone();
        let (commits, previous) = on_its_own_thread(move || {
            let shared = &held.shared;
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
        opened.writer.go_back(commits).await?;
        Ok(Restored { previous, bookmark: self.bookmark() })
    }

    /// Stores what history knows, which one that sleeps has done. Blocking; the caller holds the gate.
    pub(crate) fn settle(&self) {
        let opened = self.core.opened().clone();
        if let Some(mut history) = opened.as_ref().and_then(|opened| opened.shared.history()) {
            history.settle();
        }
    }

    async fn on_blocking_thread<T: Send + 'static>(
        &self,
        opened: Arc<Opened>,
        work: impl FnOnce(&Opened) -> Result<T, D1Error> + Send + 'static,
    ) -> Result<T, D1Error> {
        let core = &self.core;
        let permit = core.long.clone().acquire_owned().await.map_err(|_| D1Error::closed())?;
        core.results.ready(BEFORE).await;
        let seat = tokio::select! {
            biased;
            own = core.own.clone().acquire_owned() => own,
            other = core.opening.all_long.clone().acquire_owned() => other,
        };
        let seat = seat.map_err(|_| D1Error::closed())?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work(&opened);
            drop(opened);
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

fn failed(error: D1Error) -> TimeTravelError {
    TimeTravelError::Failed(error.to_string())
}

impl Core {
    fn opened(&self) -> MutexGuard<'_, Option<Arc<Opened>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bookmarks(&self) -> Arc<Bookmarks> {
        self.bookmarks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The database, which is opened first if it sleeps: aside, for some milliseconds.
    async fn awake(self: &Arc<Self>) -> Result<Arc<Opened>, D1Error> {
        self.used.store(skep_store::now(), Ordering::Relaxed);
        if let Some(opened) = self.opened.try_lock().ok().and_then(|opened| opened.clone()) {
            return Ok(opened);
        }
        let this = self.clone();
        let woken = tokio::task::spawn_blocking(move || this.wake()).await;
        woken.map_err(|_| D1Error::closed())?.map_err(|error| {
            tracing::error!(%error, database = self.opening.id, "a D1 database cannot be opened again");
            D1Error::new(error.outside())
        })
    }

    fn wake(self: Arc<Self>) -> Result<Arc<Opened>, StoreError> {
        let mut opened = self.opened();
        if let Some(opened) = &*opened {
            return Ok(opened.clone());
        }
        let woken = Arc::new(Opened::new(&self.opening, &self.results, self.number, false)?);
        *self.bookmarks.lock().unwrap_or_else(PoisonError::into_inner) = woken.shared.bookmarks.clone();
        *opened = Some(woken.clone());
        let sleeper: Weak<Self> = Arc::downgrade(&self);
        skep_store::has_woken(sleeper);
        Ok(woken)
    }
}

impl Sleeper for Core {
    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn is_awake(&self) -> bool {
        // Who is being opened or asked right now is.
        self.opened.try_lock().map_or(true, |opened| opened.is_some())
    }

    fn sleep(&self) -> bool {
        let Ok(mut opened) = self.opened.try_lock() else { return false };
        match opened.take().map(Arc::try_unwrap) {
            None => true,
            Some(Err(in_use)) => {
                *opened = Some(in_use);
                false
            }
            // Closing waits for what was queued by callers that have gone, and for the disk.
            Some(Ok(unused)) => {
                let thread = std::thread::Builder::new().name("close d1".into());
                thread.spawn(move || drop(unused)).is_ok()
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::AtomicBool;

    use std::path::Path;

    use super::*;
    use crate::history::Retention;
    use crate::store::{Claim, D1Store};
    use skep_runtime::Clock;

    async fn asked(database: &D1Database, sql: &str) -> Result<String, D1Error> {
        let statement = Statement { sql: sql.to_owned(), params: Vec::new() };
        let answer = database.run(vec![statement], ResultsFormat::Objects).await?;
        Ok(String::from_utf8(answer.to_vec()).unwrap())
    }

    /// With and without a history.
    fn stores(dir: &Path) -> [D1Store; 2] {
        let kept = D1Store::open_with_history(&dir.join("kept"), Retention::default(), Clock::system());
        [kept.unwrap(), D1Store::open(&dir.join("plain")).unwrap()]
    }

    #[tokio::test]
    async fn who_sleeps_has_nothing_open_and_wakes_up_when_it_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let is_open = || {
            let files = std::fs::read_dir("/proc/self/fd").unwrap();
            files
                .flatten()
                .any(|file| std::fs::read_link(file.path()).is_ok_and(|open| open.starts_with(&dir)))
        };
        for store in stores(dir.path()) {
            let database = store.database("a").unwrap();
            asked(&database, "CREATE TABLE t (a)").await.unwrap();
            let mut last = database.bookmark();
            for n in 0..5 {
                assert!(database.core.sleep() && !database.core.is_awake());
                // Closed at the latest when the next one may open it.
                drop(Claim::take(&database.core.opening.claims, "a"));
                assert!(!is_open());
                assert_eq!(database.bookmark(), last, "it is known while it sleeps");
                asked(&database, &format!("INSERT INTO t VALUES ({n})")).await.unwrap();
                let counted = asked(&database, "SELECT count(*) c FROM t").await.unwrap();
                assert!(counted.contains(&format!("{{\"c\":{}}}", n + 1)), "{counted}");
                assert!(database.bookmark() > last, "bookmarks go on");
                last = database.bookmark();
            }
        }
    }

    #[tokio::test]
    async fn what_it_was_before_it_slept_can_be_gone_back_to() {
        let dir = tempfile::tempdir().unwrap();
        let [store, _] = stores(dir.path());
        let database = store.database("a").unwrap();
        asked(&database, "CREATE TABLE t (a)").await.unwrap();
        let before = database.bookmark_at(None).await.unwrap();
        assert!(database.core.sleep());
        asked(&database, "INSERT INTO t VALUES (1)").await.unwrap();
        assert!(database.core.sleep());
        database.restore(&before).await.unwrap();
        let counted = asked(&database, "SELECT count(*) c FROM t").await.unwrap();
        assert!(counted.contains("{\"c\":0}"), "{counted}");
    }

    #[tokio::test]
    async fn nothing_is_lost_while_it_falls_asleep_all_the_time() {
        let dir = tempfile::tempdir().unwrap();
        for store in stores(dir.path()) {
            let database = store.database("a").unwrap();
            asked(&database, "CREATE TABLE t (a)").await.unwrap();
            let over = Arc::new(AtomicBool::new(false));
            let (core, stop) = (database.core.clone(), over.clone());
            let sleeps = std::thread::spawn(move || {
                let mut slept = 0;
                while !stop.load(Ordering::SeqCst) || slept == 0 {
                    slept += usize::from(core.is_awake() && core.sleep());
                    std::thread::yield_now();
                }
            });
            for n in 1..60 {
                asked(&database, "INSERT INTO t VALUES (1)").await.unwrap();
                let counted = asked(&database, "SELECT count(*) c FROM t").await.unwrap();
                assert!(counted.contains(&format!("{{\"c\":{n}}}")), "{counted}");
            }
            over.store(true, Ordering::SeqCst);
            sleeps.join().unwrap();
        }
    }

    #[tokio::test]
    async fn what_was_removed_while_it_slept_stays_removed() {
        let dir = tempfile::tempdir().unwrap();
        let [_, store] = stores(dir.path());
        let database = store.database("a").unwrap();
        asked(&database, "CREATE TABLE t (a)").await.unwrap();
        assert!(database.core.sleep());
        drop(Claim::take(&database.core.opening.claims, "a"));
        store.remove("a").unwrap();
        assert!(asked(&database, "SELECT 1").await.is_err());
        assert!(!dir.path().join("plain/a.sqlite").exists());
    }
}
