//! The Secrets Store: stores and their secrets, which are resources of the account. A secret's value is sealed, under
//! `sealed` of its settings; `store` there is the id of the store that it is in.

use rusqlite::Transaction;

use crate::resources::{all_of, find, insert};
use crate::{Catalog, CatalogError, Kind, Resource};

/// Stores that an account may have, and secrets in all of them.
/// <https://developers.cloudflare.com/secrets-store/manage-secrets/#limits>
pub const MOST_STORES: usize = 1;
/// See [`MOST_STORES`].
pub const MOST_STORED_SECRETS: usize = 100;

/// What stands before the id of a stored secret where a secret has the name of its binding; its script is empty.
pub const STORED_SECRET_SEAL: &str = "secrets_store/";

impl Catalog {
    /// Keeps a new store; [`CatalogError::Full`] if there are as many as may be.
    pub async fn add_secrets_store(&self, made: Resource) -> Result<Resource, CatalogError> {
        self.grow(move |t| {
            room(t, Kind::SecretsStore, 1, MOST_STORES)?;
            insert(t, Kind::SecretsStore, &made)?;
            Ok(made)
        })
        .await
    }

    /// Keeps new secrets of a store, all or none; false if the store is not there.
    pub async fn add_stored_secrets(&self, store: &str, made: Vec<Resource>) -> Result<bool, CatalogError> {
        let store = store.to_owned();
        self.grow(move |t| {
            if find(t, Kind::SecretsStore, &store)?.is_none() {
                return Ok(false);
            }
            room(t, Kind::StoredSecret, made.len(), MOST_STORED_SECRETS)?;
            made.iter().try_for_each(|secret| insert(t, Kind::StoredSecret, secret))?;
            Ok(true)
        })
        .await
    }

    /// The secrets of a store, by name.
    pub fn stored_secrets(&self, store: &str) -> Result<Vec<Resource>, CatalogError> {
        let mut all = self.resources(Kind::StoredSecret)?;
        all.retain(|secret| secret.settings["store"] == store);
        Ok(all)
    }

    /// Forgets a store, with its secrets if `force` is set. `None` if it is not there, false if it was kept for the
    /// secrets in it.
    pub async fn remove_secrets_store(&self, id: &str, force: bool) -> Result<Option<bool>, CatalogError> {
        let id = id.to_owned();
        self.change(move |t| {
            if find(t, Kind::SecretsStore, &id)?.is_none() {
                return Ok(None);
            }
            let all = all_of(t, Kind::StoredSecret)?;
            let its: Vec<&Resource> = all.iter().filter(|secret| secret.settings["store"] == id).collect();
            if !its.is_empty() && !force {
                return Ok(Some(false));
            }
            let sql = "DELETE FROM resource WHERE kind = ? AND id = ?";
            for secret in its {
                t.execute(sql, [Kind::StoredSecret.key(), &secret.id])?;
            }
            t.execute(sql, [Kind::SecretsStore.key(), &id])?;
            Ok(Some(true))
        })
        .await
    }
}

/// Refuses `more` of a kind where `most` may be.
fn room(t: &Transaction<'_>, kind: Kind, more: usize, most: usize) -> Result<(), CatalogError> {
    match all_of(t, kind)?.len() + more > most {
        true => Err(CatalogError::Full(most)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn made(id: &str, name: &str, settings: serde_json::Value) -> Resource {
        Resource { id: id.into(), name: name.into(), created_ms: 1, settings }
    }

    fn secret(n: usize) -> Resource {
        made(&format!("id{n}"), &format!("N{n}"), json!({ "store": "s", "sealed": "old" }))
    }

    #[tokio::test]
    async fn there_is_one_store_with_so_many_secrets_and_it_goes_with_them_only_if_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("c.sqlite")).unwrap();
        assert!(!catalog.add_stored_secrets("s", vec![secret(0)]).await.unwrap());
        catalog.add_secrets_store(made("s", "first", json!({}))).await.unwrap();
        let second = catalog.add_secrets_store(made("t", "second", json!({}))).await;
        assert!(matches!(second, Err(CatalogError::Full(1))));
        assert!(
            catalog
                .add_stored_secrets("s", (0..MOST_STORED_SECRETS - 1).map(secret).collect())
                .await
                .unwrap()
        );
        let twice = catalog.add_stored_secrets("s", vec![secret(3)]).await;
        assert!(matches!(twice, Err(CatalogError::Exists(name)) if name == "N3"));
        let many = catalog.add_stored_secrets("s", vec![secret(200), secret(201)]).await;
        assert!(matches!(many, Err(CatalogError::Full(MOST_STORED_SECRETS))));
        assert_eq!(catalog.stored_secrets("s").unwrap().len(), MOST_STORED_SECRETS - 1, "all or none");
        assert_eq!(catalog.remove_secrets_store("t", true).await.unwrap(), None);
        assert_eq!(catalog.remove_secrets_store("s", false).await.unwrap(), Some(false));
        assert_eq!(catalog.remove_secrets_store("s", true).await.unwrap(), Some(true));
        assert!(catalog.resources(Kind::StoredSecret).unwrap().is_empty());
        assert_eq!(catalog.remove_secrets_store("s", true).await.unwrap(), None);
    }

    #[tokio::test]
    async fn stored_secrets_are_sealed_anew_with_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("c.sqlite")).unwrap();
        catalog.add_secrets_store(made("s", "first", json!({}))).await.unwrap();
        catalog.add_stored_secrets("s", vec![secret(1), secret(2)]).await.unwrap();
        let again = |script: &str, name: &str, sealed: &str| {
            assert_eq!((script, sealed), ("", "old"));
            if name.ends_with("id2") { Err("lost".to_owned()) } else { Ok(Some(format!("new {name}"))) }
        };
        let done = catalog.reseal(Arc::new(again)).await.unwrap();
        assert_eq!((done.changed, done.unreadable), (1, 1));
        let kept = catalog.resource(Kind::StoredSecret, "id1").unwrap().unwrap();
        assert_eq!(kept.settings["sealed"], "new secrets_store/id1");
    }
}
