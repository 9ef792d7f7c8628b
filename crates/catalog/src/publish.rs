//! Changes of what is deployed: each one transaction, all or nothing.

use std::collections::BTreeMap;

use rusqlite::{Transaction, params};
use skep_store::StoreError;

use crate::migrations::{Migration, apply, current_tag};
use crate::script::{
    Content, Deployment, Origin, Script, Settings, Version, deployments, find_script, find_version,
    insert_deployment, insert_script, insert_version, latest_version, update_script,
};
use crate::{Catalog, CatalogError, namespaces_of};

/// A version to be made.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    /// The script; made if it is not there and `create` is set.
    pub script: String,
    /// Whether a script that is not there is made.
    pub create: bool,
    /// Who asks for it.
    pub origin: Origin,
    /// `workers/message` and so on.
    pub annotations: BTreeMap<String, String>,
    /// What it is made of.
    pub content: Content,
    /// The content files that its assets are made of.
    pub asset_keys: Vec<String>,
    /// Durable Object migrations that come with it.
    pub migrations: Option<MigrationSet>,
    /// Whether it takes all requests at once.
    pub deploy: bool,
    /// Settings that come with it.
    pub settings: Option<Settings>,
    /// The version that must be the newest for this to be right; another one means that somebody was faster.
    pub after: Option<String>,
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

/// Durable Object migrations of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationSet {
    /// The tag that the script must have; `Some(None)`: none. `None`: whatever it has.
    pub old_tag: Option<Option<String>>,
    /// The tag that it has afterwards.
    pub new_tag: Option<String>,
    /// The changes, in order.
    pub changes: Vec<crate::Change>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The script as it is now.
    pub script: Script,
    /// The new version.
    pub version: Version,
}

impl Catalog {
    /// Makes a version, with its migrations, its deployment and its settings: all of it or nothing.
    pub async fn publish(&self, publish: Publish) -> Result<Published, CatalogError> {
        self.grow(move |t| publish_in(t, publish)).await
    }

    /// Says whether `set` could be applied to `script` now, and which classes the script has afterwards.
    pub async fn try_migrations(
        &self,
        script: &str,
        set: Option<MigrationSet>,
    ) -> Result<BTreeMap<String, crate::Namespace>, CatalogError> {
        let script = script.to_owned();
        let outcome = self
            .change(move |t| {
                if let Some(set) = &set {
                    migrate_in(t, &script, set)?;
                }
                let namespaces = namespaces_of(t, &script)?;
                // An error undoes it all.
                Err::<(), _>(CatalogError::Rehearsed(namespaces))
            })
            .await;
        match outcome {
            Err(CatalogError::Rehearsed(namespaces)) => Ok(namespaces),
            Err(error) => Err(error),
            Ok(()) => Ok(BTreeMap::new()),
        }
    }

    /// Deploys versions of `script`. The percentages have been checked; the versions must be there.
    pub async fn deploy(
        &self,
        script: &str,
        deployment: Deployment,
        changes: Vec<crate::Change>,
    ) -> Result<Deployment, CatalogError> {
        let name = script.to_owned();
        self.grow(move |t| {
            let mut script = find_script(t, &name)?.ok_or(CatalogError::NoScript)?;
            apply(t, &name, &[Migration { tag: None, changes }])?;
            for (id, _) in &deployment.versions {
                if find_version(t, &script.tag, id)?.is_none() {
                    return Err(CatalogError::NoVersion(id.clone()));
                }
            }
            insert_deployment(t, &script.tag, &deployment)?;
            script.modified_ms = deployment.created_ms;
            update_script(t, &script)?;
            Ok(deployment)
        })
        .await
    }

    /// Makes a script without a version.
    pub async fn create_script(
        &self,
        name: &str,
        now_ms: i64,
        change: impl FnOnce(&mut Script) + Send + 'static,
    ) -> Result<Script, CatalogError> {
        let name = name.to_owned();
        self.grow(move |t| {
            if find_script(t, &name)?.is_some() {
                return Err(CatalogError::Exists(name));
            }
            let mut script = new_script(&name, now_ms);
            change(&mut script);
            insert_script(t, &script)?;
            Ok(script)
        })
        .await
    }

    /// Forgets a version that takes no requests; false if it does.
    pub async fn remove_version(&self, tag: &str, id: &str) -> Result<bool, CatalogError> {
        let (tag, id) = (tag.to_owned(), id.to_owned());
        self.change(move |t| {
            let active = deployments(t, &tag, 1)?;
            if active.iter().flat_map(|deployment| &deployment.versions).any(|(version, _)| *version == id) {
                return Ok(false);
            }
            t.execute("DELETE FROM content_use WHERE version = ?", [&id])?;
            if t.execute("DELETE FROM version WHERE script = ? AND id = ?", [&tag, &id])? == 0 {
                return Err(CatalogError::NoVersion(id));
            }
            Ok(true)
        })
        .await
    }

    /// Changes what of a script is not part of a version.
    pub async fn update(
        &self,
        script: &str,
        change: impl FnOnce(&mut Script) + Send + 'static,
    ) -> Result<Script, CatalogError> {
        let name = script.to_owned();
        self.change(move |t| {
            let mut script = find_script(t, &name)?.ok_or(CatalogError::NoScript)?;
            change(&mut script);
            update_script(t, &script)?;
            Ok(script)
        })
        .await
    }

    /// Removes a script with all its versions; its Durable Objects are doomed.
    pub async fn remove_script(&self, script: &str) -> Result<(), CatalogError> {
        let name = script.to_owned();
        self.change(move |t| {
            let script = find_script(t, &name)?.ok_or(CatalogError::NoScript)?;
            t.execute(
                "DELETE FROM content_use WHERE version IN (SELECT id FROM version WHERE script = ?)",
                [&script.tag],
            )?;
            t.execute("DELETE FROM deployment WHERE script = ?", [&script.tag])?;
            t.execute("DELETE FROM version WHERE script = ?", [&script.tag])?;
            t.execute("DELETE FROM route WHERE script = ?", [&name])?;
            t.execute("DELETE FROM domain WHERE script = ?", [&name])?;
            t.execute("DELETE FROM script WHERE tag = ?", [&script.tag])?;
            t.execute("INSERT INTO doomed SELECT unique_key FROM namespace WHERE script = ?", [&name])?;
            t.execute(
                "DELETE FROM moved WHERE unique_key IN (SELECT unique_key FROM namespace WHERE script = ?)",
                [&name],
            )?;
            t.execute("DELETE FROM namespace WHERE script = ?", [&name])?;
            t.execute("DELETE FROM awaited WHERE script = ?1 OR source = ?1", [&name])?;
            t.execute("DELETE FROM migration_tag WHERE script = ?", [&name])?;
            Ok(())
        })
        .await
    }

    /// Runs a `job` that makes the ledger larger, if the account may store more.
    pub(crate) async fn grow<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let Some(quota) = self.quota.as_ref().filter(|quota| quota.is_limited()) else {
            return self.change(job).await;
        };
        if quota.room() == 0 {
            return Err(StoreError::QuotaReached.into());
        }
        let quota = quota.clone();
        self.change(move |t| {
            let before = size(t)?;
            let done = job(t)?;
            quota.add(size(t)?.saturating_sub(before));
            Ok(done)
        })
        .await
    }

    /// Runs `job` in a transaction of its own within the group: an error undoes what it did.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        // The writer undoes a job that fails with an error of its own kind; ours waits here meanwhile.
        let (kept, refused) = std::sync::mpsc::channel();
        let outcome = self
            .db
            .write(move |t| {
                job(t).map_err(|error| match error {
                    CatalogError::Store(error) => error,
                    other => {
                        let text = other.to_string();
                        let _ = kept.send(other);
                        StoreError::Sqlite(rusqlite::Error::InvalidParameterName(text))
                    }
                })
            })
            .await;
        outcome.map_err(|error| refused.try_recv().unwrap_or(CatalogError::Store(error)))
    }
}

/// Bytes of the file, with what the transaction has written.
fn size(t: &Transaction<'_>) -> Result<u64, CatalogError> {
    let number = |name: &str| t.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(number("page_count")?.saturating_mul(number("page_size")?).unsigned_abs())
}

fn publish_in(t: &Transaction<'_>, publish: Publish) -> Result<Published, CatalogError> {
    let now = publish.now_ms;
    let mut script = match find_script(t, &publish.script)? {
        Some(script) => script,
        None if publish.create => {
            let script = new_script(&publish.script, now);
            insert_script(t, &script)?;
            script
        }
        None => return Err(CatalogError::NoScript),
    };
    let latest = latest_version(t, &script.tag)?;
    if publish.after.is_some() && latest.as_ref().map(|v| &v.id) != publish.after.as_ref() {
        return Err(CatalogError::Overtaken);
    }
    if let Some(set) = &publish.migrations {
        migrate_in(t, &script.name, set)?;
    }
    let mut content = publish.content;
    content.migration_tag = current_tag(t, &script.name)?;
    let version = Version {
        id: uuid::Uuid::new_v4().to_string(),
        script: script.tag.clone(),
        number: latest.map_or(1, |v| v.number + 1),
        created_ms: now,
        origin: publish.origin.clone(),
        annotations: publish.annotations.clone(),
        content,
    };
    insert_version(t, &version, &publish.asset_keys)?;
    if publish.deploy {
        let deployment = Deployment {
            id: uuid::Uuid::new_v4().to_string(),
            created_ms: now,
            origin: publish.origin,
            annotations: publish.annotations,
            versions: vec![(version.id.clone(), 100.0)],
        };
        insert_deployment(t, &script.tag, &deployment)?;
    }
    script.modified_ms = now;
    if let Some(settings) = publish.settings {
        script.settings = settings;
    }
    update_script(t, &script)?;
    Ok(Published { script, version })
}

fn new_script(name: &str, now_ms: i64) -> Script {
    Script {
        tag: uuid::Uuid::new_v4().simple().to_string(),
        name: name.to_owned(),
        created_ms: now_ms,
        modified_ms: now_ms,
        settings: Settings::default(),
        workers_dev: None,
        previews: None,
    }
}

fn migrate_in(t: &Transaction<'_>, script: &str, set: &MigrationSet) -> Result<(), CatalogError> {
    if let Some(expected) = &set.old_tag {
        let stored = current_tag(t, script)?;
        if *expected != stored {
            return Err(CatalogError::MigrationTag { got: expected.clone(), expected: stored });
        }
    }
    let migration = Migration { tag: set.new_tag.clone(), changes: set.changes.clone() };
    apply(t, script, &[migration])
}

impl Catalog {
    /// The deployment that takes requests now.
    pub fn active_deployment(&self, tag: &str) -> Result<Option<Deployment>, CatalogError> {
        self.db.read(|c| Ok(deployments(c, tag, 1)?.into_iter().next()))
    }

    /// Forgets a deployment that is not the latest; says whether there was one.
    pub async fn remove_deployment(&self, tag: &str, id: &str) -> Result<bool, CatalogError> {
        let (tag, id) = (tag.to_owned(), id.to_owned());
        self.change(move |t| {
            let sql = "DELETE FROM deployment WHERE id = ?1 AND script = ?2
                       AND sequence < (SELECT max(sequence) FROM deployment WHERE script = ?2)";
            Ok(t.execute(sql, params![id, tag])? > 0)
        })
        .await
    }

    /// Removes what belongs to no version any more; returns the content files that are to go.
    pub async fn forget_unused(&self, before_ms: i64) -> Result<Vec<String>, CatalogError> {
        self.change(move |t| {
            let unused = "FROM content WHERE touched < ? AND key NOT IN (SELECT key FROM content_use)";
            let mut query = t.prepare_cached(&format!("SELECT blob {unused}"))?;
            let blobs = query.query_map(params![before_ms], |row| row.get(0))?.collect::<Result<_, _>>()?;
            t.execute(&format!("DELETE {unused}"), params![before_ms])?;
            Ok(blobs)
        })
        .await
    }
}
