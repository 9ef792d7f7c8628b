//! Resources that scripts are bound to: what they are called and when they were made. Their content is elsewhere.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::Value as Json;

use crate::{Catalog, CatalogError};

/// The kinds of resources that have to be made before they can be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// KV namespaces; the name is the title.
    Kv,
    /// R2 buckets; the id is the name.
    R2,
    /// D1 databases.
    D1,
    /// Queues.
    Queue,
    /// Workflows; the id is the name.
    Workflow,
    /// Dispatch namespaces.
    Dispatch,
    /// Hyperdrive configurations.
    Hyperdrive,
    /// Vectorize indexes; the id is the name.
    Vectorize,
    /// Applications of containers.
    Container,
    /// Stores of the Secrets Store.
    SecretsStore,
    /// Secrets of the Secrets Store.
    StoredSecret,
    /// Settings of the account for all it has of something; the id says of what.
    Defaults,
}

impl Kind {
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::R2 => "r2",
            Self::D1 => "d1",
            Self::Queue => "queue",
            Self::Workflow => "workflow",
            Self::Dispatch => "dispatch",
            Self::Hyperdrive => "hyperdrive",
            Self::Vectorize => "vectorize",
            Self::Container => "container",
            Self::SecretsStore => "secrets_store",
            Self::StoredSecret => "stored_secret",
            Self::Defaults => "defaults",
        }
    }
}

/// A resource of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its identity.
    pub id: String,
    /// Its name, unique among its kind.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// What else was said about it.
    pub settings: Json,
}

fn resource(row: &Row<'_>) -> rusqlite::Result<Resource> {
    let settings: String = row.get(3)?;
    Ok(Resource {
        id: row.get(0)?,
        name: row.get(1)?,
        created_ms: row.get(2)?,
        settings: serde_json::from_str(&settings).unwrap_or(Json::Null),
    })
}

const RESOURCE: &str = "SELECT id, name, created, settings FROM resource WHERE kind = ?";

impl Catalog {
    /// All of a kind, by name.
    pub fn resources(&self, kind: Kind) -> Result<Vec<Resource>, CatalogError> {
        self.db.read(|c| all_of(c, kind))
    }

    /// One by its id.
    pub fn resource(&self, kind: Kind, id: &str) -> Result<Option<Resource>, CatalogError> {
        self.db.read(|c| find(c, kind, id))
    }

    /// One by its name.
    pub fn resource_named(&self, kind: Kind, name: &str) -> Result<Option<Resource>, CatalogError> {
        self.db.read(|c| {
            let mut query = c.prepare_cached(&format!("{RESOURCE} AND name = ?"))?;
            Ok(query.query_row([kind.key(), name], resource).optional()?)
        })
    }

    /// Keeps a new one; [`CatalogError::Exists`] if its id or name is taken.
    pub async fn add_resource(&self, kind: Kind, made: Resource) -> Result<Resource, CatalogError> {
        self.grow(move |t| {
            insert(t, kind, &made)?;
            Ok(made)
        })
        .await
    }

    /// Changes the name or the settings of one by what they are then, so that changes at the same time do not undo each
    /// other; `None` if it is not there. What `change` refuses is not kept.
    pub async fn edit_resource<T, E, F>(
        &self,
        kind: Kind,
        id: &str,
        change: F,
    ) -> Result<Option<Result<T, E>>, CatalogError>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&mut Resource) -> Result<T, E> + Send + 'static,
    {
        let id = id.to_owned();
        self.change(move |t| {
            let Some(mut found) = find(t, kind, &id)? else { return Ok(None) };
            let changed = change(&mut found);
            if changed.is_ok() {
                update(t, kind, &Resource { id, ..found })?;
            }
            Ok(Some(changed))
        })
        .await
    }

    /// The same of one that need not be there: then it is made of `new`.
    pub async fn edit_or_add_resource<T, F>(
        &self,
        kind: Kind,
        new: Resource,
        change: F,
    ) -> Result<T, CatalogError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Resource) -> T + Send + 'static,
    {
        self.grow(move |t| {
            let found = find(t, kind, &new.id)?;
            let is_new = found.is_none();
            let mut row = found.unwrap_or(new);
            let changed = change(&mut row);
            match is_new {
                true => insert(t, kind, &row)?,
                false => update(t, kind, &row)?,
            }
            Ok(changed)
        })
        .await
    }

    /// Forgets one, and the custom domains of a bucket; false if it is not there.
    pub async fn remove_resource(&self, kind: Kind, id: &str) -> Result<bool, CatalogError> {
        let id = id.to_owned();
        self.change(move |t| {
            if kind == Kind::R2 {
                t.execute("DELETE FROM bucket_domain WHERE bucket = ?", [&id])?;
            }
            Ok(t.execute("DELETE FROM resource WHERE kind = ? AND id = ?", params![kind.key(), id])? > 0)
        })
        .await
    }
}

pub(crate) fn all_of(c: &Connection, kind: Kind) -> Result<Vec<Resource>, CatalogError> {
    let mut query = c.prepare_cached(&format!("{RESOURCE} ORDER BY name"))?;
    Ok(query.query_map([kind.key()], resource)?.collect::<Result<_, _>>()?)
}

pub(crate) fn find(c: &Connection, kind: Kind, id: &str) -> Result<Option<Resource>, CatalogError> {
    let mut query = c.prepare_cached(&format!("{RESOURCE} AND id = ?"))?;
    Ok(query.query_row([kind.key(), id], resource).optional()?)
}

pub(crate) fn insert(t: &Transaction<'_>, kind: Kind, made: &Resource) -> Result<(), CatalogError> {
    let sql = "INSERT INTO resource VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    let settings = crate::script::text(&made.settings)?;
    let values = params![kind.key(), made.id, made.name, made.created_ms, settings];
    match t.prepare_cached(sql)?.execute(values)? {
        0 => Err(CatalogError::Exists(made.name.clone())),
        _ => Ok(()),
    }
}

/// Writes the name and the settings of one that is there.
pub(crate) fn update(t: &Transaction<'_>, kind: Kind, changed: &Resource) -> Result<(), CatalogError> {
    let taken: bool = t.query_row(
        "SELECT EXISTS(SELECT 1 FROM resource WHERE kind = ? AND name = ? AND id <> ?)",
        params![kind.key(), changed.name, changed.id],
        |row| row.get(0),
    )?;
    if taken {
        return Err(CatalogError::Exists(changed.name.clone()));
    }
    let settings = crate::script::text(&changed.settings)?;
    let sql = "UPDATE resource SET name = ?, settings = ? WHERE kind = ? AND id = ?";
    t.execute(sql, params![changed.name, settings, kind.key(), changed.id])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_unique_among_their_kind() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("c.sqlite")).unwrap();
        let made = |id: &str, name: &str| Resource {
            id: id.into(),
            name: name.into(),
            created_ms: 1,
            settings: Json::Null,
        };
        catalog.add_resource(Kind::Kv, made("1", "a")).await.unwrap();
        catalog.add_resource(Kind::D1, made("1", "a")).await.unwrap();
        let twice = catalog.add_resource(Kind::Kv, made("2", "a")).await;
        assert!(matches!(twice, Err(CatalogError::Exists(name)) if name == "a"));
        catalog.add_resource(Kind::Kv, made("2", "b")).await.unwrap();
        assert_eq!(catalog.resource_named(Kind::Kv, "b").unwrap().unwrap().id, "2");
        assert!(catalog.remove_resource(Kind::Kv, "2").await.unwrap());
        assert!(!catalog.remove_resource(Kind::Kv, "2").await.unwrap());
        assert_eq!(catalog.resources(Kind::Kv).unwrap(), [made("1", "a")]);
    }

    #[tokio::test]
    async fn edits_at_the_same_time_do_not_undo_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("c.sqlite")).unwrap();
        let made =
            Resource { id: "b".into(), name: "b".into(), created_ms: 1, settings: serde_json::json!([]) };
        catalog.add_resource(Kind::R2, made).await.unwrap();
        let add = |n: u64| {
            catalog.edit_resource(Kind::R2, "b", move |row| {
                let all = row.settings.as_array_mut().ok_or("no list")?;
                all.push(n.into());
                if n == 3 { Err("not this one") } else { Ok(all.len()) }
            })
        };
        let (a, b, c) = tokio::join!(add(1), add(2), add(3));
        assert_eq!(
            [a.unwrap(), b.unwrap(), c.unwrap()],
            [Some(Ok(1)), Some(Ok(2)), Some(Err("not this one"))]
        );
        assert_eq!(catalog.resource(Kind::R2, "b").unwrap().unwrap().settings, serde_json::json!([1, 2]));
        let none = catalog.edit_resource(Kind::R2, "none", |_| Ok::<_, ()>(())).await;
        assert_eq!(none.unwrap(), None);
        let other = Resource { id: "c".into(), name: "c".into(), created_ms: 1, settings: Json::Null };
        catalog.add_resource(Kind::R2, other).await.unwrap();
        let rename = |name: &'static str| {
            catalog.edit_resource(Kind::R2, "b", move |row| {
                row.name = name.to_owned();
                Ok::<_, ()>(())
            })
        };
        assert!(matches!(rename("c").await, Err(CatalogError::Exists(name)) if name == "c"));
        rename("d").await.unwrap();
        assert_eq!(catalog.resource(Kind::R2, "b").unwrap().unwrap().name, "d");
    }

    #[tokio::test]
    async fn one_that_is_made_or_changed_at_the_same_time_keeps_what_everybody_says() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("c.sqlite")).unwrap();
        let new = |created_ms| Resource {
            id: "w".into(),
            name: "w".into(),
            created_ms,
            settings: serde_json::json!([]),
        };
        let add = |n: i64| {
            catalog.edit_or_add_resource(Kind::Workflow, new(n), move |row| {
                row.settings.as_array_mut().unwrap().push(n.into());
                row.created_ms
            })
        };
        let (a, b) = tokio::join!(add(1), add(2));
        assert_eq!((a.unwrap(), b.unwrap()), (1, 1));
        let kept = catalog.resource(Kind::Workflow, "w").unwrap().unwrap();
        assert_eq!(kept, Resource { settings: serde_json::json!([1, 2]), ..new(1) });
        let named = Resource { id: "x".into(), ..new(3) };
        let taken = catalog.edit_or_add_resource(Kind::Workflow, named, |_| ()).await;
        assert!(matches!(taken, Err(CatalogError::Exists(name)) if name == "w"));
    }
}
