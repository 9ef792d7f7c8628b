//! The Images binding: what images are, and others made of them.

use serde_json::{Value, json};

use crate::harness::{Answer, Skep, dev_with, eventually, small_project};

const CONFIG: &str = r#"{
  "name": "painter", "main": "index.js", "compatibility_date": "2026-07-01", "images": { "binding": "IMAGES" },
}"#;

/// Does with the body what the query says, as JSON: `transform` a list for `transform()`, `output` for `output()`.
pub const CODE: &str = r#"
const stream = (bytes) => new Response(bytes).body;

export default {
  async fetch(request, { IMAGES }) {
    const { pathname, searchParams } = new URL(request.url);
    const asked = (name, otherwise) => JSON.parse(searchParams.get(name) ?? JSON.stringify(otherwise));
    const bytes = await request.arrayBuffer();
    try {
      if (pathname === "/info") return Response.json(await IMAGES.info(stream(bytes)));
      if (pathname === "/hosted") return Response.json(await IMAGES.hosted.list());
      if (pathname === "/text") return (await IMAGES.text("a", { font: { url: "https://x" } }).output({ format: "image/png" })).response();
      if (pathname === "/twice") {
        const input = IMAGES.input(stream(bytes));
        await input.output({ format: "image/png" });
        return (await input.output({ format: "image/png" })).response();
      }
      let image = IMAGES.input(stream(bytes));
      for (const options of asked("transform", [])) image = image.transform(options);
      if (pathname === "/draw") {
        image = image.draw(IMAGES.input(stream(bytes)).transform(asked("child", {})), asked("draw", {}));
      }
      const made = await image.output(asked("output", { format: "image/png" }));
      if (pathname === "/base64") return new Response(made.image({ encoding: "base64" }));
      return made.response({ headers: { "x-type": made.contentType() } });
    } catch (error) {
      return Response.json({ message: error.message, code: error.code }, { status: 500 });
    }
  },
};
"#;

/// A PNG of `width` by `height` in one colour, without a library: its rows are stored, not compressed.
pub fn png(width: u32, height: u32, color: [u8; 3]) -> Vec<u8> {
    let row: Vec<u8> =
        std::iter::once(0).chain(color.iter().copied().cycle().take(width as usize * 3)).collect();
    packed(width, height, &row.repeat(height as usize))
}

fn packed(width: u32, height: u32, rows: &[u8]) -> Vec<u8> {
    let mut zlib = vec![0x78, 0x01];
    let mut blocks = rows.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        zlib.push(u8::from(blocks.peek().is_none()));
        zlib.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
        zlib.extend(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in rows {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    zlib.extend((b << 16 | a).to_be_bytes());
    let mut head = [width.to_be_bytes(), height.to_be_bytes()].concat();
    head.extend([8, 2, 0, 0, 0]);
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
    };
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &head), chunk(b"IDAT", &zlib), chunk(b"IEND", b"")]
        .concat()
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

/// A path with a query of JSON values.
pub fn path(path: &str, query: &[(&str, Value)]) -> String {
    let mut query_text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in query {
        query_text.append_pair(name, &value.to_string());
    }
    format!("{path}?{}", query_text.finish())
}

fn painter() -> (tempfile::TempDir, tempfile::TempDir, Skep) {
    let project = small_project(CONFIG, &[("index.js", CODE)]);
    let state = tempfile::tempdir().unwrap();
    let skep = dev_with(project.path(), state.path(), &[]);
    (project, state, skep)
}

fn ask(skep: &Skep, to: &str, query: &[(&str, Value)], image: &[u8]) -> Answer {
    skep.send("POST", &path(to, query), &[], Some(image))
}

fn why(answer: &Answer) -> (u64, String) {
    let said = answer.json();
    (said["code"].as_u64().unwrap_or_default(), said["message"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn images_are_told_of_and_changed_in_skep_dev() {
    let (_project, _state, skep) = painter();
    skep.wait_for_output("Images");
    let image = png(60, 40, [200, 100, 50]);
    let info = ask(&skep, "/info", &[], &image).json();
    assert_eq!(info, json!({ "format": "image/png", "fileSize": image.len(), "width": 60, "height": 40 }));
    for (format, start) in [
        ("image/png", &b"\x89PNG"[..]),
        ("image/jpeg", b"\xff\xd8\xff"),
        ("image/webp", b"RIFF"),
        ("image/gif", b"GIF89a"),
    ] {
        let query =
            [("transform", json!([{ "width": 30 }])), ("output", json!({ "format": format, "quality": 70 }))];
        let made = ask(&skep, "/", &query, &image);
        assert_eq!((made.status, made.header("content-type"), made.header("x-type")), (200, format, format));
        assert!(made.body.starts_with(start), "{format}");
        let info = ask(&skep, "/info", &[], &made.body).json();
        assert_eq!(
            (&info["width"], &info["height"], &info["format"]),
            (&json!(30), &json!(20), &json!(format))
        );
    }
}

#[test]
fn options_are_honoured_in_the_order_of_the_calls() {
    let (_project, _state, skep) = painter();
    let image = png(60, 40, [200, 100, 50]);
    let raw = |to: &str, mut query: Vec<(&str, Value)>| {
        query.push(("output", json!({ "format": "rgb" })));
        let made = ask(&skep, to, &query, &image);
        assert_eq!(made.status, 200, "{}", made.text());
        made.body
    };
    let turned = raw(
        "/",
        vec![("transform", json!([{ "rotate": 90 }, { "width": 10, "height": 10, "fit": "squeeze" }]))],
    );
    assert_eq!((turned.len(), &turned[..3]), (300, &[200, 100, 50][..]));
    let padded = raw(
        "/",
        vec![("transform", json!([{ "width": 60, "height": 60, "fit": "pad", "background": "#010203" }]))],
    );
    assert_eq!(
        (padded.len(), &padded[..3], &padded[60 * 30 * 3..][..3]),
        (60 * 60 * 3, &[1, 2, 3][..], &[200, 100, 50][..])
    );
    let child = ("child", json!({ "width": 3, "brightness": 0.5 }));
    let drawn = raw("/draw", vec![child, ("draw", json!({ "left": 1, "top": 0, "opacity": 1 }))]);
    assert_eq!((&drawn[..3], &drawn[3..6]), (&[200, 100, 50][..], &[100, 50, 25][..]));
    let small = [("transform", json!([{ "width": 1, "fit": "scale-down" }]))];
    let text = ask(&skep, "/base64", &small, &image).text();
    assert!(text.starts_with("iVBORw0KGgo"), "{text}");
    // As Astro calls it where nothing is said.
    let null = ask(&skep, "/", &[("transform", json!([{ "width": 20, "fit": null }]))], &image);
    assert_eq!(null.status, 200);
}

#[test]
fn what_cannot_be_done_has_cloudflares_codes() {
    let (_project, _state, skep) = painter();
    let image = png(6, 4, [1, 2, 3]);
    let error = |to: &str, query: &[(&str, Value)], bytes: &[u8]| why(&ask(&skep, to, query, bytes));
    let (code, text) = error("/info", &[], b"<html></html>");
    assert_eq!(code, 9412);
    assert!(
        text.starts_with(
            "IMAGES_INFO_ERROR 9412: Could not resize the image: The requested file is not an image."
        ),
        "{text}"
    );
    assert_eq!(error("/", &[], b"text").0, 9412);
    let avif = [("output", json!({ "format": "image/avif" }))];
    let said = (
        9520,
        "IMAGES_TRANSFORM_ERROR 9520: AVIF output is not supported by Skep; use image/webp".to_owned(),
    );
    assert_eq!(error("/", &avif, &image), said);
    let face = [("transform", json!([{ "width": 5, "gravity": "face" }]))];
    let (code, text) = error("/", &face, &image);
    assert!(code == 9401 && text.ends_with("transform.gravity face is not supported by Skep"), "{text}");
    assert_eq!(error("/twice", &[], &image).0, 9525);
    assert_eq!(error("/text", &[], &image).0, 9401);
    let (code, text) = error("/hosted", &[], &image);
    assert!(code == 9431 && text.contains("not supported by Skep"), "{text}");
    assert_eq!(error("/", &[], &vec![0; 20_000_001]).0, 9402);
    // And nothing is left of all that.
    eventually("the processes for images are gone", || {
        let names =
            skep.children().into_iter().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")));
        names.filter_map(Result::ok).all(|name| !name.contains("__image")).then_some(())
    });
}
