use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::tests::{database, nothing, take, top, write};
use crate::{Restored, Snapshot};

/// A place in memory, which counts what it was given.
#[derive(Default)]
struct Memory {
    pieces: Mutex<BTreeMap<String, Vec<u8>>>,
    /// So many more are taken.
    takes: Mutex<Option<usize>>,
}

impl Place for Memory {
    fn shown(&self) -> String {
        "memory".into()
    }
    fn put(&self, key: &str, content: Vec<u8>) -> Result<(), PlaceError> {
        if let Some(left) = &mut *self.takes.lock().unwrap() {
            *left = left.checked_sub(1).ok_or_else(|| PlaceError("it is full".into()))?;
        }
        self.pieces.lock().unwrap().insert(key.into(), content);
        Ok(())
    }
    fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Vec<u8>>, PlaceError> {
        let pieces = self.pieces.lock().unwrap();
        let part = |content: &Vec<u8>| match range {
            None => content.clone(),
            Some(range) => content[range.start as usize..range.end as usize].to_vec(),
        };
        Ok(pieces.get(key).map(part))
    }
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, PlaceError> {
        let pieces = self.pieces.lock().unwrap();
        let found = pieces.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, content)| Listed { key: key.clone(), size: content.len() as u64 }).collect())
    }
    fn remove(&self, key: &str) -> Result<(), PlaceError> {
        self.pieces.lock().unwrap().remove(key);
        Ok(())
    }
}

const NOW: u64 = 1_800_000_000;

fn save(repository: &Repository, root: &Path, now: u64) -> Saved {
    repository.begin("me", "test", now).unwrap().save(take(root)).unwrap()
}

/// What does not compress.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(step).collect()
}

/// Content that changed longer ago than a clock's tick.
fn settle(path: &Path) {
    let old = std::time::SystemTime::now() - Duration::from_secs(60);
    for end in ["", "-wal"] {
        let path = format!("{}{end}", path.display());
        if let Ok(file) = std::fs::File::options().write(true).open(path) {
            file.set_modified(old).unwrap();
        }
    }
}

#[test]
fn each_backup_stores_what_is_new_and_comes_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::write(root.join("a/b/large"), noise(1, 9 << 20)).unwrap();
    std::fs::write(root.join("a/x.guarded"), noise(2, 300_000)).unwrap();
    write(&root.join("empty"), "");
    write(&root.join("a/left-out/secret"), "not this");
    let connection = database(&root.join("a/db.sqlite"));
    connection.execute("INSERT INTO t VALUES (7)", []).unwrap();

    let folder = dir.path().join("place");
    let repository = Repository::new(Arc::new(Folder::new(folder.clone())), None);
    assert_eq!((repository.backups().unwrap(), repository.owner().unwrap()), (vec![], None));
    let first = save(&repository, &root, NOW);
    assert_eq!((first.id.as_str(), first.files), ("20270115T080000Z", 4));
    assert!(first.stored > 9 << 20 && first.size > first.stored, "{first:?}");
    let again = save(&repository, &root, NOW);
    assert_eq!(again.id, "20270115T080001Z", "names are never used twice");
    assert!(again.stored < 4096, "{again:?}");

    connection.execute("INSERT INTO t VALUES (8)", []).unwrap();
    std::fs::write(root.join("a/new"), noise(3, 1 << 20)).unwrap();
    std::fs::remove_file(root.join("a/b/large")).unwrap();
    let third = save(&repository, &root, NOW + 3600);
    assert!(third.stored > 1 << 20 && third.stored < (1 << 20) + (256 << 10), "{third:?}");
    let listed: Vec<String> = repository.backups().unwrap().into_iter().map(|backup| backup.id).collect();
    assert_eq!(listed, [&*first.id, &again.id, &third.id]);

    for (id, n, large) in [(Some(first.id.as_str()), 7, true), (None, 8, false)] {
        let target = dir.path().join(format!("target-{n}"));
        let restored = repository.restore(id, &target).unwrap();
        let made_at = if large { NOW } else { NOW + 3600 };
        assert_eq!(restored, Restored { files: 4, made_by: "test".into(), made_at });
        let copy = Connection::open(target.join("a/db.sqlite")).unwrap();
        assert_eq!(top(&copy), n);
        assert_eq!(std::fs::read(target.join("a/x.guarded")).unwrap(), noise(2, 300_000));
        assert_eq!(std::fs::read(target.join("a/b/large")).ok(), large.then(|| noise(1, 9 << 20)));
        assert_eq!(std::fs::read(target.join("empty")).unwrap(), b"");
        assert!(!target.join("a/left-out").exists());
        assert!(matches!(repository.restore(id, &target), Err(BackupError::NotEmpty(_))));
    }
    let other = repository.begin("you", "test", NOW).map(drop).unwrap_err();
    assert!(matches!(other, BackupError::Others(_)), "{other}");
    let unknown = repository.restore(Some("20270115T080002Z"), &dir.path().join("none")).unwrap_err();
    assert!(unknown.to_string().contains("has no backup 20270115T080002Z"), "{unknown}");
    assert!(!dir.path().join("none").exists());

    // A month later nobody needs what only the first ones had.
    let last = save(&repository, &root, NOW + 40 * 86400);
    let pruned = repository.prune("me", Duration::from_secs(30 * 86400), NOW + 40 * 86400).unwrap();
    assert!(pruned.backups == 3 && pruned.freed > 8 << 20, "{pruned:?}");
    assert_eq!(repository.backups().unwrap().len(), 1);
    repository.restore(Some(&last.id), &dir.path().join("pruned")).unwrap();
    let size = repository.place.list(PACKS).unwrap().iter().map(|pack| pack.size).sum::<u64>();
    assert!(size < 6 << 20, "{size} bytes of packs");
}

#[test]
fn what_looks_as_it_did_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    write(&root.join("x.guarded"), "old");
    let connection = database(&root.join("db.sqlite"));
    connection.execute("INSERT INTO t VALUES (7)", []).unwrap();
    for path in ["x.guarded", "db.sqlite"] {
        settle(&root.join(path));
    }
    let repository = Repository::new(Arc::new(Memory::default()), None);
    save(&repository, &root, NOW);
    let manifest = |id: &str| repository.manifest(id).unwrap().files;
    let before = manifest(&name(NOW));
    assert!(before.iter().all(|file| file.stamp.is_some()), "{before:?}");
    // A change that hides: only who does not read sees none.
    let hidden = std::fs::File::options().write(true).open(root.join("x.guarded")).unwrap();
    let looked = hidden.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&hidden, b"new", 0).unwrap();
    hidden.set_modified(looked).unwrap();
    save(&repository, &root, NOW + 1);
    assert_eq!(manifest(&name(NOW + 1)), before);
    connection.execute("INSERT INTO t VALUES (8)", []).unwrap();
    save(&repository, &root, NOW + 2);
    let after = manifest(&name(NOW + 2));
    let of = |files: &[manifest::File], path: &str| {
        files.iter().find(|file| file.path == path).unwrap().chunks.clone()
    };
    assert_eq!(of(&after, "x.guarded").len(), 1);
    assert_ne!(of(&after, "db.sqlite"), of(&before, "db.sqlite"), "a change in the log alone is seen");
}

#[test]
fn a_place_that_fails_has_no_half_backup() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    for n in 0..6 {
        let path = root.join(format!("{n}"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(path, noise(n, 3 << 20)).unwrap();
    }
    let place = Arc::new(Memory::default());
    let repository = Repository::new(place.clone(), None);
    let mut succeeded = false;
    for takes in 1..10 {
        place.pieces.lock().unwrap().clear();
        *place.takes.lock().unwrap() = Some(takes);
        let saved = repository.begin("me", "test", NOW).and_then(|begun| begun.save(take(&root)));
        succeeded = saved.is_ok();
        match saved {
            Ok(_) => break,
            Err(error) => assert_eq!(error.to_string(), "memory: it is full"),
        }
        assert_eq!(repository.backups().unwrap(), vec![], "after {takes} pieces");
    }
    assert!(succeeded);
    *place.takes.lock().unwrap() = None;
    repository.restore(None, &dir.path().join("target")).unwrap();
}

/// A place with a backup of a folder with one file.
fn with_one_file() -> (tempfile::TempDir, std::path::PathBuf, Arc<Memory>, Repository) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    write(&root.join("file"), "content");
    let place = Arc::new(Memory::default());
    let repository = Repository::new(place.clone(), None);
    save(&repository, &root, NOW);
    (dir, root, place, repository)
}

#[test]
fn what_was_lost_is_stored_again_and_what_was_changed_is_noticed() {
    let (dir, root, place, repository) = with_one_file();
    let pack = |id: &str| format!("{PACKS}{id}/0");
    place.remove(&pack(&name(NOW))).unwrap();
    let error = repository.restore(None, &dir.path().join("none")).unwrap_err();
    assert!(error.to_string().contains("is gone"), "{error}");
    save(&repository, &root, NOW + 1);
    repository.restore(None, &dir.path().join("target")).unwrap();

    let pieces: Vec<String> = place.pieces.lock().unwrap().keys().cloned().collect();
    let needed = [pack(&name(NOW + 1)), format!("{BACKUPS}{}", name(NOW + 1))];
    for key in pieces.into_iter().filter(|key| needed.contains(key)) {
        let len = place.pieces.lock().unwrap()[&key].len();
        for at in 0..len {
            let flip = |content: &mut Vec<u8>| content[at] ^= 0x10;
            place.pieces.lock().unwrap().get_mut(&key).map(flip).unwrap();
            let target = dir.path().join("damaged");
            match repository.restore(None, &target) {
                // Bits that say nothing: the content is the same.
                Ok(_) => {
                    assert_eq!(std::fs::read(target.join("file")).unwrap(), b"content", "{key} at {at}");
                    std::fs::remove_dir_all(&target).unwrap();
                }
                Err(_) => assert!(!target.exists()),
            }
            place.pieces.lock().unwrap().get_mut(&key).map(flip).unwrap();
        }
    }
}

#[test]
fn a_last_backup_that_is_damaged_keeps_none_from_being_made() {
    let (dir, root, place, repository) = with_one_file();
    place.put(&format!("{BACKUPS}{}", name(NOW)), b"damaged".to_vec()).unwrap();
    place.put(&format!("{BACKUPS}{}{NEEDS}", name(NOW)), b"damaged".to_vec()).unwrap();
    // What it needs is not known, so nothing goes.
    assert!(matches!(repository.prune("me", Duration::ZERO, NOW), Err(BackupError::Damaged(_))));
    save(&repository, &root, NOW + 1);
    repository.restore(None, &dir.path().join("target")).unwrap();
    repository.prune("me", Duration::ZERO, NOW + 10).unwrap();
    assert_eq!(repository.backups().unwrap().len(), 1);
}

#[test]
fn a_place_cannot_read_what_is_sealed_nor_change_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    write(&root.join("name-of-a-file"), &"content ".repeat(100));
    let place = Arc::new(Memory::default());
    let with =
        |key: Option<u8>| Repository::new(place.clone(), key.map(|byte| Key::new(&[byte; 32]).unwrap()));
    save(&with(Some(1)), &root, NOW);
    save(&with(Some(1)), &root, NOW + 1);
    for (key, piece) in &*place.pieces.lock().unwrap() {
        for text in ["content", "name-of-a-file", "chunks", "\"packs/"] {
            assert!(memmem(piece, text.as_bytes()).is_none(), "{key} has {text}");
        }
    }
    let restored = |key| with(key).restore(None, &dir.path().join("target")).map(drop);
    assert!(matches!(restored(None), Err(BackupError::Sealed(_))));
    assert!(matches!(restored(Some(2)), Err(BackupError::OtherKey(_))));
    assert!(matches!(with(Some(2)).begin("me", "test", NOW).map(drop), Err(BackupError::OtherKey(_))));
    // An earlier backup under a later one's name is none.
    let piece = |id: u64| format!("{BACKUPS}{}", name(id));
    let (first, second) = (place.get(&piece(NOW), None).unwrap(), place.get(&piece(NOW + 1), None).unwrap());
    place.put(&piece(NOW + 1), first.unwrap()).unwrap();
    assert!(matches!(restored(Some(1)), Err(BackupError::Damaged(_))));
    place.put(&piece(NOW + 1), second.unwrap()).unwrap();
    restored(Some(1)).unwrap();

    let open = Arc::new(Memory::default());
    save(&Repository::new(open.clone(), None), &root, NOW);
    let sealed = Repository::new(open, Key::new(&[1; 32]).ok());
    assert!(matches!(sealed.begin("me", "test", NOW).map(drop), Err(BackupError::NotSealed(_))));
}

#[test]
fn a_key_is_a_line_of_64_digits() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    assert!(Key::read(&file).map(drop).unwrap_err().contains("cannot read"));
    for wrong in ["", "abc", &"g".repeat(64), &"0".repeat(63)] {
        std::fs::write(&file, wrong).unwrap();
        let error = Key::read(&file).map(drop).unwrap_err();
        assert!(error.contains("64 hexadecimal digits") && !error.contains("ggg"), "{error}");
    }
    std::fs::write(&file, format!("{}\n{}\n", "0a".repeat(32), "00".repeat(32))).unwrap();
    let sealed = Key::read(&file).unwrap().seal(b"here", b"content".to_vec()).unwrap();
    let key = Key::new(&[10; 32]).unwrap();
    assert_eq!(key.open(b"here", &sealed).as_deref(), Some(b"content".as_slice()));
    assert_eq!((key.open(b"there", &sealed), key.open(b"here", &sealed[..20])), (None, None));
}

fn memmem(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[test]
fn a_backup_is_given_up_as_soon_as_it_is_over() {
    let (_dir, root, place, _) = with_one_file();
    std::fs::write(root.join("new"), noise(1, 1000)).unwrap();
    let repository = Repository::new(place, None).until(|| true);
    let error = repository.begin("me", "test", NOW).unwrap().save(take(&root)).unwrap_err();
    assert_eq!(error.to_string(), "memory: it was given up, as Skep ends");
    assert_eq!(repository.backups().unwrap().len(), 1);
}

#[test]
fn a_newer_format_and_other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let place = Arc::new(Memory::default());
    let repository = Repository::new(place.clone(), None);
    let target = dir.path().join("target");
    let error = repository.restore(None, &target).unwrap_err();
    assert!(error.to_string().contains("memory has no backup"), "{error}");
    place.put(MARKER, br#"{"format":2,"owner":"me"}"#.to_vec()).unwrap();
    let begun = repository.begin("me", "test", NOW).map(drop).unwrap_err();
    assert!(matches!(begun, BackupError::TooNew { found: 2, known: 1 }), "{begun}");
    place.put(MARKER, br#"{"format":1,"owner":"me"}"#.to_vec()).unwrap();
    for path in ["../out", "/etc/out", "a/../../out", ""] {
        let mut writer = manifest::Writer::new(&name(NOW), "test").unwrap();
        writer.file(manifest::File { path: path.into(), len: 0, stamp: None, chunks: vec![] }).unwrap();
        place.put(&format!("{BACKUPS}{}", name(NOW)), writer.end().unwrap().0).unwrap();
        let error = repository.restore(None, &target).unwrap_err();
        assert!(error.to_string().contains("is no file of it"), "{path}: {error}");
    }
    assert!(!target.exists() && !dir.path().join("out").exists());
}

fn as_map(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let walked = crate::walk::walk(root, &|_| crate::Kind::Immutable).unwrap();
    walked
        .into_keys()
        .map(|path| (path.to_str().unwrap().to_owned(), std::fs::read(root.join(path)).unwrap()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Files come, change and go; any backup that is kept comes back as its moment was, after all pruning.
    #[test]
    fn any_history_comes_back(
        steps in proptest::collection::vec(proptest::collection::vec((0..6u8, 0..5u64, 0..700_000usize), 1..4), 1..6),
        keep in 0..5u64, sealed: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(&root).unwrap();
        let key = sealed.then(|| Key::new(&[7; 32]).unwrap());
        let repository = Repository::new(Arc::new(Memory::default()), key);
        let mut moments = BTreeMap::new();
        for (day, changes) in steps.into_iter().enumerate() {
            for (file, seed, len) in changes {
                let path = root.join(format!("{file}.guarded"));
                match seed {
                    0 => drop(std::fs::remove_file(path)),
                    _ => std::fs::write(path, noise(seed, len)).unwrap(),
                }
            }
            let now = NOW + day as u64 * 86400;
            let snapshot = Snapshot::take(&root, &root.join("stage"), &crate::tests::layout, &mut nothing, &mut nothing).unwrap();
            let saved = repository.begin("me", "test", now).unwrap().save(snapshot).unwrap();
            moments.insert(saved.id, as_map(&root));
            repository.prune("me", Duration::from_secs(keep * 86400), now).unwrap();
        }
        let kept = repository.backups().unwrap();
        prop_assert_eq!(kept.len(), moments.len().min(keep as usize + 1));
        for backup in kept {
            let target = dir.path().join(&backup.id);
            repository.restore(Some(&backup.id), &target).unwrap();
            prop_assert_eq!(&as_map(&target), &moments[&backup.id]);
        }
    }

    #[test]
    fn no_manifest_makes_it_panic(lines in "(\\{\"(head|pack|file|end)\":\\{?[\"a-z0-9:,{}\\[\\]]{0,40}\\}?\n){0,4}") {
        let _ = manifest::Manifest::read(&zstd::bulk::compress(lines.as_bytes(), 1).unwrap());
        let _ = manifest::Manifest::read(lines.as_bytes());
    }

    #[test]
    fn names_are_times(at in 0..253_402_300_799u64) {
        prop_assert_eq!(made_at(&name(at)), Some(at));
    }

    #[test]
    fn what_is_no_name_is_none(text in "[0-9TZé-]{0,18}") {
        if let Some(at) = made_at(&text) {
            prop_assert_eq!(name(at), text);
        }
    }
}
