//! Rules of a bucket, and what they do.

use rusqlite::Connection;

use super::multipart::{complete, part, upload};
use super::*;
use crate::{LockCondition, LockRule, Moment};

fn lock(prefix: &str, condition: LockCondition) -> LockRule {
    LockRule { id: format!("{prefix} {condition:?}"), enabled: true, prefix: Some(prefix.into()), condition }
}

#[tokio::test]
async fn a_locked_object_is_neither_replaced_nor_removed_until_its_time_is_over() {
    let f = fixture();
    let day = LockCondition::Age { max_age_seconds: 86_400 };
    let dated = LockCondition::Date { date: Moment::at_ms(1_700_000_010_000) };
    for key in ["logs/a", "dated/a", "free/a", "m"] {
        f.put(key, b"old").await;
    }
    let rules = vec![lock("logs/", day), lock("dated/", dated), lock("m", LockCondition::Indefinite)];
    f.bucket.set_locks(rules.clone()).await.unwrap();
    let put = |key: &'static str| f.write(json!({"method": "put", "object": key}), b"new");
    let delete = |keys: &'static [&'static str]| f.write(json!({"method": "delete", "objects": keys}), b"");

    let refused = put("logs/a").await.unwrap_err();
    assert_eq!(refused, (10069, "The object is locked by the bucket policy.".into()));
    assert_eq!(code(put("dated/a").await), 10069);
    // A lock is said before a condition that does not hold.
    let only_if = json!({"etagDoesNotMatch": [{"type": "wildcard"}]});
    let create = json!({"method": "put", "object": "logs/a", "onlyIf": only_if});
    assert_eq!(code(f.write(create, b"new").await), 10069);
    // All or none: what is free stays, too.
    assert_eq!(code(delete(&["free/a", "logs/a"]).await), 10069);
    assert_eq!(code(f.write(json!({"method": "delete", "object": "m"}), b"").await), 10069);
    assert_eq!(f.get("free/a").await.unwrap(), b"old");
    // A multipart object does not come in its place, and the upload stays.
    let id = upload(&f, false).await;
    let only = part(&f, &id, 1, b"parts", false).await.unwrap();
    assert_eq!(code(complete(&f, &id, std::slice::from_ref(&only)).await), 10069);
    assert_eq!(f.get("m").await.unwrap(), b"old");

    // What was not there is made, and locked from then on; what is not there can be deleted.
    f.put("logs/b", b"first").await;
    assert_eq!(code(put("logs/b").await), 10069);
    delete(&["logs/absent"]).await.unwrap();
    delete(&["free/a"]).await.unwrap();

    f.clock.advance_ms(10_000);
    put("dated/a").await.unwrap();
    assert_eq!(code(put("logs/a").await), 10069);
    f.clock.advance_ms(86_400_000);
    put("logs/a").await.unwrap();
    assert_eq!(code(put("logs/a").await), 10069, "the age is that of what is there now");
    assert_eq!(code(put("m").await), 10069);

    // Off is off, and the rules are there after a restart.
    let off = rules.iter().map(|rule| LockRule { enabled: false, ..rule.clone() }).collect::<Vec<_>>();
    f.bucket.set_locks(off.clone()).await.unwrap();
    complete(&f, &id, &[only]).await.unwrap();
    put("logs/a").await.unwrap();
    f.bucket.set_locks(rules.clone()).await.unwrap();
    let Fixture { dir, clock, bucket } = f;
    drop(bucket);
    let bucket = open(&dir, clock.clock());
    assert_eq!(bucket.rules().locks, rules);
    assert_eq!(bucket.delete(vec!["m".into()]).await.unwrap_err().code(), 10069);
    assert!(bucket.set_locks(vec![rules[0].clone(), rules[0].clone()]).await.is_err());
    assert_eq!(bucket.rules().locks, rules, "what is refused changes nothing");
}

#[tokio::test]
async fn a_bucket_of_any_earlier_format_is_opened_with_what_is_in_it() {
    // What each format has beside that of the one before. A format without a line here fails the test.
    let rows: &[&str] = &[
        "",
        "INSERT INTO objects VALUES (CAST('k' AS BLOB), 'v', 3, 'e', 5, '{}', NULL, NULL, x'616263');
         INSERT INTO uploads VALUES ('u', 'k', 0, 5, '{\"options\":{}}');",
        "INSERT INTO rules VALUES ('lock', '[{\"id\":\"r\",\"enabled\":true,\"condition\":{\"type\":\"Indefinite\"}}]');",
    ];
    let schema = crate::rows::SCHEMA;
    assert_eq!(rows.len(), schema.0.len() + 1, "a format without sample rows");
    let shape = |path: &std::path::Path| -> Vec<(String, String)> {
        let connection = Connection::open(path).unwrap();
        let mut query =
            connection.prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY 1").unwrap();
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let fresh = fixture();
    let file =
        |dir: &tempfile::TempDir| dir.path().join(skep_store::folder_name("b/../x")).join("bucket.sqlite");
    for steps in 0..schema.0.len() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let connection = Connection::open(&path).unwrap();
        for sql in schema.0[..steps].iter().chain(&rows[..=steps]) {
            connection.execute_batch(sql).unwrap();
        }
        connection.pragma_update(None, "user_version", steps as i64).unwrap();
        drop(connection);
        let bucket = open(&dir, ManualClock::at(10).clock());
        assert_eq!(bucket.head("k").is_ok(), steps >= 1);
        assert_eq!(bucket.rules().locks.len(), usize::from(steps >= 2));
        assert_eq!(bucket.delete(vec!["k".into()]).await.is_err(), steps >= 2);
        drop(bucket);
        assert_eq!(shape(&path), shape(&file(&fresh.dir)), "format {steps}");
    }
}
