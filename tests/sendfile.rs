//! Objects of R2 that a script only passes on: Skep sends them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::scene::{NEIGHBOUR, scene};
use crate::harness::serve::Serve;
use crate::harness::{Skep, dev, small_project};

const CONFIG: &str = r#"{
  "name": "files", "main": "index.js", "compatibility_date": "2026-07-01",
  "r2_buckets": [{ "binding": "FILES", "bucket_name": "files" }]
}"#;

/// What is kept is of `size` bytes that each say where they are.
const CODE: &str = r#"
const MIB = 1 << 20;
const bytes = (size, seed) => {
  const all = new Uint32Array(size / 4);
  for (let n = 0; n < all.length; n++) all[n] = Math.imul(n + seed, 2654435761);
  return new Uint8Array(all.buffer);
};
const key = "5".repeat(64);
const put = async (files) => {
  await files.put("film", bytes(3 * MIB, 1), { httpMetadata: { contentType: "video/mp4" }, customMetadata: { a: "b" } });
  await files.put("secret", bytes(3 * MIB, 1), { ssecKey: key });
  const upload = await files.createMultipartUpload("parts");
  const parts = [];
  for (const [from, to] of [[0, 5], [5, 10]]) parts.push(await upload.uploadPart(parts.length + 1, bytes(10 * MIB, 1).subarray(from * MIB, to * MIB)));
  parts.push(await upload.uploadPart(3, bytes(4000, 7)));
  await upload.complete(parts);
};
export default {
  async fetch(request, env, ctx) {
    const { pathname, searchParams } = new URL(request.url);
    const get = (name, options) => env.FILES.get(name, options);
    switch (pathname) {
      case "/put": await put(env.FILES); return new Response("kept");
      case "/film": {
        const film = await get("film");
        const headers = new Headers({ etag: film.httpEtag });
        film.writeHttpMetadata(headers);
        headers.append("set-cookie", "a=1");
        headers.append("set-cookie", "b=2");
        return new Response(film.body, { status: 203, headers });
      }
      case "/parts": return new Response((await get("parts")).body);
      case "/range": {
        const [offset, length] = [Number(searchParams.get("offset")), Number(searchParams.get("length"))];
        return new Response((await get("parts", { range: { offset, length } })).body, { status: 206 });
      }
      case "/again": {
        const first = new Response((await get("film")).body);
        return new Response(first.body, first);
      }
      case "/tee": {
        const [one, other] = (await get("film")).body.tee();
        ctx.waitUntil(new Response(other).arrayBuffer());
        return new Response(one);
      }
      case "/clone": {
        const response = new Response((await get("film")).body);
        ctx.waitUntil(response.clone().arrayBuffer());
        return response;
      }
      case "/changed": {
        const plus = new TransformStream({ transform: (piece, to) => to.enqueue(piece.map((byte) => byte + 1)) });
        return new Response((await get("film")).body.pipeThrough(plus));
      }
      case "/encoded": return new Response((await get("film")).body, { headers: { "content-encoding": "gzip" } });
      case "/secret": return new Response((await get("secret", { ssecKey: key })).body);
      case "/read": return new Response(String((await (await get("film")).arrayBuffer()).byteLength));
      case "/replaced": {
        const film = await get("film");
        await env.FILES.put("film", bytes(3 * MIB, 2));
        await env.FILES.delete("film");
        await scheduler.wait(50);
        return new Response(film.body);
      }
      case "/stream": case "/drip": case "/broken": {
        const { readable, writable } = new TransformStream();
        const writer = writable.getWriter();
        const all = bytes(3 * MIB, 1);
        const write = async () => {
          const piece = pathname === "/drip" ? 8 << 10 : 100_000;
          for (let at = 0; at < all.length; at += piece) {
            await writer.write(all.slice(at, at + piece));
            if (pathname === "/drip" && at < 50 * piece) await scheduler.wait(2);
            if (pathname === "/broken" && at > MIB) throw new Error("broken");
          }
          await writer.close();
        };
        ctx.waitUntil(write().catch((error) => writer.abort(error)));
        return new Response(readable, { headers: { etag: '"stream"' } });
      }
      case "/pieces": return new Response(new Blob(["small"]).stream());
      case "/none": return new Response(String(await get("none")));
      case "/failed": return new Response(await get("film", { range: { offset: 2 ** 40 } }).catch((error) => error.message));
      case "/forged": return new Response("mine", { headers: { "x-skep-sendfile": searchParams.get("name") } });
      case "/name": {
        const { version } = await get("film");
        return new Response(`${version}.0.${3 * MIB}`);
      }
    }
  },
};
"#;

/// What `bytes` of the code makes.
fn bytes(size: usize, seed: u32) -> Vec<u8> {
    (0..size as u32 / 4)
        .flat_map(|n| (n.wrapping_add(seed)).wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

const MIB: usize = 1 << 20;

fn same(what: &str, got: &[u8], expected: &[u8]) {
    assert!(got == expected, "{what}: {} bytes, {} expected", got.len(), expected.len());
}

/// As Node.js gets it, over HTTP/2 or by a `fetch` that decodes.
fn node(skep: &Skep, path: &str, http2: bool) -> Vec<u8> {
    let by_http2 = "const { connect } = require('node:http2');
        const session = connect(process.argv[1]);
        const request = session.request({ ':path': process.argv[2] });
        request.on('end', () => session.close()).pipe(process.stdout);";
    let by_fetch = "fetch(process.argv[1] + process.argv[2]).then((response) => response.arrayBuffer())
        .then((body) => process.stdout.write(new Uint8Array(body)));";
    let script = if http2 { by_http2 } else { by_fetch };
    let got = Command::new("node").args(["-e", script, &skep.url, path]).output().unwrap();
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    got.stdout
}

/// The answer to a request of HTTP/1.0, as it comes.
fn old(skep: &Skep, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(skep.url.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    body(&all).to_vec()
}

fn body(answer: &[u8]) -> &[u8] {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    &answer[head..]
}

#[test]
fn an_object_that_is_passed_on_is_what_was_kept() {
    let project = small_project(CONFIG, &[("index.js", CODE)]);
    let skep = dev(project.path());
    assert_eq!(skep.get("/put").text(), "kept");
    let film = bytes(3 * MIB, 1);
    let parts = [bytes(10 * MIB, 1), bytes(4000, 7)].concat();

    let answer = skep.get("/film");
    assert_eq!(answer.status, 203);
    assert_eq!(answer.header("content-type"), "video/mp4");
    assert_eq!(answer.header("content-length"), film.len().to_string());
    assert!(answer.header("etag").starts_with('"') && answer.header("x-skep-sendfile").is_empty());
    let cookies = answer.headers.get_all("set-cookie").iter().count();
    assert_eq!(cookies, 2);
    same("/film", &answer.body, &film);
    let head = skep.send("HEAD", "/film", &[], None);
    assert_eq!((head.status, head.header("content-length")), (203, film.len().to_string().as_str()));
    same("over HTTP/2", &node(&skep, "/film", true), &film);
    same("over HTTP/1.0", &old(&skep, "/film"), &film);

    same("/parts", &skep.get("/parts").body, &parts);
    // Within a part, over the end of one, up to the end, and too small to be worth it.
    for (offset, length) in [(100, 2 * MIB), (4 * MIB, 3 * MIB), (9 * MIB, MIB + 4000), (5 * MIB - 1, 2)] {
        let part = skep.get(&format!("/range?offset={offset}&length={length}"));
        assert_eq!(part.status, 206);
        same(&format!("{length} from {offset}"), &part.body, &parts[offset..offset + length]);
    }

    let changed: Vec<u8> = film.iter().map(|byte| byte.wrapping_add(1)).collect();
    for path in ["/again", "/tee", "/clone", "/secret"] {
        same(path, &skep.get(path).body, &film);
    }
    same("/changed", &skep.get("/changed").body, &changed);
    same("/encoded", &node(&skep, "/encoded", false), &film);
    assert_eq!(skep.get("/read").text(), film.len().to_string());
    assert_eq!(skep.get("/none").text(), "null");
    assert!(skep.get("/failed").text().contains("10039"), "{}", skep.get("/failed").text());
    same("/replaced", &skep.get("/replaced").body, &film);
}

#[test]
fn a_script_has_nothing_sent_that_it_was_not_given() {
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    let serve = &scene.serve;
    for name in ["mine", "theirs"] {
        assert_eq!(serve.call("POST", "/r2/buckets", Some(&json!({ "name": name }))).status, 200);
        let metadata = json!({
            "main_module": "index.js", "compatibility_date": "2026-07-01",
            "bindings": [{ "type": "r2_bucket", "name": "FILES", "bucket_name": name }],
        });
        assert_eq!(serve.upload(name, &metadata, CODE).status, 200);
        assert_eq!(serve.get(&format!("{name}.main.localhost"), "/put").text(), "kept");
    }
    let get = |script: &str, path: &str| serve.get(&format!("{script}.main.localhost"), path);
    let (mine, theirs) = (get("mine", "/name").text(), get("theirs", "/name").text());
    assert_ne!(mine, theirs);
    // Its own, of which the answer is not gone for long, is no secret to it.
    assert_eq!(get("theirs", &format!("/forged?name={theirs}")).body.len(), 3 * MIB);
    for name in [theirs.as_str(), "a", "..", "%ff", ""] {
        let answer = get("mine", &format!("/forged?name={name}"));
        assert_eq!(answer.status, 500, "{name}: {}", answer.text());
        assert!(!answer.text().contains("mine") && answer.body.len() < 10_000);
    }
}

/// More than a script's process has room for, if it had to hold what lies between them and what they read.
const VISITORS: usize = 300;

#[test]
fn visitors_of_what_is_passed_on_take_no_memory_of_their_script() {
    let scene = scene(&json!({}), NEIGHBOUR, &["--cell-memory", "16", "--cells-per-script", "1"]);
    let serve = &scene.serve;
    assert_eq!(serve.call("POST", "/r2/buckets", Some(&json!({ "name": "files" }))).status, 200);
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "r2_bucket", "name": "FILES", "bucket_name": "files" }],
    });
    assert_eq!(serve.upload("files", &metadata, CODE).status, 200);
    let host = "files.main.localhost";
    assert_eq!(serve.get(host, "/put").text(), "kept");
    let expected = [bytes(10 * MIB, 1), bytes(4000, 7)].concat();
    visited(serve, host, |_| "/parts".to_owned(), |answer| same("/parts", body(answer), &expected));
}

/// Many ask at once, and read one after the other.
fn visited(serve: &Serve, host: &str, path: impl Fn(usize) -> String, check: impl Fn(&[u8])) {
    let visit = |n| {
        let (path, mut stream) = (path(n), serve.connect());
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        // The beginning is there; the rest waits.
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap_or_else(|error| panic!("visitor {n}: {error}"));
        assert_eq!(&first, b"HTTP/1.1 200", "visitor {n}");
        stream
    };
    let visitors: Vec<_> = (0..VISITORS).map(visit).collect();
    for (n, mut stream) in visitors.into_iter().enumerate() {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap_or_else(|error| panic!("visitor {n}: {error}"));
        check(&rest);
    }
}

const DISPATCHER: &str = r#"
export default {
  async fetch(request, env, ctx) {
    const { host, searchParams } = new URL(request.url);
    const answer = await env.TENANTS.get(searchParams.get("of") ?? "films0").fetch(request);
    switch (searchParams.get("how")) {
      case "look": return Response.json([answer.url, [...answer.headers.keys()].filter((name) => name.startsWith("x-skep"))]);
      case "read": return new Response(String((await answer.arrayBuffer()).byteLength));
      case "headers": return new Response(answer.body, { headers: { "x-own": answer.headers.get("etag") } });
      case "clone": {
        const copy = answer.clone();
        ctx.waitUntil(answer.arrayBuffer());
        return copy;
      }
      case "original": ctx.waitUntil(answer.clone().arrayBuffer()); return answer;
      case "late": await scheduler.wait(300); return answer;
      case "begun": {
        const reader = answer.body.getReader();
        const { value } = await reader.read();
        reader.releaseLock();
        const { readable, writable } = new TransformStream();
        ctx.waitUntil((async () => {
          const writer = writable.getWriter();
          await writer.write(value);
          writer.releaseLock();
          await answer.body.pipeTo(writable);
        })());
        return new Response(readable);
      }
    }
    return answer;
  },
};
"#;

/// A dispatcher at `platform.main.localhost`, and so many tenants.
fn platform(serve: &Serve, tenants: usize) {
    assert_eq!(serve.call("POST", "/r2/buckets", Some(&json!({ "name": "files" }))).status, 200);
    serve.make_namespace("tenants");
    let metadata = |binding: Value| json!({ "main_module": "index.js", "compatibility_date": "2026-07-01", "bindings": [binding] });
    let tenant = metadata(json!({ "type": "r2_bucket", "name": "FILES", "bucket_name": "files" }));
    for n in 0..tenants {
        serve.upload_tenant("tenants", &format!("films{n}"), &tenant, CODE);
    }
    let own = metadata(json!({ "type": "dispatch_namespace", "name": "TENANTS", "namespace": "tenants" }));
    assert_eq!(serve.upload("platform", &own, DISPATCHER).status, 200);
    assert_eq!(serve.get(PLATFORM, "/put").text(), "kept");
}

const PLATFORM: &str = "platform.main.localhost";

#[test]
fn a_dispatcher_passes_on_what_was_answered() {
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    let serve = &scene.serve;
    platform(serve, 1);
    let film = bytes(3 * MIB, 1);
    let answer = serve.get(PLATFORM, "/film");
    assert_eq!((answer.status, answer.header("content-type")), (203, "video/mp4"));
    for path in ["/film", "/stream", "/drip"] {
        for how in ["", "headers", "clone", "original", "late", "begun"] {
            let path = format!("{path}?how={how}");
            let answer = serve.get(PLATFORM, &path);
            assert!(answer.header("x-skep-sendfile").is_empty());
            assert_eq!(answer.header("x-own").is_empty(), how != "headers", "{path}");
            same(&path, &answer.body, &film);
        }
        let look = serve.get(PLATFORM, &format!("{path}?how=look")).json();
        assert_eq!(look[1], json!([]));
        assert!(look[0].as_str().unwrap().ends_with(&format!("{path}?how=look")), "{look}");
        assert_eq!(serve.get(PLATFORM, &format!("{path}?how=read")).text(), film.len().to_string());
        let head = serve.send("HEAD", PLATFORM, path, &[], None);
        assert!(head.body.is_empty() && head.status < 300);
    }
    let posted = serve.send("POST", PLATFORM, "/stream", &[], Some(b"sent"));
    same("a POST", &posted.body, &film);
    assert_eq!(serve.get(PLATFORM, "/pieces").text(), "small");
    for path in ["/tee", "/changed", "/range?offset=0&length=2000000"] {
        assert!(serve.get(PLATFORM, path).body.len() >= 2_000_000);
    }
    assert_eq!(serve.get(PLATFORM, "/forged?name=-0").status, 500);
    // What breaks off is cut off.
    for how in ["", "clone"] {
        let mut stream = serve.connect();
        write!(stream, "GET /broken?how={how} HTTP/1.1\r\nHost: {PLATFORM}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(
            all.starts_with(b"HTTP/1.1 200") && all.len() > 100_000 && !all.ends_with(b"0\r\n\r\n"),
            "{}",
            all.len()
        );
    }
    assert_eq!(serve.get(PLATFORM, "/pieces").text(), "small");
}

#[test]
fn visitors_of_what_a_dispatcher_passes_on_take_no_memory_of_it() {
    const TENANTS: usize = 6;
    let scene = scene(&json!({}), NEIGHBOUR, &["--cell-memory", "16", "--cells-per-script", "1"]);
    let serve = &scene.serve;
    platform(serve, TENANTS);
    let expected = [bytes(10 * MIB, 1), bytes(4000, 7)].concat();
    visited(serve, PLATFORM, |_| "/parts".to_owned(), |answer| same("/parts", body(answer), &expected));
    // What tenants make, and have in memory themselves.
    let path = |n| format!("/stream?of=films{}", n % TENANTS);
    let whole = |answer: &[u8]| {
        assert!(answer.len() > 3 * MIB && answer.ends_with(b"\r\n0\r\n\r\n"), "{}", answer.len())
    };
    visited(serve, PLATFORM, path, whole);
}
