//! All sealed values of an account, sealed anew.

use std::sync::Arc;

use rusqlite::params;
use serde_json::Value as Json;

use crate::resources::{all_of, update};
use crate::secrets_store::STORED_SECRET_SEAL;
use crate::{Catalog, CatalogError, Kind};

/// Versions that are rewritten in one transaction.
const BATCH: i64 = 100;

/// What became of sealed values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// So many were sealed anew.
    pub changed: u64,
    /// So many cannot be read, by whichever key.
    pub unreadable: u64,
}

/// What stands before the id of a Hyperdrive configuration where a secret has the name of its binding; its script is empty.
pub const HYPERDRIVE_SEAL: &str = "hyperdrive/";

/// Gives a sealed value anew: script, binding, value. `Ok(None)` if it is as it should be, an error if it cannot be read.
pub type Again = dyn Fn(&str, &str, &str) -> Result<Option<String>, String> + Send + Sync;

impl Catalog {
    /// Passes all sealed values, of all versions, of Hyperdrive configurations and of the Secrets Store, to `again`, and keeps what it gives. What
    /// was done stays if it is broken off.
    pub async fn reseal(&self, again: Arc<Again>) -> Result<Resealed, CatalogError> {
        let mut all = self.reseal_resources(again.clone()).await?;
        let mut after = String::new();
        loop {
            let again = again.clone();
            let (last, batch) = self
                .change(move |t| {
                    let mut batch = Resealed::default();
                    let mut query = t.prepare_cached(
                        "SELECT version.id, script.name, version.content FROM version \
                         JOIN script ON script.tag = version.script WHERE version.id > ? ORDER BY version.id LIMIT ?",
                    )?;
                    let rows = query.query_map(params![after, BATCH], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                    })?;
                    let rows: Vec<(String, String, String)> = rows.collect::<Result<_, _>>()?;
                    let mut update = t.prepare_cached("UPDATE version SET content = ? WHERE id = ?")?;
                    for (id, script, content) in &rows {
                        if let Some(content) = anew(script, content, &*again, &mut batch)? {
                            update.execute([&content, id])?;
                        }
                    }
                    Ok((rows.last().map(|(id, ..)| id.clone()), batch))
                })
                .await?;
            all.changed += batch.changed;
            all.unreadable += batch.unreadable;
            match last {
                Some(last) => after = last,
                None => return Ok(all),
            }
        }
    }
}

impl Catalog {
    async fn reseal_resources(&self, again: Arc<Again>) -> Result<Resealed, CatalogError> {
        self.change(move |t| {
            let mut done = Resealed::default();
            for (kind, seal) in
                [(Kind::Hyperdrive, HYPERDRIVE_SEAL), (Kind::StoredSecret, STORED_SECRET_SEAL)]
            {
                for mut row in all_of(t, kind)? {
                    let Some(sealed) = row.settings["sealed"].as_str() else { continue };
                    match again("", &format!("{seal}{}", row.id), sealed) {
                        Ok(None) => {}
                        Ok(Some(value)) => {
                            row.settings["sealed"] = value.into();
                            update(t, kind, &row)?;
                            done.changed += 1;
                        }
                        Err(_) => done.unreadable += 1,
                    }
                }
            }
            Ok(done)
        })
        .await
    }
}

/// A version's content with its values sealed anew; `None` if nothing changes.
fn anew(
    script: &str,
    content: &str,
    again: &Again,
    done: &mut Resealed,
) -> Result<Option<String>, CatalogError> {
    if !content.contains("\"sealed\"") {
        return Ok(None);
    }
    let mut content: Json =
        serde_json::from_str(content).map_err(|error| CatalogError::Invalid(error.to_string()))?;
    let before = done.changed;
    for binding in content["bindings"].as_array_mut().into_iter().flatten() {
        let (Some(name), Some(sealed)) = (binding["name"].as_str(), binding["sealed"].as_str()) else {
            continue;
        };
        match again(script, name, sealed) {
            Ok(None) => {}
            Ok(Some(value)) => {
                binding["sealed"] = value.into();
                done.changed += 1;
            }
            Err(_) => done.unreadable += 1,
        }
    }
    Ok((done.changed > before).then(|| content.to_string()))
}
