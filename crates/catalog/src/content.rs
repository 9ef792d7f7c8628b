//! Content files: modules, assets, manifests. Each is kept once per account, whoever uses it.

use rusqlite::{OptionalExtension, params};

use crate::{Catalog, CatalogError};

/// A content file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The file.
    pub blob: String,
    /// Bytes.
    pub size: u64,
    /// The MIME type that an asset was uploaded with.
    pub content_type: Option<String>,
}

impl Catalog {
    /// Where the content of `key` is.
    pub fn content(&self, key: &str) -> Result<Option<Stored>, CatalogError> {
        self.db.read(|c| {
            let mut query = c.prepare_cached("SELECT blob, size, content_type FROM content WHERE key = ?")?;
            let row = query.query_row([key], |row| {
                Ok(Stored {
                    blob: row.get(0)?,
                    size: row.get::<_, i64>(1)?.unsigned_abs(),
                    content_type: row.get(2)?,
                })
            });
            Ok(row.optional()?)
        })
    }

    /// Of `keys`, those that are not there. What is there is kept for a while from `now_ms` on.
    pub async fn missing_content(&self, keys: Vec<String>, now_ms: i64) -> Result<Vec<String>, CatalogError> {
        self.change(move |t| {
            let mut touch = t.prepare_cached("UPDATE content SET touched = ? WHERE key = ?")?;
            let mut missing = Vec::new();
            for key in keys {
                if touch.execute(params![now_ms, key])? == 0 {
                    missing.push(key);
                }
            }
            Ok(missing)
        })
        .await
    }

    /// Names content files that are durable. Returns the files that are not needed, as their key is there already.
    pub async fn add_content(
        &self,
        contents: Vec<(String, Stored)>,
        now_ms: i64,
    ) -> Result<Vec<String>, CatalogError> {
        self.change(move |t| {
            let sql = "INSERT INTO content VALUES (?, ?, ?, ?, ?)
                       ON CONFLICT DO UPDATE SET touched = excluded.touched RETURNING blob";
            let mut add = t.prepare_cached(sql)?;
            let mut unneeded = Vec::new();
            for (key, Stored { blob, size, content_type }) in contents {
                let row = params![key, blob, size as i64, content_type, now_ms];
                let kept: String = add.query_row(row, |row| row.get(0))?;
                if kept != blob {
                    unneeded.push(blob);
                }
            }
            Ok(unneeded)
        })
        .await
    }

    /// All content files that rows name.
    pub fn all_blobs(&self) -> Result<Vec<String>, CatalogError> {
        self.db.read(|c| {
            let mut query = c.prepare_cached("SELECT blob FROM content")?;
            Ok(query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })
    }
}
