//! A node is killed at random moments of deploys, asset uploads and secret changes: afterwards the old or the new state
//! is there, whole, and no content that nothing names.
//!
//! `SKEP_CRASH_ROUNDS` says how often it is killed, `SKEP_CRASH_SEED` repeats the moments of a run.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::random::{Random, mix};
use crate::harness::serve::{Serve, serve, serve_in};
use crate::harness::{request, signal};

const HOST: &str = "s.main.localhost";

/// What is sent, one after the other; each with a number of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sent {
    /// Code, a variable and an asset, as one version.
    version: u64,
    secret: u64,
}

fn form(parts: &[(&str, &str, &str)]) -> Vec<u8> {
    let part = |(name, kind, content): &(&str, &str, &str)| {
        format!(
            "--x\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n\
             {content}\r\n"
        )
    };
    (parts.iter().map(part).collect::<String>() + "--x--\r\n").into_bytes()
}

/// A call of the API; an error where it was not answered.
fn call(
    serve: &Serve,
    token: &str,
    method: &str,
    path: &str,
    kind: &str,
    body: &[u8],
) -> Result<Value, String> {
    let token = format!("Bearer {token}");
    let url = format!("{}/accounts/{}/workers/{path}", serve.api, serve.account);
    let headers = [("authorization", token.as_str()), ("content-type", kind)];
    let answer = request(&url, method, &headers, Some(body)).map_err(|e| e.to_string())?;
    assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
    Ok(answer.json()["result"].clone())
}

fn send_version(serve: &Serve, n: u64) -> Result<(), String> {
    use base64::prelude::*;
    const FORM: &str = "multipart/form-data; boundary=x";
    let asset = format!("asset {n}");
    let hash = format!("{:032x}", mix(n));
    let manifest = json!({ "manifest": { "/asset.txt": { "hash": hash, "size": asset.len() } } }).to_string();
    let session = "scripts/s/assets-upload-session";
    let session = call(serve, &serve.token, "POST", session, "application/json", manifest.as_bytes())?;
    let mut jwt = session["jwt"].as_str().unwrap().to_owned();
    if session["buckets"] != json!([]) {
        let upload = form(&[(&hash, "text/plain", &BASE64_STANDARD.encode(&asset))]);
        let done = call(serve, &jwt, "POST", "assets/upload?base64=true", FORM, &upload)?;
        jwt = done["jwt"].as_str().unwrap().to_owned();
    }
    let metadata = json!({
        "main_module": "a.js", "compatibility_date": "2026-07-01", "keep_bindings": ["secret_text"],
        "bindings": [{ "type": "plain_text", "name": "N", "text": n.to_string() }],
        "assets": { "jwt": jwt },
    });
    let code = format!(
        "export default {{ fetch: (_, env) => Response.json([{n}, Number(env.N), Number(env.SECRET)]) }};"
    );
    let parts = [
        ("metadata", "application/json", metadata.to_string()),
        ("a.js", "application/javascript+module", code),
    ];
    let parts = parts.each_ref().map(|(name, kind, content)| (*name, *kind, content.as_str()));
    call(serve, &serve.token, "PUT", "scripts/s", FORM, &form(&parts)).map(drop)
}

fn send_secret(serve: &Serve, n: u64) -> Result<(), String> {
    let secret = json!({ "type": "secret_text", "name": "SECRET", "text": n.to_string() }).to_string();
    call(serve, &serve.token, "PUT", "scripts/s/secrets", "application/json", secret.as_bytes()).map(drop)
}

/// What is there, or a complaint of what is not whole.
fn found(serve: &Serve) -> Sent {
    let answer = serve.get(HOST, "/");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let [code, variable, secret]: [u64; 3] = serde_json::from_value(answer.json()).unwrap();
    assert_eq!(code, variable, "code and variable are of one version");
    assert_eq!(serve.get(HOST, "/asset.txt").text(), format!("asset {code}"), "so is the asset");
    Sent { version: code, secret }
}

/// Content files on the disk, and those that the catalog names.
fn content(data: &Path) -> (usize, usize) {
    let account = std::fs::read_dir(data.join("accounts")).unwrap().next().unwrap().unwrap().path();
    let folders = std::fs::read_dir(account.join("content")).unwrap();
    let files = folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum();
    let catalog = rusqlite::Connection::open(account.join("catalog.sqlite")).unwrap();
    let named: i64 = catalog.query_row("SELECT count(*) FROM content", [], |row| row.get(0)).unwrap();
    (files, named as usize)
}

#[test]
fn a_node_that_is_killed_has_the_old_or_the_new_state() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("SKEP_CRASH_SEED").unwrap_or(clock);
    let rounds = number("SKEP_CRASH_ROUNDS").unwrap_or(100);
    println!("SKEP_CRASH_SEED={seed} SKEP_CRASH_ROUNDS={rounds}");
    let mut random = Random::new(seed);

    let mut node = serve();
    send_version(&node, 1).unwrap();
    send_secret(&node, 1).unwrap();
    node.call("POST", "/workers/scripts/s/subdomain", Some(&json!({ "enabled": true })));
    let mut acknowledged = Sent { version: 1, secret: 1 };
    let mut tried = acknowledged;
    let mut new_states = 0;
    for _ in 0..rounds {
        let pause = Duration::from_millis(random.below(400));
        let killed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(pause);
                killed.store(true, Ordering::SeqCst);
                signal(node.pid(), "KILL");
            });
            loop {
                tried.version += 1;
                let sent = send_version(&node, tried.version);
                if sent.is_ok() {
                    acknowledged.version = tried.version;
                    tried.secret += 1;
                }
                let sent = sent.and_then(|()| send_secret(&node, tried.secret));
                match sent {
                    Ok(()) => acknowledged.secret = tried.secret,
                    Err(error) => {
                        assert!(killed.load(Ordering::SeqCst), "before it was killed: {error}");
                        return;
                    }
                }
            }
        });
        node = serve_in(node.stop("KILL"), &[]);
        let found = found(&node);
        assert!(
            [acknowledged.version, tried.version].contains(&found.version),
            "{found:?} {acknowledged:?} {tried:?}"
        );
        assert!(
            [acknowledged.secret, tried.secret].contains(&found.secret),
            "{found:?} {acknowledged:?} {tried:?}"
        );
        new_states += usize::from(found != acknowledged);
        acknowledged = found;
        tried = Sent { version: tried.version.max(found.version), secret: tried.secret.max(found.secret) };
    }
    println!("{} versions; {new_states} times the new state without its answer", tried.version);

    let (files, named) = content(&node.dir.path().join("data"));
    assert_eq!(files, named, "what nothing names is gone after a start");
}
