//! Public buckets, made so by stock wrangler, and read as a visitor does.

use serde_json::{Value, json};

use crate::harness::Answer;
use crate::harness::serve::{Serve, serve, serve_in};

const CORS: &str = r#"{ "rules": [{
    "id": "pages", "allowed": { "origins": ["https://page.test"], "methods": ["GET"], "headers": ["Range"] },
    "exposeHeaders": ["ETag"], "maxAgeSeconds": 60
}] }"#;

/// Where the bucket would be public, without the port.
fn managed(serve: &Serve) -> String {
    let shown = serve.call("GET", "/r2/buckets/site/domains/managed", None).json()["result"].clone();
    let (domain, port) = shown["domain"].as_str().unwrap().rsplit_once(':').unwrap();
    assert_eq!(serve.connect().peer_addr().unwrap().port().to_string(), port, "{shown}");
    assert_eq!(domain, format!("pub-{}.r2.localhost", shown["bucketId"].as_str().unwrap()));
    domain.to_owned()
}

fn get(serve: &Serve, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    serve.send("GET", host, path, headers, None)
}

#[test]
fn a_bucket_is_public_where_and_while_it_is_said_to_be() {
    let serve = serve();
    let dir = serve.project(
        "site",
        &[("wrangler.jsonc", "{}"), ("page.txt", "0123456789"), ("cors.json", CORS), ("index.html", "home")],
    );
    let r2 = |args: &[&str]| serve.wrangler(&dir, &[&["r2"], args].concat());
    r2(&["bucket", "create", "site"]);
    let put = ["object", "put", "site/a b/page.txt", "--file", "page.txt", "--remote"];
    r2(&[&put[..], &["--content-type", "text/x-own", "--cache-control", "max-age=7"]].concat());
    r2(&["object", "put", "site/index.html", "--file", "index.html", "--remote"]);
    let host = managed(&serve);
    assert_eq!(get(&serve, &host, "/index.html", &[]).status, 404, "not public unless said so");
    assert!(r2(&["bucket", "dev-url", "get", "site"]).contains("disabled"));
    let enabled = r2(&["bucket", "dev-url", "enable", "site", "-y"]);
    assert!(enabled.contains(&format!("https://{host}:")), "{enabled}");
    objects(&serve, &host);
    r2(&["bucket", "cors", "set", "site", "--file", "cors.json", "-y"]);
    assert!(r2(&["bucket", "cors", "list", "site"]).contains("https://page.test"));
    origins(&serve, &host);
    r2(&["bucket", "cors", "delete", "site", "-y"]);
    let page = get(&serve, &host, "/index.html", &[("origin", "https://page.test")]);
    assert!((page.status, page.header("access-control-allow-origin")) == (200, ""));

    let serve = serve_in(serve.stop("KILL"), &[]);
    assert_eq!(get(&serve, &host, "/index.html", &[]).text(), "home");
    let dir = serve.project("again", &[("wrangler.jsonc", "{}")]);
    serve.wrangler(&dir, &["r2", "bucket", "dev-url", "disable", "site", "-y"]);
    assert_eq!(get(&serve, &host, "/index.html", &[]).status, 404);
    assert!(serve.cells().is_empty(), "no script has run");
}

fn objects(serve: &Serve, host: &str) {
    let page = get(serve, host, "/a%20b/page.txt", &[]);
    let named = |name: &str| page.header(name).to_owned();
    assert_eq!((page.status, page.text()), (200, "0123456789".to_owned()));
    assert_eq!((named("content-type"), named("cache-control")), ("text/x-own".into(), "max-age=7".into()));
    assert_eq!((named("accept-ranges"), named("content-length")), ("bytes".into(), "10".into()));
    let (etag, at) = (named("etag"), named("last-modified"));
    assert_eq!(etag, "\"781e5e245d69b566979b86e28d23f2c7\"");
    let part = |range: &str, more: &[(&str, &str)]| {
        let answer = get(serve, host, "/a%20b/page.txt", &[&[("range", range)], more].concat());
        (answer.status, answer.text(), answer.header("content-range").to_owned())
    };
    assert_eq!(part("bytes=2-4", &[]), (206, "234".into(), "bytes 2-4/10".into()));
    assert_eq!(part("bytes=-3", &[("if-range", &etag)]), (206, "789".into(), "bytes 7-9/10".into()));
    assert_eq!(part("bytes=2-4", &[("if-range", "\"x\"")]), (200, "0123456789".into(), String::new()));
    let (status, _, range) = part("bytes=10-", &[]);
    assert_eq!((status, range.as_str()), (416, "bytes */10"));
    let status = |headers: &[(&str, &str)]| get(serve, host, "/a%20b/page.txt", headers).status;
    assert_eq!((status(&[("if-none-match", &etag)]), status(&[("if-modified-since", &at)])), (304, 304));
    assert_eq!((status(&[("if-match", "\"x\"")]), status(&[("if-match", &etag)])), (412, 200));

    let head = serve.send("HEAD", host, "/a%20b/page.txt", &[("range", "bytes=2-4")], None);
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "10", 0));
    for path in ["/", "/a b", "/a%20b/", "/page.txt", "/a%20b/page.txt%00", "/%FF"] {
        let none = get(serve, host, &path.replace(' ', "%20"), &[]);
        assert_eq!((none.status, none.header("content-type")), (404, "text/html; charset=utf-8"), "{path}");
        assert!(none.text().contains("Object not found"), "{path}");
    }
    let refused = serve.send("PUT", host, "/index.html", &[], Some(b"x"));
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD, OPTIONS"));
    assert_eq!(get(serve, host, "/index.html?any=query", &[]).text(), "home");
    // What does not fit in memory at once comes as it was stored.
    let large = (0..9 << 20).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>();
    let path = "/r2/buckets/site/objects/large";
    assert_eq!(serve.own_call("PUT", path, &[], Some(&large)).status, 200);
    assert!(get(serve, host, "/large", &[]).body == large);
    let range = get(serve, host, "/large", &[("range", "bytes=5000000-5000999")]);
    assert!(range.body == large[5_000_000..5_001_000]);
}

fn origins(serve: &Serve, host: &str) {
    let page = |origin: &str| get(serve, host, "/index.html", &[("origin", origin)]);
    let own = page("https://page.test");
    assert_eq!(
        (
            own.header("access-control-allow-origin"),
            own.header("access-control-expose-headers"),
            own.header("vary")
        ),
        ("https://page.test", "ETag", "Origin")
    );
    assert_eq!(page("https://other.test").header("access-control-allow-origin"), "");
    let preflight = |origin: &str, method: &str, names: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", method),
            ("access-control-request-headers", names),
        ];
        serve.send("OPTIONS", host, "/index.html", &headers, None)
    };
    let own = preflight("https://page.test", "GET", "range");
    assert_eq!(
        (own.status, own.header("access-control-allow-methods"), own.header("access-control-max-age")),
        (204, "GET", "60")
    );
    assert_eq!(own.header("access-control-allow-headers"), "range");
    assert_eq!(preflight("https://page.test", "PUT", "").status, 403);
    assert_eq!(preflight("https://page.test", "GET", "x-other").status, 403);
    assert_eq!(preflight("https://other.test", "GET", "").status, 403);
}

#[test]
fn a_host_name_is_a_buckets_or_a_workers() {
    let serve = serve();
    let code = "export default { fetch() { return new Response('worker'); } };";
    let config = json!({ "name": "web", "main": "index.js", "compatibility_date": "2026-07-01" });
    let dir = serve.project(
        "web",
        &[("index.js", code), ("wrangler.jsonc", &config.to_string()), ("page.txt", "from the bucket")],
    );
    serve.wrangler(&dir, &["deploy"]);
    let r2 = |args: &[&str]| serve.wrangler(&dir, &[&["r2"], args].concat());
    r2(&["bucket", "create", "site"]);
    r2(&["object", "put", "site/page.txt", "--file", "page.txt", "--remote"]);
    let zones = serve.token_call("GET", "/zones?name=example.test", &[], None).json();
    let zones = zones["result"][0]["id"].as_str().unwrap().to_owned();
    let domain = |args: &[&str]| r2(&[&["bucket", "domain"], args].concat());
    domain(&["add", "site", "--domain", "CDN.example.test", "--zone-id", &zones, "--min-tls", "1.2", "-y"]);
    assert_eq!(serve.get("cdn.example.test", "/page.txt").text(), "from the bucket");
    let listed = domain(&["list", "site"]);
    for part in ["cdn.example.test", "example.test", "1.2", "active", &zones] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let all = "/r2/buckets/site/domains/custom";
    let one = format!("{all}/cdn.example.test");
    let call = |method: &str, path: &str, body: Value| {
        let answer = serve.call(method, path, Some(&body).filter(|body| !body.is_null()));
        (answer.status, answer.json()["errors"][0]["code"].as_u64().unwrap_or_default())
    };
    // A name is one bucket's, and no Worker's.
    r2(&["bucket", "create", "other"]);
    let same = json!({ "domain": "cdn.example.test", "zoneId": zones });
    assert_eq!(call("POST", "/r2/buckets/other/domains/custom", same.clone()), (409, 10071));
    let taken = json!({ "hostname": "cdn.example.test", "service": "web", "zone_id": zones });
    assert!(call("PUT", "/workers/domains", taken).0 >= 400);
    let workers = json!({ "hostname": "www.example.test", "service": "web", "zone_id": zones });
    assert_eq!(call("PUT", "/workers/domains", workers).0, 200);
    let theirs = json!({ "domain": "www.example.test", "zoneId": zones });
    assert_eq!(call("POST", all, theirs), (409, 10071));
    assert_eq!(serve.get("www.example.test", "/").text(), "worker");
    for wrong in [
        json!({ "domain": "no host", "zoneId": zones }),
        json!({ "domain": "a.example.test", "zoneId": zones, "minTLS": "1.3" }),
        json!({ "domain": "a.example.test", "zoneId": zones, "ciphers": ["AES128-SHA"] }),
    ] {
        assert_eq!(call("POST", all, wrong.clone()), (400, 10040), "{wrong}");
    }
    // A route goes before the bucket.
    let route = json!([{ "pattern": "cdn.example.test/work/*" }]);
    assert_eq!(call("PUT", "/workers/scripts/web/routes", route).0, 200);
    assert_eq!(serve.get("cdn.example.test", "/work/page.txt").text(), "worker");
    assert_eq!(serve.get("cdn.example.test", "/page.txt").text(), "from the bucket");

    domain(&["update", "site", "--domain", "cdn.example.test", "--min-tls", "1.0"]);
    assert_eq!(serve.call("GET", &one, None).json()["result"]["minTLS"], "1.0");
    assert_eq!(call("PUT", &one, json!({ "enabled": false })).0, 200);
    assert_eq!(serve.get("cdn.example.test", "/page.txt").status, 404);
    assert!(domain(&["get", "site", "--domain", "cdn.example.test"]).contains("deactivated"));
    assert_eq!(call("PUT", &one, json!({ "enabled": true })).0, 200);
    let serve = serve_in(serve.stop("KILL"), &[]);
    assert_eq!(serve.get("cdn.example.test", "/page.txt").text(), "from the bucket");
    let dir = serve.project("after", &[("wrangler.jsonc", "{}")]);
    let r2 = |args: &[&str]| serve.wrangler(&dir, &[&["r2"], args].concat());
    r2(&["bucket", "domain", "remove", "site", "--domain", "cdn.example.test", "-y"]);
    assert_eq!(serve.get("cdn.example.test", "/page.txt").status, 404);
    assert_eq!(serve.call("GET", &one, None).status, 404);
    // A bucket that goes takes its domains along.
    assert_eq!(serve.call("POST", "/r2/buckets/other/domains/custom", Some(&same)).status, 200);
    r2(&["bucket", "delete", "other"]);
    assert_eq!(serve.call("POST", all, Some(&same)).status, 200);
    assert_eq!(serve.get("cdn.example.test", "/page.txt").text(), "from the bucket");
}

#[test]
fn a_backup_has_the_rules_of_buckets_and_where_they_are_public() {
    let serve = serve();
    let at = |path: &str| format!("/r2/buckets/site{path}");
    assert_eq!(serve.call("POST", "/r2/buckets", Some(&json!({ "name": "site" }))).status, 200);
    assert_eq!(serve.own_call("PUT", &at("/objects/kept"), &[], Some(b"content")).status, 200);
    let host = managed(&serve);
    let cors: Value = serde_json::from_str(CORS).unwrap();
    let lock = json!({ "rules": [{ "id": "all", "enabled": true, "condition": { "type": "Indefinite" } }] });
    let lifecycle = json!({ "rules": [{
        "id": "old", "enabled": true, "conditions": {},
        "deleteObjectsTransition": { "condition": { "type": "Age", "maxAge": 0 } },
    }] });
    let domain = json!({ "domain": "cdn.example.test", "zoneId": "z" });
    for (method, path, body) in [
        ("PUT", "/lock", &lock),
        ("PUT", "/lifecycle", &lifecycle),
        ("PUT", "/cors", &cors),
        ("PUT", "/domains/managed", &json!({ "enabled": true })),
        ("POST", "/domains/custom", &domain),
    ] {
        let answer = serve.call(method, &at(path), Some(body));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let shown = |serve: &Serve| {
        let paths = ["/lock", "/lifecycle", "/cors", "/domains/custom"];
        paths.map(|path| serve.call("GET", &at(path), None).json()["result"].clone())
    };
    let before = shown(&serve);
    let new = tempfile::tempdir().unwrap();
    let archive = new.path().join("backup.tar");
    let run = |args: &[&str], data: &std::path::Path| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_skep"))
            .args(args)
            .arg("--data")
            .arg(data)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (old, data) = (serve.dir.path().join("data"), new.path().join("data"));
    run(&["backup", archive.to_str().unwrap()], &old);
    run(&["restore", archive.to_str().unwrap()], &data);
    std::fs::copy(old.join("secrets.key"), data.join("secrets.key")).unwrap();
    drop(serve);
    let serve = serve_in(new, &[]);
    assert_eq!(shown(&serve), before);
    for host in [host.as_str(), "cdn.example.test"] {
        let page = get(&serve, host, "/kept", &[("origin", "https://page.test")]);
        assert_eq!(
            (page.text(), page.header("access-control-expose-headers")),
            ("content".to_owned(), "ETag")
        );
    }
    assert_eq!(serve.call("DELETE", &at("/objects/kept"), None).status, 403);
}
