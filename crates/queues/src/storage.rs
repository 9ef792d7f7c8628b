//! The rows: which queues there are, and their messages.
//!
//! A message's number (`seq`) is its queue's in the upper bits and counts up in the lower 40: so the rows of
//! one queue lie together in the order in which they were sent, its oldest is its first, and no index is
//! needed for that. A number is never used twice. The one index gives what is due.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use skep_store::{Schema, StoreError};
use uuid::Uuid;

use crate::leases::{Leases, Place};
use crate::message::{Format, Message, Metrics, NewMessage};

/// Bits of a message's number that count within its queue.
const SEQ_BITS: u32 = 40;
/// Messages removed per transaction by the retention job.
const EXPIRE_CHUNK: i64 = 500;

/// `message.due`, `message.sent`: milliseconds since the Unix epoch. `message.attempts`: deliveries that
/// were made and counted. `queue.count`, `queue.bytes`: of its messages and their bodies.
pub(crate) const SCHEMA: Schema = Schema(&["
    CREATE TABLE queue(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
        next INTEGER NOT NULL, count INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
    CREATE TABLE message(
        seq INTEGER PRIMARY KEY, queue INTEGER NOT NULL, due INTEGER NOT NULL, sent INTEGER NOT NULL,
        attempts INTEGER NOT NULL, format INTEGER NOT NULL, id BLOB NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE INDEX message_due ON message(queue, due);"]);

/// What waits and is not under delivery.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Messages that are due, the longest due first, as many as were asked for.
    pub due: Vec<Place>,
    /// When the next becomes due that is not yet.
    pub next_due_ms: Option<u64>,
}

/// What a settled batch changes; numbers of messages.
#[derive(Debug, Default)]
pub(crate) struct Settlement {
    /// Acknowledged, or dropped.
    pub removed: Vec<i64>,
    /// Delivered again at a moment, with the deliveries so far.
    pub retried: Vec<(i64, u64, u32)>,
    /// Moved to the dead letter queue.
    pub dead: Vec<i64>,
}

/// Every queue's name and number.
pub(crate) fn queues(connection: &Connection) -> Result<Vec<(String, i64)>, StoreError> {
    let mut select = connection.prepare_cached("SELECT name, id FROM queue ORDER BY name")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Stores messages; returns the queue's number. `None` if the queue may not hold as much.
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    queue: &str,
    messages: &[NewMessage],
    now_ms: u64,
    max_bytes: u64,
) -> Result<Option<i64>, StoreError> {
    let found = transaction
        .prepare_cached("SELECT id, next, bytes FROM queue WHERE name = ?")?
        .query_row([queue], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)))
        .optional()?;
    let (id, next, held): (i64, i64, i64) = match found {
        Some(found) => found,
        None => {
            transaction
                .prepare_cached("INSERT INTO queue(name, next, count, bytes) VALUES (?, 0, 0, 0)")?
                .execute([queue])?;
            (transaction.last_insert_rowid(), 0, 0)
        }
    };
    let bytes: i64 = messages.iter().map(|m| m.body.len() as i64).sum();
    if (held + bytes) as u64 > max_bytes {
        return Ok(None);
    }
    let mut put = transaction.prepare_cached(
        "INSERT INTO message(seq, queue, due, sent, attempts, format, id, body)
         VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7)",
    )?;
    for (n, message) in messages.iter().enumerate() {
        put.execute(params![
            (id << SEQ_BITS) + next + n as i64,
            id,
            now_ms as i64 + i64::from(message.delay_secs) * 1000,
            now_ms as i64,
            message.format.stored(),
            Uuid::new_v4().as_bytes().as_slice(),
            &message.body[..],
        ])?;
    }
    let count = messages.len() as i64;
    transaction
        .prepare_cached(
            "UPDATE queue SET next = next + ?2, count = count + ?2, bytes = bytes + ?3 WHERE id = ?1",
        )?
        .execute([id, count, bytes])?;
    Ok(Some(id))
}

/// What the queue holds.
pub(crate) fn metrics(connection: &Connection, queue: i64) -> Result<Metrics, StoreError> {
    let (count, bytes): (i64, i64) = connection
        .prepare_cached("SELECT count, bytes FROM queue WHERE id = ?")?
        .query_row([queue], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .unwrap_or_default();
    let oldest = oldest_except(connection, queue, &[])?;
    Ok(Metrics { backlog_count: count as u64, backlog_bytes: bytes as u64, oldest_message_timestamp: oldest })
}

/// When the oldest message was sent that is not one of `seqs`; 0 if there is none.
pub(crate) fn oldest_except(connection: &Connection, queue: i64, seqs: &[i64]) -> Result<u64, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT seq, sent FROM message WHERE seq >= ? AND seq < ? ORDER BY seq")?;
    let mut rows = select.query([queue << SEQ_BITS, (queue + 1) << SEQ_BITS])?;
    while let Some(row) = rows.next()? {
        if !seqs.contains(&row.get(0)?) {
            return Ok(row.get::<_, i64>(1)? as u64);
        }
    }
    Ok(0)
}

/// What waits at `now_ms` besides the `leased` messages: up to `limit` that are due.
pub(crate) fn waiting(
    connection: &Connection,
    queue: i64,
    now_ms: u64,
    leased: &Leases,
    limit: usize,
) -> Result<Waiting, StoreError> {
    let mut waiting = Waiting::default();
    let mut select = connection.prepare_cached(
        "SELECT due, seq FROM message WHERE queue = ?1 AND due <= ?2 AND (due, seq) > (?3, ?4) ORDER BY due, seq",
    )?;
    let (due, seq) = leased.taken(now_ms as i64).unwrap_or((i64::MIN, 0));
    let mut rows = select.query([queue, now_ms as i64, due, seq])?;
    while waiting.due.len() < limit
        && let Some(row) = rows.next()?
    {
        let place: Place = (row.get(0)?, row.get(1)?);
        if !leased.seqs().contains(&place.1) {
            waiting.due.push(place);
        }
    }
    waiting.next_due_ms = connection
        .prepare_cached("SELECT due FROM message WHERE queue = ? AND due > ? ORDER BY due LIMIT 1")?
        .query_row([queue, now_ms as i64], |row| row.get::<_, i64>(0))
        .optional()?
        .map(|due| due as u64);
    Ok(waiting)
}

/// Bytes of the bodies of messages.
pub(crate) fn bytes(connection: &Connection, places: &[Place]) -> Result<usize, StoreError> {
    let mut select = connection.prepare_cached("SELECT length(body) FROM message WHERE seq = ?")?;
    let mut sum = 0;
    for (_, seq) in places {
        sum += select.query_row([seq], |row| row.get::<_, i64>(0)).optional()?.unwrap_or_default();
    }
    Ok(usize::try_from(sum).unwrap_or(usize::MAX))
}

/// Reads messages for delivery; those that are gone are left out.
pub(crate) fn load(
    connection: &Connection,
    seqs: impl IntoIterator<Item = i64>,
) -> Result<Vec<(i64, Message)>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT id, sent, attempts, format, body FROM message WHERE seq = ?")?;
    let mut messages = Vec::new();
    for seq in seqs {
        let message = select
            .query_row([seq], |row| {
                Ok(Message {
                    id: hex(&row.get::<_, Vec<u8>>(0)?),
                    timestamp_ms: row.get::<_, i64>(1)? as u64,
                    attempts: row.get::<_, u32>(2)?.saturating_add(1),
                    format: Format::from_stored(row.get(3)?),
                    body: Bytes::from(row.get::<_, Vec<u8>>(4)?),
                })
            })
            .optional()?;
        messages.extend(message.map(|message| (seq, message)));
    }
    Ok(messages)
}

/// How many deliveries of a message of `queue` were counted; `None` if it is gone, or another queue's.
pub(crate) fn attempts(connection: &Connection, queue: i64, seq: i64) -> Result<Option<u32>, StoreError> {
    let mut select = connection.prepare_cached("SELECT attempts FROM message WHERE seq = ? AND queue = ?")?;
    Ok(select.query_row([seq, queue], |row| row.get(0)).optional()?)
}

fn hex(id: &[u8]) -> String {
    Uuid::from_slice(id).unwrap_or_default().as_simple().to_string()
}

/// Applies what a consumer said. Messages go to `dead_letters` with new identities, as if sent now; in the
/// same transaction they leave their queue. Returns the number of the dead letter queue if one was used.
pub(crate) fn settle(
    transaction: &Transaction<'_>,
    queue: i64,
    settlement: &Settlement,
    dead_letters: Option<&str>,
    now_ms: u64,
) -> Result<Option<i64>, StoreError> {
    let mut update =
        transaction.prepare_cached("UPDATE message SET due = ?2, attempts = ?3 WHERE seq = ?1")?;
    for (seq, due_ms, attempts) in &settlement.retried {
        update.execute(params![seq, *due_ms as i64, attempts])?;
    }
    let mut moved = None;
    if let Some(name) = dead_letters
        && !settlement.dead.is_empty()
    {
        let letters: Vec<NewMessage> = load(transaction, settlement.dead.iter().copied())?
            .into_iter()
            .map(|(_, m)| NewMessage { format: m.format, delay_secs: 0, body: m.body })
            .collect();
        moved = insert(transaction, name, &letters, now_ms, u64::MAX)?;
    }
    remove(transaction, queue, settlement.removed.iter().chain(&settlement.dead))?;
    Ok(moved)
}

fn remove<'a>(
    transaction: &Transaction<'_>,
    queue: i64,
    seqs: impl Iterator<Item = &'a i64>,
) -> Result<u64, StoreError> {
    let mut delete =
        transaction.prepare_cached("DELETE FROM message WHERE seq = ? RETURNING length(body)")?;
    let (mut count, mut bytes) = (0, 0);
    for seq in seqs {
        // A message may have outlived its retention while it was delivered.
        if let Some(length) = delete.query_row([seq], |row| row.get::<_, i64>(0)).optional()? {
            count += 1;
            bytes += length;
        }
    }
    transaction
        .prepare_cached("UPDATE queue SET count = count - ?2, bytes = bytes - ?3 WHERE id = ?1")?
        .execute([queue, count, bytes])?;
    Ok(count as u64)
}

/// Removes messages that were sent before `before_ms`, a bounded number; returns how many.
pub(crate) fn expire(transaction: &Transaction<'_>, queue: i64, before_ms: u64) -> Result<u64, StoreError> {
    let seqs: Vec<(i64, i64)> = transaction
        .prepare_cached("SELECT seq, sent FROM message WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?")?
        .query_map([queue << SEQ_BITS, (queue + 1) << SEQ_BITS, EXPIRE_CHUNK], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<_, _>>()?;
    let old: Vec<i64> =
        seqs.into_iter().take_while(|(_, sent)| *sent < before_ms as i64).map(|(seq, _)| seq).collect();
    if old.is_empty() { Ok(0) } else { remove(transaction, queue, old.iter()) }
}
