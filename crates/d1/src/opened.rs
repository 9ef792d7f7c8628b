//! What a database has while it is open.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex};

use skep_runtime::Backlog;
use skep_store::{Quota, StoreError};
use tokio::sync::Semaphore;

use crate::apart::{Searcher, Searchers};
use crate::bookmark::{Bookmarks, Place};
use crate::gate::Gate;
use crate::held::Output;
use crate::history::{History, Keeping};
use crate::plan::Plans;
use crate::readers::{Call, Readers};
use crate::request::{ResultsFormat, Statement};
use crate::run::{Searches, Stop};
use crate::session::{Patience, Session};
use crate::store::{Claim, Claims};
use crate::writer::{Shared, Stage, Writer};

/// `application_id` of our files: "Sk", then the format's version.
const MAGIC: i64 = 0x536b_0000;
/// The newest format of a file.
const FORMAT: i64 = 1;

/// How to open one.
#[derive(Debug)]
pub(crate) struct Opening {
    pub path: PathBuf,
    pub id: String,
    pub keeping: Option<Keeping>,
    pub gate: Arc<Gate>,
    pub quota: Arc<Quota>,
    /// By whom full-text indexes are searched.
    pub apart: Option<Arc<Searchers>>,
    /// Places of long queries, for all databases of the store.
    pub all_long: Arc<Semaphore>,
    /// What results of all databases of the store take until they are sent.
    pub all_results: Arc<AtomicUsize>,
    pub claims: Arc<Claims>,
}

/// What an open database takes. Whatever is under way holds it.
#[derive(Debug)]
pub(crate) struct Opened {
    readers: Readers,
    pub searcher: Searcher,
    /// How calls that only read search full-text indexes.
    searches: Searches<'static>,
    number: u64,
    /// Before what is shared: its thread has a connection, too.
    pub writer: Writer,
    /// After the readers: it has the database's file open, and closing that would drop SQLite's locks.
    pub shared: Arc<Shared>,
    // Dropped last: the next one to open the file waits for it.
    _claim: Claim,
}

impl Opened {
    /// Opens the file, and creates it if `create` is set. Blocking.
    pub fn new(
        opening: &Opening,
        results: &Arc<Backlog>,
        number: u64,
        create: bool,
    ) -> Result<Self, StoreError> {
        let Opening { path, id, keeping, gate, quota, claims, apart, .. } = opening;
        let claim = Claim::take(claims, id);
        if !create && !path.exists() {
            // What was removed meanwhile stays removed.
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(StoreError::io(format!("cannot open {}", path.display()), error));
        }
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
        let since = keeping
            .as_ref()
            .map_or(opening, |keeping| u32::try_from(keeping.clock.now_secs()).unwrap_or(u32::MAX));
        let now = history.as_ref().and_then(History::now).unwrap_or((since, 0));
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            plans: Plans::default(),
            bookmarks: Arc::new(Bookmarks::new(id, Place { era: now.0, commits: now.1 })),
            history: history.map(Mutex::new),
            gate: gate.clone(),
            quota: quota.clone(),
            results: results.clone(),
            last_row_id: AtomicI64::new(0),
            size: AtomicI64::new(session.size()?),
            stage: Stage::default(),
        });
        let writer = Writer::start(session, shared.clone(), stamp)
            .map_err(|e| StoreError::io("cannot start a D1 writer thread", e))?;
        let searches = if apart.is_some() { Searches::Apart } else { Searches::Here };
        Ok(Self {
            readers: Readers::default(),
            searcher: Searcher::default(),
            searches,
            number,
            writer,
            shared,
            _claim: claim,
        })
    }

    /// Runs a call on a connection that can only read; several statements see one state.
    pub fn read(
        &self,
        statements: &[Statement],
        format: ResultsFormat,
        patience: Patience,
    ) -> Result<Output, Stop> {
        let call = Call {
            statements,
            format,
            patience,
            searches: self.searches,
            begins: &|| (),
            plans: &self.shared.plans,
            facts: self.shared.facts(),
            results: &self.shared.results,
        };
        self.with_reader(|session| call.run(session))
    }

    /// Lends a connection that can only read.
    pub fn with_reader<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, E>,
    ) -> Result<T, E> {
        self.readers.lend(|| self.new_reader(), work)
    }

    fn new_reader(&self) -> rusqlite::Result<Session> {
        let session = Session::reader(&self.shared.path)?;
        session.belongs_to(self.number);
        if self.shared.history.is_some() {
            session.keep_log()?;
        }
        Ok(session)
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
