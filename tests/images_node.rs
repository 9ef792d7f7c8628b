//! The Images binding on a node: deployed by stock wrangler, in dispatch namespaces, and with images that are bombs.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve};
use crate::images::{CODE, path, png};
use crate::storms::{alone, felt_beside, stage};

const CONFIG: &str = r#"{
  "name": "painter", "main": "index.js", "compatibility_date": "2026-07-01", "images": { "binding": "IMAGES" },
}"#;

fn made(serve: &Serve, host: &str, to: &str, query: &[(&str, Value)], image: &[u8]) -> (u16, Vec<u8>) {
    let answer = serve.send("POST", host, &path(to, query), &[], Some(image));
    (answer.status, answer.body)
}

#[test]
fn stock_wrangler_deploys_a_worker_that_changes_images() {
    let serve = serve();
    let dir = serve.project("painter", &[("wrangler.jsonc", CONFIG), ("index.js", CODE)]);
    let said = serve.wrangler(&dir, &["deploy"]);
    assert!(said.contains("env.IMAGES"), "{said}");
    let settings = serve.call("GET", "/workers/scripts/painter/settings", None).json();
    assert_eq!(settings["result"]["bindings"], json!([{ "name": "IMAGES", "type": "images" }]));
    let image = png(60, 40, [200, 100, 50]);
    let host = "painter.main.localhost";
    let small = [("transform", json!([{ "width": 6 }])), ("output", json!({ "format": "image/webp" }))];
    let (status, webp) = made(&serve, host, "/", &small, &image);
    assert_eq!((status, &webp[..4]), (200, &b"RIFF"[..]));
    let (_, info) = made(&serve, host, "/info", &[], &webp);
    let info: Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info, json!({ "format": "image/webp", "fileSize": webp.len(), "width": 6, "height": 4 }));
    let (status, said) = made(&serve, host, "/info", &[], b"no image");
    assert!(status == 500 && String::from_utf8_lossy(&said).contains("9412"));
}

#[test]
fn scripts_in_a_dispatch_namespace_change_images() {
    let serve = serve();
    serve.make_namespace("tenants");
    let dir = serve.project("painter", &[("wrangler.jsonc", CONFIG), ("index.js", CODE)]);
    serve.wrangler(&dir, &["deploy", "--dispatch-namespace", "tenants"]);
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "dispatch_namespace", "name": "TENANTS", "namespace": "tenants" }],
    });
    let door = "export default { fetch: (request, env) => env.TENANTS.get('painter').fetch(request) };";
    assert_eq!(serve.upload("door", &metadata, door).status, 200);
    let small = [("transform", json!([{ "width": 6 }])), ("output", json!({ "format": "rgb" }))];
    let (status, pixels) = made(&serve, "door.main.localhost", "/", &small, &png(60, 40, [200, 100, 50]));
    assert_eq!((status, pixels.len(), &pixels[..3]), (200, 6 * 4 * 3, &[200, 100, 50][..]));
}

/// A hundred megapixels in a hundred kilobytes, and what takes longest with them; and some that only claim to be large.
const BOMBS: &str = r#"
const crcTable = Array.from({ length: 256 }, (_, n) => { for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1; return n >>> 0; });
const crc = (bytes) => ~bytes.reduce((sum, byte) => crcTable[(sum ^ byte) & 255] ^ (sum >>> 8), ~0) >>> 0;
const u32 = (n) => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];
const chunk = (kind, data) => {
  const body = [...new TextEncoder().encode(kind), ...data];
  return [...u32(data.length), ...body, ...u32(crc(body))];
};
async function png(width, height, rows) {
  let left = rows;
  const row = new Uint8Array(width + 1);
  const source = new ReadableStream({ pull(c) { left-- > 0 ? c.enqueue(row) : c.close() } });
  const packed = new Uint8Array(await new Response(source.pipeThrough(new CompressionStream("deflate"))).arrayBuffer());
  const head = [...u32(width), ...u32(height), 8, 0, 0, 0, 0];
  return new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10, ...chunk("IHDR", head), ...chunk("IDAT", packed), ...chunk("IEND", [])]);
}
let large, hollow;
const stream = (bytes) => new Response(bytes).body;
const code = (made) => made.then((made) => new Response(made.image()).arrayBuffer()).then(() => 0, (error) => error.code ?? error.message);
export default {
  async fetch(request, { IMAGES }) {
    const { pathname } = new URL(request.url);
    if (pathname === "/make") {
      large = await png(10000, 10000, 10000);
      hollow = await png(50000, 50000, 1);
      return Response.json([large.length, hollow.length]);
    }
    const heavy = () => IMAGES.input(stream(large)).transform({ blur: 250, sharpen: 10 }).draw(stream(large), { repeat: true });
    if (pathname === "/large") return Response.json(await code(heavy().output({ format: "image/webp", quality: 100 })));
    if (pathname === "/hollow") return Response.json(await code(IMAGES.input(stream(hollow)).output({ format: "image/png" })));
    if (pathname === "/many") {
      const all = Array.from({ length: 100 }, () => code(IMAGES.input(stream(hollow)).output({ format: "image/png" })));
      return Response.json(await Promise.all(all));
    }
    return new Response("fine");
  },
};
"#;

#[test]
fn images_that_are_bombs_end_in_their_own_process() {
    let _alone = alone();
    let scene = stage();
    let mut metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": { "cpu_ms": 300_000 },
        "bindings": [{ "type": "images", "name": "IMAGES" }],
    });
    assert_eq!(scene.serve.upload("bad", &metadata, BOMBS).status, 200);
    metadata["limits"] = Value::Null;
    metadata.as_object_mut().unwrap().remove("limits");
    assert_eq!(scene.serve.upload("painter", &metadata, CODE).status, 200);
    let (status, sizes) = scene.bad("/make");
    assert_eq!(status, 200, "{sizes}");
    let sizes: Vec<usize> = serde_json::from_str(&sizes).unwrap();
    assert!(sizes[0] < 300_000 && sizes[1] < 2_000, "{sizes:?}");

    assert_eq!(scene.bad("/hollow"), (200, "9413".into()));
    let (_, codes) = scene.bad("/many");
    let codes: Vec<u64> = serde_json::from_str(&codes).unwrap();
    // Not more than so many wait for their turn.
    assert!(
        codes.iter().all(|code| [9413, 9522].contains(code))
            && codes.contains(&9413)
            && codes.contains(&9522),
        "{codes:?}"
    );

    // A neighbour that reads a value, and one that changes an image itself.
    let image = png(60, 40, [200, 100, 50]);
    let small = [("transform", json!([{ "width": 6 }]))];
    let felt = felt_beside(&scene, || {
        let (status, code) = scene.bad("/large");
        assert!(status == 200 && ["9529", "9522"].contains(&code.as_str()), "{status} {code}");
    });
    eprintln!("a neighbour of bombs waits {felt:.2} times as long");
    assert!(felt < 8.0, "{felt:.1}");
    let painted = std::thread::scope(|scope| {
        let attack = scope.spawn(|| scene.bad("/large"));
        let start = Instant::now();
        let (status, _) = made(&scene.serve, "painter.main.localhost", "/", &small, &image);
        let (time, still) = (start.elapsed(), !attack.is_finished());
        let (_, code) = attack.join().unwrap();
        (status, time, still, code)
    });
    eprintln!("another script's image beside a bomb: {painted:?}");
    assert_eq!(painted.0, 200);
    // It had not to wait until the bomb was over, which takes its ten seconds.
    assert!(painted.2 || std::thread::available_parallelism().unwrap().get() < 2, "{painted:?}");
}
