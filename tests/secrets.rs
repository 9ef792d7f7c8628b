//! The key that secrets are encrypted with is replaced: while a node serves and while none does, killed or not.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use skep_catalog::{Catalog, Sealer};

use crate::harness::Ended;
use crate::harness::serve::{Serve, serve, serve_in};

const CODE: &str = "export default { fetch(request, env) { return Response.json(env); } };";
const HOST: &str = "secret.main.localhost";

fn rotate(data: &Path) -> Output {
    rotation(data).output().unwrap()
}

fn rotation(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(["secrets", "rotate", "--data"]).arg(data);
    command
}

fn put(serve: &Serve, script: &str, name: &str, text: &str) {
    let secret = json!({ "name": name, "text": text, "type": "secret_text" });
    let path = format!("/workers/scripts/{script}/secrets");
    assert_eq!(serve.call("PUT", &path, Some(&secret)).status, 200);
}

/// How many secrets a key file opens, and how many it does not.
fn opened(serve_data: &Path, account: &str, key_file: &Path) -> (usize, usize) {
    let sealer = Sealer::open(key_file).unwrap();
    let catalog = Catalog::open(&serve_data.join("accounts").join(account).join("catalog.sqlite")).unwrap();
    let mut counts = (0, 0);
    for script in catalog.scripts().unwrap() {
        for version in catalog.versions(&script.tag, 0, 10_000).unwrap().0 {
            for binding in &version.content.bindings {
                let (Some(name), Some(sealed)) = (binding["name"].as_str(), binding["sealed"].as_str())
                else {
                    continue;
                };
                let context = format!("{account}/{}/{name}", script.name);
                match sealer.open_sealed(sealed, &context) {
                    Ok(_) => counts.0 += 1,
                    Err(_) => counts.1 += 1,
                }
            }
        }
    }
    counts
}

#[test]
fn a_node_gets_a_new_key_while_secrets_are_put() {
    let serve = serve();
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    for script in ["secret", "other"] {
        assert_eq!(serve.upload(script, &metadata, CODE).status, 200);
    }
    put(&serve, "secret", "A", "one");
    let data = serve.dir.path().join("data");
    let (key, old) = (data.join("secrets.key"), serve.dir.path().join("old.key"));
    std::fs::copy(&key, &old).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ended = Ended(&stop);
        scope.spawn(|| {
            for n in 0.. {
                put(&serve, "other", &format!("N{}", n % 7), "busy");
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        for _ in 0..4 {
            let output = rotate(&data);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    });
    put(&serve, "secret", "B", "two");
    assert_eq!(serve.get(HOST, "/").json(), json!({ "A": "one", "B": "two" }));
    assert_eq!(std::fs::read_to_string(&key).unwrap().lines().count(), 1);
    let account = serve.account.clone();
    let dir = serve.stop("TERM");
    let data = dir.path().join("data");
    let (readable, lost) = opened(&data, &account, &key);
    assert!(readable > 3 && lost == 0, "{readable} {lost}");
    let (by_the_old_one, _) = opened(&data, &account, &old);
    assert_eq!(by_the_old_one, 0, "the old key is worth nothing");
    let serve = serve_in(dir, &[]);
    assert_eq!(serve.get(HOST, "/").json(), json!({ "A": "one", "B": "two" }), "after a restart, too");
}

#[test]
fn killed_at_any_moment_of_a_rotation_all_secrets_open() {
    let serve = serve();
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(serve.upload("secret", &metadata, CODE).status, 200);
    for n in 0..12 {
        put(&serve, "secret", &format!("N{n}"), "hush");
    }
    let account = serve.account.clone();
    let dir = serve.stop("TERM");
    let data = dir.path().join("data");
    let key = data.join("secrets.key");
    let all = opened(&data, &account, &key);
    assert!(all.0 >= 12 && all.1 == 0);
    let killed = Arc::new(AtomicBool::new(false));
    for round in 0..40u64 {
        let mut child = rotation(&data).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(500 * round));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed.store(true, Ordering::SeqCst);
        }
        child.wait().unwrap();
        assert_eq!(opened(&data, &account, &key), all, "round {round}");
    }
    assert!(killed.load(Ordering::SeqCst));
    let output = rotate(&data);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(&key).unwrap().lines().count(), 1, "the next one ends what was begun");
    assert_eq!(opened(&data, &account, &key), all);
    let serve = serve_in(dir, &[]);
    assert_eq!(serve.get(HOST, "/").json()["N11"], "hush");
}
