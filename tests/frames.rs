//! What arrives on a cell's socket is hostile: whatever is sent, a binding answers, and nothing breaks.
//!
//! `tests/corpus` has, for each binding, what the engine sends for the calls of the project `frames`, recorded by
//! `record_frames`. The tests replay it as it is, and with parts changed, cut out, doubled and mixed;
//! `PROPTEST_CASES` says how often.

mod mutate;
mod record;
mod socket;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use proptest::prelude::*;
use skep_analytics::AnalyticsStore;
use skep_assets::{Assets, AssetsBinding, AssetsConfig};
use skep_cache::CacheStore;
use skep_d1::D1Store;
use skep_kv::KvStore;
use skep_queues::Queues;
use skep_r2::R2Store;
use skep_ratelimit::{Limits, RateLimiter};
use skep_runtime::{Clock, Jobs, Shutdown, ShutdownTrigger};
use skep_vectorize::{Local, VectorizeStore};
use skep_wire::{Request, Service, read_all};

use crate::harness::{project, repository};
use mutate::{Mutation, mutation};

const BINDINGS: [&str; 9] =
    ["kv", "r2", "d1", "queue", "ratelimit", "analytics", "vectorize", "cache", "assets"];

fn corpus(binding: &str) -> PathBuf {
    repository().join("tests/corpus").join(binding)
}

/// The recorded requests in their order.
fn recorded(binding: &str) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(corpus(binding)).unwrap().map(|entry| entry.unwrap().path());
    let sorted: BTreeMap<PathBuf, Vec<u8>> =
        files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    sorted.into_values().collect()
}

/// Every binding's server, with nothing in it.
struct Servers {
    runtime: tokio::runtime::Runtime,
    services: BTreeMap<&'static str, Arc<dyn Service>>,
    shutdown: Shutdown,
    _trigger: ShutdownTrigger,
    _state: tempfile::TempDir,
}

impl Servers {
    fn open() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let state = tempfile::tempdir().unwrap();
        let (trigger, shutdown) = Shutdown::new();
        let services = {
            let _inside = runtime.enter();
            services(state.path(), shutdown.clone())
        };
        Self { runtime, services, shutdown, _trigger: trigger, _state: state }
    }

    /// Sends a request and reads the answer to its end.
    fn send(&self, binding: &str, request: Request) -> (StatusCode, Bytes) {
        self.runtime.block_on(async {
            let (head, body) = self.services[binding].call(request).await.into_parts();
            (head.status, read_all(body, 64 << 20).await.unwrap_or_default())
        })
    }

    /// Sends all that was recorded; returns it with the statuses. An upload has another name each time.
    fn replay(&self, binding: &str) -> Vec<(Vec<u8>, StatusCode)> {
        let mut upload: Option<String> = None;
        let mut replayed = Vec::new();
        for mut frame in recorded(binding) {
            if let Some(upload) = &upload {
                rename_upload(&mut frame, upload);
            }
            let (status, body) = self.send(binding, request(&frame).unwrap());
            let answer = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
            if let Some(id) = answer["uploadId"].as_str() {
                upload = Some(id.to_owned());
            }
            replayed.push((frame, status));
        }
        replayed
    }
}

fn rename_upload(frame: &mut [u8], name: &str) {
    let field = b"\"uploadId\":\"";
    if let Some(at) = frame.windows(field.len()).position(|window| window == field) {
        let old = frame[at + field.len()..].iter_mut().take_while(|byte| **byte != b'"');
        old.zip(name.bytes()).for_each(|(old, new)| *old = new);
    }
}

fn services(state: &Path, shutdown: Shutdown) -> BTreeMap<&'static str, Arc<dyn Service>> {
    let clock = Clock::system();
    let jobs = Jobs::new(clock.clone(), shutdown.clone());
    let dir = |name: &str| state.join(name);
    let kv = KvStore::open(&dir("kv"), clock.clone(), &jobs).unwrap();
    let r2 = R2Store::open(&dir("r2"), clock.clone(), &jobs).unwrap();
    let queues = Queues::open(&dir("queues"), clock.clone(), &jobs, shutdown).unwrap();
    let cache = CacheStore::open(&dir("cache"), clock.clone(), &jobs).unwrap();
    let vectorize = VectorizeStore::open(&dir("vectorize"), clock.clone()).unwrap();
    let limits = Limits::simple(100, 60.0).unwrap();
    let (assets, _) = Assets::open(project("frames").join("public"), AssetsConfig::default()).unwrap();
    BTreeMap::from([
        ("kv", kv.namespace("kv").unwrap() as Arc<dyn Service>),
        ("r2", r2.bucket("r2").unwrap()),
        ("d1", D1Store::open(&dir("d1")).unwrap().database("d1").unwrap()),
        ("queue", queues.producer("queue", None)),
        ("ratelimit", RateLimiter::new(clock, &jobs).namespace("1", limits)),
        ("analytics", AnalyticsStore::open(&dir("analytics")).unwrap().dataset("points")),
        ("vectorize", vectorize.binding("index", Some(Local::default()))),
        ("cache", cache.worker("cache").unwrap()),
        ("assets", Arc::new(AssetsBinding(assets))),
    ])
}

/// A request from its bytes, as the server of a cell's socket reads it; `None` if that would refuse it.
fn request(frame: &[u8]) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let length = head.parse(frame).ok().filter(httparse::Status::is_complete)?.unwrap();
    let mut request = http::Request::builder().method(head.method?).uri(head.path?);
    for header in head.headers {
        request = request.header(header.name, header.value);
    }
    // In pieces, as from a socket.
    let pieces: Vec<_> = frame[length..].chunks(100).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    request.body(skep_wire::stream(stream::iter::<Vec<std::io::Result<Bytes>>>(pieces))).ok()
}

#[test]
fn what_the_engine_sends_is_answered() {
    let servers = Servers::open();
    for binding in BINDINGS {
        assert_good(binding, &servers.replay(binding));
    }
}

/// Panics of the product since the first call, also those that are caught in its own threads.
fn panics() -> Vec<String> {
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            if !place.contains("tests/") {
                SEEN.lock().unwrap().push(panic.to_string());
            }
            before(panic);
        }));
    });
    SEEN.lock().unwrap().clone()
}

fn withstands(binding: &str) {
    assert!(panics().is_empty());
    let servers = Servers::open();
    let frames = servers.replay(binding).into_iter().map(|(frame, _)| frame).collect::<Vec<_>>();
    // What breaks one is put into the corpus by hand: a failure prints it.
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let hostile = (any::<prop::sample::Index>(), prop::collection::vec(mutation(), 1..5));
    proptest!(config, |((which, mutations) in hostile)| {
        let mut frame = which.get(&frames).clone();
        mutations.iter().for_each(|mutation: &Mutation| mutation.apply(&mut frame, &frames));
        if let Some(request) = request(&frame) {
            servers.send(binding, request);
            prop_assert_eq!(panics(), Vec::<String>::new(), "{}", frame.escape_ascii());
        }
    });
    // It still stands.
    assert_good(binding, &servers.replay(binding));
}

/// Most of what was recorded is done; the rest is refused as an application meant it to be.
fn assert_good(binding: &str, replayed: &[(Vec<u8>, StatusCode)]) {
    let statuses: Vec<u16> = replayed.iter().map(|(_, status)| status.as_u16()).collect();
    let good = statuses.iter().filter(|status| (200..400).contains(*status)).count();
    assert!(good * 3 > statuses.len() * 2, "{binding}: {statuses:?}");
    assert!(statuses.iter().all(|status| *status < 500 || *status == 504), "{binding}: {statuses:?}");
}

macro_rules! withstands {
    ($($name:ident $binding:literal)*) => {
        $(#[test]
        fn $name() {
            withstands($binding);
        })*
    };
}

withstands! {
    kv_withstands_hostile_requests "kv"
    r2_withstands_hostile_requests "r2"
    d1_withstands_hostile_requests "d1"
    a_queue_withstands_hostile_requests "queue"
    a_rate_limit_withstands_hostile_requests "ratelimit"
    analytics_withstand_hostile_requests "analytics"
    vectorize_withstands_hostile_requests "vectorize"
    a_cache_withstands_hostile_requests "cache"
    assets_withstand_hostile_requests "assets"
}
