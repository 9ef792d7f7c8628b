//! Assets over the API: the hash that a client gives a file promises nothing to others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve};

/// Uploads a version of assets alone, as an SDK does; says what the node asked for.
fn upload(serve: &Serve, script: &str, files: &[(&str, &str, &str)]) -> Vec<String> {
    let manifest: Value = files
        .iter()
        .map(|(path, hash, text)| ((*path).to_owned(), json!({ "hash": hash, "size": text.len() })))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let path = format!("/workers/scripts/{script}/assets-upload-session");
    let session = serve.call("POST", &path, Some(&json!({ "manifest": manifest }))).json();
    let mut token = session["result"]["jwt"].as_str().unwrap().to_owned();
    let asked: Vec<String> = serde_json::from_value(session["result"]["buckets"].clone())
        .map(|buckets: Vec<Vec<String>>| buckets.concat())
        .unwrap();
    for hash in &asked {
        let (_, _, text) = files.iter().find(|(_, known, _)| known == hash).unwrap();
        let form = format!(
            "--x\r\nContent-Disposition: form-data; name=\"{hash}\"; filename=\"{hash}\"\r\nContent-Type: text/html\r\n\r\n{}\r\n--x--\r\n",
            STANDARD.encode(text)
        );
        let bearer = format!("Bearer {token}");
        let headers =
            [("authorization", bearer.as_str()), ("content-type", "multipart/form-data; boundary=x")];
        let path = format!("/accounts/{}/workers/assets/upload?base64=true", serve.account);
        let answer = serve.raw_call("POST", &path, &headers, Some(form.as_bytes())).json();
        assert_eq!(answer["success"], true, "{answer}");
        if let Some(done) = answer["result"]["jwt"].as_str() {
            token = done.to_owned();
        }
    }
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "assets": { "jwt": token, "config": {} },
        "bindings": [{ "type": "assets", "name": "ASSETS" }],
    });
    let code = "export default { fetch(request, env) { return env.ASSETS.fetch(request); } };";
    assert_eq!(serve.upload(script, &metadata, code).status, 200);
    asked
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
    let hash = |text: &str, extension: &str| {
        blake3::hash(format!("{}{extension}", STANDARD.encode(text)).as_bytes()).to_hex()[..32].to_owned()
    };
    let real = hash("shared", "html");
    assert_eq!(upload(&serve, "three", &[("/b.html", &real, "shared")]), std::slice::from_ref(&real));
    assert!(upload(&serve, "four", &[("/c.html", &real, "shared")]).is_empty());
    assert_eq!(get(&serve, "four", "/c"), "shared");

    // Who takes another file's hash in advance is alone with what it uploads.
    let wanted = hash("the true one", "html");
    assert_eq!(
        upload(&serve, "thief", &[("/d.html", &wanted, "a false one!")]),
        std::slice::from_ref(&wanted)
    );
    assert_eq!(upload(&serve, "owner", &[("/d.html", &wanted, "the true one")]), [wanted]);
    assert_eq!(get(&serve, "owner", "/d"), "the true one");
    assert_eq!(get(&serve, "thief", "/d"), "a false one!");
}
