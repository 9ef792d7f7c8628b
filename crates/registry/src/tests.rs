//! The protocol as a client sees it, hostile ones among them.

mod memory;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use skep_runtime::ManualClock;
use skep_store::Quota;
use skep_wire::{Body, Response, Service, full, read_all, stream};

use crate::{Accounts, Credentials, ImageRegistry, ImageStore, USER};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

struct Shelves {
    one: Arc<ImageStore>,
    two: Arc<ImageStore>,
    in_use: Mutex<HashSet<String>>,
}

impl Accounts for Shelves {
    fn images(&self, account: &str) -> Result<Arc<ImageStore>, String> {
        Ok(if account == "one" { &self.one } else { &self.two }.clone())
    }

    fn in_use(&self, _account: &str) -> Result<HashSet<String>, String> {
        Ok(self.in_use.lock().unwrap().clone())
    }
}

struct Node {
    registry: ImageRegistry,
    shelves: Arc<Shelves>,
    credentials: Arc<Credentials>,
    clock: ManualClock,
    dir: tempfile::TempDir,
}

/// What came of a request.
struct Seen {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Seen {
    fn code(&self) -> String {
        let body: Json = serde_json::from_slice(&self.body).unwrap_or_default();
        format!("{} {}", self.status.as_u16(), body["errors"][0]["code"].as_str().unwrap_or("-"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

fn node(quota: Quota, most: u64) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000_000);
    let quota = Arc::new(quota);
    let open = |name: &str| {
        let store = ImageStore::open_for(&dir.path().join(name), clock.clock(), quota.clone(), most);
        Arc::new(store.unwrap())
    };
    let shelves = Arc::new(Shelves { one: open("one"), two: open("two"), in_use: Mutex::default() });
    let credentials = Arc::new(Credentials::new(clock.clock()));
    let registry = ImageRegistry::new(shelves.clone(), credentials.clone());
    Node { registry, shelves, credentials, clock, dir }
}

fn free() -> Node {
    node(Quota::default(), u64::MAX - 1)
}

impl Node {
    fn basic(&self, account: &str) -> String {
        let password = self.credentials.issue(account, true, true, 5);
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
        format!("Basic {basic}")
    }

    async fn ask_as(
        &self,
        account: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Seen {
        let mut request = http::Request::builder().method(method).uri(path);
        request = request.header("authorization", self.basic(account));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        seen(self.registry.call(request.body(body).unwrap()).await).await
    }

    async fn ask(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Seen {
        self.ask_as("one", method, path, &[], full(body)).await
    }

    async fn push_blob(&self, repository: &str, content: &[u8]) -> String {
        let digest = digest(content);
        let path = format!("/v2/one/{repository}/blobs/uploads/?digest={digest}");
        let made = self.ask(Method::POST, &path, content.to_vec()).await;
        assert_eq!(made.status, StatusCode::CREATED);
        digest
    }

    async fn push_image(&self, repository: &str, tag: &str, layer: &[u8]) -> String {
        let config = self.push_blob(repository, b"{}").await;
        let layer_digest = self.push_blob(repository, layer).await;
        let manifest = image(&config, &layer_digest, layer.len());
        let path = format!("/v2/one/{repository}/manifests/{tag}");
        let put =
            self.ask_as("one", Method::PUT, &path, &[("content-type", IMAGE)], full(manifest.clone())).await;
        assert_eq!(put.code(), "201 -");
        assert_eq!(put.header("docker-content-digest"), digest(manifest.as_bytes()));
        digest(manifest.as_bytes())
    }
}

fn image(config: &str, layer: &str, len: usize) -> String {
    json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": { "mediaType": "c", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "l", "digest": layer, "size": len }] })
    .to_string()
}

async fn seen(response: Response) -> Seen {
    let (head, body) = response.into_parts();
    Seen { status: head.status, headers: head.headers, body: read_all(body, 1 << 30).await.unwrap() }
}

fn files(dir: &Path) -> usize {
    let folders = std::fs::read_dir(dir.join("blobs")).unwrap();
    folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
}

#[tokio::test]
async fn what_was_pushed_is_pulled_by_tag_by_digest_and_in_part() {
    let node = free();
    let layer: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
    let manifest = node.push_image("app/web", "v1", &layer).await;
    for reference in ["v1", &manifest] {
        let got = node.ask(Method::GET, &format!("/v2/one/app/web/manifests/{reference}"), "").await;
        assert_eq!((got.code().as_str(), got.header("content-type")), ("200 -", IMAGE));
        assert_eq!(digest(&got.body), manifest);
    }
    let head = node.ask(Method::HEAD, "/v2/one/app/web/manifests/v1", "").await;
    assert_eq!((head.header("docker-content-digest"), head.body.len()), (manifest.as_str(), 0));
    let blob = format!("/v2/one/app/web/blobs/{}", digest(&layer));
    let whole = node.ask(Method::GET, &blob, "").await;
    assert_eq!((whole.status, whole.body[..] == layer[..]), (StatusCode::OK, true));
    let part = node.ask_as("one", Method::GET, &blob, &[("range", "bytes=300000-300009")], full("")).await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &layer[300_000..300_010]));
    assert_eq!(part.header("content-range"), "bytes 300000-300009/700000");
    let none = node.ask_as("one", Method::GET, &blob, &[("range", "bytes=700000-")], full("")).await;
    assert_eq!(
        (none.status, none.header("content-range")),
        (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */700000")
    );
    let head = node.ask(Method::HEAD, &blob, "").await;
    assert_eq!((head.header("content-length"), head.body.len()), ("700000", 0));

    node.push_image("app/web", "v2", b"other").await;
    node.push_image("job", "v1", b"other").await;
    let tags = node.ask(Method::GET, "/v2/one/app/web/tags/list?n=1", "").await;
    assert_eq!(tags.body, r#"{"name":"one/app/web","tags":["v1"]}"#);
    assert_eq!(tags.header("link"), "</v2/one/app/web/tags/list?n=1&last=v1>; rel=\"next\"");
    let tags = node.ask(Method::GET, "/v2/one/app/web/tags/list?n=1&last=v1", "").await;
    assert_eq!(tags.body, r#"{"name":"one/app/web","tags":["v2"]}"#);
    let all = node.ask(Method::GET, "/v2/_catalog?tags=true", "").await;
    assert_eq!(all.body, r#"{"repositories":{"one/app/web":["v1","v2"],"one/job":["v1"]}}"#);
    let names = node.ask(Method::GET, "/v2/_catalog", "").await;
    assert_eq!(names.body, r#"{"repositories":["one/app/web","one/job"]}"#);
}

#[tokio::test]
async fn a_blob_comes_in_chunks_that_follow_each_other() {
    let node = free();
    let begun = node.ask(Method::POST, "/v2/one/app/blobs/uploads/", "").await;
    assert_eq!(begun.status, StatusCode::ACCEPTED);
    let place = begun.header("location").to_owned();
    assert!(place.starts_with("/v2/one/app/blobs/uploads/"), "{place}");
    let chunk = async |range: &str, text: &'static str| {
        node.ask_as("one", Method::PATCH, &place, &[("content-range", range)], full(text)).await
    };
    let first = chunk("0-2", "abc").await;
    assert_eq!((first.status, first.header("range")), (StatusCode::ACCEPTED, "0-2"));
    let gap = chunk("5-7", "xyz").await;
    assert_eq!((gap.code().as_str(), gap.header("range")), ("416 BLOB_UPLOAD_INVALID", "0-2"));
    let cut = stream(futures(vec![Ok(Bytes::from_static(b"de")), Err(std::io::Error::other("gone"))]));
    let cut = node.ask_as("one", Method::PATCH, &place, &[], cut).await;
    assert_eq!(cut.code(), "400 BLOB_UPLOAD_INVALID");
    let there = node.ask(Method::GET, &place, "").await;
    assert_eq!((there.status, there.header("range")), (StatusCode::NO_CONTENT, "0-4"), "what came is kept");
    assert_eq!(
        node.ask(Method::GET, &place.replace("/app/", "/other/"), "").await.code(),
        "404 BLOB_UPLOAD_UNKNOWN"
    );
    let put = node.ask(Method::PUT, &format!("{place}?digest={}", digest(b"abcdef")), "f").await;
    assert_eq!(put.status, StatusCode::CREATED);
    assert_eq!(node.ask(Method::GET, &place, "").await.code(), "404 BLOB_UPLOAD_UNKNOWN");
    let got = node.ask(Method::GET, put.header("location"), "").await;
    assert_eq!(got.body, "abcdef");
}

fn futures<T: Send + 'static>(items: Vec<T>) -> impl futures_util::Stream<Item = T> + Send + 'static {
    futures_util::stream::iter(items)
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_never_taken() {
    let node = free();
    let wrong = digest(b"something else");
    let put = node.ask(Method::POST, &format!("/v2/one/app/blobs/uploads/?digest={wrong}"), "content").await;
    assert_eq!(put.code(), "400 DIGEST_INVALID");
    for asked in [wrong, digest(b"content")] {
        assert_eq!(node.ask(Method::HEAD, &format!("/v2/one/app/blobs/{asked}"), "").await.status, 404);
    }
    assert_eq!(files(&node.dir.path().join("one")), 0);
    assert_eq!(node.shelves.one.uploads.lock().unwrap().len(), 0);

    let config = node.push_blob("app", b"{}").await;
    let manifest = image(&config, &digest(b"not there"), 9);
    let put = async |reference: &str, manifest: String| {
        let path = format!("/v2/one/app/manifests/{reference}");
        node.ask_as("one", Method::PUT, &path, &[("content-type", IMAGE)], full(manifest)).await.code()
    };
    assert_eq!(put("v1", manifest).await, "404 MANIFEST_BLOB_UNKNOWN");
    let layer = node.push_blob("app", b"layer").await;
    assert_eq!(put("v1", image(&config, &layer, 6)).await, "400 MANIFEST_INVALID", "of another size");
    assert_eq!(put(&digest(b"x"), image(&config, &layer, 5)).await, "400 DIGEST_INVALID");
    assert_eq!(put("v1", "{}".into()).await, "400 MANIFEST_INVALID");
    assert_eq!(put("v1", " ".repeat(crate::MAX_MANIFEST + 1)).await, "413 SIZE_INVALID");
    assert_eq!(node.ask(Method::GET, "/v2/one/app/manifests/v1", "").await.code(), "404 MANIFEST_UNKNOWN");
    assert_eq!(put("v1", image(&config, &layer, 5)).await, "201 -");
}

#[tokio::test]
async fn an_account_reaches_its_own_images_only() {
    let node = free();
    let manifest = node.push_image("app", "v1", b"secret layer").await;
    let layer = digest(b"secret layer");
    let other = async |method: Method, path: &str| node.ask_as("two", method, path, &[], full("")).await;
    for (method, path) in [
        (Method::GET, "/v2/one/app/manifests/v1".to_owned()),
        (Method::GET, format!("/v2/one/app/blobs/{layer}")),
        (Method::DELETE, format!("/v2/one/app/manifests/{manifest}")),
        (Method::POST, "/v2/one/app/blobs/uploads/".to_owned()),
        (Method::GET, "/v2/one/app/tags/list".to_owned()),
    ] {
        assert_eq!(other(method, &path).await.code(), "403 DENIED", "{path}");
    }
    for path in [format!("/v2/two/app/blobs/{layer}"), format!("/v2/two/%2e%2e/one/app/blobs/{layer}")] {
        let answer = other(Method::GET, &path).await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{path}: {}", answer.code());
    }
    for from in ["one/app", "two/../one/app", "app", "two/app"] {
        let mounted =
            other(Method::POST, &format!("/v2/two/x/blobs/uploads/?mount={layer}&from={from}")).await;
        assert_eq!(mounted.status, StatusCode::ACCEPTED, "not mounted, an upload begins: {from}");
    }
    assert_eq!(other(Method::GET, "/v2/_catalog?tags=true").await.body, r#"{"repositories":{}}"#);
    let own =
        node.ask(Method::POST, &format!("/v2/one/x/blobs/uploads/?mount={layer}&from=one/app"), "").await;
    assert_eq!((own.status, own.header("docker-content-digest")), (StatusCode::CREATED, layer.as_str()));
    assert_eq!(node.ask(Method::GET, &format!("/v2/one/x/blobs/{layer}"), "").await.body, "secret layer");

    let anybody = http::Request::get("/v2/").body(full("")).unwrap();
    let anybody = seen(node.registry.call(anybody).await).await;
    assert_eq!(anybody.code(), "401 UNAUTHORIZED");
    assert!(anybody.header("www-authenticate").starts_with("Basic realm="));
    assert_eq!(node.ask(Method::GET, "/v2/", "").await.code(), "200 -");
    let reader = node.credentials.issue("one", false, true, 5);
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{reader}"));
    let ask = async |method: Method, path: &str| {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("basic {basic}")).body(full("")).unwrap();
        seen(node.registry.call(request).await).await.code()
    };
    assert_eq!(ask(Method::GET, "/v2/one/app/manifests/v1").await, "200 -");
    for (method, path) in [
        (Method::POST, "/v2/one/app/blobs/uploads/"),
        (Method::DELETE, "/v2/one/app/manifests/v1"),
        (Method::PUT, "/v2/gc/layers"),
    ] {
        assert_eq!(ask(method, path).await, "403 DENIED", "{path}");
    }
}

#[tokio::test]
async fn uploads_without_end_are_bounded_and_given_up_ones_end_after_a_day() {
    let node = free();
    let mut last = StatusCode::ACCEPTED;
    for _ in 0..129 {
        last = node.ask(Method::POST, "/v2/one/app/blobs/uploads/", "").await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let elsewhere = node.ask_as("two", Method::POST, "/v2/two/app/blobs/uploads/", &[], full("")).await;
    assert_eq!(elsewhere.status, StatusCode::ACCEPTED, "they are of one account");
    let place = elsewhere.header("location").to_owned();
    node.clock.advance_ms(23 * 3_600_000);
    node.ask_as("two", Method::PATCH, &place, &[], full("abc")).await;
    node.clock.advance_ms(2 * 3_600_000);
    assert_eq!((node.shelves.one.end_uploads(), node.shelves.two.end_uploads()), (128, 0));
    assert_eq!(node.ask(Method::POST, "/v2/one/app/blobs/uploads/", "").await.status, StatusCode::ACCEPTED);
    node.clock.advance_ms(25 * 3_600_000);
    assert_eq!(node.shelves.two.end_uploads(), 1);
    let late = node.ask_as("two", Method::GET, &place, &[], full("")).await;
    assert_eq!(late.code(), "404 BLOB_UPLOAD_UNKNOWN");
    assert_eq!(
        node.ask(Method::DELETE, &place.replace("two", "one"), "").await.code(),
        "404 BLOB_UPLOAD_UNKNOWN"
    );
}

#[tokio::test]
async fn what_is_stored_is_charged_until_it_is_gone() {
    let node = node(Quota::new(1_000_000), 600_000);
    let quota = node.shelves.one.blobs.quota().clone();
    let stored = vec![7u8; 500_000];
    node.push_image("app", "v1", &stored).await;
    let used = quota.used();
    assert!((500_000..510_000).contains(&used), "{used}");
    let more = |n: u8| {
        (format!("/v2/one/app/blobs/uploads/?digest={}", digest(&vec![n; 300_000])), vec![n; 300_000])
    };
    let (path, content) = more(1);
    let over = node.ask(Method::POST, &path, content).await;
    assert_eq!(over.code(), "403 DENIED", "of the registry's own room");
    assert_eq!((quota.used(), node.shelves.one.room.used()), (used, 500_002));
    let two = async |n: u8| {
        let (path, content) = more(n);
        node.ask_as("two", Method::POST, &path.replace("/one/", "/two/"), &[], full(content)).await.code()
    };
    assert_eq!(two(2).await, "201 -");
    assert_eq!(two(3).await, "403 DENIED", "of the account's room, which both have here");
    assert_eq!(two(2).await, "403 DENIED", "twice is stored twice until it is known to be the same");

    assert_eq!(node.ask(Method::DELETE, "/v2/one/app/manifests/v1", "").await.status, StatusCode::ACCEPTED);
    let removed = node.ask(Method::PUT, "/v2/gc/layers", "").await;
    assert_eq!(removed.body, r#"{"removed":3}"#);
    assert_eq!((node.shelves.one.room.used(), files(&node.dir.path().join("one"))), (0, 0));
    assert!(quota.used() < 310_000, "{}", quota.used());
    assert_eq!(two(2).await, "201 -");
    assert_eq!(files(&node.dir.path().join("two")), 1, "one content is kept once");
}

#[tokio::test]
async fn only_what_nobody_needs_goes() {
    let node = free();
    let collect = async || node.ask(Method::PUT, "/v2/gc/layers", "").await.body;
    let first = node.push_image("app", "v1", b"first").await;
    let shared = node.push_image("app", "v2", b"second").await;
    node.push_blob("app", b"on its way").await;
    assert_eq!(collect().await, r#"{"removed":0}"#, "a push sends layers first");

    // A tag that means another image now, and an image that runs.
    node.push_image("app", "v1", b"second").await;
    node.shelves.in_use.lock().unwrap().insert(format!("app@{first}"));
    assert_eq!(collect().await, r#"{"removed":0}"#);
    node.shelves.in_use.lock().unwrap().clear();
    assert_eq!(collect().await, r#"{"removed":2}"#, "the manifest and its own layer");
    assert_eq!(node.ask(Method::GET, &format!("/v2/one/app/manifests/{first}"), "").await.status, 404);
    assert_eq!(node.ask(Method::GET, &format!("/v2/one/app/manifests/{shared}"), "").await.status, 200);

    // Who asked whether a layer is there is about to name it.
    assert_eq!(node.ask(Method::DELETE, &format!("/v2/one/app/manifests/{shared}"), "").await.status, 202);
    let layer = format!("/v2/one/app/blobs/{}", digest(b"second"));
    assert_eq!(node.ask(Method::HEAD, &layer, "").await.status, 200);
    assert_eq!(collect().await, r#"{"removed":1}"#, "the configuration");
    assert_eq!(node.ask(Method::HEAD, &layer, "").await.status, 200);
    node.clock.advance_ms(2 * 3_600_000);
    assert_eq!(collect().await, r#"{"removed":2}"#);
    assert_eq!(files(&node.dir.path().join("one")), 0);

    // An index needs the images that it names.
    let child = node.push_image("multi", "child", b"layer").await;
    let index = json!({ "schemaVersion": 2, "mediaType": crate::manifest::INDEX,
        "manifests": [{ "mediaType": IMAGE, "digest": child, "size": 1 }] });
    let headers = [("content-type", crate::manifest::INDEX)];
    let put = node
        .ask_as("one", Method::PUT, "/v2/one/multi/manifests/all", &headers, full(index.to_string()))
        .await;
    assert_eq!(put.code(), "201 -");
    assert_eq!(node.ask(Method::DELETE, "/v2/one/multi/manifests/child", "").await.status, 202);
    assert_eq!(collect().await, r#"{"removed":0}"#);
    let refused = node.ask(Method::DELETE, &format!("/v2/one/multi/manifests/{child}"), "").await;
    assert_eq!(refused.code(), "403 DENIED");
    assert_eq!(node.ask(Method::DELETE, "/v2/one/multi/manifests/all", "").await.status, 202);
    assert_eq!(collect().await, r#"{"removed":4}"#);
}

#[tokio::test]
async fn what_says_something_about_an_image_is_found_by_it() {
    let node = free();
    let subject = node.push_image("app", "v1", b"layer").await;
    let config = digest(b"{}");
    let about = json!({ "schemaVersion": 2, "mediaType": IMAGE, "artifactType": "text/sbom",
        "config": { "mediaType": "c", "digest": config, "size": 2 }, "layers": [],
        "subject": { "digest": subject, "size": 1 }, "annotations": { "a": "b" } })
    .to_string();
    let path = format!("/v2/one/app/manifests/{}", digest(about.as_bytes()));
    let put = node.ask_as("one", Method::PUT, &path, &[("content-type", IMAGE)], full(about.clone())).await;
    assert_eq!((put.status, put.header("oci-subject")), (StatusCode::CREATED, subject.as_str()));
    let found = node.ask(Method::GET, &format!("/v2/one/app/referrers/{subject}"), "").await;
    let found: Json = serde_json::from_slice(&found.body).unwrap();
    assert_eq!(found["manifests"][0]["digest"], digest(about.as_bytes()));
    assert_eq!(found["manifests"][0]["artifactType"], "text/sbom");
    let none = node.ask(Method::GET, &format!("/v2/one/app/referrers/{subject}?artifactType=x"), "").await;
    assert_eq!(none.header("oci-filters-applied"), "artifactType");
    assert!(String::from_utf8_lossy(&none.body).contains(r#""manifests":[]"#));
    node.clock.advance_ms(2 * 3_600_000);
    assert_eq!(node.ask(Method::PUT, "/v2/gc/layers", "").await.body, r#"{"removed":0}"#, "it needs no tag");
}

#[tokio::test]
async fn what_was_pushed_is_there_after_a_restart_and_uploads_are_not() {
    let node = free();
    let manifest = node.push_image("app", "v1", b"layer").await;
    let begun = node.ask(Method::POST, "/v2/one/app/blobs/uploads/", "").await;
    node.ask_as("one", Method::PATCH, begun.header("location"), &[], full("half")).await;
    let folder = node.dir.path().join("one");
    let Node { registry, shelves, clock, dir, .. } = node;
    drop((registry, shelves));
    let again = ImageStore::open(&folder, clock.clock(), Arc::default()).unwrap();
    let name = crate::Repository::parse("app").unwrap();
    let found = again.manifest(&name, &crate::Reference::parse("v1").unwrap()).unwrap().unwrap();
    assert_eq!(found.digest.as_str(), manifest);
    assert_eq!((again.room.used(), files(&folder)), (7, 2));
    drop(dir);
}
