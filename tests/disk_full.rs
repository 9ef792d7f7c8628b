//! The disk is full: writes fail with a clear error and store nothing, reads go on, and once there is room
//! everything works again. Mounting a small file system needs root; without it these tests say that they are
//! skipped.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::lane::Lane;
use crate::harness::serve::serve_in;
use crate::harness::{PATIENCE, Skep, copy, dev_with, eventually, project, signal, try_dev};

const STORES: [&str; 8] = ["kv", "r2", "parts", "d1", "batch", "object", "sql", "queue"];

/// What an application hears from a write.
fn text_of(store: &str) -> &'static str {
    match store {
        "kv" => "KV PUT failed: 507 Insufficient storage: the disk is full",
        "r2" => "put: We encountered an internal error: the disk is full. Nothing was stored. (10001)",
        "parts" => {
            "uploadPart: We encountered an internal error: the disk is full. Nothing was stored. (10001)"
        }
        "d1" | "batch" => "D1_ERROR: database or disk is full: SQLITE_FULL",
        "queue" => "queue storage limit exceeded: the disk is full (10251)",
        _ => "database or disk is full: SQLITE_FULL",
    }
}

/// A file system of its own, in memory; unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` without root.
    fn mount(megabytes: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: mounting a file system needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(dir.path());
        assert!(mount.status().unwrap().success());
        Some(Self(dir))
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// Bytes that are left.
    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.0.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Takes all but `left` bytes, until the filling is dropped.
    fn fill(&self, left: u64) -> Filling {
        let filling = Filling(self.0.path().join("filling"));
        let mut file = File::create(&filling.0).unwrap();
        while self.free() > left {
            let piece = (self.free() - left).min(1 << 20) as usize;
            if file.write_all(&vec![1; piece]).is_err() {
                break;
            }
        }
        filling
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: after a failure something may still be in it.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

struct Filling(PathBuf);

impl Filling {
    /// Leaves room.
    fn give(&self, bytes: u64) {
        let file = File::options().write(true).open(&self.0).unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn lanes() -> Vec<Lane> {
    STORES.iter().map(|store| Lane::new(store, 0)).collect()
}

fn write_to_all(lanes: &mut [Lane], skep: &Skep, times: u32) {
    for lane in lanes {
        for _ in 0..times {
            lane.write(skep).unwrap_or_else(|e| panic!("{}: {e}", lane.store));
        }
    }
}

fn check_all(lanes: &mut [Lane], skep: &Skep) {
    lanes.iter_mut().for_each(|lane| lane.check(skep));
}

/// As [`check_all`], but for what was sent: it arrives once its consumer can write again.
fn check_stores(lanes: &mut [Lane], skep: &Skep) {
    lanes.iter_mut().filter(|lane| lane.store != "queue").for_each(|lane| lane.check(skep));
}

/// Keeps the writer's objects in memory until dropped. The engine takes an object out of memory 10 s after its last
/// request, which a busy machine needs for less than this test. When it is opened again, SQLite cuts the index of its
/// log short and lets it grow to 32 KiB: that fails if somebody else has written meanwhile.
fn hold_objects(skep: &Skep) -> [TcpStream; 2] {
    ["kv%200", "sql%200"].map(|object| {
        let mut stream = TcpStream::connect(skep.url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /hold/{object} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        stream
    })
}

/// Writes until the disk refuses: what is already allocated, such as a log that is begun again, takes some.
fn write_until_refused(lane: &mut Lane, skep: &Skep) -> String {
    (0..5000).find_map(|_| lane.write(skep).err()).unwrap_or_else(|| panic!("{} never refuses", lane.store))
}

#[test]
fn writes_to_a_full_disk_fail_clearly_and_reads_go_on_until_there_is_room() {
    let Some(disk) = Disk::mount(96) else { return };
    let project = copy(&project("crash"));
    let skep = dev_with(project.path(), &disk.state(), &[]);
    let mut lanes = lanes();
    write_to_all(&mut lanes, &skep, 3);
    check_all(&mut lanes, &skep);

    let held = hold_objects(&skep);
    let filling = disk.fill(0);
    for lane in &mut lanes {
        let error = write_until_refused(lane, &skep).replace("createMultipartUpload", "uploadPart");
        assert_eq!(error, text_of(lane.store));
    }
    check_stores(&mut lanes, &skep);
    drop(held);
    // Also from a new cell. Its objects, though, are opened anew, and that takes some room.
    signal(skep.cells()[0], "KILL");
    eventually("new cell", || skep.try_send("GET", "/", &[], None).ok().filter(|a| a.status == 200));
    let elsewhere = |lane: &&mut Lane| !matches!(lane.store, "object" | "sql" | "queue");
    lanes.iter_mut().filter(elsewhere).for_each(|lane| lane.check(&skep));

    drop(filling);
    write_to_all(&mut lanes, &skep, 3);
    check_all(&mut lanes, &skep);
}

#[test]
fn a_value_larger_than_what_is_left_leaves_nothing_behind() {
    let Some(disk) = Disk::mount(64) else { return };
    let project = copy(&project("crash"));
    let skep = dev_with(project.path(), &disk.state(), &[]);
    let mut lanes = lanes();
    write_to_all(&mut lanes, &skep, 1);
    check_all(&mut lanes, &skep);

    // Less than the first part of an upload.
    let filling = disk.fill(4 << 20);
    let large = vec![7; 20 << 20];
    for store in ["kv", "r2", "parts"] {
        let (free, files) = (disk.free(), content_files(&disk.state()));
        let answer = skep.send("PUT", &format!("/{store}/large/0?n=0"), &[], Some(&large));
        assert_eq!((answer.status, answer.text().as_str()), (500, text_of(store)));
        assert_eq!(skep.get(&format!("/{store}/large/0")).status, 404);
        // A log may have grown by a few pages; of two parts one may fail later than the other.
        eventually(&format!("room after {store}"), || (disk.free() + (64 << 10) > free).then_some(()));
        assert_eq!(content_files(&disk.state()), files, "{store}");
    }
    drop(filling);
    write_to_all(&mut lanes, &skep, 1);
    check_all(&mut lanes, &skep);
}

#[test]
fn a_skep_that_is_killed_while_many_fill_the_disk_has_all_that_was_acknowledged() {
    let Some(disk) = Disk::mount(96) else { return };
    let project = copy(&project("crash"));
    let mut skep = dev_with(project.path(), &disk.state(), &[]);
    let mut lanes = lanes();
    write_to_all(&mut lanes, &skep, 1);

    let filling = disk.fill(3 << 20);
    std::thread::scope(|scope| {
        for lane in &mut lanes {
            scope.spawn(|| (0..5).for_each(|_| drop(write_until_refused(lane, &skep))));
        }
    });
    skep.signal("KILL");
    skep.wait();

    // The indices of all logs are made anew when it starts; it takes no more than that.
    filling.give(2 << 20);
    let skep = dev_with(project.path(), &disk.state(), &[]);
    check_stores(&mut lanes, &skep);
    drop(filling);
    check_all(&mut lanes, &skep);
    write_to_all(&mut lanes, &skep, 1);
    check_all(&mut lanes, &skep);

    // After an orderly end the logs are gone, and there is no room to begin them again.
    drop(skep);
    let filling = disk.fill(0);
    let said = match try_dev(project.path(), &disk.state(), &[]) {
        Ok(skep) => skep.output(),
        Err(output) => output,
    };
    assert!(said.contains("the disk is full"), "{said}");
    drop(filling);
    let skep = dev_with(project.path(), &disk.state(), &[]);
    check_all(&mut lanes, &skep);
}

/// Files below `folder` that hold values too large for a row.
fn content_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| match path.is_dir() {
            true => content_files(&path),
            false => usize::from(path.components().any(|part| part.as_os_str() == "blobs")),
        })
        .sum()
}

#[test]
fn a_node_with_a_full_disk_refuses_deploys_and_goes_on_serving() {
    let Some(disk) = Disk::mount(96) else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(disk.state()).unwrap();
    std::os::unix::fs::symlink(disk.state(), dir.path().join("data")).unwrap();
    let serve = serve_in(dir, &[]);
    let code = |n: u32| {
        format!(
            "export default {{ fetch() {{ return new Response('code {n}') }} }}; // {}",
            "x".repeat(1 << 20)
        )
    };
    let config = r#"{ "name": "s", "main": "a.js", "compatibility_date": "2026-07-01" }"#;
    let deploy = |n: u32| {
        let project = serve.project("s", &[("a.js", &code(n)), ("wrangler.jsonc", config)]);
        serve.try_wrangler(&project, &["deploy", "--no-bundle"], "")
    };
    let ran = deploy(1);
    assert!(ran.success, "{}", ran.text);
    let answer = || serve.get("s.main.localhost", "/").text();
    assert_eq!(answer(), "code 1");

    let filling = disk.fill(256 << 10);
    let ran = deploy(2);
    assert!(!ran.success && ran.text.contains("the disk is full"), "{}", ran.text);
    assert_eq!(answer(), "code 1", "what runs stays");
    let secret = json!({ "type": "secret_text", "name": "S", "text": "x".repeat(5000) });
    let mut refused = (0..200).map(|_| serve.call("PUT", "/workers/scripts/s/secrets", Some(&secret)));
    let refused = refused.find(|answer| answer.status != 200).expect("a refusal");
    assert!(refused.text().contains("the disk is full"), "{}", refused.text());
    assert_eq!(refused.json()["success"], false);
    assert_eq!(answer(), "code 1");
    let listed = serve.call("GET", "/workers/scripts", None).json();
    assert_eq!(listed["result"][0]["id"], "s");

    drop(filling);
    let ran = deploy(3);
    assert!(ran.success, "{}", ran.text);
    assert_eq!(answer(), "code 3");
}
