//! Objects: written, read, encrypted, guarded by conditions.

use super::*;

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
