//! The Cache API as the engine calls it.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use hyper::ext::ReasonPhrase;
use proptest::prelude::*;
use skep_runtime::{Clock, Jobs, ManualClock, Shutdown};
use skep_wire::{Body, Request, Service, empty, full, read_all};

use crate::account::{Account, Share};
use crate::{CF_HEADER, CacheStore, Limits, WorkerCache};

const NOW: u64 = 1_800_000_000;

pub(crate) struct Fixture {
    pub cache: WorkerCache,
    pub time: ManualClock,
    pub dir: tempfile::TempDir,
}

/// Of nobody else.
pub(crate) fn share() -> Share {
    Account::new(u64::MAX).share("")
}

pub(crate) struct Answer {
    pub status: u16,
    pub reason: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Fixture {
    pub(crate) fn new(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let time = ManualClock::at(NOW * 1000);
        Self { cache: WorkerCache::open(dir.path(), time.clock(), limits, share()).unwrap(), time, dir }
    }

    pub(crate) async fn send(&self, request: Request) -> Answer {
        let (head, body) = self.cache.call(request).await.into_parts();
        let reason = head.extensions.get::<ReasonPhrase>();
        Answer {
            status: head.status.as_u16(),
            reason: reason.map(|r| String::from_utf8_lossy(r.as_bytes()).into_owned()),
            headers: head.headers,
            body: read_all(body, usize::MAX).await.unwrap(),
        }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, headers: &str, body: Body) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path).header("host", "ex.com");
        for line in headers.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, headers: &str) -> Answer {
        self.call("GET", path, headers, empty()).await
    }

    pub(crate) async fn put(&self, path: &str, response: &str) -> u16 {
        self.call("PUT", path, "", full(response.to_owned())).await.status
    }

    pub(crate) fn files(&self) -> usize {
        files(&self.dir.path().join("blobs"))
    }
}

#[tokio::test]
async fn bodies_that_do_not_end_take_as_much_of_the_disk_as_may_be_cached() {
    let f = Fixture::new(Limits { total: 64 << 20, ..Limits::default() });
    let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\n\r\n");
    let pieces = |count| {
        let zeros = std::iter::repeat_n(Bytes::from(vec![0; 1 << 20]), count);
        futures_util::stream::iter(std::iter::once(head.clone()).chain(zeros).map(Ok::<_, std::io::Error>))
    };
    // What was begun and given up takes no room.
    drop(stalled(&f, pieces(40)).await);
    let put = stalled(&f, pieces(40)).await;
    assert_eq!(f.call("PUT", "/a", "", skep_wire::stream(pieces(40))).await.status, 413);
    assert_eq!(f.call("PUT", "/b", "", skep_wire::stream(pieces(1))).await.status, 204);
    drop(put);
    assert_eq!(f.call("PUT", "/a", "", skep_wire::stream(pieces(40))).await.status, 204);
}

/// A put that has got `pieces` and waits for more.
async fn stalled(
    f: &Fixture,
    pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> impl Future<Output = Answer> {
    let (asked, mut is_asked) = tokio::sync::oneshot::channel();
    let more = futures_util::stream::once(async move {
        let _ = asked.send(());
        std::future::pending().await
    });
    let mut put = Box::pin(f.call("PUT", "/stalls", "", skep_wire::stream(pieces.chain(more))));
    tokio::select! {
        _ = put.as_mut() => panic!("it does not end"),
        asked = &mut is_asked => asked.unwrap(),
    }
    put
}

fn files(blobs: &Path) -> usize {
    let folders = std::fs::read_dir(blobs).unwrap();
    folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
}

fn is_miss(answer: &Answer) -> bool {
    answer.status == 504 && answer.headers["cf-cache-status"] == "MISS"
}

#[tokio::test]
async fn a_response_comes_back_until_it_is_stale() {
    let f = Fixture::new(Limits::default());
    assert!(is_miss(&f.get("/a?b", "").await));
    let response = "HTTP/1.1 203 My reason\r\nContent-Length: 5\r\nCache-Control: max-age=10\r\nX-A: 1\r\nX-A: 2\r\n\r\nhello";
    assert_eq!(f.put("/a?b", response).await, 204);
    f.time.advance_ms(9_999);
    let hit = f.get("/a?b", "cache-control: only-if-cached").await;
    assert_eq!((hit.status, hit.reason.as_deref(), &hit.body[..]), (203, Some("My reason"), &b"hello"[..]));
    assert_eq!(hit.headers["cf-cache-status"], "HIT");
    assert_eq!(hit.headers["age"], "9");
    assert_eq!(hit.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    f.time.advance_ms(1);
    assert!(is_miss(&f.get("/a?b", "").await));
    assert_eq!(f.call("PURGE", "/a?b", "", empty()).await.status, 404);
}

#[tokio::test]
async fn purging_says_whether_there_was_something() {
    let f = Fixture::new(Limits::default());
    f.put("/a", "HTTP/1.1 200 OK\r\n\r\nx").await;
    assert_eq!(f.call("PURGE", "/a", "x-real-ip: 127.0.0.1", empty()).await.status, 200);
    assert_eq!(f.call("PURGE", "/a", "", empty()).await.status, 404);
    assert!(is_miss(&f.get("/a", "").await));
}

#[tokio::test]
async fn the_payload_of_a_chunked_response_is_taken_verbatim() {
    let f = Fixture::new(Limits::default());
    let pieces =
        ["HTTP/1.1 200 OK\r\nTransfer-En", "coding: chunked\r\nCache-Control: max-age=9\r\n\r", "\nab", "c"];
    let body =
        skep_wire::stream(futures_util::stream::iter(pieces.map(|p| Ok::<_, std::io::Error>(p.into()))));
    assert_eq!(f.call("PUT", "/s", "", body).await.status, 204);
    let hit = f.get("/s", "").await;
    assert_eq!(&hit.body[..], b"abc");
    assert!(!hit.headers.contains_key("transfer-encoding"));
    assert_eq!(hit.headers["content-length"], "3");
}

#[tokio::test]
async fn named_caches_and_cache_keys_are_apart() {
    let f = Fixture::new(Limits::default());
    let response = |text: &str| full(format!("HTTP/1.1 200 OK\r\n\r\n{text}"));
    f.call("PUT", "/a", "", response("default")).await;
    f.call("PUT", "/a", "cf-cache-namespace: my%20cache", response("named")).await;
    let keyed = format!("{CF_HEADER}: {{\"cacheKey\":\"k\"}}");
    f.call("PUT", "/a", &keyed, response("keyed")).await;
    assert_eq!(&f.get("/a", "").await.body[..], b"default");
    assert_eq!(&f.get("/a", "cf-cache-namespace: my%20cache").await.body[..], b"named");
    assert_eq!(&f.get("/other", &keyed).await.body[..], b"keyed");
    assert!(is_miss(&f.get("/a", "cf-cache-namespace: other").await));
}

#[tokio::test]
async fn ranges_and_conditions_are_answered_from_what_is_stored() {
    let f = Fixture::new(Limits::default());
    f.put("/a", "HTTP/1.1 200 OK\r\nETag: \"v\"\r\n\r\n0123456789").await;
    let part = f.get("/a", "range: bytes=2-4").await;
    assert_eq!((part.status, &part.body[..]), (206, &b"234"[..]));
    assert_eq!(part.headers["content-range"], "bytes 2-4/10");
    assert_eq!(part.headers["content-length"], "3");
    assert_eq!(part.headers["cf-cache-status"], "HIT");
    let beyond = f.get("/a", "range: bytes=10-").await;
    assert_eq!((beyond.status, &beyond.headers["content-range"]), (416, &"bytes */10".parse().unwrap()));
    assert_eq!(beyond.headers["cf-cache-status"], "HIT");
    assert!(!beyond.headers.contains_key("etag"));
    let same = f.get("/a", "if-none-match: W/\"v\"").await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    assert_eq!(same.headers["cf-cache-status"], "HIT");
}

#[tokio::test]
async fn what_must_not_be_stored_is_answered_with_413() {
    let f = Fixture::new(Limits { object: 100_000, total: 1_000_000, ..Limits::default() });
    for response in [
        "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n\r\nx",
        &format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(100_001)),
        &format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000)),
    ] {
        assert_eq!(f.put("/a", response).await, 413);
    }
    assert_eq!(f.put("/a", &format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(100_000))).await, 204);
    assert_eq!(f.files(), 1);
}

#[tokio::test]
async fn a_stale_response_replaces_a_fresh_one() {
    let f = Fixture::new(Limits::default());
    f.put("/a", "HTTP/1.1 200 OK\r\n\r\nx").await;
    assert_eq!(f.put("/a", "HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\n\r\nx").await, 204);
    assert!(is_miss(&f.get("/a", "").await));
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_stored() {
    let f = Fixture::new(Limits::default());
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\n\r\n";
    let broken =
        [Ok(Bytes::from(head.to_owned() + &"x".repeat(100_000))), Err(std::io::Error::other("gone"))];
    let body = skep_wire::stream(futures_util::stream::iter(broken));
    assert_eq!(f.call("PUT", "/a", "", body).await.status, 400);
    assert_eq!(f.put("/a", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").await, 400);
    assert_eq!(f.put("/a", "no response at all").await, 400);
    assert!(is_miss(&f.get("/a", "").await));
    assert_eq!(f.files(), 0);
}

#[tokio::test]
async fn a_large_body_outlives_its_purge_for_whoever_reads_it() {
    let f = Fixture::new(Limits::default());
    f.put("/a", &format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1_000_000))).await;
    let part = f.get("/a", "range: bytes=999990-").await;
    assert_eq!(&part.body[..], b"xxxxxxxxxx");
    let open = http::Request::get("/a").header("host", "ex.com").body(empty()).unwrap();
    let open = f.cache.call(open).await;
    assert_eq!(f.call("PURGE", "/a", "", empty()).await.status, 200);
    assert_eq!(f.files(), 0);
    assert_eq!(read_all(open.into_body(), usize::MAX).await.unwrap().len(), 1_000_000);
}

#[tokio::test]
async fn the_least_recently_used_make_room() {
    let f = Fixture::new(Limits { object: 50_000, total: 100_000, ..Limits::default() });
    let body = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(30_000));
    for path in ["/a", "/b", "/c"] {
        f.put(path, &body).await;
        f.time.advance_ms(61_000);
    }
    assert_eq!(f.get("/a", "").await.status, 200);
    f.time.advance_ms(1000);
    f.put("/d", &body).await;
    assert!(f.cache.usage().unwrap() <= 100_000);
    assert!(is_miss(&f.get("/b", "").await));
    for path in ["/a", "/d"] {
        assert_eq!(f.get(path, "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_upkeep_removes_what_is_stale() {
    let dir = tempfile::tempdir().unwrap();
    let time = ManualClock::at(NOW * 1000);
    let (_trigger, shutdown) = Shutdown::new();
    let jobs = Jobs::new(Clock::system(), shutdown);
    let store = CacheStore::open(dir.path(), time.clock(), &jobs).unwrap();
    let cache = store.worker("../w").unwrap();
    let body = full(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(100_000)));
    assert_eq!(cache.call(http::Request::put("/a").body(body).unwrap()).await.status(), 204);
    time.advance_ms(2 * 3600 * 1000);
    // Only the wait for the job is skipped: under a paused clock its work, on threads of its own, would take "for ever".
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let state = || jobs.list()["cache: remove stale entries"].clone();
    while state().runs == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(state().last_result, Ok("1 removed".to_owned()));
    assert_eq!(cache.usage().unwrap(), 0);
    let folder = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap();
    assert_eq!(files(&folder.path().join("blobs")), 0);
}

#[tokio::test]
async fn workers_have_room_together_and_what_was_used_longest_ago_goes() {
    const TOTAL: u64 = 8 << 20;
    let dir = tempfile::tempdir().unwrap();
    let time = ManualClock::at(NOW * 1000);
    let (_trigger, shutdown) = Shutdown::new();
    let jobs = Jobs::new(time.clock(), shutdown);
    let limits = Limits { store: TOTAL, ..Limits::default() };
    let open = || CacheStore::open_with(dir.path(), time.clock(), &jobs, limits).unwrap();
    let put = async |cache: &dyn Service, key: usize, size: usize| {
        // What is used is not noted for a minute.
        time.advance_ms(120_000);
        let body =
            full(format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=99999999\r\n\r\n{}", "x".repeat(size)));
        let request = http::Request::put(format!("/{key}")).header("host", "ex.com").body(body).unwrap();
        assert_eq!(cache.call(request).await.status(), 204);
    };
    let has = async |cache: &dyn Service, key: usize| {
        let request = http::Request::get(format!("/{key}")).header("host", "ex.com").body(empty()).unwrap();
        cache.call(request).await.status() == 200
    };
    let on_disk = || super::store::size_of(dir.path());

    let store = open();
    let [old, other] = ["old", "other"].map(|id| store.later(id));
    for key in 0..40 {
        put(&old, key, 60_000).await;
        put(&other, key, 80_000).await;
    }
    assert!(has(&old, 0).await && has(&other, 0).await, "5.6 MB are less than there is room for");
    // Only this one is used again.
    time.advance_ms(120_000);
    assert!(has(&other, 0).await);
    drop((old, other, store));

    // What was cached before, by workers who do not come any more, goes first, and its room in their files with it.
    let store = open();
    let third = store.later("third");
    store.look().unwrap();
    for key in 0..300 {
        put(&third, key, 60_000).await;
        let disk = on_disk();
        assert!(disk < TOTAL + (12 << 20), "{disk} bytes after {key}");
    }
    assert!(has(&third, 299).await && has(&third, 200).await && !has(&third, 0).await);
    let [old, other] = ["old", "other"].map(|id| store.later(id));
    assert!(!has(&old, 39).await && !has(&other, 39).await);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_request_makes_it_panic(
        method in "GET|PUT|PURGE|POST",
        headers in proptest::collection::vec(
            ("range|if-none-match|if-range|if-modified-since|x-skep-cf|cf-cache-namespace", "[ -~]{0,20}"), 0..4),
        head in "(HTTP/1.1 [0-9]{3} ?[a-z]{0,3}\r\n)?((cache-control|age|expires|etag|content-length): [ -~]{0,20}\r\n){0,3}(\r\n)?",
        body in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let f = Fixture::new(Limits::default());
            f.put("/", "HTTP/1.1 200 OK\r\nETag: \"a\"\r\n\r\n0123456789").await;
            let mut request = http::Request::builder().method(method.as_str()).uri("/").header("host", "ex.com");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let body = [head.into_bytes(), body].concat();
            let answer = f.send(request.body(full(body)).unwrap()).await;
            assert!(answer.status != 500);
            f.get("/", "").await;
        });
    }
}

#[tokio::test]
async fn caches_are_opened_by_the_first_call() {
    let dir = tempfile::tempdir().unwrap();
    let time = ManualClock::at(NOW * 1000);
    let (_trigger, shutdown) = Shutdown::new();
    let jobs = Jobs::new(time.clock(), shutdown);
    let store = CacheStore::open(dir.path(), time.clock(), &jobs).unwrap();
    let later = store.later("worker");
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files(), 0);
    for _ in 0..2 {
        let request = http::Request::get("/x").header("host", "ex.com").body(empty()).unwrap();
        assert_eq!(later.call(request).await.headers()["cf-cache-status"], "MISS");
    }
    assert_eq!(files(), 1);
    drop(later);

    // Where it cannot be opened, that is the answer, as of an operation that fails.
    std::fs::write(dir.path().join("other"), "a file in the way").unwrap();
    let request =
        http::Request::put("/x").header("host", "ex.com").body(full("HTTP/1.1 200 OK\r\n\r\n")).unwrap();
    assert_eq!(store.later("other").call(request).await.status(), 500);
}
