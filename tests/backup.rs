//! `skep backup` while a node serves, and `skep restore`.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::Ended;
use crate::harness::serve::{serve, serve_in};

/// Writes the same number to one store after the other: at no moment do two of them differ by more than one.
pub const WORKER: &str = r#"
import { DurableObject } from "cloudflare:workers";
export class Last extends DurableObject {
  set(n) { this.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS t(n)"); this.ctx.storage.sql.exec("INSERT INTO t VALUES (?)", n); return this.ctx.storage.sync(); }
  get() { return this.ctx.storage.sql.exec("SELECT max(n) AS n FROM t").one().n; }
}
const LARGE = "x".repeat(200_000);
export default {
  async fetch(request, env) {
    const last = env.LAST.getByName("one");
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/set") {
      const n = Number(searchParams.get("n"));
      if (n === 0) await env.DB.exec("CREATE TABLE t (n INTEGER)");
      await env.KV.put("n", `${n}`);
      await env.DB.prepare("INSERT INTO t VALUES (?)").bind(n).run();
      await env.BUCKET.put("n", `${n} ${LARGE}`);
      await last.set(n);
      return new Response("set");
    }
    const object = await (await env.BUCKET.get("n")).text();
    return Response.json({
      numbers: [Number(await env.KV.get("n")), await env.DB.prepare("SELECT max(n) AS n FROM t").first("n"), parseInt(object), await last.get()],
      whole: object.endsWith(LARGE), secret: env.SECRET,
    });
  },
};
"#;

pub const CONFIG: &str = r#"{
  "name": "numbers", "main": "index.js", "compatibility_date": "2026-07-01",
  "kv_namespaces": [{ "binding": "KV" }],
  "d1_databases": [{ "binding": "DB", "database_name": "numbers" }],
  "r2_buckets": [{ "binding": "BUCKET", "bucket_name": "numbers" }],
  "durable_objects": { "bindings": [{ "name": "LAST", "class_name": "Last" }] },
  "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Last"] }]
}"#;

pub const HOST: &str = "numbers.main.localhost";

fn skep(args: &[&str], data: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_skep")).args(args).arg("--data").arg(data).output().unwrap()
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_backup_of_a_busy_node_shows_one_moment_and_comes_back() {
    let serve = serve();
    let dir = serve.project("numbers", &[("index.js", WORKER), ("wrangler.jsonc", CONFIG)]);
    serve.wrangler(&dir, &["deploy"]);
    let secret = json!({ "name": "SECRET", "text": "s3cret", "type": "secret_text" });
    assert_eq!(serve.call("PUT", "/workers/scripts/numbers/secrets", Some(&secret)).status, 200);
    let set = |n: usize| assert_eq!(serve.get(HOST, &format!("/set?n={n}")).text(), "set");
    set(0);
    let travel = "/d1/database/numbers/time_travel";
    let start = serve.call("GET", &format!("{travel}/bookmark"), None).json()["result"]["bookmark"].clone();

    let data = serve.dir.path().join("data");
    let archives: Vec<_> = (0..5).map(|n| serve.dir.path().join(format!("{n}.tar"))).collect();
    let stop = AtomicBool::new(false);
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let _ended = Ended(&stop);
        scope.spawn(|| (1..).take_while(|_| !stop.load(Ordering::SeqCst)).for_each(set));
        let outputs = archives[..3].iter().map(|archive| {
            std::thread::sleep(std::time::Duration::from_millis(150));
            skep(&["backup", archive.to_str().unwrap()], &data)
        });
        let mut outputs: Vec<_> = outputs.collect();
        // Two at the same time take turns.
        let data = &data;
        let both = archives[3..]
            .iter()
            .map(|archive| scope.spawn(move || skep(&["backup", archive.to_str().unwrap()], data)));
        let both: Vec<_> = both.collect();
        outputs.extend(both.into_iter().map(|one| one.join().unwrap()));
        outputs
    });
    for output in outputs {
        assert!(output.status.success(), "{}", error(&output));
    }
    assert!(!data.join(".backup").exists(), "nothing stays behind");
    let key = std::fs::read(data.join("secrets.key")).unwrap();
    let last: Value = serve.get(HOST, "/").json();
    let old = serve.stop("TERM");

    let mut seen = Vec::new();
    for archive in &archives {
        let new = tempfile::tempdir().unwrap();
        let data = new.path().join("data");
        let output = skep(&["restore", archive.to_str().unwrap()], &data);
        assert!(output.status.success(), "{}", error(&output));
        assert!(!data.join("secrets.key").exists() && !data.join("credentials.json").exists());
        std::fs::write(data.join("secrets.key"), &key).unwrap();
        let serve = serve_in(new, &[]);
        let found: Value = serve.get(HOST, "/").json();
        let numbers: Vec<i64> = serde_json::from_value(found["numbers"].clone()).unwrap();
        assert!(numbers.is_sorted_by(|a, b| a >= b) && numbers[0] - numbers[3] <= 1, "{numbers:?}");
        assert_eq!((&found["whole"], &found["secret"]), (&json!(true), &json!("s3cret")));
        assert_eq!(serve.get(HOST, "/set?n=1000000").text(), "set", "and it goes on from there");
        // What databases were is in it, too, and fits.
        let back = format!("{travel}/restore?bookmark={}", start.as_str().unwrap());
        let back = serve.call("POST", &back, None);
        assert_eq!(back.status, 200, "{}", back.text());
        assert_eq!(serve.get(HOST, "/").json()["numbers"][1], 0);
        seen.push(numbers[0]);
    }
    assert!(seen[..4].is_sorted() && seen[3].min(seen[4]) > seen[0], "{seen:?}");

    // Of a node that does not run: what was there at its end.
    let (data, archive) = (old.path().join("data"), old.path().join("end.tar"));
    assert!(skep(&["backup", archive.to_str().unwrap()], &data).status.success());
    let text = error(&skep(&["restore", archive.to_str().unwrap()], &data));
    assert!(text.contains("is not empty"), "{text}");
    let new = tempfile::tempdir().unwrap();
    assert!(skep(&["restore", archive.to_str().unwrap()], &new.path().join("data")).status.success());
    let text = error(&skep(&["serve"], &new.path().join("data")));
    assert!(text.contains("secrets.key is missing"), "{text}");
    std::fs::write(new.path().join("data/secrets.key"), &key).unwrap();
    assert_eq!(serve_in(new, &[]).get(HOST, "/").json(), last);
}

#[test]
fn what_is_no_node_and_no_archive_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("archive"));
    let text = error(&skep(&["backup", file.to_str().unwrap()], &data));
    assert!(text.contains("is not the data folder of a node"), "{text}");
    std::fs::write(&file, "no archive").unwrap();
    let text = error(&skep(&["restore", file.to_str().unwrap()], &data));
    assert!(text.contains("this is not a backup of Skep"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made");
}
