//! What is deployed. Today: which Durable Object namespace belongs to which class of which script.
//!
//! A class name in a configuration is only a label; the namespace behind it has a key of its own, on which
//! object ids and files hang. Migrations move labels; this ledger remembers the keys. It does not know
//! where the files are, nor what runs.
//!
//! Entry point: [`Catalog`].

mod migrations;

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Transaction;
use skep_store::{Database, Schema, StoreError};

use migrations::apply;
pub use migrations::{Change, Migration};

const SCHEMA: Schema = Schema(&["
    CREATE TABLE namespace(
        unique_key TEXT PRIMARY KEY, script TEXT NOT NULL, class TEXT NOT NULL, sqlite INTEGER NOT NULL,
        UNIQUE(script, class)) STRICT, WITHOUT ROWID;
    CREATE TABLE migration_tag(script TEXT PRIMARY KEY, tag TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE doomed(unique_key TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
"]);

/// The ledger of what is deployed.
#[derive(Debug)]
pub struct Catalog {
    db: Database,
}

/// A Durable Object namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its identity, for ever.
    pub unique_key: String,
    /// Whether its objects have the SQL API.
    pub sqlite: bool,
}

/// Why a set of migrations was refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The migrations do not fit what is there. Texts follow Cloudflare's.
    #[error("{0}")]
    Migration(String),
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for CatalogError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Catalog {
    /// Opens or creates the ledger in the file at `path`.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        Ok(Self { db: Database::open(path, SCHEMA)? })
    }

    /// The tag of the last migration applied to `script`.
    pub fn migration_tag(&self, script: &str) -> Result<Option<String>, CatalogError> {
        self.db.read(|c| {
            let mut query = c.prepare_cached("SELECT tag FROM migration_tag WHERE script = ?")?;
            let mut rows = query.query([script])?;
            Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
        })
    }

    /// Applies `migrations` that follow the last applied tag, all or none.
    pub async fn migrate(&self, script: &str, migrations: Vec<Migration>) -> Result<(), CatalogError> {
        let script = script.to_owned();
        let outcome = self
            .db
            .write(move |t| match apply(t, &script, &migrations) {
                Ok(()) => Ok(Ok(())),
                // An `Err` here makes the writer undo what was done so far.
                Err(CatalogError::Store(error)) => Err(error),
                Err(CatalogError::Migration(text)) => {
                    Err(StoreError::Sqlite(rusqlite::Error::InvalidParameterName(text)))
                }
            })
            .await;
        match outcome {
            Ok(result) => result,
            Err(StoreError::Sqlite(rusqlite::Error::InvalidParameterName(text))) => {
                Err(CatalogError::Migration(text))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The namespaces of `script`, by class.
    pub fn namespaces(&self, script: &str) -> Result<BTreeMap<String, Namespace>, CatalogError> {
        self.db.read(|c| {
            let mut query =
                c.prepare_cached("SELECT class, unique_key, sqlite FROM namespace WHERE script = ?")?;
            let rows = query.query_map([script], |row| {
                Ok((row.get(0)?, Namespace { unique_key: row.get(1)?, sqlite: row.get(2)? }))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Keys of deleted namespaces whose files are still to be removed.
    pub fn doomed(&self) -> Result<Vec<String>, CatalogError> {
        self.db.read(|c| {
            let mut query = c.prepare_cached("SELECT unique_key FROM doomed")?;
            let rows = query.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// To be called when the files of a doomed namespace are gone.
    pub async fn buried(&self, unique_key: &str) -> Result<(), CatalogError> {
        let key = unique_key.to_owned();
        Ok(self
            .db
            .write(move |t: &Transaction<'_>| {
                t.execute("DELETE FROM doomed WHERE unique_key = ?", [key])?;
                Ok(())
            })
            .await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(class: &str) -> Change {
        Change::New { class: class.into(), sqlite: true }
    }

    fn step(tag: &str, changes: Vec<Change>) -> Migration {
        Migration { tag: Some(tag.into()), changes }
    }

    #[tokio::test]
    async fn a_renamed_class_keeps_its_objects_and_frees_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        catalog.migrate("s", vec![step("v1", vec![new("A")])]).await.unwrap();
        let key = catalog.namespaces("s").unwrap()["A"].unique_key.clone();
        assert_eq!(key, "s-A");
        let rename = Change::Rename { from: "A".into(), to: "B".into() };
        catalog.migrate("s", vec![step("v2", vec![rename]), step("v3", vec![new("A")])]).await.unwrap();
        let namespaces = catalog.namespaces("s").unwrap();
        assert_eq!(namespaces["B"].unique_key, key);
        assert_ne!(namespaces["A"].unique_key, key);
        assert_eq!(catalog.migration_tag("s").unwrap().as_deref(), Some("v3"));
    }

    #[tokio::test]
    async fn a_refused_set_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        let wrong = Change::Delete { class: "Nope".into() };
        let error = catalog.migrate("s", vec![step("v1", vec![new("A"), wrong])]).await.unwrap_err();
        assert!(error.to_string().contains("Nope"), "{error}");
        assert!(catalog.namespaces("s").unwrap().is_empty());
        assert_eq!(catalog.migration_tag("s").unwrap(), None);
    }

    #[tokio::test]
    async fn deleted_objects_are_doomed_until_buried_and_transfers_keep_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        catalog.migrate("s", vec![step("v1", vec![new("A"), new("B")])]).await.unwrap();
        let transfer = Change::Transfer { from: "A".into(), from_script: "s".into(), to: "C".into() };
        catalog.migrate("t", vec![step("v1", vec![transfer])]).await.unwrap();
        assert_eq!(catalog.namespaces("t").unwrap()["C"].unique_key, "s-A");
        let delete = Change::Delete { class: "B".into() };
        catalog.migrate("s", vec![step("v2", vec![delete])]).await.unwrap();
        assert_eq!(catalog.doomed().unwrap(), ["s-B"]);
        catalog.buried("s-B").await.unwrap();
        assert!(catalog.doomed().unwrap().is_empty());
        assert!(catalog.namespaces("s").unwrap().is_empty());
    }
}
