//! The rows of one account's images.

use std::collections::HashSet;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use skep_store::{BlobId, Schema, StoreError};

/// `touched` is when somebody last said that he is about to need something, `released` when the last manifest that
/// named it went: what was released after it was touched is in nobody's way.
pub(crate) const SCHEMA: Schema = Schema(&["
    CREATE TABLE blob(digest TEXT PRIMARY KEY, file TEXT NOT NULL, size INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE link(
        repository TEXT NOT NULL, digest TEXT NOT NULL, touched INTEGER NOT NULL, released INTEGER NOT NULL,
        PRIMARY KEY(repository, digest)) STRICT, WITHOUT ROWID;
    CREATE INDEX link_digest ON link(digest);
    CREATE TABLE manifest(
        repository TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, subject TEXT,
        touched INTEGER NOT NULL, released INTEGER NOT NULL, content BLOB NOT NULL,
        PRIMARY KEY(repository, digest)) STRICT;
    CREATE INDEX manifest_subject ON manifest(repository, subject) WHERE subject IS NOT NULL;
    CREATE TABLE uses(
        repository TEXT NOT NULL, manifest TEXT NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY(repository, manifest, digest)) STRICT, WITHOUT ROWID;
    CREATE INDEX uses_digest ON uses(repository, digest);
    CREATE TABLE tag(
        repository TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY(repository, name)) STRICT, WITHOUT ROWID;
    CREATE INDEX tag_digest ON tag(repository, digest);
", "
    DROP INDEX manifest_subject;
    CREATE INDEX manifest_subject ON manifest(repository, subject, digest) WHERE subject IS NOT NULL;
"]);

/// A content file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BlobRow {
    pub file: BlobId,
    pub size: u64,
}

/// A manifest that is to be kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ManifestRow {
    pub digest: String,
    pub media_type: String,
    pub content: Bytes,
}

/// What is known of a manifest without its content, which may be large.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KnownManifest {
    pub digest: String,
    pub media_type: String,
    pub size: usize,
}

fn blob_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<BlobRow> {
    let file: String = row.get(0)?;
    let file = BlobId::parse(&file).ok_or_else(|| rusqlite::Error::InvalidColumnName(file))?;
    Ok(BlobRow { file, size: row.get::<_, i64>(1)?.unsigned_abs() })
}

/// The names of all files, and how much is in them.
pub(crate) fn files(c: &Connection) -> Result<(HashSet<BlobId>, u64), StoreError> {
    let mut query = c.prepare("SELECT file, size FROM blob")?;
    let rows: Vec<BlobRow> = query.query_map([], blob_row)?.collect::<Result<_, _>>()?;
    let total = rows.iter().map(|row| row.size).sum();
    Ok((rows.into_iter().map(|row| row.file).collect(), total))
}

/// A blob of a repository.
pub(crate) fn blob(c: &Connection, repository: &str, digest: &str) -> Result<Option<BlobRow>, StoreError> {
    let sql = "SELECT file, size FROM blob JOIN link USING(digest) WHERE link.repository = ? AND digest = ?";
    Ok(c.prepare_cached(sql)?.query_row([repository, digest], blob_row).optional()?)
}

pub(crate) fn any_blob(c: &Connection, digest: &str) -> Result<Option<BlobRow>, StoreError> {
    let sql = "SELECT file, size FROM blob WHERE digest = ?";
    Ok(c.prepare_cached(sql)?.query_row([digest], blob_row).optional()?)
}

pub(crate) fn insert_blob(t: &Transaction<'_>, digest: &str, row: &BlobRow) -> Result<(), StoreError> {
    let size = i64::try_from(row.size).unwrap_or(i64::MAX);
    t.prepare_cached("INSERT INTO blob VALUES (?, ?, ?)")?.execute(params![
        digest,
        row.file.as_str(),
        size
    ])?;
    Ok(())
}

/// Makes a blob part of a repository, or says that it is about to be needed there.
pub(crate) fn link(t: &Transaction<'_>, repository: &str, digest: &str, now: i64) -> Result<(), StoreError> {
    let sql = "INSERT INTO link VALUES (?1, ?2, ?3, 0)
        ON CONFLICT DO UPDATE SET touched = max(touched, released + 1, excluded.touched)";
    t.prepare_cached(sql)?.execute(params![repository, digest, now])?;
    Ok(())
}

/// When a blob of a repository was last asked for and released.
pub(crate) fn touched(
    c: &Connection,
    repository: &str,
    digest: &str,
) -> Result<Option<(i64, i64)>, StoreError> {
    let sql = "SELECT touched, released FROM link WHERE repository = ? AND digest = ?";
    let row = c.prepare_cached(sql)?.query_row([repository, digest], |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(row.optional()?)
}

/// Takes a blob out of a repository; false if it was not in it.
pub(crate) fn unlink(t: &Transaction<'_>, repository: &str, digest: &str) -> Result<bool, StoreError> {
    let sql = "DELETE FROM link WHERE repository = ? AND digest = ?";
    Ok(t.prepare_cached(sql)?.execute([repository, digest])? > 0)
}

pub(crate) fn is_used(c: &Connection, repository: &str, digest: &str) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS(SELECT 1 FROM uses WHERE repository = ? AND digest = ?)";
    Ok(c.prepare_cached(sql)?.query_row([repository, digest], |row| row.get(0))?)
}

/// Removes the blobs that no repository has; what is to be removed of them.
pub(crate) fn remove_unlinked(t: &Transaction<'_>) -> Result<Vec<BlobRow>, StoreError> {
    let sql = "DELETE FROM blob WHERE digest NOT IN (SELECT digest FROM link) RETURNING file, size";
    Ok(t.prepare_cached(sql)?.query_map([], blob_row)?.collect::<Result<_, _>>()?)
}

pub(crate) fn manifest(
    c: &Connection,
    repository: &str,
    digest: &str,
) -> Result<Option<KnownManifest>, StoreError> {
    let sql = "SELECT digest, media_type, length(content) FROM manifest WHERE repository = ? AND digest = ?";
    let row = c.prepare_cached(sql)?.query_row([repository, digest], |row| {
        let size = row.get::<_, isize>(2)?.unsigned_abs();
        Ok(KnownManifest { digest: row.get(0)?, media_type: row.get(1)?, size })
    });
    Ok(row.optional()?)
}

/// Of what kind a manifest is, and all of it.
pub(crate) fn content(
    c: &Connection,
    repository: &str,
    digest: &str,
) -> Result<Option<(String, Vec<u8>)>, StoreError> {
    let sql = "SELECT media_type, content FROM manifest WHERE repository = ? AND digest = ?";
    let row = c.prepare_cached(sql)?.query_row([repository, digest], |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(row.optional()?)
}

pub(crate) fn has_manifest(c: &Connection, repository: &str, digest: &str) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS(SELECT 1 FROM manifest WHERE repository = ? AND digest = ?)";
    Ok(c.prepare_cached(sql)?.query_row([repository, digest], |row| row.get(0))?)
}

pub(crate) fn count_manifests(c: &Connection) -> Result<i64, StoreError> {
    Ok(c.prepare_cached("SELECT count(*) FROM manifest")?.query_row([], |row| row.get(0))?)
}

pub(crate) fn count_tags(c: &Connection) -> Result<i64, StoreError> {
    Ok(c.prepare_cached("SELECT count(*) FROM tag")?.query_row([], |row| row.get(0))?)
}

const REFERRERS: &str = "SELECT digest FROM manifest WHERE repository = ? AND subject = ? AND digest > ?
    ORDER BY digest LIMIT ?";

/// The digests of those that say something about `subject`, after `last`, in order.
pub(crate) fn referrers(
    c: &Connection,
    repository: &str,
    subject: &str,
    last: &str,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let mut query = c.prepare_cached(REFERRERS)?;
    let rows = query.query_map(params![repository, subject, last, limit], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn insert_manifest(
    t: &Transaction<'_>,
    repository: &str,
    row: &ManifestRow,
    subject: Option<&str>,
    uses: &[String],
    now: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO manifest VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)
        ON CONFLICT DO UPDATE SET touched = max(touched, released + 1, excluded.touched)";
    t.prepare_cached(sql)?.execute(params![
        repository,
        row.digest,
        row.media_type,
        subject,
        now,
        &row.content[..]
    ])?;
    for digest in uses {
        let sql = "INSERT INTO uses VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
        t.prepare_cached(sql)?.execute([repository, &row.digest, digest])?;
    }
    Ok(())
}

/// Removes a manifest with its tags; what it named is released. False if it is not there.
pub(crate) fn remove_manifest(
    t: &Transaction<'_>,
    repository: &str,
    digest: &str,
    now: i64,
) -> Result<bool, StoreError> {
    let of = "WHERE repository = ?1 AND digest IN (SELECT digest FROM uses WHERE repository = ?1 AND manifest = ?2)";
    // Not before they were touched: the clock may have been set back since.
    for table in ["link", "manifest"] {
        let sql = format!("UPDATE {table} SET released = max(touched, ?3) {of}");
        t.prepare_cached(&sql)?.execute(params![repository, digest, now])?;
    }
    t.prepare_cached("DELETE FROM uses WHERE repository = ? AND manifest = ?")?
        .execute([repository, digest])?;
    t.prepare_cached("DELETE FROM tag WHERE repository = ? AND digest = ?")?.execute([repository, digest])?;
    let sql = "DELETE FROM manifest WHERE repository = ? AND digest = ?";
    Ok(t.prepare_cached(sql)?.execute([repository, digest])? > 0)
}

pub(crate) fn tagged(c: &Connection, repository: &str, tag: &str) -> Result<Option<String>, StoreError> {
    let sql = "SELECT digest FROM tag WHERE repository = ? AND name = ?";
    Ok(c.prepare_cached(sql)?.query_row([repository, tag], |row| row.get(0)).optional()?)
}

/// Lets a tag mean a manifest; the one that it meant before is released.
pub(crate) fn set_tag(
    t: &Transaction<'_>,
    repository: &str,
    tag: &str,
    digest: &str,
    now: i64,
) -> Result<(), StoreError> {
    if let Some(before) = tagged(t, repository, tag)?.filter(|before| before != digest) {
        release(t, repository, &before, now)?;
    }
    let sql = "INSERT INTO tag VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest";
    t.prepare_cached(sql)?.execute([repository, tag, digest])?;
    Ok(())
}

/// Takes a tag away; false if it is not there.
pub(crate) fn remove_tag(
    t: &Transaction<'_>,
    repository: &str,
    tag: &str,
    now: i64,
) -> Result<bool, StoreError> {
    let Some(digest) = tagged(t, repository, tag)? else { return Ok(false) };
    release(t, repository, &digest, now)?;
    t.prepare_cached("DELETE FROM tag WHERE repository = ? AND name = ?")?.execute([repository, tag])?;
    Ok(true)
}

fn release(t: &Transaction<'_>, repository: &str, digest: &str, now: i64) -> Result<(), StoreError> {
    let sql = "UPDATE manifest SET released = max(touched, ?3) WHERE repository = ?1 AND digest = ?2";
    t.prepare_cached(sql)?.execute(params![repository, digest, now])?;
    Ok(())
}

/// Tags of a repository after `last`, in order.
pub(crate) fn tags(
    c: &Connection,
    repository: &str,
    last: &str,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT name FROM tag WHERE repository = ? AND name > ? ORDER BY name LIMIT ?";
    let mut query = c.prepare_cached(sql)?;
    let rows = query.query_map(params![repository, last, limit], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn has_repository(c: &Connection, repository: &str) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS(SELECT 1 FROM manifest WHERE repository = ?1)
        OR EXISTS(SELECT 1 FROM link WHERE repository = ?1)";
    Ok(c.prepare_cached(sql)?.query_row([repository], |row| row.get(0))?)
}

/// Repositories with a manifest, after `last`, in order.
pub(crate) fn repositories(c: &Connection, last: &str, limit: i64) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT DISTINCT repository FROM manifest WHERE repository > ? ORDER BY repository LIMIT ?";
    let mut query = c.prepare_cached(sql)?;
    let rows = query.query_map(params![last, limit], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Gives `take` each repository and tag, in order.
pub(crate) fn all_tags<E: From<rusqlite::Error>>(
    c: &Connection,
    mut take: impl FnMut(&str, &str) -> Result<(), E>,
) -> Result<(), E> {
    let mut query = c.prepare_cached("SELECT repository, name FROM tag ORDER BY repository, name")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let text = |column: usize| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        take(text(0)?, text(1)?)?;
    }
    Ok(())
}

/// Manifests that have no tag, that no index names, and that nobody is about to tag or name.
pub(crate) fn loose_manifests(c: &Connection, settled: i64) -> Result<Vec<(String, String)>, StoreError> {
    let sql = "SELECT repository, digest FROM manifest m
        WHERE (released >= touched OR touched < ?)
        AND NOT EXISTS(SELECT 1 FROM tag WHERE repository = m.repository AND digest = m.digest)
        AND NOT EXISTS(SELECT 1 FROM uses WHERE repository = m.repository AND digest = m.digest)
        AND NOT EXISTS(SELECT 1 FROM manifest s WHERE s.repository = m.repository AND s.digest = m.subject)";
    let mut query = c.prepare_cached(sql)?;
    let rows = query.query_map([settled], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Takes blobs out of repositories where no manifest names them and nobody is about to; how many.
pub(crate) fn remove_loose_links(t: &Transaction<'_>, settled: i64) -> Result<usize, StoreError> {
    let sql = "DELETE FROM link WHERE (released >= touched OR touched < ?)
        AND NOT EXISTS(SELECT 1 FROM uses WHERE repository = link.repository AND digest = link.digest)";
    Ok(t.prepare_cached(sql)?.execute([settled])?)
}

#[cfg(test)]
mod tests {
    use skep_store::Database;

    use super::*;

    #[tokio::test]
    async fn a_file_of_the_first_format_is_read_and_referrers_come_from_their_index() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.sqlite");
        let first = Database::open(&path, Schema(&SCHEMA.0[..1])).unwrap();
        let put = |t: &Transaction<'_>| {
            for digest in ["c", "a", "b"] {
                let row = ManifestRow {
                    digest: digest.to_owned(),
                    media_type: "m".to_owned(),
                    content: digest.into(),
                };
                insert_manifest(t, "app", &row, Some("s"), &[], 1)?;
            }
            Ok(())
        };
        first.write(put).await.unwrap();
        drop(first);
        let db = Database::open(&path, SCHEMA).unwrap();
        let found = db.read(|c| referrers(c, "app", "s", "a", 5)).unwrap();
        assert_eq!(found, ["b", "c"]);
        let known = db.read(|c| manifest(c, "app", "a")).unwrap().unwrap();
        assert_eq!((known.media_type.as_str(), known.size), ("m", 1));
        let plan: Vec<String> = db
            .read(|c| {
                let mut query = c.prepare(&format!("EXPLAIN QUERY PLAN {REFERRERS}"))?;
                let rows = query.query_map(params!["app", "s", "a", 5], |row| row.get(3))?;
                Ok::<_, StoreError>(rows.collect::<Result<_, _>>()?)
            })
            .unwrap();
        assert_eq!(plan.len(), 1, "nothing is sorted: {plan:?}");
        assert!(plan[0].contains("manifest_subject"), "{plan:?}");
    }
}
