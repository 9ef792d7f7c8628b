//! Assets over the API: the hash that a client gives a file promises nothing to others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::Answer;
use crate::harness::serve::{Serve, serve, serve_in};

/// Uploads files, as an SDK does: the token that stands for them, and what the node asked for.
fn session(serve: &Serve, script: &str, files: &[(&str, &str, &[u8])]) -> (String, Vec<String>) {
    let manifest: Value = files
        .iter()
        .map(|(path, hash, bytes)| ((*path).to_owned(), json!({ "hash": hash, "size": bytes.len() })))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let path = format!("/workers/scripts/{script}/assets-upload-session");
    let session = serve.call("POST", &path, Some(&json!({ "manifest": manifest }))).json();
    let mut token = session["result"]["jwt"].as_str().unwrap().to_owned();
    let asked: Vec<String> = serde_json::from_value(session["result"]["buckets"].clone())
        .map(|buckets: Vec<Vec<String>>| buckets.concat())
        .unwrap();
    for hash in &asked {
        let (_, _, bytes) = files.iter().find(|(_, known, _)| known == hash).unwrap();
        let answer = send(serve, &token, hash, bytes, &[]).json();
        assert_eq!(answer["success"], true, "{answer}");
        if let Some(done) = answer["result"]["jwt"].as_str() {
            token = done.to_owned();
        }
    }
    (token, asked)
}

/// Sends one file of a session.
fn send(serve: &Serve, token: &str, hash: &str, bytes: &[u8], more: &[(&str, &str)]) -> Answer {
    let form = format!(
        "--x\r\nContent-Disposition: form-data; name=\"{hash}\"; filename=\"{hash}\"\r\nContent-Type: text/html\r\n\r\n{}\r\n--x--\r\n",
        STANDARD.encode(bytes)
    );
    let bearer = format!("Bearer {token}");
    let mut headers =
        vec![("authorization", bearer.as_str()), ("content-type", "multipart/form-data; boundary=x")];
    headers.extend(more);
    let path = format!("/accounts/{}/workers/assets/upload?base64=true", serve.account);
    serve.raw_call("POST", &path, &headers, Some(form.as_bytes()))
}

const CODE: &str =
    "export default { fetch(request, env) { return env.ASSETS?.fetch(request) ?? new Response('none'); } };";

/// A version whose `assets` are so and whose metadata has more.
fn deploy(serve: &Serve, script: &str, code: &str, more: Value) {
    let mut metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "assets", "name": "ASSETS" }],
    });
    metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = serve.upload(script, &metadata, code);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Uploads a version with assets; says what the node asked for.
fn upload(serve: &Serve, script: &str, files: &[(&str, &str, &str)]) -> Vec<String> {
    let files: Vec<(&str, &str, &[u8])> =
        files.iter().map(|(p, h, text)| (*p, *h, text.as_bytes())).collect();
    let (token, asked) = session(serve, script, &files);
    deploy(serve, script, CODE, json!({ "assets": { "jwt": token, "config": {} } }));
    asked
}

/// As wrangler names a file.
fn hash(bytes: &[u8], extension: &str) -> String {
    blake3::hash(format!("{}{extension}", STANDARD.encode(bytes)).as_bytes()).to_hex()[..32].to_owned()
}

fn get(serve: &Serve, script: &str, path: &str) -> String {
    serve.get(&format!("{script}.main.localhost"), path).text()
}

#[test]
fn what_one_script_uploads_under_a_made_up_hash_no_other_serves() {
    let serve = serve();
    let made_up = "0123456789abcdef0123456789abcdef";
    assert_eq!(upload(&serve, "one", &[("/a.html", made_up, "of one")]), [made_up]);
    assert_eq!(upload(&serve, "two", &[("/a.html", made_up, "of two!")]), [made_up], "it is asked for again");
    assert_eq!(get(&serve, "one", "/a"), "of one");
    assert_eq!(get(&serve, "two", "/a"), "of two!");
    assert!(upload(&serve, "one", &[("/a.html", made_up, "of one")]).is_empty(), "the script itself has it");
    assert_eq!(get(&serve, "one", "/a"), "of one");

    // A hash as wrangler makes them is one content: kept once.
    let real = hash(b"shared", "html");
    assert_eq!(upload(&serve, "three", &[("/b.html", &real, "shared")]), std::slice::from_ref(&real));
    assert!(upload(&serve, "four", &[("/c.html", &real, "shared")]).is_empty());
    assert_eq!(get(&serve, "four", "/c"), "shared");

    // Who takes another file's hash in advance is alone with what it uploads.
    let wanted = hash(b"the true one", "html");
    assert_eq!(
        upload(&serve, "thief", &[("/d.html", &wanted, "a false one!")]),
        std::slice::from_ref(&wanted)
    );
    assert_eq!(upload(&serve, "owner", &[("/d.html", &wanted, "the true one")]), [wanted]);
    assert_eq!(get(&serve, "owner", "/d"), "the true one");
    assert_eq!(get(&serve, "thief", "/d"), "a false one!");
}

#[test]
fn a_version_keeps_the_assets_of_the_one_before_if_it_says_so() {
    let serve = serve();
    let (page, code) = (hash(b"a page", "html"), |text: &str| {
        format!("export default {{ fetch() {{ return new Response('{text}'); }} }};")
    });
    upload(&serve, "site", &[("/page.html", &page, "a page")]);
    let kept = json!({ "keep_assets": true });
    deploy(&serve, "site", &code("second"), kept.clone());
    assert_eq!(
        (get(&serve, "site", "/page"), get(&serve, "site", "/other")),
        ("a page".into(), "second".into())
    );
    // Another configuration of the same files.
    let last = json!({ "keep_assets": true, "assets": { "config": { "html_handling": "none" } } });
    deploy(&serve, "site", &code("third"), last);
    assert_eq!(
        (get(&serve, "site", "/page"), get(&serve, "site", "/page.html")),
        ("third".into(), "a page".into())
    );
    // Through versions that are not deployed, and a restart.
    let serve = serve_in(serve.stop("KILL"), &[]);
    deploy(&serve, "site", &code("fourth"), kept.clone());
    assert_eq!(
        (get(&serve, "site", "/page.html"), get(&serve, "site", "/page")),
        ("a page".into(), "fourth".into())
    );
    // Who does not say so has none; and then there is nothing to keep.
    deploy(&serve, "site", &code("fifth"), json!({ "bindings": [] }));
    assert_eq!(get(&serve, "site", "/page.html"), "fifth");
    deploy(&serve, "site", &code("sixth"), json!({ "bindings": [], "keep_assets": true }));
    assert_eq!(get(&serve, "site", "/page.html"), "sixth");
    // Nor are those of another Worker kept.
    deploy(&serve, "new", &code("new"), json!({ "bindings": [], "keep_assets": true }));
    assert_eq!(get(&serve, "new", "/page.html"), "new");
}

/// The most memory that a process has had, in MiB.
fn peak(serve: &Serve) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn what_would_inflate_is_neither_inflated_nor_taken_for_more_than_it_is() {
    let serve = serve();
    let before = peak(&serve);
    // 2 GiB in 2 MiB; compressed once more it is a few kilobytes.
    let made =
        std::process::Command::new("sh").args(["-c", "head -c 2147483648 /dev/zero | gzip -9"]).output();
    let bomb = made.unwrap().stdout;
    assert!((1 << 20..4 << 20).contains(&bomb.len()), "{}", bomb.len());
    let name = hash(&bomb, "txt");
    let (token, _) = session(&serve, "bomb", &[("/bomb.txt", &name, &bomb)]);
    let rules = "/bomb.txt\n  Content-Encoding: gzip\n";
    deploy(&serve, "bomb", CODE, json!({ "assets": { "jwt": token, "config": { "_headers": rules } } }));
    for accepted in ["gzip", "br", "zstd", "identity", "gzip;q=0, identity;q=0"] {
        let headers = [("accept-encoding", accepted)];
        let answer = serve.send("GET", "bomb.main.localhost", "/bomb.txt", &headers, None);
        let encoding = answer.header("content-encoding").to_owned();
        // What a client of ours reads is what was sent: it inflates only what it says it accepts, and stops there.
        assert_eq!((answer.status, encoding.as_str()), (200, "gzip"), "{accepted}");
        assert_eq!(answer.body.len(), bomb.len(), "{accepted}");
    }

    // A session takes the bytes that its manifest says, and no encoding of the request but none.
    let small = hash(b"small", "html");
    let manifest = json!({ "manifest": { "/a.html": { "hash": small, "size": 5 } } });
    let opened = serve.call("POST", "/workers/scripts/other/assets-upload-session", Some(&manifest)).json();
    let token = opened["result"]["jwt"].as_str().unwrap();
    let zeros = vec![0; 8 << 20];
    let larger = send(&serve, token, &small, &zeros, &[]);
    assert!(larger.status == 400 && larger.text().contains("in the manifest"), "{}", larger.text());
    let encoded = send(&serve, token, &small, &bomb, &[("content-encoding", "gzip")]);
    assert_eq!(encoded.status, 400, "{}", encoded.text());
    let huge = json!({ "manifest": { "/a.html": { "hash": small, "size": 1_u64 << 40 } } });
    let refused = serve.call("POST", "/workers/scripts/other/assets-upload-session", Some(&huge));
    assert!(refused.status == 400 && refused.text().contains("are allowed"), "{}", refused.text());
    let still = serve.call("POST", "/workers/scripts/other/assets-upload-session", Some(&manifest)).json();
    assert_eq!(still["result"]["buckets"], json!([[small]]), "nothing was kept");
    let after = peak(&serve);
    assert!(after < before + 200, "{before} MiB, then {after} MiB");
}
