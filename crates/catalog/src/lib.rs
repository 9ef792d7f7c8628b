//! What is deployed: scripts, versions, deployments, where they answer, the resources of an account; and which
//! Durable Object namespace belongs to which class of which script.
//!
//! One [`Catalog`] per account; the [`Registry`] beside them knows accounts and tokens. A class name in a
//! configuration is only a label; the namespace behind it has a key of its own, on which object ids and files
//! hang. Migrations move labels; this ledger remembers the keys. It does not know what runs, nor what is in a
//! bucket or a database.
//!
//! Entry points: [`Catalog`], [`Registry`].

mod bucket_domains;
mod claims;
mod content;
mod durations;
mod exports;
mod migrations;
mod publish;
mod registry;
mod reseal;
mod resources;
mod routes;
mod script;
mod seal;
mod secrets_store;
mod started;
#[cfg(test)]
mod tests;
mod transfers;
#[cfg(test)]
mod upgrades;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction};
use skep_store::{Database, Quota, Schema, StoreError};

pub use bucket_domains::BucketDomain;
pub use content::Stored;
pub use durations::duration_ms;
pub use exports::{Declared, Reconciled, Remark, Standing, reconcile};
pub use migrations::{Change, Migration};
use migrations::{apply, current_tag};
pub use publish::{MigrationSet, Publish, Published};
pub use registry::{Account, AuditEntry, Registry, Terms, Token};
pub use reseal::{Again, HYPERDRIVE_SEAL, Resealed};
pub use resources::{Kind, Resource};
pub use routes::{Domain, Route};
pub use script::{
    AssetsRef, Content, Deployment, Module, NamedHandlers, Origin, Schedule, Script, Settings, Version,
    name_within, split_name,
};
pub use seal::{SealError, Sealer};
pub use secrets_store::{MOST_STORED_SECRETS, MOST_STORES, STORED_SECRET_SEAL};
pub use started::Deployed;
pub use transfers::{Partner, Transfers};

const SCHEMA: Schema = Schema(&[
    "
    CREATE TABLE namespace(
        unique_key TEXT PRIMARY KEY, script TEXT NOT NULL, class TEXT NOT NULL, sqlite INTEGER NOT NULL,
        UNIQUE(script, class)) STRICT, WITHOUT ROWID;
    CREATE TABLE migration_tag(script TEXT PRIMARY KEY, tag TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE doomed(unique_key TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    ",
    "
    CREATE TABLE script(
        tag TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, modified INTEGER NOT NULL,
        settings TEXT NOT NULL, workers_dev INTEGER, previews INTEGER) STRICT, WITHOUT ROWID;
    CREATE TABLE version(
        id TEXT PRIMARY KEY, script TEXT NOT NULL, number INTEGER NOT NULL, created INTEGER NOT NULL,
        origin TEXT NOT NULL, annotations TEXT NOT NULL, content TEXT NOT NULL, UNIQUE(script, number)) STRICT;
    CREATE TABLE deployment(
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, script TEXT NOT NULL,
        created INTEGER NOT NULL, origin TEXT NOT NULL, annotations TEXT NOT NULL, versions TEXT NOT NULL) STRICT;
    CREATE INDEX deployment_script ON deployment(script, sequence);
    CREATE TABLE content(
        key TEXT PRIMARY KEY, blob TEXT NOT NULL, size INTEGER NOT NULL, content_type TEXT,
        touched INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE content_use(
        version TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY(version, key)) STRICT, WITHOUT ROWID;
    CREATE INDEX content_use_key ON content_use(key);
    CREATE TABLE route(
        id TEXT PRIMARY KEY, pattern TEXT NOT NULL UNIQUE, script TEXT, zone TEXT) STRICT, WITHOUT ROWID;
    CREATE TABLE domain(
        id TEXT PRIMARY KEY, hostname TEXT NOT NULL UNIQUE, script TEXT NOT NULL, zone TEXT NOT NULL,
        enabled INTEGER NOT NULL, previews INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE resource(
        kind TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, created INTEGER NOT NULL,
        settings TEXT NOT NULL, PRIMARY KEY(kind, id), UNIQUE(kind, name)) STRICT, WITHOUT ROWID;
    ",
    // Where a class was whose namespace another script has now: bindings to it lead there.
    "
    CREATE TABLE moved(
        script TEXT NOT NULL, class TEXT NOT NULL, unique_key TEXT NOT NULL,
        PRIMARY KEY(script, class)) STRICT, WITHOUT ROWID;
    ",
    "
    CREATE TABLE bucket_domain(
        hostname TEXT PRIMARY KEY, bucket TEXT NOT NULL, zone TEXT NOT NULL, enabled INTEGER NOT NULL,
        min_tls TEXT NOT NULL) STRICT, WITHOUT ROWID;
    ",
    // Classes that a script waits for, and which script is to give them away.
    "
    CREATE TABLE awaited(
        script TEXT NOT NULL, class TEXT NOT NULL, source TEXT NOT NULL,
        PRIMARY KEY(script, class), UNIQUE(source, class)) STRICT, WITHOUT ROWID;
    ",
]);

/// The ledger of what is deployed in one account.
#[derive(Debug)]
pub struct Catalog {
    db: Database,
    /// What the account may store; without one it may store what it likes.
    quota: Option<Arc<Quota>>,
}

/// A Durable Object namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its identity, for ever.
    pub unique_key: String,
    /// Whether its objects have the SQL API.
    pub sqlite: bool,
}

/// Why a change was refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The migrations do not fit what is there. Codes and texts follow Cloudflare's.
    #[error("{text}")]
    Migration {
        /// Cloudflare's code.
        code: u32,
        /// Cloudflare's text.
        text: String,
    },
    /// The migrations start from another tag than the script has. The text is Cloudflare's (10079).
    #[error(
        "Actor migration tag precondition failed, got tag '{}' when expected tag is '{}'",
        got.as_deref().unwrap_or_default(), expected.as_deref().unwrap_or_default()
    )]
    MigrationTag {
        /// What the caller said.
        got: Option<String>,
        /// What is stored.
        expected: Option<String>,
    },
    /// No script of that name.
    #[error("This Worker does not exist on your account.")]
    NoScript,
    /// No version of that id.
    #[error("the version {0} does not exist")]
    NoVersion(String),
    /// Another version was made in between.
    #[error("another version was uploaded meanwhile")]
    Overtaken,
    /// Something of that name or id is there.
    #[error("{0} already exists")]
    Exists(String),
    /// There are as many as may be.
    #[error("there are {0} already, which is the most")]
    Full(usize),
    /// A host name is another account's.
    #[error("{0} belongs to another account")]
    Taken(String),
    /// Something cannot be stored.
    #[error("cannot be stored: {0}")]
    Invalid(String),
    /// Never seen outside: undoes a rehearsal.
    #[error("a rehearsal")]
    Rehearsed(BTreeMap<String, Namespace>),
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for CatalogError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

pub(crate) fn namespaces_of(
    c: &Connection,
    script: &str,
) -> Result<BTreeMap<String, Namespace>, CatalogError> {
    let mut query = c.prepare_cached("SELECT class, unique_key, sqlite FROM namespace WHERE script = ?")?;
    let rows = query.query_map([script], |row| {
        Ok((row.get(0)?, Namespace { unique_key: row.get(1)?, sqlite: row.get(2)? }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Catalog {
    /// Opens or creates the ledger in the file at `path`.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        Ok(Self { db: Database::open(path, SCHEMA)?, quota: None })
    }

    /// What grows counts towards `quota`, and is refused with [`StoreError::QuotaReached`] once that is used up.
    #[must_use]
    pub fn within(self, quota: Arc<Quota>) -> Self {
        Self { quota: Some(quota), ..self }
    }

    /// The tag of the last migration applied to `script`.
    pub fn migration_tag(&self, script: &str) -> Result<Option<String>, CatalogError> {
        self.db.read(|c| current_tag(c, script))
    }

    /// Applies `migrations` that follow the last applied tag, all or none.
    pub async fn migrate(&self, script: &str, migrations: Vec<Migration>) -> Result<(), CatalogError> {
        let script = script.to_owned();
        self.change(move |t| apply(t, &script, &migrations)).await
    }

    /// The namespaces of `script`, by class.
    pub fn namespaces(&self, script: &str) -> Result<BTreeMap<String, Namespace>, CatalogError> {
        self.db.read(|c| namespaces_of(c, script))
    }

    /// Where the objects are that `class` of `script` stands for: of which script and class, if that is another one by
    /// now, and the namespace. `None` if there are none.
    pub fn home_of(
        &self,
        script: &str,
        class: &str,
    ) -> Result<Option<(String, String, Namespace)>, CatalogError> {
        self.db.read(|c| {
            let sql =
                "SELECT script, class, unique_key, sqlite FROM namespace WHERE script = ?1 AND class = ?2
                UNION ALL SELECT n.script, n.class, n.unique_key, n.sqlite FROM moved
                JOIN namespace n USING(unique_key) WHERE moved.script = ?1 AND moved.class = ?2 LIMIT 1";
            let mut query = c.prepare_cached(sql)?;
            let home = query.query_row([script, class], |row| {
                let namespace = Namespace { unique_key: row.get(2)?, sqlite: row.get(3)? };
                Ok((row.get(0)?, row.get(1)?, namespace))
            });
            Ok(home.optional()?)
        })
    }

    /// All namespaces: script, class, namespace.
    pub fn all_namespaces(&self) -> Result<Vec<(String, String, Namespace)>, CatalogError> {
        self.db.read(|c| {
            let sql = "SELECT script, class, unique_key, sqlite FROM namespace ORDER BY script, class";
            let mut query = c.prepare_cached(sql)?;
            let rows = query.query_map([], |row| {
                let namespace = Namespace { unique_key: row.get(2)?, sqlite: row.get(3)? };
                Ok((row.get(0)?, row.get(1)?, namespace))
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
        self.change(move |t: &Transaction<'_>| {
            t.execute("DELETE FROM doomed WHERE unique_key = ?", [key])?;
            Ok(())
        })
        .await
    }

    /// A script by its name.
    pub fn script(&self, name: &str) -> Result<Option<Script>, CatalogError> {
        self.db.read(|c| script::find_script(c, name))
    }

    /// All scripts outside of dispatch namespaces, by name.
    pub fn scripts(&self) -> Result<Vec<Script>, CatalogError> {
        self.db.read(script::scripts)
    }

    /// All scripts of the dispatch namespace with this id, by name.
    pub fn scripts_within(&self, namespace: &str) -> Result<Vec<Script>, CatalogError> {
        self.db.read(|c| script::scripts_within(c, namespace))
    }

    /// How many they are.
    pub fn count_within(&self, namespace: &str) -> Result<u64, CatalogError> {
        self.db.read(|c| script::count_within(c, namespace))
    }

    /// A version of the script with this tag.
    pub fn version(&self, tag: &str, id: &str) -> Result<Option<Version>, CatalogError> {
        self.db.read(|c| script::find_version(c, tag, id))
    }

    /// The newest version of the script with this tag whose id starts with `prefix`.
    pub fn version_with_prefix(&self, tag: &str, prefix: &str) -> Result<Option<Version>, CatalogError> {
        self.db.read(|c| script::version_with_prefix(c, tag, prefix))
    }

    /// The newest version of the script with this tag.
    pub fn latest_version(&self, tag: &str) -> Result<Option<Version>, CatalogError> {
        self.db.read(|c| script::latest_version(c, tag))
    }

    /// Versions, newest first, and how many there are.
    pub fn versions(&self, tag: &str, offset: u64, limit: u64) -> Result<(Vec<Version>, u64), CatalogError> {
        self.db.read(|c| script::versions(c, tag, offset, limit))
    }

    /// Deployments, newest first.
    pub fn deployments(&self, tag: &str, limit: u64) -> Result<Vec<Deployment>, CatalogError> {
        self.db.read(|c| script::deployments(c, tag, limit))
    }

    /// A deployment of the script with this tag.
    pub fn deployment(&self, tag: &str, id: &str) -> Result<Option<Deployment>, CatalogError> {
        self.db.read(|c| script::find_deployment(c, tag, id))
    }

    /// Whether a deployment that is still known had this version.
    pub fn was_deployed(&self, tag: &str, version: &str) -> Result<bool, CatalogError> {
        self.db.read(|c| script::was_deployed(c, tag, version))
    }
}
