//! Rules of a bucket, and what they do.

use rusqlite::Connection;

use super::multipart::{complete, part, upload};
use super::*;
use crate::{
    Action, Change, Conditions, LifecycleRule, Listen, LockCondition, LockRule, Moment, StorageClass,
    Transition, When,
};

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
        "",
        "",
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

#[derive(Debug, Default)]
struct Heard(std::sync::Mutex<Vec<Change>>);

impl Listen for Heard {
    fn changed<'a>(&'a self, _: &'a str, changes: Vec<Change>) -> skep_wire::BoxFuture<'a, ()> {
        self.0.lock().unwrap().extend(changes);
        Box::pin(async {})
    }
}

const DAY: u64 = 24 * 3600;

fn aged(prefix: &str, days: u64) -> (Conditions, Transition) {
    let condition = When::Age { max_age: days * DAY };
    (Conditions { prefix: Some(prefix.into()) }, Transition { condition })
}

fn removes(prefix: &str, days: u64) -> LifecycleRule {
    let (conditions, transition) = aged(prefix, days);
    let none = LifecycleRule { abort_multipart_uploads_transition: None, ..LifecycleRule::default_abort() };
    LifecycleRule {
        id: format!("{prefix} goes"),
        conditions,
        delete_objects_transition: Some(transition),
        ..none
    }
}

fn changes(prefix: &str, days: u64) -> LifecycleRule {
    let (conditions, Transition { condition }) = aged(prefix, days);
    let change = crate::ClassTransition { condition, storage_class: StorageClass::InfrequentAccess };
    let rule = removes(prefix, 0);
    LifecycleRule {
        id: format!("{prefix} changes"),
        conditions,
        delete_objects_transition: None,
        storage_class_transitions: Some(vec![change]),
        ..rule
    }
}

#[tokio::test]
async fn what_is_old_enough_goes_or_changes_its_class_and_is_heard_of() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_700_000_000_123);
    let (_trigger, shutdown) = Shutdown::new();
    let open =
        || R2Store::open(dir.path(), clock.clock(), &Jobs::new(clock.clock(), shutdown.clone())).unwrap();
    let store = open();
    let heard = Arc::new(Heard::default());
    store.listen(heard.clone());
    let f = Fixture { bucket: store.bucket("b/../x").unwrap(), dir: tempfile::tempdir().unwrap(), clock };
    // More than one step's worth of objects, and what a longer prefix, a lock and a class spare.
    for n in 0..crate::sweep::BATCH * 2 + 50 {
        f.put(&format!("logs/{n:04}"), b"x").await;
    }
    f.put("keep/a", b"x").await;
    f.put("both/a", b"x").await;
    f.put("safe/logs", b"x").await;
    f.put("other", b"x").await;
    let rules = vec![
        removes("logs/", 2),
        changes("keep/", 2),
        removes("both/", 3),
        changes("both/", 2),
        removes("safe/", 2),
    ];
    f.bucket.set_lifecycle(rules).await.unwrap();
    f.bucket.set_locks(vec![lock("safe/", LockCondition::Indefinite)]).await.unwrap();
    heard.0.lock().unwrap().clear();
    let keys = || {
        f.bucket.list(&Default::default()).unwrap().objects.into_iter().map(|o| o.name).collect::<Vec<_>>()
    };
    let class = |key: &str| f.bucket.head(key).unwrap().storage_class;

    assert_eq!(f.bucket.sweep().await.unwrap(), 0);
    f.clock.advance_ms(DAY * 1000);
    f.put("logs/0000", b"new").await;
    let etag = f.bucket.head("keep/a").unwrap();
    f.clock.advance_ms(DAY * 1000);
    assert_eq!(f.bucket.sweep().await.unwrap(), crate::sweep::BATCH * 2 + 50);
    assert_eq!(keys(), ["both/a", "keep/a", "logs/0000", "other", "safe/logs"]);
    assert_eq!(class("keep/a"), StorageClass::InfrequentAccess);
    assert_eq!(f.bucket.head("keep/a").unwrap().etag, etag.etag, "it is the same object");
    assert_eq!(class("both/a"), StorageClass::Standard, "what goes within a day does not change before");
    let gone = std::mem::take(&mut *heard.0.lock().unwrap());
    assert_eq!(
        gone.iter().filter(|change| change.action == Action::Expire).count(),
        crate::sweep::BATCH * 2 + 49
    );
    assert_eq!(f.bucket.sweep().await.unwrap(), 0, "what was done is not done again");

    // In a new process, for a bucket that nobody has asked for.
    let Fixture { bucket, clock, .. } = f;
    drop((bucket, store));
    clock.advance_ms(DAY * 1000);
    let store =
        R2Store::open(dir.path(), clock.clock(), &Jobs::new(clock.clock(), shutdown.clone())).unwrap();
    assert_eq!(store.sweep().await, Ok("2 removed".into()));
    let bucket = store.bucket("b/../x").unwrap();
    let keys: Vec<_> =
        bucket.list(&Default::default()).unwrap().objects.into_iter().map(|o| o.name).collect();
    assert_eq!(keys, ["keep/a", "other", "safe/logs"]);
    bucket.set_locks(Vec::new()).await.unwrap();
    assert_eq!(bucket.sweep().await.unwrap(), 1, "what was locked goes when it is not any more");
    assert_eq!(bucket.head("safe/logs").unwrap_err().code(), 10007);
}

#[tokio::test]
async fn uploads_end_by_the_rules_of_their_bucket() {
    let f = fixture();
    let (running, completed) = (upload(&f, false).await, upload(&f, false).await);
    let only = part(&f, &completed, 1, &bytes_of(MIB), false).await.unwrap();
    complete(&f, &completed, &[only]).await.unwrap();
    part(&f, &running, 1, &bytes_of(MIB), false).await.unwrap();
    let (conditions, transition) = aged("n", 1);
    let rule = LifecycleRule {
        conditions,
        abort_multipart_uploads_transition: Some(transition.clone()),
        ..LifecycleRule::default_abort()
    };
    f.bucket.set_lifecycle(vec![rule.clone()]).await.unwrap();
    f.clock.advance_ms(DAY * 1000 * 8);
    assert_eq!(
        f.bucket.sweep().await.unwrap(),
        1,
        "the record of the completed one; the rule is about other keys"
    );
    part(&f, &running, 2, b"more", false).await.unwrap();
    let rule = LifecycleRule { conditions: Conditions::default(), ..rule };
    f.bucket.set_lifecycle(vec![rule]).await.unwrap();
    assert_eq!(f.bucket.sweep().await.unwrap(), 1);
    assert_eq!(code(part(&f, &running, 2, b"more", false).await), 10024);
    assert_eq!(f.get("m").await.unwrap(), bytes_of(MIB));
    f.files_become(1).await;
}
