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

#[cfg(test)]
mod tests {
    use super::*;

    fn version(script: &str, migrations: Option<MigrationSet>) -> Publish {
        Publish { script: script.into(), create: true, deploy: true, migrations, ..Publish::default() }
    }

    fn classes(old_tag: Option<Option<&str>>, new_tag: &str, classes: &[&str]) -> Option<MigrationSet> {
        Some(MigrationSet {
            old_tag: old_tag.map(|tag| tag.map(str::to_owned)),
            new_tag: Some(new_tag.into()),
            changes: classes.iter().map(|class| new(class)).collect(),
        })
    }

    #[tokio::test]
    async fn a_version_comes_with_its_migrations_and_its_deployment_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        let first = catalog.publish(version("s", classes(None, "v1", &["A"]))).await.unwrap();
        assert_eq!((first.version.number, first.version.content.migration_tag.as_deref()), (1, Some("v1")));
        let wrong = catalog.publish(version("s", classes(Some(None), "v2", &["B"]))).await.unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "Actor migration tag precondition failed, got tag '' when expected tag is 'v1'"
        );
        let twice = catalog.publish(version("s", classes(Some(Some("v1")), "v2", &["B", "A"]))).await;
        assert!(matches!(twice, Err(CatalogError::Migration { code: 10074, .. })), "{twice:?}");
        assert_eq!(catalog.versions(&first.script.tag, 0, 10).unwrap().1, 1);
        assert_eq!(catalog.namespaces("s").unwrap().len(), 1);
        let tried = catalog.try_migrations("s", classes(Some(Some("v1")), "v2", &["B"])).await.unwrap();
        assert_eq!(tried.keys().collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(catalog.namespaces("s").unwrap().len(), 1, "a rehearsal changes nothing");
        let active = catalog.active_deployment(&first.script.tag).unwrap().unwrap();
        assert_eq!(active.versions, [(first.version.id, 100.0)]);
    }

    #[tokio::test]
    async fn versions_without_end_are_refused_once_the_account_is_full_and_go_on_being_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let quota = Arc::new(Quota::new(4 << 20));
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap().within(quota.clone());
        let large = || {
            let mut made = version("s", None);
            made.content.bindings = vec![serde_json::json!({ "name": "A", "text": "x".repeat(500_000) })];
            made
        };
        let full = |refused: &CatalogError| matches!(refused, CatalogError::Store(StoreError::QuotaReached));
        let mut kept = 0;
        let refused = loop {
            match catalog.publish(large()).await {
                Ok(_) => kept += 1,
                Err(refused) => break refused,
            }
            assert!(kept < 20, "it has an end");
        };
        assert!(full(&refused) && (6..=10).contains(&kept), "{kept}: {refused}");
        let made =
            Resource { id: "a".into(), name: "a".into(), created_ms: 1, settings: serde_json::Value::Null };
        assert!(full(&catalog.add_resource(Kind::Kv, made).await.unwrap_err()));
        catalog.remove_script("s").await.unwrap();
        assert!(catalog.script("s").unwrap().is_none());
    }

    #[tokio::test]
    async fn a_deployment_is_found_by_its_id_and_by_its_versions() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        let first = catalog.publish(version("s", None)).await.unwrap();
        let tag = first.script.tag;
        let second = catalog.publish(Publish { deploy: false, ..version("s", None) }).await.unwrap();
        assert!(catalog.was_deployed(&tag, &first.version.id).unwrap());
        assert!(!catalog.was_deployed(&tag, &second.version.id).unwrap());
        assert!(!catalog.was_deployed("other", &first.version.id).unwrap());
        let both = Deployment {
            id: "both".into(),
            versions: vec![(first.version.id, 90.0), (second.version.id.clone(), 10.0)],
            ..catalog.active_deployment(&tag).unwrap().unwrap()
        };
        catalog.deploy("s", both.clone(), Vec::new()).await.unwrap();
        assert!(catalog.was_deployed(&tag, &second.version.id).unwrap());
        assert_eq!(catalog.deployment(&tag, "both").unwrap(), Some(both));
        assert_eq!(catalog.deployment("other", "both").unwrap(), None);
    }

    #[tokio::test]
    async fn a_removed_script_leaves_nothing_but_doomed_objects() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        catalog.publish(version("s", classes(None, "v1", &["A"]))).await.unwrap();
        catalog.remove_script("s").await.unwrap();
        assert_eq!(catalog.scripts().unwrap(), []);
        assert_eq!(catalog.doomed().unwrap(), ["s-A"]);
        assert!(matches!(catalog.remove_script("s").await, Err(CatalogError::NoScript)));
        let again = catalog.publish(version("s", None)).await.unwrap();
        assert_eq!((again.version.number, again.version.content.migration_tag), (1, None));
    }

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
        let home = |script: &str, class: &str| {
            let home = catalog.home_of(script, class).unwrap();
            home.map(|(script, class, _)| format!("{script}.{class}"))
        };
        assert_eq!(home("s", "A").as_deref(), Some("t.C"), "who is bound to it finds it");
        catalog.migrate("s", vec![step("v2", vec![new("A")])]).await.unwrap();
        assert_eq!(home("s", "A").as_deref(), Some("s.A"), "unless there is another one");
        assert_eq!(catalog.namespaces("s").unwrap()["A"].unique_key, "s-A-2");
        let undone = Change::Delete { class: "A".into() };
        catalog.migrate("s", vec![step("v3", vec![undone])]).await.unwrap();
        assert_eq!(home("s", "A"), None);
        catalog.buried("s-A-2").await.unwrap();
        let delete = Change::Delete { class: "B".into() };
        catalog.migrate("s", vec![step("v4", vec![delete])]).await.unwrap();
        assert_eq!(catalog.doomed().unwrap(), ["s-B"]);
        catalog.buried("s-B").await.unwrap();
        assert!(catalog.doomed().unwrap().is_empty());
        assert!(catalog.namespaces("s").unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_class_goes_to_the_script_that_waits_for_it_and_to_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        let untagged = |changes| vec![Migration { tag: None, changes }];
        let waits = |from: &str| Change::Await { class: "A".into(), from_script: from.into() };
        let gives = |to: &str| Change::HandOver { class: "A".into(), to_script: to.into() };
        catalog.publish(version("t", None)).await.unwrap();
        catalog.publish(version("s", classes(None, "v1", &["A"]))).await.unwrap();
        let refused = |outcome: Result<(), CatalogError>| {
            assert!(matches!(outcome, Err(CatalogError::Migration { code: 100_402, .. })), "{outcome:?}");
        };
        refused(catalog.migrate("s", untagged(vec![gives("t")])).await);
        refused(catalog.migrate("t", untagged(vec![waits("nobody")])).await);
        catalog.migrate("t", untagged(vec![waits("s")])).await.unwrap();
        refused(catalog.migrate("u", untagged(vec![waits("s")])).await);
        refused(catalog.migrate("s", untagged(vec![gives("u")])).await);
        assert_eq!(catalog.awaited("t").unwrap(), ["A"]);
        catalog.migrate("t", untagged(vec![Change::Forgo { class: "A".into() }])).await.unwrap();
        refused(catalog.migrate("s", untagged(vec![gives("t")])).await);
        catalog.migrate("t", untagged(vec![waits("s")])).await.unwrap();
        catalog.migrate("s", untagged(vec![gives("t")])).await.unwrap();
        assert_eq!(catalog.namespaces("t").unwrap()["A"].unique_key, "s-A");
        assert!(catalog.namespaces("s").unwrap().is_empty() && catalog.awaited("t").unwrap().is_empty());
        let declared = [("A".to_owned(), Declared::Expecting { sqlite: true, from: "s".into() })].into();
        let known = catalog.transfers("t", &declared).unwrap();
        assert_eq!(known.received, [("A".to_owned(), ["s".to_owned()].into())].into());
        assert!(matches!(&known.partners["s"], Partner::There { namespaces, .. } if namespaces.is_empty()));

        catalog.publish(version("ns:u", None)).await.unwrap();
        let from =
            |label: &str| [("A".to_owned(), Declared::Expecting { sqlite: true, from: label.into() })].into();
        let partner_of = |script: &str, label: &str| {
            catalog.transfers(script, &from(label)).unwrap().partners.remove(label).unwrap()
        };
        assert_eq!(partner_of("t", "u"), Partner::Elsewhere { dispatched: true });
        assert_eq!(partner_of("ns:u", "s"), Partner::Elsewhere { dispatched: false });
        assert!(matches!(partner_of("ns:v", "u"), Partner::There { name, .. } if name == "ns:u"));
        assert_eq!(partner_of("t", "v"), Partner::Missing);
    }
}
