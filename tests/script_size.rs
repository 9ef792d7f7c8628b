//! Scripts that are too large, or have too much to look up: Cloudflare's codes, nothing stored, and a neighbour that notices nothing.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::scene::scene;
use crate::harness::serve::{FORM, Serve, form};
use crate::storms::{alone, felt_beside, stage};

const CODE: &str = "export default { fetch() { return new Response('fine') } }";

fn plain() -> Value {
    json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" })
}

/// Bytes that nothing makes shorter.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Bytes of all files below a folder.
fn folder_size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// An upload of a small script with data beside it.
fn with_data(data: &[u8]) -> Vec<u8> {
    let mut upload = form(&plain(), &[("index.js", CODE)]);
    upload.truncate(upload.len() - b"--x--\r\n".len());
    upload.extend_from_slice(
        b"--x\r\nContent-Disposition: form-data; name=\"d.bin\"; filename=\"d.bin\"\r\n\
          Content-Type: application/octet-stream\r\n\r\n",
    );
    upload.extend_from_slice(data);
    upload.extend_from_slice(b"\r\n--x--\r\n");
    upload
}

/// The status, the code and the text of an upload's error; nothing if it was taken.
fn sent(serve: &Serve, method: &str, path: &str, upload: &[u8]) -> Option<(u16, u64, String)> {
    let answer = serve.own_call(method, path, &[("content-type", FORM)], Some(upload));
    let error = answer.json()["errors"][0].clone();
    error["code"].as_u64().map(|code| (answer.status, code, error["message"].as_str().unwrap().to_owned()))
}

fn too_large(limit: u32) -> Option<(u16, u64, String)> {
    let text = format!(
        "Your Worker exceeded the size limit of {limit} MiB. Refer to the Workers documentation \
         (https://developers.cloudflare.com/workers/observability/errors/#errors-on-worker-upload) for more details."
    );
    Some((413, 10027, text))
}

#[test]
fn a_script_that_is_too_large_is_refused_wherever_it_is_sent_and_nothing_of_it_is_kept() {
    let _alone = alone();
    let scene = stage();
    let serve = &scene.serve;
    serve.make_namespace("tenants");
    let large = with_data(&noise(10 << 20));
    let unpacked = with_data(&vec![0; 64 << 20]);
    let data = serve.dir.path().join("data");
    let before = folder_size(&data);
    let places = [
        ("PUT", "/workers/scripts/large"),
        ("POST", "/workers/scripts/bad/versions"),
        ("PUT", "/workers/dispatch/namespaces/tenants/scripts/large"),
    ];
    for (method, path) in places {
        assert_eq!(sent(serve, method, path, &large), too_large(10), "{path}");
        assert_eq!(sent(serve, method, path, &unpacked), too_large(64), "{path}");
    }
    assert_eq!(serve.call("GET", "/workers/scripts/large", None).status, 404);
    assert_eq!(serve.call("GET", places[2].1, None).status, 404);
    let grown = folder_size(&data).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more are stored");
    let times = felt_beside(&scene, || assert_eq!(sent(serve, "PUT", places[0].1, &large), too_large(10)));
    assert!(times < 8.0, "{times:.1}");
}

#[test]
fn the_operator_says_how_large_a_script_may_be_and_how_many_variables_it_may_have() {
    let args = ["--max-script", "1", "--max-script-uncompressed", "2", "--max-variables", "2"];
    let scene = scene(&json!({}), CODE, &args);
    let serve = &scene.serve;
    let put = |upload: &[u8]| sent(serve, "PUT", "/workers/scripts/own", upload);
    assert_eq!(put(&with_data(&noise(1 << 20))), too_large(1));
    assert_eq!(put(&with_data(&vec![0; 2 << 20])), too_large(2));
    assert_eq!(put(&with_data(&noise((1 << 20) - 4096))), None);

    let variables = |count: usize, length: usize| {
        let variable =
            |n| json!({ "type": "plain_text", "name": format!("V{n}"), "text": "x".repeat(length) });
        let mut metadata = plain();
        metadata["bindings"] = (0..count).map(variable).collect();
        form(&metadata, &[("index.js", CODE)])
    };
    let many = "Too many text bindings, found a total of 3, they exceed the limit of 2. Please use fewer bindings and \
                try again.";
    assert_eq!(put(&variables(3, 1)), Some((400, 10055, many.to_owned())));
    assert_eq!(put(&variables(1, 5121)).map(|(_, code, _)| code), Some(10054));
    assert_eq!(put(&variables(2, 5120)), None);
    let secret = |text: &str| {
        let secret = json!({ "name": "S", "text": text, "type": "secret_text" });
        serve.call("PUT", "/workers/scripts/own/secrets", Some(&secret)).json()["errors"][0]["code"].clone()
    };
    assert_eq!(secret("s"), 10055, "secrets and variables count together");
    assert_eq!(secret(&"s".repeat(5121)), 10054);
    // Enough bindings that looking them up would take a while, or a part that is a thousand modules.
    let mut metadata = plain();
    metadata["bindings"] = (0..20_000)
        .map(|n| json!({ "type": "kv_namespace", "name": format!("K{n}"), "namespace_id": "0".repeat(32) }))
        .collect();
    assert_eq!(put(&form(&metadata, &[("index.js", CODE)])).map(|(_, code, _)| code), Some(10021));
    let blobs: Vec<Value> = (0..1000)
        .map(|n| json!({ "type": "data_blob", "name": format!("D{n}"), "part": "index.js" }))
        .collect();
    let metadata = json!({ "body_part": "index.js", "compatibility_date": "2026-07-01", "bindings": blobs });
    let code = format!("addEventListener('fetch', () => {{}}); // {}", "x".repeat(4096));
    assert_eq!(put(&form(&metadata, &[("index.js", &code)])), too_large(2));
    assert_eq!(serve.get("well.main.localhost", "/").text(), "well");
}
