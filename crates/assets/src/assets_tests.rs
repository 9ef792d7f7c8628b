use std::fs;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use proptest::prelude::*;
use skep_wire::read_all;

use super::*;
use crate::config::{HtmlHandling, NotFoundHandling, RunWorkerFirst};
use crate::encoding::{Encoding, decompress};

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn open(dir: &tempfile::TempDir, config: AssetsConfig) -> Arc<Assets> {
    let (assets, warnings) = Assets::open(dir.path(), config).unwrap();
    assert_eq!(warnings, []);
    assets
}

fn request(method: &str, uri: &str, headers: &[(&'static str, &str)]) -> Parts {
    let mut request = http::Request::builder().method(method).uri(uri).header("host", "example.com");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

struct Got {
    status: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

async fn ask(assets: &Arc<Assets>, method: &str, uri: &str, headers: &[(&'static str, &str)]) -> Got {
    let response = assets.serve(&request(method, uri, headers)).await;
    let (parts, body) = response.into_parts();
    Got {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: read_all(body, 64 << 20).await.unwrap(),
    }
}

async fn get(assets: &Arc<Assets>, uri: &str, headers: &[(&'static str, &str)]) -> Got {
    ask(assets, "GET", uri, headers).await
}

const PAGE: &str = "<!doctype html><title>a page long enough to be worth compressing</title><p>words words words words words \
                    words words words words words words words words words words words words words words words words";

#[tokio::test]
async fn a_file_is_served_with_cloudflares_headers() {
    let dir = folder(&[("a.txt", "hello text\n"), ("noext", "x")]);
    let assets = open(&dir, AssetsConfig::default());
    for _from_disk_then_memory in 0..2 {
        let got = get(&assets, "/a.txt", &[]).await;
        assert_eq!((got.status, got.text()), (200, "hello text\n"));
        assert_eq!(got.header("etag"), "\"930377316f140e68a722a49270f7f0d7\"");
        assert_eq!(got.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(got.header("cache-control"), "public, max-age=0, must-revalidate");
        assert_eq!(got.header("cf-cache-status"), "HIT");
    }
    assert_eq!(get(&assets, "/noext", &[]).await.header("content-type"), "");
    assert_eq!(get(&assets, "/a.txt", &[("authorization", "x")]).await.header("cache-control"), "");
    let head = ask(&assets, "HEAD", "/a.txt", &[]).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "11", 0));
}

#[tokio::test]
async fn other_methods_are_refused_where_there_is_a_file() {
    let dir = folder(&[("a.txt", "x")]);
    let assets = open(&dir, AssetsConfig::default());
    assert_eq!(ask(&assets, "POST", "/a.txt", &[]).await.status, 405);
    assert_eq!(ask(&assets, "OPTIONS", "/a.txt", &[]).await.status, 405);
    assert_eq!(ask(&assets, "POST", "/b.txt", &[]).await.status, 404);
}

#[tokio::test]
async fn a_known_content_is_not_sent_again() {
    let dir = folder(&[("a.html", PAGE)]);
    let assets = open(&dir, AssetsConfig::default());
    let etag = get(&assets, "/a", &[]).await.header("etag").to_owned();
    for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}")] {
        for accepted in ["identity", "br", "gzip"] {
            let got = get(&assets, "/a", &[("if-none-match", &known), ("accept-encoding", accepted)]).await;
            assert_eq!((got.status, got.body.len()), (304, 0), "{known} {accepted}");
            assert!(got.header("etag").ends_with(&etag));
            assert_eq!(got.header("vary"), "accept-encoding");
        }
    }
    assert_eq!(get(&assets, "/a", &[("if-none-match", "\"other\"")]).await.status, 200);
}

#[tokio::test]
async fn bodies_are_compressed_as_the_client_likes() {
    let dir = folder(&[("a.html", PAGE), ("tiny.txt", "x"), ("p.png", PAGE)]);
    let assets = open(&dir, AssetsConfig::default());
    let strong = get(&assets, "/a", &[]).await.header("etag").to_owned();
    for (accept, encoding) in [("br", Encoding::Brotli), ("zstd", Encoding::Zstd), ("gzip", Encoding::Gzip)] {
        for _compressed_then_cached in 0..2 {
            let got = get(&assets, "/a", &[("accept-encoding", accept)]).await;
            assert_eq!((got.status, got.header("content-encoding")), (200, accept));
            assert_eq!(
                (got.header("vary"), got.header("etag")),
                ("accept-encoding", format!("W/{strong}").as_str())
            );
            assert_eq!(decompress(&got.body, encoding), PAGE.as_bytes());
        }
    }
    let plain = get(&assets, "/a", &[]).await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"));
    for path in ["/tiny.txt", "/p.png"] {
        let got = get(&assets, path, &[("accept-encoding", "br")]).await;
        assert_eq!((got.header("content-encoding"), got.header("vary")), ("", ""), "{path}");
    }
}

#[tokio::test]
async fn a_body_that_gets_no_smaller_is_sent_as_it_is() {
    let dir = folder(&[]);
    let noise: Vec<u8> =
        (0..2000_u32).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..1].to_vec()).collect();
    fs::write(dir.path().join("n.json"), &noise).unwrap();
    let assets = open(&dir, AssetsConfig::default());
    for _ in 0..2 {
        let got = get(&assets, "/n.json", &[("accept-encoding", "gzip")]).await;
        assert_eq!((got.header("content-encoding"), &got.body[..]), ("", &noise[..]));
        assert!(got.header("etag").starts_with('"'));
    }
}

#[tokio::test]
async fn a_compressed_sibling_is_used_unless_it_is_older() {
    let dir =
        folder(&[("a.js", PAGE), ("a.js.br", "brotli of a"), ("b.js", PAGE), ("b.js.gz", "old gzip of b")]);
    let past = SystemTime::now() - Duration::from_secs(60);
    fs::File::options().write(true).open(dir.path().join("b.js.gz")).unwrap().set_modified(past).unwrap();
    let assets = open(&dir, AssetsConfig::default());
    let a = get(&assets, "/a.js", &[("accept-encoding", "br")]).await;
    assert_eq!((a.text(), a.header("content-encoding")), ("brotli of a", "br"));
    assert_eq!(a.header("content-type"), "text/javascript; charset=utf-8");
    let b = get(&assets, "/b.js", &[("accept-encoding", "gzip")]).await;
    assert_eq!(decompress(&b.body, Encoding::Gzip), PAGE.as_bytes());
}

#[tokio::test]
async fn ranges_are_cut_from_memory_and_from_disk() {
    let dir = folder(&[("a.html", PAGE)]);
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7 % 251) as u8).collect();
    fs::write(dir.path().join("big.bin"), &big).unwrap();
    let assets = open(&dir, AssetsConfig::default());
    let got = get(&assets, "/a", &[("range", "bytes=2-8"), ("accept-encoding", "br")]).await;
    assert_eq!((got.status, got.text()), (206, "doctype"));
    assert_eq!(got.header("content-range"), format!("bytes 2-8/{}", PAGE.len()));
    assert_eq!(got.header("content-encoding"), "");
    let got = get(&assets, "/big.bin", &[("range", "bytes=300000-1500000")]).await;
    assert_eq!((got.status, got.header("content-length")), (206, "1200001"));
    assert_eq!(&got.body[..], &big[300_000..=1_500_000]);
    let whole = get(&assets, "/big.bin", &[]).await;
    assert_eq!((whole.status, whole.header("content-length"), &whole.body[..]), (200, "3000000", &big[..]));
    let beyond = get(&assets, "/big.bin", &[("range", "bytes=3000000-")]).await;
    assert_eq!(
        (beyond.status, beyond.header("content-range"), beyond.body.len()),
        (416, "bytes */3000000", 0)
    );
    let several = get(&assets, "/a", &[("range", "bytes=0-1,4-5")]).await;
    assert_eq!((several.status, several.text()), (200, PAGE));
    let etag = whole.header("etag");
    assert_eq!(get(&assets, "/big.bin", &[("range", "bytes=0-0"), ("if-range", etag)]).await.status, 206);
    assert_eq!(get(&assets, "/big.bin", &[("range", "bytes=0-0"), ("if-range", "\"x\"")]).await.status, 200);
}

#[tokio::test]
async fn a_file_has_one_url() {
    let dir = folder(&[("a@b.txt", "x"), ("[x].html", "y"), ("a.txt", "z"), ("dir/index.html", "d")]);
    let assets = open(&dir, AssetsConfig::default());
    for (from, to) in [
        ("/a@b.txt?q=1", "/a%40b.txt?q=1"),
        ("/[x]", "/%5Bx%5D"),
        ("/a%2Etxt", "/a.txt"),
        ("//a.txt", "/a.txt"),
        ("/dir?x", "/dir/?x"),
        ("/dir/index.html", "/dir/"),
    ] {
        let got = get(&assets, from, &[]).await;
        assert_eq!((got.status, got.header("location")), (307, to), "{from}");
        assert_eq!(get(&assets, to, &[]).await.status, 200, "{to}");
    }
    assert_eq!(get(&assets, "/x/../a.txt", &[]).await.status, 200);
}

/// As recorded from `wrangler dev`.
#[tokio::test]
async fn redirects_and_headers_apply() {
    let dir = folder(&[
        ("a.txt", "hello text\n"),
        ("404.html", "nope"),
        ("_redirects", "/old /new 301\n/r/* /about/:splat 200\n/rw /a.txt 200\n/s https://example.com/t\n"),
        (
            "_headers",
            "/*\n  X-A: one\n  X-A: two\n/a.txt\n  X-A: three\n  ! ETag\n  Cache-Control: no-store\n",
        ),
    ]);
    let config = AssetsConfig { not_found_handling: NotFoundHandling::Page404, ..AssetsConfig::default() };
    let assets = open(&dir, config);
    let old = ask(&assets, "POST", "/old?x=1", &[]).await;
    assert_eq!((old.status, old.header("location"), old.header("x-a")), (301, "/new?x=1", "one, two"));
    assert_eq!(get(&assets, "/s", &[]).await.header("location"), "https://example.com/t");
    let mut secure = request("GET", "/s", &[]);
    secure.extensions.insert(http::uri::Scheme::HTTPS);
    assert_eq!(assets.serve(&secure).await.headers()["location"], "/t");
    let rewritten = get(&assets, "/rw", &[]).await;
    assert_eq!((rewritten.status, rewritten.text()), (200, "hello text\n"));
    let missing = get(&assets, "/r/zzz", &[]).await;
    assert_eq!((missing.status, missing.text(), missing.header("x-a")), (404, "nope", "one, two"));
    let a = get(&assets, "/a.txt", &[]).await;
    assert_eq!(a.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["one, two", "three"]);
    assert_eq!((a.header("etag"), a.header("cache-control")), ("", "no-store"));
}

#[tokio::test]
async fn headers_rules_do_not_break_encodings() {
    let dir = folder(&[
        ("a.html", PAGE),
        ("b.html", PAGE),
        ("_headers", "/a\n  Vary: Origin\n/b\n  Content-Encoding: gzip\n"),
    ]);
    let assets = open(&dir, AssetsConfig::default());
    let a = get(&assets, "/a", &[("accept-encoding", "br")]).await;
    assert_eq!(a.headers.get_all("vary").iter().collect::<Vec<_>>(), ["Origin", "accept-encoding"]);
    let b = get(&assets, "/b", &[("accept-encoding", "br")]).await;
    assert_eq!((b.header("content-encoding"), b.text()), ("gzip", PAGE));
}

fn decide(assets: &Assets, uri: &str, headers: &[(&'static str, &str)]) -> &'static str {
    match assets.route(&request("GET", uri, headers)) {
        Decision::Asset => "asset",
        Decision::Worker => "worker",
        Decision::WorkerImage => "image",
        Decision::Answer(_) => "answer",
    }
}

#[test]
fn the_worker_gets_what_the_assets_do_not_have() {
    let dir = folder(&[("index.html", PAGE), ("a.txt", "x"), ("_redirects", "/old /new")]);
    let with = |config: AssetsConfig| open(&dir, AssetsConfig { has_worker: true, ..config });
    let navigate = [("sec-fetch-mode", "navigate")];
    let plain = with(AssetsConfig::default());
    for (uri, expected) in
        [("/", "asset"), ("/a.txt", "asset"), ("/old", "asset"), ("/index.html", "asset"), ("/api", "worker")]
    {
        assert_eq!(decide(&plain, uri, &[]), expected, "{uri}");
    }
    assert!(matches!(plain.route(&request("POST", "/a.txt", &[])), Decision::Asset));
    assert_eq!(decide(&plain, "/_image?href=//evil.com/x", &[]), "answer");
    assert_eq!(decide(&plain, "/_next/image?url=http://evil.com/x", &[]), "image");

    let spa = |date: &str| {
        with(AssetsConfig {
            not_found_handling: NotFoundHandling::SinglePageApplication,
            compatibility_date: date.to_owned(),
            ..AssetsConfig::default()
        })
    };
    assert_eq!(decide(&spa("2025-04-01"), "/route", &[]), "worker");
    assert_eq!(decide(&spa("2025-04-01"), "/route", &navigate), "asset");
    assert_eq!(decide(&spa("2025-03-31"), "/route", &navigate), "worker");

    let rules = with(AssetsConfig {
        not_found_handling: NotFoundHandling::SinglePageApplication,
        run_worker_first: RunWorkerFirst::Rules(vec!["/api/*".to_owned(), "!/api/docs/*".to_owned()]),
        ..AssetsConfig::default()
    });
    assert_eq!(decide(&rules, "/api/x", &navigate), "worker");
    assert_eq!(decide(&rules, "/api/docs/x", &[]), "asset");
    assert_eq!(decide(&rules, "/route", &[]), "asset");

    let first = with(AssetsConfig { run_worker_first: RunWorkerFirst::All(true), ..AssetsConfig::default() });
    assert_eq!(decide(&first, "/a.txt", &[]), "worker");
    assert_eq!(decide(&open(&dir, AssetsConfig::default()), "/nothing", &[]), "asset");
}

#[tokio::test]
async fn the_binding_sends_the_file_as_it_is() {
    let dir = folder(&[("a.html", PAGE), ("index.html", "root")]);
    let config = AssetsConfig {
        has_worker: true,
        run_worker_first: RunWorkerFirst::All(true),
        not_found_handling: NotFoundHandling::SinglePageApplication,
        ..AssetsConfig::default()
    };
    let binding = AssetsBinding(open(&dir, config));
    let call = |uri: &'static str| {
        let request = http::Request::get(uri).header("accept-encoding", "br, gzip").body(empty()).unwrap();
        binding.call(request)
    };
    let response = call("http://fake.host/a").await;
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("content-encoding") && !response.headers().contains_key("vary"));
    assert_eq!(read_all(response.into_body(), 1 << 20).await.unwrap(), PAGE);
    assert_eq!(read_all(call("/route").await.into_body(), 1 << 20).await.unwrap(), "root");
    assert_eq!(call("/a.html").await.headers()["location"], "/a");
}

/// The length is right on the wire, also where no body follows, so that the connection serves the next request.
#[tokio::test]
async fn answers_are_framed_so_that_a_connection_is_reused() {
    let dir = folder(&[("a.txt", "hello"), ("_redirects", "/old /a.txt")]);
    let big = vec![7_u8; 2_500_000];
    fs::write(dir.path().join("big.bin"), &big).unwrap();
    let binding = AssetsBinding(open(&dir, AssetsConfig::default()));
    let path = dir.path().join("socket");
    let (_trigger, shutdown) = skep_runtime::Shutdown::new();
    let listener = skep_wire::bind_unix(&path).unwrap();
    tokio::spawn(skep_wire::serve_unix(listener, Arc::new(binding), shutdown));
    let client = skep_wire::UnixClient::new(&path);
    for (method, uri, status, length, bytes) in [
        ("HEAD", "/big.bin", 200, "2500000", 0),
        ("GET", "/big.bin", 200, "2500000", 2_500_000),
        ("HEAD", "/a.txt", 200, "5", 0),
        ("GET", "/a.txt", 200, "5", 5),
        ("POST", "/a.txt", 405, "0", 0),
        ("GET", "/old", 302, "0", 0),
        ("GET", "/none", 404, "0", 0),
    ] {
        let request =
            http::Request::builder().method(method).uri(uri).header("host", "h").body(empty()).unwrap();
        let (head, body) = client.send(request).await.unwrap().into_parts();
        assert_eq!(
            (head.status.as_u16(), head.headers["content-length"].to_str().unwrap()),
            (status, length),
            "{method} {uri}"
        );
        assert_eq!(read_all(body, 4 << 20).await.unwrap().len(), bytes, "{method} {uri}");
    }
}

#[tokio::test]
async fn a_reload_serves_what_changed_and_keeps_the_rest() {
    let dir = folder(&[("a.txt", "one"), ("b.txt", "same")]);
    let assets = open(&dir, AssetsConfig::default());
    let (a, b) = (get(&assets, "/a.txt", &[]).await, get(&assets, "/b.txt", &[]).await);
    fs::write(dir.path().join("a.txt"), "two").unwrap();
    fs::write(dir.path().join("_redirects"), "/c /b.txt\nbroken\n").unwrap();
    let kept = assets.config.cache.used();
    let warnings = assets.reload().unwrap();
    assert_eq!((warnings.len(), warnings[0].line_number), (1, Some(2)));
    assert_eq!(kept - assets.config.cache.used(), 3, "only the old a.txt is forgotten");
    let again = get(&assets, "/a.txt", &[("if-none-match", a.header("etag"))]).await;
    assert_eq!((again.status, again.text()), (200, "two"));
    assert_eq!(get(&assets, "/b.txt", &[("if-none-match", b.header("etag"))]).await.status, 304);
    assert_eq!(get(&assets, "/c", &[]).await.header("location"), "/b.txt");
    fs::remove_file(dir.path().join("b.txt")).unwrap();
    assets.reload().unwrap();
    assert_eq!(get(&assets, "/b.txt", &[]).await.status, 404);
}

#[tokio::test]
async fn a_file_that_changed_unannounced_is_noticed_when_it_is_read() {
    let dir = folder(&[("a.txt", "one"), ("b.txt", "x")]);
    let assets = open(&dir, AssetsConfig::default());
    fs::write(dir.path().join("a.txt"), "longer").unwrap();
    fs::remove_file(dir.path().join("b.txt")).unwrap();
    let got = get(&assets, "/a.txt", &[]).await;
    assert_eq!((got.status, got.text()), (200, "longer"));
    assert_eq!(get(&assets, "/b.txt", &[]).await.status, 404);
}

#[tokio::test]
async fn memory_stays_within_the_caches_capacity() {
    let names: Vec<String> = (0..40).map(|n| format!("{n}.txt")).collect();
    let content = "x".repeat(1000);
    let dir = folder(&names.iter().map(|n| (n.as_str(), content.as_str())).collect::<Vec<_>>());
    let cache = Arc::new(crate::ContentCache::new(10_500));
    let assets = open(&dir, AssetsConfig { cache: cache.clone(), ..AssetsConfig::default() });
    for name in &names {
        assert_eq!(get(&assets, &format!("/{name}"), &[]).await.text(), content);
        // Asked for all the time, so it stays.
        get(&assets, "/0.txt", &[]).await;
        assert!(cache.used() <= 10_500);
    }
    assert_eq!(cache.used(), 10_000);
    drop(assets);
    assert_eq!(cache.used(), 0);
}

#[tokio::test]
async fn uploaded_files_are_served_by_their_manifest() {
    let dir = folder(&[("blob1", "content")]);
    let entry = AssetEntry {
        path: "/page.html".to_owned(),
        file: dir.path().join("blob1"),
        hash: "0123456789abcdef0123456789abcdef".to_owned(),
        size: 7,
        content_type: Some("text/html; charset=utf-8".to_owned()),
    };
    let (assets, warnings) =
        Assets::from_entries(vec![entry], "/old /page", "/page\n  X: y\n", AssetsConfig::default()).unwrap();
    assert_eq!(warnings, []);
    let got = get(&assets, "/page", &[]).await;
    assert_eq!((got.status, got.text(), got.header("x")), (200, "content", "y"));
    assert_eq!(got.header("etag"), "\"0123456789abcdef0123456789abcdef\"");
    assert_eq!(get(&assets, "/old", &[]).await.header("location"), "/page");
    fs::write(dir.path().join("blob1"), "damaged!").unwrap();
    let other = Assets::from_entries(
        vec![AssetEntry {
            path: "/x".to_owned(),
            file: dir.path().join("blob1"),
            hash: String::new(),
            size: 7,
            content_type: None,
        }],
        "",
        "",
        AssetsConfig::default(),
    );
    assert_eq!(get(&other.unwrap().0, "/x", &[]).await.status, 500);
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        "/([a-c.%2eEfF/\\\\@ ]{0,4}/){0,4}[a-c.%25]{0,8}(\\.html)?/?",
        "/(\\.\\./|%2e%2e/|%2F|\\\\|secret|a|index|foo|\\.html|/){0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked, nothing outside the folder is sent, and following redirects ends.
    #[test]
    fn no_request_escapes_or_loops(
        paths in prop::collection::vec(path(), 20),
        name in "[a-z-]{1,12}",
        value in "\\PC{0,20}",
        html in 0..4_usize,
        not_found in 0..3_usize,
    ) {
        let outer = folder(&[
            ("secret", "SECRET"),
            ("in/a", "ok"),
            ("in/a.html", "ok a"),
            ("in/index.html", "ok index"),
            ("in/b/index.html", "ok b"),
            ("in/b/c@%.html", "ok c"),
            ("in/404.html", "ok 404"),
        ]);
        let config = AssetsConfig {
            html_handling: [
                HtmlHandling::AutoTrailingSlash,
                HtmlHandling::ForceTrailingSlash,
                HtmlHandling::DropTrailingSlash,
                HtmlHandling::None,
            ][html],
            not_found_handling: [
                NotFoundHandling::None,
                NotFoundHandling::SinglePageApplication,
                NotFoundHandling::Page404,
            ][not_found],
            ..AssetsConfig::default()
        };
        let (assets, _) = Assets::open(outer.path().join("in"), config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for start in paths {
            let mut at = start.clone();
            let mut hops = 0;
            loop {
                let Ok(request) = http::Request::builder().uri(at.as_str()).body(()) else { break };
                let mut parts = request.into_parts().0;
                if let (Ok(name), Ok(value)) = (http::HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
                    parts.headers.insert(name, value);
                }
                parts.method = Method::GET;
                let _ = assets.route(&parts);
                let response = runtime.block_on(assets.serve(&parts));
                if let Some(location) = response.headers().get(header::LOCATION) {
                    let to = location.to_str().unwrap().to_owned();
                    prop_assert!(to.starts_with('/') && !to.starts_with("//"), "{} → {}", at, to);
                    at = to;
                    hops += 1;
                    prop_assert!(hops < 5, "{} loops", start);
                    continue;
                }
                let body = runtime.block_on(read_all(response.into_body(), 1 << 20)).unwrap();
                prop_assert!(body.is_empty() || body.starts_with(b"ok"), "{} gives {:?}", at, body);
                break;
            }
        }
    }
}
