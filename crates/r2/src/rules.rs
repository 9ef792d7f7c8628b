//! The rules of a bucket: kept in its file, and in memory while it is open.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_store::{Database, StoreError};

use crate::bucket::{Bucket, FILE};
use crate::cors::{self, CorsRule};
use crate::lifecycle::{self, LifecycleRule};
use crate::lock::{self, LockRule};
use crate::{R2Error, limits};

/// Rules of one kind, at most.
pub const MAX_RULES: usize = 1000;
/// Longest id of a rule, in bytes. Cloudflare says none.
const MAX_ID: usize = 255;

/// What is said of all objects of a bucket.
#[derive(Debug, Default)]
pub struct Rules {
    /// What must not be changed.
    pub locks: Vec<LockRule>,
    /// What becomes of what grows old. A bucket for which none were set has Cloudflare's rule for uploads.
    pub lifecycle: Vec<LifecycleRule>,
    /// Which pages of other origins may read it.
    pub cors: Vec<CorsRule>,
}

/// Why rules are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

/// Why rules were not kept.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// They are not such as a bucket can have.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// They could not be stored.
    #[error(transparent)]
    Store(#[from] R2Error),
}

/// The kinds, as rows.
const LOCK: &str = "lock";
const LIFECYCLE: &str = "lifecycle";
const CORS: &str = "cors";

/// The rules in effect. Changed by the thread that writes, so that no write that comes after it goes by older ones.
#[derive(Clone, Debug)]
pub(crate) struct InEffect(Arc<RwLock<Arc<Rules>>>);

impl InEffect {
    pub fn open(db: &Database) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(db.read(read)?)))))
    }

    pub fn get(&self) -> Arc<Rules> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, rules: Rules) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}

impl Rules {
    /// Whether an object that was stored at `uploaded` must not be changed.
    pub(crate) fn locked(&self, key: &str, uploaded: i64, now: i64) -> bool {
        lock::locked(&self.locks, key, uploaded, now)
    }
}

impl Bucket {
    /// The rules in effect.
    pub fn rules(&self) -> Arc<Rules> {
        self.core.rules.get()
    }

    /// Puts lock rules in the place of those that are there: in effect when this resolves.
    pub async fn set_locks(&self, rules: Vec<LockRule>) -> Result<(), RulesError> {
        lock::check(&rules)?;
        Ok(self.keep(LOCK, Some(&rules)).await?)
    }

    /// Puts lifecycle rules in the place of those that are there. They are followed by [`Bucket::sweep`].
    pub async fn set_lifecycle(&self, rules: Vec<LifecycleRule>) -> Result<(), RulesError> {
        lifecycle::check(&rules)?;
        Ok(self.keep(LIFECYCLE, Some(&rules)).await?)
    }

    /// Puts CORS rules in the place of those that are there.
    pub async fn set_cors(&self, rules: Vec<CorsRule>) -> Result<(), RulesError> {
        cors::check(&rules)?;
        Ok(self.keep(CORS, Some(&rules)).await?)
    }

    /// Keeps the rules of one kind, or forgets that there are any.
    async fn keep(&self, kind: &'static str, rules: Option<&impl Serialize>) -> Result<(), R2Error> {
        let text = rules.map(crate::rows::json).transpose()?;
        let core = self.core.clone();
        let in_effect = core.rules.clone();
        let write = move |t: &Transaction<'_>| {
            t.execute("DELETE FROM rules WHERE kind = ?1", [kind])?;
            if let Some(text) = text {
                t.execute("INSERT INTO rules(kind, rules) VALUES (?1, ?2)", [kind, &text])?;
            }
            in_effect.set(read(t)?);
            Ok(())
        };
        // To the end even when the caller is gone: what is in effect is what is stored.
        let task = tokio::spawn(async move {
            let written = core.db.write(write).await;
            if written.is_err() {
                core.rules.set(core.db.read(read)?);
            }
            written
        });
        task.await.map_err(|_| R2Error::internal())?.map_err(R2Error::from)
    }
}

fn read(c: &Connection) -> Result<Rules, StoreError> {
    let lifecycle = kind(c, LIFECYCLE)?.unwrap_or_else(|| vec![LifecycleRule::default_abort()]);
    let (locks, cors) = (kind(c, LOCK)?.unwrap_or_default(), kind(c, CORS)?.unwrap_or_default());
    Ok(Rules { locks, lifecycle, cors })
}

fn kind<T: DeserializeOwned>(c: &Connection, kind: &str) -> Result<Option<T>, StoreError> {
    let mut statement = c.prepare_cached("SELECT rules FROM rules WHERE kind = ?1")?;
    Ok(statement.query_row([kind], |row| crate::rows::from_json(row, 0)).optional()?)
}

/// What holds for all rules that have ids and prefixes.
pub(crate) fn check_list<'a>(
    rules: impl ExactSizeIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<(), Unfit> {
    if rules.len() > MAX_RULES {
        return Err(Unfit(format!("a bucket has at most {MAX_RULES} rules")));
    }
    let mut seen = HashSet::new();
    for (id, prefix) in rules {
        if id.is_empty() || id.len() > MAX_ID {
            return Err(Unfit(format!("the id of a rule has 1 to {MAX_ID} bytes")));
        }
        if !seen.insert(id) {
            return Err(Unfit(format!("there are two rules with the id \"{id}\"")));
        }
        if prefix.is_some_and(|prefix| prefix.len() > limits::MAX_KEY_BYTES) {
            return Err(Unfit(format!("rule \"{id}\": its prefix is longer than any key")));
        }
    }
    Ok(())
}

/// Whether the rules of a bucket that is not open may have something to do: whether it has uploads, or lifecycle rules
/// of its own. One that cannot be asked may.
pub(crate) fn may_have_work(dir: &Path) -> bool {
    let ask = || -> rusqlite::Result<bool> {
        let c = Connection::open_with_flags(dir.join(FILE), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let known: i64 = c.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let uploads = c.query_row("SELECT EXISTS(SELECT 1 FROM uploads)", [], |row| row.get(0))?;
        let sql = "SELECT EXISTS(SELECT 1 FROM rules WHERE kind = ?1 AND rules <> '[]')";
        Ok(uploads || known >= 2 && c.query_row(sql, [LIFECYCLE], |row| row.get(0))?)
    };
    ask().unwrap_or(true)
}

/// So many seconds after a moment, in milliseconds since 1970.
pub(crate) fn later(ms: i64, seconds: u64) -> i64 {
    i64::try_from(seconds).ok().and_then(|s| s.checked_mul(1000)).map_or(i64::MAX, |s| ms.saturating_add(s))
}
