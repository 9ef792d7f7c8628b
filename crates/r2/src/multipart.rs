//! Objects that arrive in parts (<https://developers.cloudflare.com/r2/objects/multipart-objects/>).

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use futures_util::Stream;
use md5::{Digest, Md5};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use skep_store::{BlobId, StoreError};
use skep_wire::BoxError;

use crate::R2Error;
use crate::bucket::Bucket;
use crate::change::{Action, Change};
use crate::lifecycle::{self, LifecycleRule};
use crate::limits::{self, MAX_OBJECT_BYTES, MAX_PARTS, MIN_PART_BYTES};
use crate::model::{Object, ObjectOptions, SsecInfo};
use crate::rows::{self, After, Content, Garbage, Listed, Part};
use crate::ssec::{self, SsecKey};
use crate::sweep::BATCH;
use crate::write::ROW;

/// The record of an upload that has ended is kept until so long after its start.
const RECORD_MS: i64 = 7 * 24 * 3600 * 1000;

/// States of an upload, as stored.
pub(crate) const RUNNING: i64 = 0;
const COMPLETED: i64 = 1;
const ABORTED: i64 = 2;

/// A part as the caller of complete names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PublishedPart {
    /// What the upload of the part answered.
    pub etag: String,
    /// Its number.
    pub part: u32,
}

/// What is known of an upload; stored as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UploadMeta {
    pub options: ObjectOptions,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ssec: Option<SsecInfo>,
}

struct Upload {
    state: i64,
    meta: UploadMeta,
}

impl Bucket {
    /// Starts an upload; returns its id.
    pub async fn create_multipart_upload(
        &self,
        key: &str,
        options: ObjectOptions,
        ssec: Option<&SsecKey>,
    ) -> Result<String, R2Error> {
        limits::key(key)?;
        limits::metadata(&options.http_fields, &options.custom_fields)?;
        self.core.blobs.quota().take(ROW)?;
        let id = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(|u| u.simple().to_string()).concat();
        let meta = rows::json(&UploadMeta { options, ssec: ssec.map(SsecKey::info) })?;
        let (row, key, now) = (id.clone(), key.to_owned(), self.core.clock.now_ms() as i64);
        let write = move |t: &Transaction<'_>| -> Result<_, StoreError> {
            t.prepare_cached(
                "INSERT INTO uploads(id, key, state, started, meta) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![row, key, RUNNING, now, meta])?;
            Ok(Ok(((), Vec::new())))
        };
        self.core.commit(Vec::new(), write).await?;
        Ok(id)
    }

    /// Stores a part, replacing an earlier one of the same number; returns its etag.
    pub async fn upload_part<S>(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        ssec: Option<&SsecKey>,
        length: Option<u64>,
        content: &mut S,
    ) -> Result<String, R2Error>
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
    {
        limits::key(key)?;
        if !(1..=MAX_PARTS).contains(&number) {
            return Err(R2Error::invalid_argument("Part number must be between 1 and 10000, inclusive."));
        }
        let found = self.core.db.read(|c| find(c, key, upload))?.filter(|upload| upload.state == RUNNING);
        let found = found.ok_or_else(R2Error::no_such_upload)?;
        ssec::check(found.meta.ssec.as_ref(), ssec)?;
        let received = self.core.receive(content, length, None, ssec).await?;
        let new = received.blobs();
        let part = Part { number, size: received.size, md5: received.md5.to_vec(), place: received.place };
        let (key, upload) = (key.to_owned(), upload.to_owned());
        let write = move |t: &Transaction<'_>| -> Result<_, StoreError> {
            if find(t, &key, &upload)?.is_none_or(|upload| upload.state != RUNNING) {
                return Ok(Err(R2Error::no_such_upload()));
            }
            let old = rows::remove_part(t, &upload, number)?;
            rows::insert_part(t, &upload, &part)?;
            Ok(Ok(((), garbage(upload, old.into_iter().collect()))))
        };
        self.core.commit(new, write).await?;
        Ok(hex::encode(received.md5))
    }

    /// Makes the parts an object, visible from here on.
    pub async fn complete_multipart_upload(
        &self,
        key: &str,
        upload: &str,
        parts: Vec<PublishedPart>,
    ) -> Result<Object, R2Error> {
        limits::key(key)?;
        let (key, upload) = (key.to_owned(), upload.to_owned());
        let (clock, rules) = (self.core.clock.clone(), self.core.rules.clone());
        let write = move |t: &Transaction<'_>| -> Result<_, StoreError> {
            let now = clock.now_ms() as i64;
            let found = match find(t, &key, &upload)? {
                None => return Ok(Err(R2Error::internal())),
                Some(found) if found.state != RUNNING => return Ok(Err(R2Error::no_such_upload())),
                Some(found) => found,
            };
            let chosen = match choose(rows::listed(t, &upload)?, &parts) {
                Ok(chosen) => chosen,
                Err(error) => return Ok(Err(error)),
            };
            if rows::locked(t, &rules.get(), &key, now)? {
                return Ok(Err(R2Error::object_locked()));
            }
            let object = assemble(key, &chosen, found.meta, now);
            let mut left = drop_unlisted(t, &upload, &chosen)?;
            left.extend(rows::remove(t, &object.name)?);
            rows::insert(t, &object, &Content::Parts(upload.clone()))?;
            set_state(t, &upload, COMPLETED)?;
            let change = Change::made(Action::CompleteMultipart, &object);
            Ok(Ok((object, left, vec![change])))
        };
        self.core.commit_change(Vec::new(), write).await
    }

    /// Ends an upload and drops its parts. One that has ended already is left as it is.
    pub async fn abort_multipart_upload(&self, key: &str, upload: &str) -> Result<(), R2Error> {
        limits::key(key)?;
        let (key, upload) = (key.to_owned(), upload.to_owned());
        let write = move |t: &Transaction<'_>| -> Result<_, StoreError> {
            match find(t, &key, &upload)? {
                None => Ok(Err(R2Error::internal())),
                Some(found) if found.state != RUNNING => Ok(Ok(((), Vec::new()))),
                Some(_) => {
                    let blobs = rows::remove_parts(t, &upload)?;
                    set_state(t, &upload, ABORTED)?;
                    Ok(Ok(((), garbage(upload, blobs))))
                }
            }
        };
        self.core.commit(Vec::new(), write).await
    }

    /// Ends uploads that are old enough by the lifecycle rules, and removes old records of those that have ended;
    /// returns how many.
    pub(crate) async fn end_uploads(&self, rules: &[LifecycleRule], now: i64) -> Result<usize, R2Error> {
        let mut done = 0;
        loop {
            let forget = move |t: &Transaction<'_>| Ok(Ok((forget(t, now - RECORD_MS)?, Vec::new())));
            let count = self.core.commit(Vec::new(), forget).await?;
            done += count;
            if count < BATCH {
                break;
            }
        }
        let Some(cutoff) = lifecycle::upload_cutoff(rules, now) else { return Ok(done) };
        let mut after = After { ms: i64::MIN, row: 0 };
        loop {
            let page = self.core.db.read(|c| running(c, after, cutoff))?;
            let full = page.len() == BATCH;
            after = page.last().map_or(after, |last| After { ms: last.started, row: last.row });
            let old = page.into_iter().filter(|u| lifecycle::ends(rules, &u.key, u.started, now));
            let old: Vec<String> = old.map(|upload| upload.id).collect();
            if !old.is_empty() {
                done += self.core.commit(Vec::new(), move |t| Ok(Ok(abort_all(t, old)?))).await?;
            }
            if !full {
                return Ok(done);
            }
        }
    }
}

/// Removes records of uploads that have ended.
fn forget(t: &Transaction<'_>, before: i64) -> Result<usize, StoreError> {
    let sql = "DELETE FROM uploads WHERE id IN (SELECT id FROM uploads WHERE started < ?1 AND state <> ?2 LIMIT ?3)";
    Ok(t.prepare_cached(sql)?.execute(params![before, RUNNING, BATCH as i64])?)
}

/// An upload that has not ended.
struct Running {
    row: i64,
    id: String,
    key: String,
    started: i64,
}

/// Those that were started after a place and not after `until`, oldest first.
fn running(c: &Connection, after: After, until: i64) -> Result<Vec<Running>, StoreError> {
    let mut statement = c.prepare_cached(
        "SELECT rowid, id, key, started FROM uploads
         WHERE state = ?1 AND (started, rowid) > (?2, ?3) AND started <= ?4 ORDER BY started, rowid LIMIT ?5",
    )?;
    let rows = statement.query_map(params![RUNNING, after.ms, after.row, until, BATCH as i64], |row| {
        Ok(Running { row: row.get(0)?, id: row.get(1)?, key: row.get(2)?, started: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn abort_all(t: &Transaction<'_>, uploads: Vec<String>) -> Result<(usize, Vec<Garbage>), StoreError> {
    let (mut count, mut left) = (0, Vec::new());
    for upload in uploads {
        let state: Option<i64> = t
            .prepare_cached("SELECT state FROM uploads WHERE id = ?1")?
            .query_row([&upload], |row| row.get(0))
            .optional()?;
        if state == Some(RUNNING) {
            let blobs = rows::remove_parts(t, &upload)?;
            set_state(t, &upload, ABORTED)?;
            left.extend(garbage(upload, blobs));
            count += 1;
        }
    }
    Ok((count, left))
}

fn find(c: &Connection, key: &str, upload: &str) -> Result<Option<Upload>, StoreError> {
    let mut statement = c.prepare_cached("SELECT state, meta FROM uploads WHERE id = ?1 AND key = ?2")?;
    let found = statement
        .query_row([upload, key], |row| Ok(Upload { state: row.get(0)?, meta: rows::from_json(row, 1)? }));
    Ok(found.optional()?)
}

fn set_state(t: &Transaction<'_>, upload: &str, state: i64) -> Result<(), StoreError> {
    t.prepare_cached("UPDATE uploads SET state = ?2 WHERE id = ?1")?.execute(params![upload, state])?;
    Ok(())
}

/// The stored parts that `listed` names, by number. Pure.
fn choose(stored: Vec<Listed>, listed: &[PublishedPart]) -> Result<Vec<Listed>, R2Error> {
    let mut seen = HashSet::new();
    if listed.is_empty() || listed.len() > MAX_PARTS as usize || !listed.iter().all(|p| seen.insert(p.part)) {
        return Err(R2Error::internal());
    }
    let mut by_number: BTreeMap<u32, Listed> = stored.into_iter().map(|part| (part.number, part)).collect();
    let mut chosen = Vec::with_capacity(listed.len());
    for published in listed {
        let part = by_number.remove(&published.part).filter(|part| hex::encode(&part.md5) == published.etag);
        chosen.push(part.ok_or_else(R2Error::invalid_part)?);
    }
    let small = |parts: &[Listed]| {
        parts.split_last().is_some_and(|(_, head)| head.iter().any(|p| p.size < MIN_PART_BYTES))
    };
    if small(&chosen) {
        return Err(R2Error::entity_too_small());
    }
    chosen.sort_by_key(|part| part.number);
    if let [first, .., last] = chosen.as_slice() {
        let uneven = chosen.iter().take(chosen.len() - 1).any(|part| part.size != first.size);
        if small(&chosen) || uneven || last.size > first.size {
            return Err(R2Error::bad_upload());
        }
    }
    if chosen.iter().map(|part| part.size).sum::<u64>() > MAX_OBJECT_BYTES {
        return Err(R2Error::entity_too_large());
    }
    Ok(chosen)
}

fn assemble(key: String, parts: &[Listed], meta: UploadMeta, uploaded: i64) -> Object {
    let mut md5 = Md5::new();
    parts.iter().for_each(|part| md5.update(&part.md5));
    Object {
        name: key,
        version: uuid::Uuid::new_v4().simple().to_string(),
        size: parts.iter().map(|part| part.size).sum(),
        etag: format!("{}-{}", hex::encode(md5.finalize()), parts.len()),
        uploaded,
        http_fields: Some(meta.options.http_fields),
        custom_fields: Some(meta.options.custom_fields),
        range: None,
        checksums: BTreeMap::new(),
        storage_class: meta.options.storage_class,
        ssec: meta.ssec,
    }
}

fn drop_unlisted(t: &Transaction<'_>, upload: &str, chosen: &[Listed]) -> Result<Vec<Garbage>, StoreError> {
    let keep: HashSet<u32> = chosen.iter().map(|part| part.number).collect();
    let mut blobs = Vec::new();
    for part in rows::listed(t, upload)? {
        if !keep.contains(&part.number) {
            blobs.extend(rows::remove_part(t, upload, part.number)?);
        }
    }
    Ok(garbage(upload.to_owned(), blobs))
}

/// Files of an upload, which nobody can be reading.
fn garbage(upload: String, blobs: Vec<BlobId>) -> Vec<Garbage> {
    vec![Garbage { version: upload, blobs }]
}
