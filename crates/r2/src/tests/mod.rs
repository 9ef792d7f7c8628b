//! The bucket as the engine calls it: bytes in, bytes out.

mod hostile;
mod lists;
mod multipart;
mod objects;
mod rules;

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use skep_runtime::{Clock, Jobs, ManualClock, Shutdown};
use skep_wire::{Request, Response, Service, full, read_all, stream};

use crate::{Bucket, R2Store};

const KEY: &str = "abababababababababababababababababababababababababababababababab";
const OTHER: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";
const MIB: usize = 1 << 20;

struct Fixture {
    dir: tempfile::TempDir,
    clock: ManualClock,
    bucket: Arc<Bucket>,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_700_000_000_123);
    let bucket = open(&dir, clock.clock());
    Fixture { dir, clock, bucket }
}

fn open(dir: &tempfile::TempDir, clock: Clock) -> Arc<Bucket> {
    let (_trigger, shutdown) = Shutdown::new();
    let store = R2Store::open(dir.path(), clock.clone(), &Jobs::new(clock, shutdown)).unwrap();
    let bucket = store.bucket("b/../x").unwrap();
    assert!(Arc::ptr_eq(&bucket, &store.bucket("b/../x").unwrap()));
    bucket
}

fn bytes_of(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

impl Fixture {
    async fn write(&self, mut call: Value, content: &[u8]) -> Result<Value, (u64, String)> {
        call["version"] = 1.into();
        let json = call.to_string();
        let all = [json.as_bytes(), content].concat();
        let length = all.len();
        // In pieces that do not fall on the frame's border.
        let pieces: Vec<_> =
            all.chunks(70_001).map(|c| Ok::<_, std::io::Error>(Bytes::copy_from_slice(c))).collect();
        let request = Request::put_(json.len(), length, stream(futures_util::stream::iter(pieces)));
        let (error, body) = answer(self.bucket.call(request).await).await;
        match error {
            Some(error) => Err(error),
            None if body.is_empty() => Ok(Value::Null),
            None => Ok(serde_json::from_slice(&body).unwrap()),
        }
    }

    async fn read(&self, mut call: Value) -> Result<(Value, Vec<u8>), (u64, String)> {
        call["version"] = 1.into();
        let request =
            http::Request::get("/").header("CF-R2-Request", call.to_string()).body(full("")).unwrap();
        let response = self.bucket.call(request).await;
        let size =
            response.headers().get("cf-r2-metadata-size").map(|v| v.to_str().unwrap().parse().unwrap());
        match answer(response).await {
            (Some(error), _) => Err(error),
            (None, mut body) => {
                let content = body.split_off(size.unwrap());
                Ok((serde_json::from_slice(&body).unwrap(), content))
            }
        }
    }

    async fn put(&self, key: &str, content: &[u8]) -> Value {
        self.write(json!({"method": "put", "object": key}), content).await.unwrap()
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, (u64, String)> {
        Ok(self.read(json!({"method": "get", "object": key})).await?.1)
    }

    fn files(&self) -> usize {
        let mut count = 0;
        let root = self.dir.path().join(skep_store::folder_name("b/../x")).join("blobs");
        for folder in std::fs::read_dir(root).unwrap() {
            count += std::fs::read_dir(folder.unwrap().path()).unwrap().count();
        }
        count
    }

    async fn files_become(&self, wanted: usize) {
        for _ in 0..200 {
            if self.files() == wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(self.files(), wanted);
    }
}

trait PutRequest {
    fn put_(json: usize, length: usize, body: skep_wire::Body) -> Request;
}

impl PutRequest for Request {
    fn put_(json: usize, length: usize, body: skep_wire::Body) -> Request {
        http::Request::put("/")
            .header("CF-R2-Metadata-Size", json)
            .header("Content-Length", length)
            .body(body)
            .unwrap()
    }
}

async fn answer(response: Response) -> (Option<(u64, String)>, Vec<u8>) {
    let error = response.headers().get("cf-r2-error").map(|value| {
        let error: Value = serde_json::from_slice(value.as_bytes()).unwrap();
        (error["v4code"].as_u64().unwrap(), error["message"].as_str().unwrap().to_owned())
    });
    assert_eq!(error.is_none(), response.status() == StatusCode::OK);
    (error, read_all(response.into_body(), 64 * MIB).await.unwrap().to_vec())
}

fn code<T: std::fmt::Debug>(result: Result<T, (u64, String)>) -> u64 {
    result.unwrap_err().0
}
