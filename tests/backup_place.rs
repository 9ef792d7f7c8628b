//! Backups in a bucket, each of which stores only what is new: by hand, by the clock, of a busy node. The bucket is another node's.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backup::{CONFIG, HOST, WORKER};
use crate::harness::random::Random;
use crate::harness::serve::{Serve, serve, serve_by};
use crate::harness::{Ended, request};
use crate::s3::{endpoint, key};

/// The variables by which a bucket of `serve` is reached.
fn keys(serve: &Serve) -> Vec<(&'static str, String)> {
    let [id, secret] = key(serve);
    vec![
        ("AWS_ENDPOINT_URL_S3", endpoint(serve)),
        ("AWS_ACCESS_KEY_ID", id),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ]
}

fn skep(keys: &[(&str, String)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.envs(keys.iter().map(|(name, value)| (*name, value))).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// The names of the backups in a place, the oldest first.
fn backups(keys: &[(&str, String)], place: &str) -> Vec<String> {
    let output = skep(keys, &["backups", place]);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line[..16].to_owned()).collect()
}

/// Starts a node on what was restored to `dir`, with the key of the one that it was of.
fn start_restored(dir: tempfile::TempDir, key: &[u8]) -> Serve {
    std::fs::write(dir.path().join("data/secrets.key"), key).unwrap();
    serve_by(Command::new(env!("CARGO_BIN_EXE_skep")), dir, &[])
}

fn numbers(serve: &Serve) -> Vec<i64> {
    serde_json::from_value(serve.get(HOST, "/").json()["numbers"].clone()).unwrap()
}

fn restore(keys: &[(&str, String)], place: &str, more: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let output = skep(keys, &[&["restore", place, "--data", data.to_str().unwrap()], more].concat());
    assert!(output.status.success(), "{}", said(&output));
    dir
}

fn stored(output: &Output) -> f64 {
    let said = said(output);
    let (_, rest) = said.split_once("of which ").unwrap_or_else(|| panic!("{said}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// Stores 3 MB which do not compress.
fn grow(data: &Path, name: &str) {
    let mut random = Random::new(name.len() as u64);
    let noise: Vec<u8> = (0..375_000).flat_map(|_| random.next().to_le_bytes()).collect();
    std::fs::write(data.join(name), noise).unwrap();
}

#[test]
fn backups_in_a_bucket_store_what_is_new_and_each_comes_back() {
    let bucket = serve();
    bucket.wrangler(bucket.dir.path(), &["r2", "bucket", "create", "safe"]);
    let keys = keys(&bucket);
    let (place, clock) = ("s3://safe/by/hand", "s3://safe/by/clock");

    // A busy node makes some by the clock, and some because it is told to.
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.envs(keys.iter().map(|(name, value)| (*name, value)));
    let args = ["--backup-to", clock, "--backup-every", "2s", "--metrics", "127.0.0.1:0"];
    let node = serve_by(command, tempfile::tempdir().unwrap(), &args);
    let dir = node.project("numbers", &[("index.js", WORKER), ("wrangler.jsonc", CONFIG)]);
    node.wrangler(&dir, &["deploy"]);
    let set = |n: usize| assert_eq!(node.get(HOST, &format!("/set?n={n}")).text(), "set");
    set(0);
    let data = node.dir.path().join("data");
    // What a node keeps and does not change, for its size.
    grow(&data, "large");
    // One more may have begun before that.
    let enough = backups(&keys, clock).len() + 2;
    let by_hand = || skep(&keys, &["backup", place, "--data", data.to_str().unwrap()]);
    let stop = AtomicBool::new(false);
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let _ended = Ended(&stop);
        scope.spawn(|| (1..).take_while(|_| !stop.load(Ordering::SeqCst)).for_each(set));
        let outputs = (0..3).map(|_| by_hand()).collect();
        let begun = Instant::now();
        while backups(&keys, clock).len() < enough {
            assert!(begun.elapsed() < Duration::from_secs(60), "no backups by the clock: {}", node.output());
            std::thread::sleep(Duration::from_millis(200));
        }
        outputs
    });
    for output in &outputs {
        assert!(output.status.success(), "{}", said(output));
    }
    let sizes: Vec<f64> = outputs.iter().map(stored).collect();
    assert!(sizes[0] >= 3.0 && sizes[1] < 1.5 && sizes[2] < 1.5, "{sizes:?} MB were stored");
    assert!(!data.join(".backup").exists(), "nothing stays behind");
    let key = std::fs::read(data.join("secrets.key")).unwrap();
    let by_hand = backups(&keys, place);
    assert_eq!(by_hand.len(), 3, "{by_hand:?}");
    let last: Value = node.get(HOST, "/").json();
    let output = node.output();
    let metrics = output.split("Metrics at ").nth(1).unwrap().split_whitespace().next().unwrap();
    let metrics = request(metrics, "GET", &[], None).unwrap().text();
    let at =
        metrics.lines().find_map(|line| line.strip_prefix("skep_backup_last_timestamp_seconds ")).unwrap();
    let age = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() - at.parse::<u64>().unwrap();
    assert!(age < 600 && metrics.contains("skep_job_failed{job=\"backup\"} 0"), "{metrics}");
    let node = node.stop("TERM");

    // Of a node that does not run, too; and all of them show one moment.
    let output = skep(&keys, &["backup", place, "--data", data.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let newest = start_restored(restore(&keys, place, &[]), &key);
    assert_eq!(newest.get(HOST, "/").json(), last);
    drop(newest);
    let mut seen = Vec::new();
    for id in &by_hand {
        let restored = start_restored(restore(&keys, place, &["--at", id]), &key);
        let numbers = numbers(&restored);
        assert!(numbers.is_sorted_by(|a, b| a >= b) && numbers[0] - numbers[3] <= 1, "{numbers:?}");
        seen.push(numbers[0]);
    }
    assert!(seen.is_sorted() && seen[2] > seen[0], "{seen:?}");
    let restored = restore(&keys, clock, &["--take-over"]);
    assert_eq!(
        std::fs::read(restored.path().join("data/large")).unwrap(),
        std::fs::read(data.join("large")).unwrap()
    );

    // Who was restored keeps away from the other's backups, unless told that it is gone.
    let of = |dir: &tempfile::TempDir| dir.path().join("data").to_str().unwrap().to_owned();
    let other = restore(&keys, clock, &[]);
    let output = skep(&keys, &["backup", clock, "--data", &of(&other)]);
    assert!(
        !output.status.success() && said(&output).contains("has the backups of another node"),
        "{}",
        said(&output)
    );
    assert!(skep(&keys, &["backup", clock, "--data", &of(&restored)]).status.success());
    drop(node);
}

#[test]
fn what_a_place_says_no_to_is_said() {
    let bucket = serve();
    let keys = keys(&bucket);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("new");
    let fails = |keys: &[(&str, String)], args: &[&str], text: &str| {
        let output = skep(keys, args);
        assert!(!output.status.success() && said(&output).contains(text), "{args:?}: {}", said(&output));
    };
    let target_arg = target.to_str().unwrap();
    fails(&keys, &["backups", "s3://not-there/x"], "NoSuchBucket");
    fails(&keys, &["restore", "s3://not-there/x", "--data", target_arg], "NoSuchBucket");
    bucket.wrangler(bucket.dir.path(), &["r2", "bucket", "create", "safe"]);
    fails(&keys, &["restore", "s3://safe/x", "--data", target_arg], "s3://safe/x has no backup");
    let mut wrong = keys.clone();
    wrong[2].1 = "wrong".into();
    fails(&wrong, &["backups", "s3://safe/x"], "SignatureDoesNotMatch");
    fails(&keys[..1], &["backups", "s3://safe/x"], "set AWS_ACCESS_KEY_ID");
    fails(
        &keys,
        &["serve", "--data", target_arg, "--backup-to", "backup.tar"],
        "expected s3://BUCKET/PREFIX",
    );
    fails(&keys, &["restore", "some.tar", "--data", target_arg, "--at", "x"], "some.tar is an archive");
    assert!(!target.exists(), "nothing was made");

    // A disk that is mounted is a place, too; and what is there may be encrypted.
    let place = format!("file://{}", dir.path().join("disk").display());
    let data = bucket.dir.path().join("data");
    let output = skep(&[], &["backup", &place, "--data", data.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(backups(&[], &place).len(), 1);
    assert!(skep(&[], &["restore", &place, "--data", target_arg]).status.success());
    assert!(target.join("registry.sqlite").exists() && !target.join("backup-owner").exists());
    let inside = format!("file://{}", data.join("backups").display());
    fails(&[], &["backup", &inside, "--data", data.to_str().unwrap()], "name a folder elsewhere");
    fails(
        &[],
        &["serve", "--data", target_arg, "--backup-to", &format!("file://{target_arg}/x")],
        "name a folder elsewhere",
    );
    let (key, sealed) = (dir.path().join("key"), format!("file://{}", dir.path().join("sealed").display()));
    let (key, again) = (key.to_str().unwrap(), dir.path().join("again"));
    let backup = ["backup", &sealed, "--data", data.to_str().unwrap(), "--backup-key", key];
    fails(&[], &backup, "cannot read the key of backups");
    std::fs::write(key, "5f".repeat(32)).unwrap();
    let output = skep(&[], &backup);
    assert!(output.status.success(), "{}", said(&output));
    let restore = ["restore", &sealed, "--data", again.to_str().unwrap(), "--backup-key", key];
    fails(&[], &restore[..4], "are encrypted: name the file with their key");
    assert!(skep(&[], &restore).status.success());
    assert!(again.join("registry.sqlite").exists());
}

#[test]
fn who_does_not_wait_for_a_backup_does_not_spoil_the_next_one() {
    let node = serve();
    let data = node.dir.path().join("data");
    (0..12).for_each(|n| grow(&data, &"large".repeat(n + 1)));
    let dir = tempfile::tempdir().unwrap();
    let (place, data) = (format!("file://{}", dir.path().join("disk").display()), data.to_str().unwrap());
    let mut given_up = Command::new(env!("CARGO_BIN_EXE_skep"));
    let mut given_up = given_up.args(["backup", &place, "--data", data]).spawn().unwrap();
    // Somewhere in the middle: the node has begun.
    let stage = Path::new(data).join(".backup");
    let begun = Instant::now();
    while !stage.exists()
        && given_up.try_wait().unwrap().is_none()
        && begun.elapsed() < Duration::from_secs(30)
    {
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = given_up.kill();
    given_up.wait().unwrap();
    let archive = dir.path().join("node.tar");
    let output = skep(&[], &["backup", archive.to_str().unwrap(), "--data", data]);
    assert!(output.status.success(), "{}", said(&output));
    // The node has ended what it began, and both are whole.
    for from in [archive.to_str().unwrap(), &place] {
        let restored = restore(&[], from, &[]);
        for n in 0..12 {
            let name = "large".repeat(n + 1);
            let content = std::fs::read(restored.path().join("data").join(&name)).unwrap();
            assert_eq!(content, std::fs::read(Path::new(data).join(&name)).unwrap(), "{name} from {from}");
        }
    }
}
