//! Multipart uploads that have not ended, and their parts, as the S3 API lists them.

use rusqlite::{OptionalExtension, params};

use crate::R2Error;
use crate::bucket::Bucket;
use crate::cursor;
use crate::model::StorageClass;
use crate::multipart::{RUNNING, UploadMeta};
use crate::ranges::Span;
use crate::rows::{self, Content};

/// An upload that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadInfo {
    /// The key of its object.
    pub key: String,
    /// Its id.
    pub id: String,
    /// When it was started, in milliseconds since the Unix epoch.
    pub started: i64,
    /// The storage class of its object.
    pub storage_class: StorageClass,
}

/// A part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Its number.
    pub number: u32,
    /// Bytes.
    pub size: u64,
    /// Hex, without quotes.
    pub etag: String,
}

/// Where a part of an object lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartOf {
    /// Its bytes.
    pub span: Span,
    /// How many there are; `None` for an object that was stored at once, which is its only one.
    pub count: Option<usize>,
    /// Bytes of the whole object.
    pub size: u64,
}

impl Bucket {
    /// The part of that number, counted from 1, of an object; `None` if it has fewer. 10007 if there is no object.
    pub fn part_of(&self, key: &str, number: usize) -> Result<Option<PartOf>, R2Error> {
        let found = self.core.db.read(|c| {
            let Some((object, content)) = rows::find(c, key)? else { return Ok(None) };
            let sizes = match content {
                Content::One(_) => vec![object.size],
                Content::Parts(upload) => rows::listed(c, &upload)?.iter().map(|part| part.size).collect(),
            };
            Ok::<_, skep_store::StoreError>(Some((object, sizes)))
        });
        let (object, sizes) = found?.ok_or_else(R2Error::no_such_key)?;
        let Some(at) = number.checked_sub(1).filter(|at| *at < sizes.len()) else { return Ok(None) };
        let span = Span { offset: sizes[..at].iter().sum(), length: sizes[at] };
        let count = object.etag.contains('-').then_some(sizes.len());
        Ok(Some(PartOf { span, count, size: object.size }))
    }

    /// Uploads whose keys start with `prefix`, by key and id, after `after`; `limit` at most.
    pub fn uploads(
        &self,
        prefix: &str,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<UploadInfo>, R2Error> {
        let (key, id) = after.unwrap_or(("", ""));
        let end = cursor::after_prefix(prefix.as_bytes());
        let found = self.core.db.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT key, id, started, meta FROM uploads WHERE state = 0 AND (key, id) > (?1, ?2) AND key >= ?3
                 ORDER BY key, id",
            )?;
            let mut rows = statement.query(params![key, id, prefix])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let key: String = row.get(0)?;
                if found.len() == limit || (!end.is_empty() && key.as_bytes() >= end.as_slice()) {
                    break;
                }
                let meta: UploadMeta = rows::from_json(row, 3)?;
                found.push(UploadInfo {
                    key,
                    id: row.get(1)?,
                    started: row.get(2)?,
                    storage_class: meta.options.storage_class,
                });
            }
            Ok::<_, skep_store::StoreError>(found)
        });
        Ok(found?)
    }

    /// An upload that has not ended, with all its parts by number; `None` if there is none.
    pub fn upload(&self, key: &str, id: &str) -> Result<Option<(UploadInfo, Vec<PartInfo>)>, R2Error> {
        let found = self.core.db.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT started, meta FROM uploads WHERE id = ?1 AND key = ?2 AND state = ?3",
            )?;
            let info = statement.query_row(params![id, key, RUNNING], |row| {
                let meta: UploadMeta = rows::from_json(row, 1)?;
                Ok(UploadInfo {
                    key: key.to_owned(),
                    id: id.to_owned(),
                    started: row.get(0)?,
                    storage_class: meta.options.storage_class,
                })
            });
            let Some(info) = info.optional()? else { return Ok(None) };
            let parts = rows::listed(c, id)?.into_iter().map(|part| PartInfo {
                number: part.number,
                size: part.size,
                etag: hex::encode(part.md5),
            });
            Ok::<_, skep_store::StoreError>(Some((info, parts.collect())))
        });
        Ok(found?)
    }
}
