//! The bucket as the engine calls it: bytes in, bytes out.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use proptest::prelude::*;
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

#[tokio::test]
async fn what_was_put_comes_back_with_its_metadata_small_and_large() {
    let f = fixture();
    for len in [0, 11, 16 * 1024, 16 * 1024 + 1, 3 * MIB + 5] {
        let content = bytes_of(len);
        let put = json!({"method": "put", "object": "dir/ké y", "storageClass": "InfrequentAccess",
            "customFields": [{"k": "a", "v": "ü"}],
            "httpFields": {"contentType": "text/plain", "cacheExpiry": "1900000000000"}});
        let head = f.write(put, &content).await.unwrap();
        let (object, body) = f.read(json!({"method": "get", "object": "dir/ké y"})).await.unwrap();
        assert_eq!(body, content);
        assert_eq!(object["range"], json!({"offset": 0, "length": len}));
        assert_eq!(
            object["httpFields"],
            json!({"contentType": "text/plain", "cacheExpiry": 1900000000000i64})
        );
        assert_eq!(object["customFields"], json!([{"k": "a", "v": "ü"}]));
        assert_eq!(object["storageClass"], "InfrequentAccess");
        assert_eq!(object["uploaded"], 1_700_000_000_123i64);
        assert_eq!(object["etag"], object["checksums"]["0"]);
        assert_eq!(object["version"], head["version"]);
        let (head_again, none) = f.read(json!({"method": "head", "object": "dir/ké y"})).await.unwrap();
        assert_eq!((head_again, none), (head, vec![]));
    }
    // Only the last, large content still has a file.
    f.files_become(1).await;
    f.write(json!({"method": "delete", "objects": ["dir/ké y", "nothing"]}), b"").await.unwrap();
    assert_eq!(code(f.get("dir/ké y").await), 10007);
    f.files_become(0).await;
}

#[tokio::test]
async fn ranges_read_parts_of_small_large_and_encrypted_objects() {
    let f = fixture();
    for (len, ssec) in [(100, false), (100, true), (400_000, false), (400_000, true), (131_072, true)] {
        let content = bytes_of(len);
        let key = if ssec { json!({"key": KEY}) } else { Value::Null };
        let mut put = json!({"method": "put", "object": "k"});
        if ssec {
            put["ssec"] = key.clone();
        }
        f.write(put, &content).await.unwrap();
        let (n, third) = (len as i64, len / 3);
        for (range, from, to) in [
            (json!({"offset": "2", "length": "3"}), 2, 5),
            (json!({"offset": third.to_string()}), third, len),
            (json!({"suffix": "4"}), len - 4, len),
            (json!({"offset": (n - 1).to_string(), "length": "999"}), len - 1, len),
        ] {
            let mut get = json!({"method": "get", "object": "k", "range": range});
            if ssec {
                get["ssec"] = key.clone();
            }
            let (object, body) = f.read(get).await.unwrap();
            assert_eq!(body, &content[from..to], "{len} {ssec} {range}");
            assert_eq!(object["range"], json!({"offset": from, "length": to - from}));
        }
    }
    let outside =
        json!({"method": "get", "object": "k", "ssec": {"key": KEY}, "range": {"offset": "9999999"}});
    assert_eq!(code(f.read(outside).await), 10039);
}

#[tokio::test]
async fn an_encrypted_object_opens_with_its_key_only_and_is_not_readable_on_disk() {
    let f = fixture();
    let secret = b"the quick brown fox ".repeat(5000);
    for content in [&secret[..100], &secret] {
        let put = json!({"method": "put", "object": "s", "ssec": {"key": KEY}});
        let head = f.write(put, content).await.unwrap();
        assert_eq!(head["ssec"]["algorithm"], "AES256");
        assert_eq!(head["ssec"]["keyMd5"], crate::SsecKey::from_hex(KEY).unwrap().md5());
        assert_eq!(code(f.get("s").await), 10029);
        let wrong = json!({"method": "get", "object": "s", "ssec": {"key": OTHER}});
        assert_eq!(code(f.read(wrong).await), 10003);
        let short = json!({"method": "get", "object": "s", "ssec": {"key": "ab"}});
        assert_eq!(code(f.read(short).await), 10029);
        let right = json!({"method": "get", "object": "s", "ssec": {"key": KEY}});
        assert_eq!(f.read(right).await.unwrap().1, content);
        assert!(f.read(json!({"method": "head", "object": "s"})).await.is_ok());
    }
    let key: Vec<u8> = hex::decode(KEY).unwrap();
    let mut folders = vec![f.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let stored = std::fs::read(&path).unwrap();
            assert!(!stored.windows(9).any(|w| w == b"brown fox"), "{path:?}");
            assert!(!stored.windows(32).any(|w| w == key), "{path:?}");
        }
    }
}

#[tokio::test]
async fn conditions_guard_writes_and_reads() {
    let f = fixture();
    let create =
        json!({"method": "put", "object": "k", "onlyIf": {"etagDoesNotMatch": [{"type": "wildcard"}]}});
    let etag = f.write(create.clone(), b"one").await.unwrap()["etag"].clone();
    assert_eq!(code(f.write(create, &bytes_of(MIB)).await), 10031);
    assert_eq!(f.get("k").await.unwrap(), b"one");
    f.files_become(0).await;

    let swap = json!({"method": "put", "object": "k",
        "onlyIf": {"etagMatches": [{"type": "strong", "value": etag}]}});
    f.write(swap.clone(), b"two").await.unwrap();
    assert_eq!(code(f.write(swap, b"three").await), 10031);

    let get = json!({"method": "get", "object": "k", "onlyIf": {"uploadedAfter": "1800000000000"}});
    let request = http::Request::get("/").header("CF-R2-Request", {
        let mut get = get;
        get["version"] = 1.into();
        get.to_string()
    });
    let response = f.bucket.call(request.body(full("")).unwrap()).await;
    assert_eq!(response.status(), StatusCode::PRECONDITION_FAILED);
    assert!(response.headers().contains_key("cf-r2-metadata-size"));
    let (error, head) = answer(response).await;
    assert_eq!(error.unwrap().0, 10031);
    assert_eq!(serde_json::from_slice::<Value>(&head).unwrap()["name"], "k");
}

#[tokio::test]
async fn of_many_that_create_at_once_one_wins() {
    let f = fixture();
    let create =
        json!({"method": "put", "object": "k", "onlyIf": {"etagDoesNotMatch": [{"type": "wildcard"}]}});
    let tries = (0..20).map(|n| f.write(create.clone(), format!("{n}").repeat(20_000).leak().as_bytes()));
    let outcomes = futures_util::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    f.files_become(1).await;
}

#[tokio::test]
async fn a_checksum_that_does_not_match_stores_nothing() {
    let f = fixture();
    let bad = json!({"method": "put", "object": "k", "md5": "/////////////////////w=="});
    let (code, message) = f.write(bad, &bytes_of(MIB)).await.unwrap_err();
    assert_eq!(code, 10037);
    assert!(
        message.starts_with("The MD5 checksum you specified did not match what we received.\nYou provided")
    );
    assert!(f.get("k").await.is_err());
    assert_eq!(f.files(), 0);
    let sha1 = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d";
    let good = json!({"method": "put", "object": "k", "sha1": sha1.to_uppercase()});
    let head = f.write(good, b"hello").await.unwrap();
    assert_eq!(head["checksums"], json!({"0": "5d41402abc4b2a76b9719d911017c592", "1": sha1}));
}

async fn upload(f: &Fixture, ssec: bool) -> String {
    let mut create =
        json!({"method": "createMultipartUpload", "object": "m", "customFields": [{"k": "q", "v": "1"}]});
    if ssec {
        create["ssec"] = json!({"key": KEY});
    }
    f.write(create, b"").await.unwrap()["uploadId"].as_str().unwrap().to_owned()
}

async fn part(
    f: &Fixture,
    id: &str,
    number: u32,
    content: &[u8],
    ssec: bool,
) -> Result<Value, (u64, String)> {
    let mut call = json!({"method": "uploadPart", "object": "m", "uploadId": id, "partNumber": number});
    if ssec {
        call["ssec"] = json!({"key": KEY});
    }
    let etag = f.write(call, content).await?["etag"].clone();
    Ok(json!({"etag": etag, "part": number}))
}

async fn complete(f: &Fixture, id: &str, parts: &[Value]) -> Result<Value, (u64, String)> {
    f.write(json!({"method": "completeMultipartUpload", "object": "m", "uploadId": id, "parts": parts}), b"")
        .await
}

#[tokio::test]
async fn parts_become_one_object_that_ranges_stitch() {
    let f = fixture();
    for ssec in [false, true] {
        let id = upload(&f, ssec).await;
        let (one, two, tail) = (vec![1; 5 * MIB], vec![2; 5 * MIB], vec![3; 10]);
        let p3 = part(&f, &id, 9, &tail, ssec).await.unwrap();
        let _old = part(&f, &id, 1, b"replaced", ssec).await.unwrap();
        let p1 = part(&f, &id, 1, &one, ssec).await.unwrap();
        let p2 = part(&f, &id, 2, &two, ssec).await.unwrap();
        part(&f, &id, 4, &one, ssec).await.unwrap();
        let object = complete(&f, &id, &[p1.clone(), p2.clone(), p3]).await.unwrap();
        assert!(object["etag"].as_str().unwrap().ends_with("-3"));
        assert!(object.get("checksums").is_none());
        assert_eq!(object["customFields"], json!([{"k": "q", "v": "1"}]));
        let mut get = json!({"method": "get", "object": "m", "range": {"offset": (5 * MIB - 2).to_string()}});
        if ssec {
            get["ssec"] = json!({"key": KEY});
        }
        let all = [&one[5 * MIB - 2..], &two, &tail].concat();
        assert!(f.read(get).await.unwrap().1 == all);
        assert_eq!(code(part(&f, &id, 5, b"late", ssec).await), 10024);
        assert_eq!(code(complete(&f, &id, &[p1, p2]).await), 10024);
        f.write(json!({"method": "abortMultipartUpload", "object": "m", "uploadId": id}), b"").await.unwrap();
        f.files_become(2).await;
    }
    f.write(json!({"method": "delete", "object": "m"}), b"").await.unwrap();
    f.files_become(0).await;
}

#[tokio::test]
async fn an_upload_is_refused_for_what_is_wrong_with_it() {
    let f = fixture();
    let id = upload(&f, false).await;
    let small = part(&f, &id, 1, b"small", false).await.unwrap();
    let large = part(&f, &id, 2, &bytes_of(5 * MIB), false).await.unwrap();
    let larger = part(&f, &id, 3, &bytes_of(5 * MIB + 1), false).await.unwrap();
    assert_eq!(code(complete(&f, &id, &[small.clone(), large.clone()]).await), 10011);
    assert_eq!(code(complete(&f, &id, &[large.clone(), small.clone()]).await), 10048);
    assert_eq!(code(complete(&f, &id, &[large.clone(), larger]).await), 10048);
    assert_eq!(code(complete(&f, &id, &[small.clone(), small.clone()]).await), 10001);
    assert_eq!(code(complete(&f, &id, &[json!({"etag": "x", "part": 1})]).await), 10025);
    assert_eq!(code(complete(&f, "nothing", &[small]).await), 10001);
    assert_eq!(code(part(&f, "nothing", 1, b"", false).await), 10024);
    assert_eq!(code(part(&f, &id, 10_001, b"", false).await), 10029);
    assert_eq!(code(part(&f, &id, 1, b"", true).await), 10029);
    assert_eq!(code(f.get("m").await), 10007);
    f.write(json!({"method": "abortMultipartUpload", "object": "m", "uploadId": id}), b"").await.unwrap();
    assert_eq!(code(part(&f, &id, 1, b"", false).await), 10024);
    f.files_become(0).await;
}

#[tokio::test]
async fn uploads_expire_after_seven_days_and_completed_objects_stay() {
    let f = fixture();
    let done = upload(&f, false).await;
    let only = part(&f, &done, 1, &bytes_of(MIB), false).await.unwrap();
    complete(&f, &done, &[only]).await.unwrap();
    let id = upload(&f, false).await;
    part(&f, &id, 1, &bytes_of(MIB), false).await.unwrap();
    assert_eq!(f.bucket.expire_uploads().await.unwrap(), 0);
    f.clock.advance_ms(7 * 24 * 3600 * 1000 + 1);
    assert_eq!(f.bucket.expire_uploads().await.unwrap(), 2);
    assert_eq!(code(part(&f, &id, 2, b"", false).await), 10024);
    f.files_become(1).await;
    assert_eq!(f.get("m").await.unwrap(), bytes_of(MIB));
}

#[tokio::test]
async fn a_reader_of_a_replaced_multipart_object_gets_all_of_the_old_one() {
    let f = fixture();
    let id = upload(&f, false).await;
    let p1 = part(&f, &id, 1, &vec![1; 5 * MIB], false).await.unwrap();
    let p2 = part(&f, &id, 2, &vec![2; 5 * MIB], false).await.unwrap();
    complete(&f, &id, &[p1, p2]).await.unwrap();
    let get = json!({"version": 1, "method": "get", "object": "m"}).to_string();
    let request = http::Request::get("/").header("CF-R2-Request", get).body(full("")).unwrap();
    let response = f.bucket.call(request).await;
    f.put("m", b"new").await;
    assert_eq!(f.get("m").await.unwrap(), b"new");
    let (_, body) = answer(response).await;
    assert!(body.ends_with(&[2; 100]) && body.len() > 10 * MIB);
    f.files_become(0).await;
}

#[tokio::test]
async fn lists_go_on_by_cursor_and_count_groups_as_one() {
    let f = fixture();
    for key in ["a/1", "a/2", "a/3/x", "b", "c/1", "c/2", "d", "é/1"] {
        f.put(key, b"x").await;
    }
    let list = async |options: Value| {
        let mut call = options;
        call["method"] = "list".into();
        let (page, _) = f.read(call).await?;
        let keys: Vec<String> =
            page["objects"].as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap().into()).collect();
        let groups: Vec<String> = serde_json::from_value(page["delimitedPrefixes"].clone()).unwrap();
        Ok::<_, (u64, String)>((keys, groups, page["cursor"].as_str().map(str::to_owned)))
    };
    for limit in 1..9 {
        let (mut keys, mut groups, mut cursor) = (vec![], vec![], None);
        loop {
            let mut call = json!({"limit": limit, "delimiter": "/", "newRuntime": true});
            if let Some(cursor) = cursor {
                call["cursor"] = Value::String(cursor);
            }
            let (k, g, next) = list(call).await.unwrap();
            assert!(k.len() + g.len() <= limit);
            keys.extend(k);
            groups.extend(g);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(
            (keys, groups),
            (vec!["b".into(), "d".into()], vec!["a/".into(), "c/".into(), "é/".into()])
        );
    }
    let (keys, groups, _) =
        list(json!({"prefix": "a/", "delimiter": "/", "startAfter": "a/1"})).await.unwrap();
    assert_eq!((keys, groups), (vec!["a/2".into()], vec!["a/3/".into()]));
    assert_eq!(code(list(json!({"limit": 0})).await), 10022);
    assert_eq!(code(list(json!({"limit": 1001})).await), 10022);
    assert_eq!(code(list(json!({"cursor": "*"})).await), 10029);
}

#[tokio::test]
async fn a_list_has_the_metadata_that_it_was_asked_for_and_stays_under_a_mebibyte() {
    let f = fixture();
    let field = json!([{"k": "m", "v": "\u{1}".repeat(8000)}]);
    for n in 0..40 {
        let put = json!({"method": "put", "object": format!("{n:03}"), "customFields": field, "httpFields": {"contentType": "a/b"}});
        f.write(put, b"").await.unwrap();
    }
    let (page, _) = f.read(json!({"method": "list", "include": [1], "newRuntime": true})).await.unwrap();
    assert!(page.to_string().len() < MIB);
    assert_eq!(page["truncated"], true);
    assert_eq!(page["objects"][0]["customFields"], field);
    assert!(page["objects"][0].get("httpFields").is_none());
    let (page, _) = f.read(json!({"method": "list", "newRuntime": true})).await.unwrap();
    assert!(page["objects"][0].get("customFields").is_none());
}

#[tokio::test]
async fn objects_survive_a_restart_and_orphans_do_not() {
    let f = fixture();
    f.put("large", &bytes_of(MIB)).await;
    f.bucket.core.blobs.create(skep_store::BlobId::random()).unwrap().finish().unwrap();
    assert_eq!(f.files(), 2);
    let Fixture { dir, clock, bucket } = f;
    drop(bucket);
    let bucket = open(&dir, clock.clock());
    let f = Fixture { dir, clock, bucket };
    assert_eq!(f.get("large").await.unwrap(), bytes_of(MIB));
    assert_eq!(f.files(), 1);
}

#[tokio::test]
async fn what_is_past_a_limit_or_cut_short_is_refused_and_not_stored() {
    let f = fixture();
    assert_eq!(code(f.write(json!({"method": "put", "object": "k".repeat(1025)}), b"x").await), 10020);
    let wide = json!({"method": "put", "object": "k", "customFields": [{"k": "a", "v": "x".repeat(8192)}]});
    assert_eq!(code(f.write(wide, b"x").await), 10012);
    assert_eq!(
        code(f.write(json!({"method": "put", "object": "k", "storageClass": "Cold"}), b"x").await),
        10029
    );
    let keys: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
    assert_eq!(code(f.write(json!({"method": "delete", "objects": keys}), b"").await), 10029);
    let put = json!({"version": 1, "method": "put", "object": "k"}).to_string();
    for (size, length, expected) in [
        (put.len(), put.len() + 9, 10013),
        (put.len(), put.len() + 5_363_466_241, 100_100),
        (put.len() + 1, put.len(), 10029),
        (9 << 20, 10 << 20, 10029),
    ] {
        let request = Request::put_(size, length, full(format!("{put}short")));
        let (error, _) = answer(f.bucket.call(request).await).await;
        assert_eq!(error.unwrap().0, expected);
    }
    assert_eq!(code(f.get("k").await), 10007);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn hostile_bytes_are_answered_with_an_error(
        json in proptest::collection::vec(any::<u8>(), 0..80),
        method in "head|get|list|put|delete|uploadPart|x",
        field in "object|range|limit|onlyIf|md5|parts|ssec|include",
        value in "[\\[\\]{}\"0-9a-z:,-]{0,12}",
        size in "[0-9]{0,25}|-1|.{0,3}",
    ) {
        let _ = crate::request::parse(&json);
        let _ = crate::request::parse(format!("{{\"version\":1,\"method\":\"{method}\",\"{field}\":{value}}}").as_bytes());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let f = hostile();
            let mut put = http::Request::put("/").body(full(json.clone())).unwrap();
            if let Ok(value) = http::HeaderValue::from_bytes(size.as_bytes()) {
                put.headers_mut().insert("cf-r2-metadata-size", value);
            }
            assert_ne!(f.call(put).await.status(), StatusCode::OK);
            if let Ok(value) = http::HeaderValue::from_bytes(&json) {
                let mut get = http::Request::get("/").body(full("")).unwrap();
                get.headers_mut().insert("cf-r2-request", value);
                assert_ne!(f.call(get).await.status(), StatusCode::OK);
            }
        });
    }
}

/// One bucket for all cases: opening one costs several flushes.
fn hostile() -> &'static Bucket {
    static BUCKET: std::sync::OnceLock<(tempfile::TempDir, Bucket)> = std::sync::OnceLock::new();
    let (_, bucket) = BUCKET.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let bucket = Bucket::open(dir.path(), Clock::system()).unwrap();
        (dir, bucket)
    });
    bucket
}

#[tokio::test]
async fn a_list_jumps_over_the_keys_of_a_group() {
    let f = fixture();
    f.put("template", b"").await;
    let fill = |t: &rusqlite::Transaction<'_>| {
        let object = crate::rows::head(t, "template")?.unwrap();
        for n in 0..30_000 {
            let object = crate::Object { name: format!("g{:02}/{n:05}", n / 3000), ..object.clone() };
            let content = crate::rows::Content::One(crate::rows::Place::Inline(Bytes::new()));
            crate::rows::insert(t, &object, &content)?;
        }
        Ok(())
    };
    f.bucket.core.db.write(fill).await.unwrap();
    let timed = |delimiter: Option<&str>| {
        let options = crate::ListOptions { delimiter: delimiter.map(str::to_owned), ..Default::default() };
        let started = std::time::Instant::now();
        (f.bucket.list(&options).unwrap(), started.elapsed())
    };
    let (thousand, whole) = timed(None);
    assert_eq!(thousand.objects.len(), 1000);
    let best = (0..5).map(|_| timed(Some("/"))).min_by_key(|(_, time)| *time).unwrap();
    let (groups, grouped) = best;
    assert_eq!((groups.objects.len(), groups.delimited_prefixes.len(), groups.truncated), (1, 10, false));
    // Eleven seeks against a thousand rows; walking the groups would be thirty times those rows.
    assert!(grouped < whole, "{grouped:?} against {whole:?}");
}
