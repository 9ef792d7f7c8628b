//! Whole requests, signed as a client signs them, against a bucket in a folder.

use std::sync::{Arc, Mutex};

use http::request::Parts;
use http::{Method, Request};
use http_body_util::BodyExt;
use proptest::prelude::*;
use skep_r2::{Action, Bucket, Change, Listen, R2Store};
use skep_runtime::{Clock, Jobs, Shutdown};
use skep_wire::{Body, BoxFuture, Response, full};

use crate::claim::{CONTENT_HASH, Claim};
use crate::query::Query;
use crate::sign::{SigningKey, canonical, hash};
use crate::{Account, BucketInfo, Changed, Grant, Place, Room, Scope, answer};

const SECRET: &str = "secret";
const NOW: i64 = 1_369_353_600_000;

struct One {
    bucket: Arc<Bucket>,
    room: Room,
    heard: Arc<Heard>,
    _dir: tempfile::TempDir,
}

/// What happened to objects.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<(Action, String)>>);

impl Listen for Heard {
    fn changed<'a>(&'a self, _: &'a str, changes: Vec<Change>) -> BoxFuture<'a, ()> {
        self.0.lock().unwrap().extend(changes.into_iter().map(|change| (change.action, change.key)));
        Box::pin(async {})
    }
}

impl One {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, (_, shutdown)) = (Clock::system(), Shutdown::new());
        let jobs = Jobs::new(clock.clone(), shutdown);
        let store = R2Store::open(dir.path(), clock, &jobs).unwrap();
        let heard = Arc::<Heard>::default();
        store.listen(heard.clone());
        Self { bucket: store.bucket("own").unwrap(), room: Room::default(), heard, _dir: dir }
    }

    async fn ask(&self, head: Parts, body: Body) -> Response {
        let place = Place { path: head.uri.path(), before: "", bucket: None };
        answer(self, place, &head, body, NOW).await
    }
}

impl Account for One {
    fn id(&self) -> &str {
        "account"
    }

    fn room(&self) -> &Room {
        &self.room
    }

    fn grant(&self, key: &str) -> Result<Option<Grant>, String> {
        let grant = Grant { secret: SECRET.into(), read: Scope::All, write: Scope::All, manage: true };
        Ok((key == "key").then_some(grant))
    }

    fn buckets(&self) -> Result<Vec<BucketInfo>, String> {
        Ok(vec![BucketInfo { name: "own".into(), created_ms: 0, location: None }])
    }

    fn bucket<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Arc<Bucket>>, String>> {
        Box::pin(async move { Ok((name == "own").then(|| self.bucket.clone())) })
    }

    fn create<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> BoxFuture<'a, Result<Changed, String>> {
        Box::pin(async { Ok(Changed::Exists) })
    }

    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Changed, String>> {
        Box::pin(async { Ok(Changed::NotEmpty) })
    }
}

/// A request with its signature.
fn signed(method: Method, uri: &str, headers: &[(String, String)], body: &[u8]) -> Option<Parts> {
    let mut request = Request::builder().method(method).uri(uri).header("host", "h");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let payload = hash(body);
    request = request.header("x-amz-date", "20130524T000000Z").header(CONTENT_HASH, &payload);
    request = request.header("content-length", body.len());
    let mut head = request.body(()).ok()?.into_parts().0;
    let mut names = vec!["host".to_owned(), CONTENT_HASH.to_owned(), "x-amz-date".to_owned()];
    names.extend(head.headers.keys().map(|name| name.as_str().to_owned()).filter(|name| {
        name != CONTENT_HASH
            && name != "x-amz-date"
            && (name.starts_with("x-amz-") || name.starts_with("cf-"))
    }));
    let claim = Claim { headers: names, payload, ..Claim::for_test() };
    let request = canonical(&claim, &head, head.uri.path(), &Query::of(&head.uri));
    let text = format!("AWS4-HMAC-SHA256\n{}\n{}\n{}", claim.at, claim.scope(), hash(request.as_bytes()));
    let signature = SigningKey::of(SECRET, &claim).sign(&text);
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=key/{}, SignedHeaders={}, Signature={signature}",
        claim.scope(),
        claim.headers.join(";")
    );
    head.headers.insert("authorization", authorization.parse().ok()?);
    Some(head)
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        "(if-match|if-none-match|range|content-encoding|expires|content-md5|x-amz-copy-source|x-amz-trailer)",
        "x-amz-(meta-[a-z]{0,3}|storage-class|acl|tagging|metadata-directive|copy-source-range|checksum-crc32)",
        "x-amz-(copy-source-)?server-side-encryption-customer-(algorithm|key|key-md5)",
        "(cf-copy-destination-if-match|cf-max-keys|cf-prefix|x-amz-copy-source-if-none-match)",
    ];
    let value = prop_oneof![
        "(own/|/own/)?[a-z%/]{0,6}",
        "bytes=[0-9]{0,3}-[0-9]{0,3}",
        "(\\*|\"?[0-9a-f]{0,4}\"?|AES256|STANDARD_IA|REPLACE|MERGE|private|AAAA)",
        "[ -~]{0,20}",
    ];
    proptest::collection::vec((name, value), 0..4)
}

fn uri() -> impl Strategy<Value = String> {
    let names = "(list-type=2|prefix=a|delimiter=/|max-keys=[0-9]{1,2}|uploads|uploadId=[a-z]{0,2}|partNumber=-?[0-9]{0,2}|delete|\
                 cors|lifecycle|location|encoding-type=url|marker=a/|continuation-token=[a-zA-Z]{0,4}|[a-z%=]{0,4})";
    let query = proptest::collection::vec(names, 0..3).prop_map(|parts| parts.join("&"));
    ("/((own|none)(/[a-c/%]{0,4})?)?", query).prop_map(|(path, query)| match query.is_empty() {
        true => path,
        false => format!("{path}?{query}"),
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let document = "(<(Delete|CORSConfiguration|LifecycleConfiguration|CompleteMultipartUpload)>)?(<(Object|Rule|Part|Key|ETag|Status)>[a-z1]{0,3}){0,3}";
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..50), document.prop_map(String::into_bytes)]
}

fn method() -> impl Strategy<Value = Method> {
    let all = [
        Method::GET,
        Method::HEAD,
        Method::PUT,
        Method::POST,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ];
    proptest::sample::select(all.to_vec())
}

#[tokio::test]
async fn who_hears_of_changes_is_told_what_they_are() {
    let one = One::new();
    let put = signed(Method::PUT, "/own/a", &[], b"content").unwrap();
    assert_eq!(one.ask(put, full("content")).await.status(), 200);
    let source = ("x-amz-copy-source".to_owned(), "/own/a".to_owned());
    let copy = signed(Method::PUT, "/own/b", &[source], b"").unwrap();
    assert_eq!(one.ask(copy, full("")).await.status(), 200);
    let delete = signed(Method::DELETE, "/own/a", &[], b"").unwrap();
    assert_eq!(one.ask(delete, full("")).await.status(), 204);
    let expected = [(Action::Put, "a"), (Action::Copy, "b"), (Action::Delete, "a")];
    let heard = one.heard.0.lock().unwrap();
    let heard: Vec<_> = heard.iter().map(|(action, key)| (*action, key.as_str())).collect();
    assert_eq!(heard, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn any_request_of_somebody_known_is_answered(
        method in method(), uri in uri(), headers in headers(), body in body(), part in 0_usize..60,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let one = One::new();
            let put = signed(Method::PUT, "/own/a", &[], b"content").unwrap();
            prop_assert_eq!(one.ask(put, full("content")).await.status(), 200);
            let Some(head) = signed(method.clone(), &uri, &headers, &body) else { return Ok(()) };
            // Now and then less comes than was signed.
            let sent = body.get(..part).unwrap_or(&body).to_vec();
            let response = one.ask(head, full(sent)).await;
            let status = response.status();
            prop_assert!(!status.is_server_error() || status == 501, "{} {}: {}", method, uri, status);
            let content = response.into_body().collect().await.unwrap().to_bytes();
            if status.is_client_error() && method != Method::HEAD && method != Method::OPTIONS {
                let root = crate::xml::Element::read(&content);
                prop_assert_eq!(root.map(|root| root.name), Some("Error".to_owned()));
            }
            Ok(())
        })?;
    }

    #[test]
    fn whoever_is_not_known_learns_and_changes_nothing(method in method(), uri in uri(), headers in headers(), authorization in "(AWS4-HMAC-SHA256 )?[ -~]{0,30}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let one = One::new();
            let Some(mut head) = signed(method.clone(), &uri, &headers, b"") else { return Ok(()) };
            head.headers.insert("authorization", authorization.parse().unwrap());
            let status = one.ask(head, full("")).await.status();
            prop_assert!(status.is_client_error() || status == 501, "{} {}: {}", method, uri, status);
            prop_assert!(one.bucket.list(&skep_r2::ListOptions::default()).unwrap().objects.is_empty());
            Ok(())
        })?;
    }
}
