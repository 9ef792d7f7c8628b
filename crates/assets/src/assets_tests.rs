use std::fs;

use http::{HeaderValue, Method, header};
use proptest::prelude::*;
use skep_wire::read_all;

use super::*;
use crate::config::{HtmlHandling, NotFoundHandling, RunWorkerFirst};
use crate::test_support::{PAGE, folder, get, open, request};

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
