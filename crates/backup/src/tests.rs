use std::any::Any;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use rusqlite::{Connection, TransactionBehavior};

use crate::{BackupError, Kind, Snapshot, restore};

pub(crate) fn layout(path: &Path) -> Kind {
    let name = path.file_name().unwrap().to_str().unwrap();
    match path.extension().and_then(|e| e.to_str()) {
        _ if name == "left-out" || name == "stage" || name.ends_with("-wal") || name.ends_with("-shm") => {
            Kind::LeftOut
        }
        Some("sqlite") => Kind::Database,
        Some("guarded") => Kind::Guarded,
        _ => Kind::Immutable,
    }
}

pub(crate) fn nothing() -> Box<dyn Any> {
    Box::new(())
}

pub(crate) fn take(root: &Path) -> Snapshot {
    Snapshot::take(root, &root.join("stage"), &layout, &mut nothing, &mut nothing).unwrap()
}

fn archive(root: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    take(root).write(&mut bytes, "test").unwrap();
    bytes
}

pub(crate) fn database(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch("CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY)").unwrap();
    connection
}

pub(crate) fn top(connection: &Connection) -> i64 {
    connection.query_row("SELECT coalesce(max(n), 0) FROM t", [], |row| row.get(0)).unwrap()
}

pub(crate) fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn a_folder_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    write(&root.join("a/b/blob"), "content");
    write(&root.join("a/x.guarded"), "guarded");
    write(&root.join("a/left-out/secret"), "not this");
    let connection = database(&root.join("a/db.sqlite"));
    connection.execute("INSERT INTO t VALUES (7)", []).unwrap();
    connection.pragma_update(None, "user_version", 5).unwrap();
    let archive = archive(&root);
    assert!(!root.join("stage").exists(), "nothing stays behind");

    let target = dir.path().join("target");
    let restored = restore(archive.as_slice(), &target).unwrap();
    assert_eq!((restored.files, restored.made_by.as_str()), (3, "test"));
    assert_eq!(std::fs::read_to_string(target.join("a/b/blob")).unwrap(), "content");
    assert_eq!(std::fs::read_to_string(target.join("a/x.guarded")).unwrap(), "guarded");
    assert!(!target.join("a/left-out").exists());
    let copy = Connection::open(target.join("a/db.sqlite")).unwrap();
    assert_eq!(top(&copy), 7);
    assert_eq!(copy.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap(), 5);
    assert!(matches!(restore(archive.as_slice(), &target), Err(BackupError::NotEmpty(_))));
}

#[test]
fn all_databases_are_seen_at_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let names = ["a.sqlite", "b.sqlite", "c.sqlite"];
    for name in names {
        database(&root.join(name));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // One after the other: at any moment the numbers differ by one at most, and never rise from a to c.
        scope.spawn(|| {
            let mut open: Vec<_> = names.iter().map(|name| database(&root.join(name))).collect();
            for n in 1.. {
                for connection in &mut open {
                    let transaction =
                        connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
                    transaction.execute("INSERT INTO t VALUES (?)", [n]).unwrap();
                    transaction.commit().unwrap();
                }
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        let seen: Vec<_> = (0..10)
            .map(|round| {
                let mut bytes = Vec::new();
                let hold = &mut || Box::new(()) as Box<dyn Any>;
                Snapshot::take(&root, &root.join("stage"), &layout, &mut nothing, hold)?
                    .write(&mut bytes, "test")?;
                let target = dir.path().join(format!("target-{round}"));
                restore(bytes.as_slice(), &target)?;
                Ok::<_, BackupError>(names.map(|name| top(&Connection::open(target.join(name)).unwrap())))
            })
            .collect();
        stop.store(true, Ordering::SeqCst);
        for tops in seen {
            let tops = tops.unwrap();
            assert!(tops[0] >= tops[1] && tops[1] >= tops[2] && tops[0] - tops[2] <= 1, "{tops:?}");
        }
    });
}

#[test]
fn a_guarded_file_is_taken_while_it_holds_still() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    write(&root.join("x.guarded"), "before");
    write(&root.join("gone.guarded"), "before");
    let mut held = || {
        write(&root.join("x.guarded"), "while!");
        std::fs::remove_file(root.join("gone.guarded")).unwrap();
        Box::new(()) as Box<dyn Any>
    };
    let snapshot = Snapshot::take(&root, &root.join("stage"), &layout, &mut nothing, &mut held).unwrap();
    write(&root.join("x.guarded"), "after");
    let mut bytes = Vec::new();
    snapshot.write(&mut bytes, "test").unwrap();
    let target = dir.path().join("target");
    restore(bytes.as_slice(), &target).unwrap();
    assert_eq!(std::fs::read_to_string(target.join("x.guarded")).unwrap(), "while!");
}

#[test]
fn what_is_removed_after_the_moment_is_in_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    write(&root.join("blob"), "content");
    let connection = database(&root.join("db.sqlite"));
    connection.execute("INSERT INTO t VALUES (1)", []).unwrap();
    let snapshot = take(&root);
    std::fs::remove_file(root.join("blob")).unwrap();
    connection.execute("DELETE FROM t", []).unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
    let mut bytes = Vec::new();
    snapshot.write(&mut bytes, "test").unwrap();
    let target = dir.path().join("target");
    restore(bytes.as_slice(), &target).unwrap();
    assert_eq!(std::fs::read_to_string(target.join("blob")).unwrap(), "content");
    assert_eq!(top(&Connection::open(target.join("db.sqlite")).unwrap()), 1);
}

#[test]
fn a_path_that_leads_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["data/../../escaped", "/data/x", "other/x", "data"] {
        let mut tar = tar::Builder::new(Vec::new());
        let head = br#"{"format":1,"made_by":"x","made_at":0}"#;
        for (name, content) in [(crate::HEAD, head.as_slice()), (name, b"x")] {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        let bytes = tar.into_inner().unwrap();
        let failed = restore(bytes.as_slice(), &dir.path().join("target")).unwrap_err();
        assert!(matches!(failed, BackupError::Damaged(_)), "{name}: {failed}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let head = br#"{"format":2,"made_by":"x","made_at":0}"#;
    let mut header = tar::Header::new_gnu();
    header.set_size(head.len() as u64);
    tar.append_data(&mut header, crate::HEAD, head.as_slice()).unwrap();
    let bytes = tar.into_inner().unwrap();
    let failed = restore(bytes.as_slice(), &dir.path().join("target")).unwrap_err();
    assert!(matches!(failed, BackupError::TooNew { found: 2, known: 1 }), "{failed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_damaged_archive_restores_nothing(at in 0.0..1.0, cut in any::<bool>(), bit in 0..8u8) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        write(&root.join("blob"), "some content");
        drop(database(&root.join("db.sqlite")));
        let mut bytes = archive(&root);
        let whole = dir.path().join("whole");
        restore(bytes.as_slice(), &whole).unwrap();
        let at = (at * bytes.len() as f64) as usize;
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        let target = dir.path().join("target");
        if restore(bytes.as_slice(), &target).is_ok() {
            // A bit that nobody reads: padding, the owner of a file, what follows the end.
            for path in ["blob", "db.sqlite"] {
                prop_assert_eq!(std::fs::read(target.join(path)).unwrap(), std::fs::read(whole.join(path)).unwrap());
            }
        } else {
            prop_assert!(!target.exists());
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        }
    }

    #[test]
    fn no_stream_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let dir = tempfile::tempdir().unwrap();
        prop_assert!(restore(bytes.as_slice(), &dir.path().join("target")).is_err());
    }
}
