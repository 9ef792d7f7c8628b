//! What is past a limit, cut short or no request at all.

use super::*;
use proptest::prelude::*;

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
        let bucket =
            Bucket::open(dir.path(), "b", Default::default(), Clock::system(), Default::default()).unwrap();
        (dir, bucket)
    });
    bucket
}
