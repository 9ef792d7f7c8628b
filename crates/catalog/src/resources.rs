//! Resources that scripts are bound to: what they are called and when they were made. Their content is elsewhere.

use rusqlite::{OptionalExtension, Row, Transaction, params};
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
    /// Settings of the account for all it has of something; the id says of what.
    Defaults,
}

impl Kind {
    fn key(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::R2 => "r2",
            Self::D1 => "d1",
            Self::Queue => "queue",
            Self::Workflow => "workflow",
            Self::Dispatch => "dispatch",
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
        self.db.read(|c| {
            let mut query = c.prepare_cached(&format!("{RESOURCE} ORDER BY name"))?;
            Ok(query.query_map([kind.key()], resource)?.collect::<Result<_, _>>()?)
        })
    }

    /// One by its id.
    pub fn resource(&self, kind: Kind, id: &str) -> Result<Option<Resource>, CatalogError> {
        self.db.read(|c| {
            let mut query = c.prepare_cached(&format!("{RESOURCE} AND id = ?"))?;
            Ok(query.query_row([kind.key(), id], resource).optional()?)
        })
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
        self.change(move |t| {
            let sql = "INSERT INTO resource VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
            let settings = crate::script::text(&made.settings)?;
            let values = params![kind.key(), made.id, made.name, made.created_ms, settings];
            match t.prepare_cached(sql)?.execute(values)? {
                0 => Err(CatalogError::Exists(made.name)),
                _ => Ok(made),
            }
        })
        .await
    }

    /// Renames one and keeps its settings; false if it is not there.
    pub async fn change_resource(&self, kind: Kind, changed: Resource) -> Result<bool, CatalogError> {
        self.change(move |t| update(t, kind, &changed)).await
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
            let mut query = t.prepare_cached(&format!("{RESOURCE} AND id = ?"))?;
            let found = query.query_row([kind.key(), &id], resource).optional()?;
            let Some(mut found) = found else { return Ok(None) };
            let changed = change(&mut found);
            if changed.is_ok() {
                update(t, kind, &Resource { id, ..found })?;
            }
            Ok(Some(changed))
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

/// Writes the name and the settings of one; false if it is not there.
fn update(t: &Transaction<'_>, kind: Kind, changed: &Resource) -> Result<bool, CatalogError> {
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
    Ok(t.execute(sql, params![changed.name, settings, kind.key(), changed.id])? > 0)
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
        assert!(catalog.change_resource(Kind::Kv, made("2", "a")).await.is_err());
        assert!(catalog.change_resource(Kind::Kv, made("2", "c")).await.unwrap());
        assert_eq!(catalog.resource_named(Kind::Kv, "c").unwrap().unwrap().id, "2");
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
}
