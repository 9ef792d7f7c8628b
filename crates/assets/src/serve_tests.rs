use std::fs;
use std::time::{Duration, SystemTime};

use crate::encoding::{Encoding, decompress};
use crate::test_support::{PAGE, ask, folder, get, open, request};
use crate::{AssetsConfig, NotFoundHandling};

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
async fn what_lies_in_memory_is_a_text() {
    let dir = folder(&[("a.html", PAGE), ("404.html", "gone"), ("long.bin", &"x".repeat(20 << 10))]);
    let config = AssetsConfig { not_found_handling: NotFoundHandling::Page404, ..AssetsConfig::default() };
    let assets = open(&dir, config);
    let is_text = |uri: &str, headers: &[(&'static str, &str)]| {
        assets.text(&request("GET", uri, headers), &[]).is_some()
    };
    assert!(!is_text("/a", &[]), "it was never read");
    for (uri, headers) in
        [("/a", &[][..]), ("/a", &[("accept-encoding", "br")]), ("/b", &[]), ("/long.bin", &[])]
    {
        get(&assets, uri, headers).await;
        assert_eq!(is_text(uri, headers), uri != "/long.bin", "{uri}");
        // Compared with what is served.
        get(&assets, uri, headers).await;
    }
    assert!(!is_text("/a", &[("accept-encoding", "gzip")]), "it was never compressed like that");
    assert!(!is_text("/a", &[("range", "bytes=0-1")]) && !is_text("/a", &[("if-none-match", "*")]));
    assert!(!is_text("/a.html", &[]), "it is a redirect");
    assert!(assets.text(&request("HEAD", "/a", &[]), &[]).is_none());
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
