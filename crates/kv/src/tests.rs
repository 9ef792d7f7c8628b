//! The binding as the engine calls it.

use bytes::Bytes;
use http::StatusCode;
use hyper::ext::ReasonPhrase;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use skep_runtime::{Clock, Jobs, ManualClock, Shutdown};
use skep_store::StoreError;
use skep_wire::{Body, Request, Service, empty, full, read_all};

use crate::{BulkEntry, KvError, KvStore, MAX_VALUE_BYTES, Namespace, PutOptions};

const NOW: u64 = 1_800_000_000;

struct Fixture {
    namespace: Namespace,
    time: ManualClock,
    dir: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    reason: String,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let time = ManualClock::at(NOW * 1000);
        Self { namespace: Namespace::open(dir.path(), time.clock(), Default::default()).unwrap(), time, dir }
    }

    async fn send(&self, request: Request) -> Answer {
        let response = self.namespace.call(request).await;
        let (head, body) = response.into_parts();
        let reason = head.extensions.get::<ReasonPhrase>();
        Answer {
            status: head.status,
            reason: reason.map(|r| String::from_utf8_lossy(r.as_bytes()).into_owned()).unwrap_or_default(),
            headers: head.headers,
            body: read_all(body, usize::MAX).await.unwrap(),
        }
    }

    async fn call(&self, method: &str, uri: &str, body: Body) -> Answer {
        self.send(http::Request::builder().method(method).uri(uri).body(body).unwrap()).await
    }

    async fn get(&self, uri: &str) -> Answer {
        self.call("GET", uri, empty()).await
    }

    async fn put(&self, uri: &str, value: impl Into<Bytes>) -> Answer {
        self.call("PUT", uri, full(value)).await
    }

    async fn bulk(&self, request: Json) -> Answer {
        self.call("POST", "/bulk/get", full(request.to_string())).await
    }

    fn files(&self) -> usize {
        let folders = std::fs::read_dir(self.dir.path().join("blobs")).unwrap();
        folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    }
}

fn refused(answer: &Answer, status: u16, reason: &str) {
    assert_eq!((answer.status.as_u16(), answer.reason.as_str()), (status, reason));
}

#[tokio::test]
async fn a_value_comes_back_with_its_metadata_and_expiry() {
    let kv = Fixture::new();
    let request = http::Request::put("/a%2F%C3%A9%20%2e?urlencoded=true&expiration_ttl=60")
        .header("CF-KV-Metadata", http::HeaderValue::from_bytes("{\"a\":\"é\"}".as_bytes()).unwrap())
        .body(full("value"))
        .unwrap();
    assert_eq!(kv.send(request).await.status, 200);
    let got = kv.get("/a%2F%C3%A9%20.?urlencoded=true&cache_ttl=30").await;
    assert_eq!((got.status.as_u16(), &got.body[..]), (200, &b"value"[..]));
    assert_eq!(got.headers["cf-kv-metadata"].as_bytes(), "{\"a\":\"é\"}".as_bytes());
    assert_eq!(got.headers["cf-expiration"], (NOW + 60).to_string());
    let list: Json = serde_json::from_slice(&kv.get("/?prefix=a%2F").await.body).unwrap();
    let key = json!({"name": "a/é .", "expiration": NOW + 60, "metadata": "{\"a\":\"é\"}"});
    assert_eq!(list, json!({"keys": [key], "list_complete": true}));
    kv.time.advance_ms(60_000);
    refused(&kv.get("/a%2F%C3%A9%20.?urlencoded=true").await, 404, "Not Found");
}

#[tokio::test]
async fn a_put_replaces_metadata_and_expiry_wholly() {
    let kv = Fixture::new();
    let first = http::Request::put(format!("/k?urlencoded=true&expiration={}", NOW + 100))
        .header("CF-KV-Metadata", "1")
        .body(full("a"))
        .unwrap();
    kv.send(first).await;
    kv.put("/k?urlencoded=true", "b").await;
    kv.time.advance_ms(200_000);
    let got = kv.get("/k?urlencoded=true").await;
    assert_eq!(&got.body[..], b"b");
    assert!(!got.headers.contains_key("cf-kv-metadata") && !got.headers.contains_key("cf-expiration"));
    kv.call("DELETE", "/k?urlencoded=true", empty()).await;
    assert_eq!(kv.get("/k?urlencoded=true").await.status, 404);
}

#[tokio::test]
async fn bad_input_gets_cloudflares_texts_and_stores_nothing() {
    let kv = Fixture::new();
    let long = "k".repeat(513);
    refused(
        &kv.put(&format!("/{long}?urlencoded=true"), "v").await,
        414,
        "UTF-8 encoded length of 513 exceeds key length limit of 512.",
    );
    refused(
        &kv.put("/k?urlencoded=true&expiration_ttl=59", "v").await,
        400,
        "Invalid expiration_ttl of 59. Expiration TTL must be at least 60.",
    );
    refused(
        &kv.put("/%2E?urlencoded=true", "v").await,
        400,
        "Illegal key name \".\". Please use a different name.",
    );
    refused(&kv.put("/%zz?urlencoded=true", "v").await, 400, "Could not URL-decode key name");
    refused(&kv.get("/k?cache_ttl=29").await, 400, "Invalid cache_ttl of 29. Cache TTL must be at least 30.");
    refused(
        &kv.get("/?key_count_limit=1001").await,
        400,
        "Invalid key_count_limit of 1001. Please specify an integer less than 1000.",
    );
    refused(&kv.get("/?cursor=%21").await, 400, "Invalid cursor");
    refused(&kv.call("PATCH", "/k", empty()).await, 405, "Method Not Allowed");
    let metadata = "x".repeat(1025);
    let request = http::Request::put("/k").header("CF-KV-Metadata", metadata).body(full("v")).unwrap();
    refused(&kv.send(request).await, 413, "Metadata length of 1025 exceeds limit of 1024.");
    let list: Json = serde_json::from_slice(&kv.get("/").await.body).unwrap();
    assert_eq!(list, json!({"keys": [], "list_complete": true}));
}

fn pieces(count: usize, piece: usize) -> Body {
    let piece = Bytes::from(vec![7; piece]);
    skep_wire::stream(futures_util::stream::iter(
        (0..count).map(move |_| Ok::<_, std::io::Error>(piece.clone())),
    ))
}

#[tokio::test]
async fn a_value_past_25_mib_is_refused_with_its_length_known_or_not() {
    let kv = Fixture::new();
    let at_limit = vec![1; MAX_VALUE_BYTES as usize];
    assert_eq!(kv.put("/max", at_limit.clone()).await.status, 200);
    assert_eq!(kv.get("/max").await.body, at_limit);
    let text = "Value length of 26214401 exceeds limit of 26214400.";
    refused(&kv.put("/k", vec![1; MAX_VALUE_BYTES as usize + 1]).await, 413, text);
    refused(
        &kv.call("PUT", "/k", pieces(27, 1 << 20)).await,
        413,
        "Value length of 28311552 exceeds limit of 26214400.",
    );
    assert_eq!(kv.get("/k").await.status, 404);
    assert_eq!(kv.files(), 1);
}

#[tokio::test]
async fn a_value_whose_sender_vanishes_leaves_the_old_one() {
    let kv = Fixture::new();
    kv.put("/k", "old").await;
    for len in [10, 1 << 20] {
        let broken = [Ok(Bytes::from(vec![1; len])), Err(std::io::Error::other("gone"))];
        let answer = kv.call("PUT", "/k", skep_wire::stream(futures_util::stream::iter(broken))).await;
        assert_eq!(answer.status, 400);
    }
    assert_eq!(&kv.get("/k").await.body[..], b"old");
    assert_eq!(kv.files(), 0);
}

#[tokio::test]
async fn a_large_value_outlives_its_replacement_for_whoever_reads_it() {
    let kv = Fixture::new();
    kv.call("PUT", "/k", pieces(10, 100_000)).await;
    assert_eq!(kv.files(), 1);
    let open = kv.namespace.call(http::Request::get("/k").body(empty()).unwrap()).await;
    kv.put("/k", "small").await;
    assert_eq!(kv.files(), 0);
    assert_eq!(read_all(open.into_body(), usize::MAX).await.unwrap(), vec![7; 1_000_000]);
    assert_eq!(&kv.get("/k").await.body[..], b"small");
}

#[tokio::test]
async fn what_a_crash_leaves_is_removed_at_the_next_start() {
    let kv = Fixture::new();
    kv.put("/named", vec![1; 100_000]).await;
    let blobs = skep_store::Blobs::open(&kv.dir.path().join("blobs")).unwrap();
    blobs.create(skep_store::BlobId::random()).unwrap().finish().unwrap();
    assert_eq!(kv.files(), 2);
    let Fixture { namespace, time, dir } = kv;
    drop(namespace);
    let kv = Fixture {
        namespace: Namespace::open(dir.path(), time.clock(), Default::default()).unwrap(),
        time,
        dir,
    };
    assert_eq!(kv.files(), 1);
    assert_eq!(kv.get("/named").await.body, vec![1; 100_000]);
}

#[tokio::test]
async fn bulk_get_answers_every_key_in_order() {
    let kv = Fixture::new();
    kv.put("/a", "{\"x\": 1}").await;
    let request = http::Request::put("/b").header("CF-KV-Metadata", "[2]").body(full("\"b\"")).unwrap();
    kv.send(request).await;
    kv.put("/large", format!("\"{}\"", "x".repeat(70_000))).await;
    let text = kv.bulk(json!({"keys": ["b", "none", "a", "b"]})).await;
    assert_eq!(&text.body[..], br#"{"b":"\"b\"","none":null,"a":"{\"x\": 1}"}"#);
    let parsed = kv.bulk(json!({"keys": ["a", "b", "no"], "type": "json", "withMetadata": true})).await;
    assert_eq!(
        serde_json::from_slice::<Json>(&parsed.body).unwrap(),
        json!({"a": {"value": {"x": 1}, "metadata": null}, "b": {"value": "b", "metadata": [2]}, "no": null})
    );
    let large = kv.bulk(json!({"keys": ["large"], "type": "json", "cacheTtl": "60"})).await;
    assert_eq!(serde_json::from_slice::<Json>(&large.body).unwrap()["large"], "x".repeat(70_000));
}

#[tokio::test]
async fn bulk_get_refuses_with_cloudflares_texts() {
    let kv = Fixture::new();
    kv.put("/text", "no json").await;
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    refused(&kv.bulk(json!({"keys": many})).await, 400, "You can request a maximum of 100 keys");
    refused(&kv.bulk(json!({"keys": []})).await, 400, "You must request a minimum of 1 key");
    refused(
        &kv.bulk(json!({"keys": ["a"], "type": "stream"})).await,
        400,
        "\"stream\" is not a valid type. Use \"json\" or \"text\"",
    );
    refused(
        &kv.bulk(json!({"keys": ["text"], "type": "json"})).await,
        400,
        "At least one of the requested keys corresponds to a non-json value",
    );
    refused(
        &kv.bulk(json!({"keys": ["a"], "cacheTtl": "29"})).await,
        400,
        "Invalid cache_ttl of 29. Cache TTL must be at least 30.",
    );
    for key in ["x", "y"] {
        kv.put(&format!("/{key}"), vec![b'a'; 13 << 20]).await;
    }
    refused(
        &kv.bulk(json!({"keys": ["x", "y"]})).await,
        413,
        "Total size of request exceeds the limit of 25MB",
    );
}

#[tokio::test]
async fn bulk_writes_check_everything_before_they_store_anything() {
    let kv = Fixture::new();
    let entry =
        |key: String, len| BulkEntry { key, options: PutOptions::default(), value: vec![1; len].into() };
    let mut entries: Vec<_> = (0..450).map(|n| entry(format!("k{n:03}"), n)).collect();
    entries.push(entry("large".to_owned(), 100_000));
    let mut bad = entries.clone();
    bad.push(entry(String::new(), 1));
    assert!(matches!(kv.namespace.put_many(bad).await, Err(KvError::EmptyKey)));
    assert!(kv.namespace.list(&Default::default()).unwrap().keys.is_empty());
    kv.namespace.put_many(entries).await.unwrap();
    assert_eq!(kv.namespace.list(&Default::default()).unwrap().keys.len(), 451);
    assert_eq!(kv.get("/large").await.body.len(), 100_000);
    let keys: Vec<_> = (0..450).map(|n| format!("k{n:03}")).chain(["large".to_owned()]).collect();
    kv.namespace.delete_many(&keys).await.unwrap();
    assert!(kv.namespace.list(&Default::default()).unwrap().keys.is_empty());
    assert_eq!(kv.files(), 0);
}

#[tokio::test]
async fn a_list_steps_over_many_expired_keys_in_several_pages() {
    let kv = Fixture::new();
    let entry = |key: String, ttl| BulkEntry {
        key,
        options: PutOptions { expiration: Some(crate::Expiration::After(ttl)), metadata: None },
        value: Bytes::new(),
    };
    kv.namespace.put_many((0..10_000).map(|n| entry(format!("a{n:05}"), 60)).collect()).await.unwrap();
    kv.namespace.put_many((0..3).map(|n| entry(format!("b{n}"), 600)).collect()).await.unwrap();
    kv.time.advance_ms(60_000);
    let first = kv.namespace.list(&Default::default()).unwrap();
    assert!(first.keys.is_empty() && first.cursor.is_some());
    let second =
        kv.namespace.list(&crate::ListOptions { cursor: first.cursor, ..Default::default() }).unwrap();
    assert_eq!(second.keys.len(), 3);
    assert_eq!(second.cursor, None);
    assert_eq!(kv.namespace.remove_expired().await.unwrap(), 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_reader_sees_half_a_value_while_it_is_overwritten() {
    let kv = std::sync::Arc::new(Fixture::new());
    kv.put("/k", vec![0; 100_000]).await;
    let writers = (1..4u8).map(|fill| {
        let kv = kv.clone();
        tokio::spawn(async move {
            for len in [100_000, 10, 70_000].repeat(10) {
                kv.put("/k", vec![fill; len]).await;
            }
        })
    });
    let readers = (0..4).map(|_| {
        let kv = kv.clone();
        tokio::spawn(async move {
            for _ in 0..300 {
                let got = kv.get("/k").await;
                assert_eq!(got.status, 200, "{}", got.reason);
                assert!([10, 70_000, 100_000].contains(&got.body.len()));
                assert!(got.body.iter().all(|byte| *byte == got.body[0]));
            }
        })
    });
    let tasks: Vec<_> = writers.chain(readers.collect::<Vec<_>>()).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(kv.files(), usize::from(kv.get("/k").await.body.len() > 64 * 1024));
}

#[tokio::test]
async fn the_background_job_removes_what_has_expired() {
    let dir = tempfile::tempdir().unwrap();
    let time = ManualClock::at(NOW * 1000);
    let (_trigger, shutdown) = Shutdown::new();
    let jobs = Jobs::new(Clock::system(), shutdown);
    let store = KvStore::open(dir.path(), time.clock(), &jobs).unwrap();
    let namespace = store.namespace("../odd id").unwrap();
    assert!(std::sync::Arc::ptr_eq(&namespace, &store.namespace("../odd id").unwrap()));
    let options = PutOptions { expiration: Some(crate::Expiration::After(60)), metadata: None };
    namespace.put("k", options, full(vec![1; 100_000])).await.unwrap();
    time.advance_ms(60_000);
    let job = "kv: remove expired entries";
    // Only the wait for the job is skipped: under a paused clock its work, on threads of its own, would take "for ever".
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    tokio::time::resume();
    while jobs.list()[job].runs == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(jobs.list()[job].last_result, Ok("1 removed".to_owned()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_full_disk_is_named() {
    let full = KvError::from(StoreError::DiskFull);
    assert_eq!(full.status(), StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(full.to_string(), "Insufficient storage: the disk is full");
    assert_eq!(KvError::from(StoreError::Closed).to_string(), "Internal storage error");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_request_makes_it_panic(
        method in "GET|PUT|POST|DELETE|PURGE",
        path in "(/bulk/get)|(/[a-z0-9%/.]{0,12})",
        query in "((urlencoded|cursor|prefix|key_count_limit|expiration|expiration_ttl|cache_ttl)=[0-9a-zA-Z%+=-]{0,12}&){0,4}",
        metadata in proptest::collection::vec(any::<u8>(), 0..40),
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..100),
            "\\{\"keys\":\\[(\"[a-z]?\")?\\],\"type\":(\"json\"|null|7),\"cacheTtl\":(1|\"60\"|\\[\\])\\}".prop_map(String::into_bytes),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let kv = Fixture::new();
            let mut request = http::Request::builder().method(method.as_str()).uri(format!("{path}?{query}"));
            if let Ok(value) = http::HeaderValue::from_bytes(&metadata) {
                request = request.header("cf-kv-metadata", value);
            }
            if let Ok(request) = request.body(full(body)) {
                let answer = kv.send(request).await;
                assert!(answer.status != StatusCode::INTERNAL_SERVER_ERROR, "{}", answer.reason);
            }
        });
    }
}
