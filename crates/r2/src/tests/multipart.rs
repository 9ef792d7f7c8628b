//! Uploads in parts.

use super::*;

pub(super) async fn upload(f: &Fixture, ssec: bool) -> String {
    let mut create =
        json!({"method": "createMultipartUpload", "object": "m", "customFields": [{"k": "q", "v": "1"}]});
    if ssec {
        create["ssec"] = json!({"key": KEY});
    }
    f.write(create, b"").await.unwrap()["uploadId"].as_str().unwrap().to_owned()
}

pub(super) async fn part(
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

pub(super) async fn complete(f: &Fixture, id: &str, parts: &[Value]) -> Result<Value, (u64, String)> {
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
    assert_eq!(f.bucket.sweep().await.unwrap(), 0);
    f.clock.advance_ms(7 * 24 * 3600 * 1000 + 1);
    assert_eq!(f.bucket.sweep().await.unwrap(), 2);
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
