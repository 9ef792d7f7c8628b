//! Manifests that are large, come slowly, or are not read.

use std::time::Duration;

use super::*;

const SOON: Duration = Duration::from_millis(200);

impl Node {
    async fn put_large(&self, account: &str, reference: &str, content: String) -> Seen {
        let path = format!("/v2/{account}/app/manifests/{reference}");
        self.ask_as(account, Method::PUT, &path, &[("content-type", crate::manifest::INDEX)], full(content))
            .await
    }

    /// What `account` gets, not read yet.
    async fn get(&self, account: &str, path: &str) -> Response {
        let request = http::Request::get(path).header("authorization", self.basic(account));
        self.registry.call(request.body(full("")).unwrap()).await
    }

    /// All that says something about `subject`, page by page: the pages.
    async fn referrers(&self, subject: &str, query: &str) -> Vec<Vec<Json>> {
        let mut path = format!("/v2/one/app/referrers/{subject}{query}");
        let mut pages = Vec::new();
        loop {
            let seen = self.ask(Method::GET, &path, "").await;
            assert_eq!(seen.code(), "200 -");
            assert!(seen.body.len() < 2 << 20, "{}", seen.body.len());
            let mut body: Json = serde_json::from_slice(&seen.body).unwrap();
            let Json::Array(page) = body["manifests"].take() else { panic!("{body}") };
            pages.push(page);
            let link = seen.header("link");
            if link.is_empty() {
                return pages;
            }
            path = link.trim_start_matches('<').split_once('>').unwrap().0.to_owned();
        }
    }
}

/// An index of nothing.
fn index(more: Json) -> String {
    let mut index = json!({ "schemaVersion": 2, "mediaType": crate::manifest::INDEX, "manifests": [] });
    index.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    index.to_string()
}

fn of_mib(mib: usize) -> Json {
    "x".repeat((mib << 20) - 1000).into()
}

#[tokio::test]
async fn who_sends_slowly_is_waited_for_by_nobody_else() {
    let node = free();
    let small = index(json!({}));
    let slow = async || {
        let body = stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        node.ask_as("two", Method::PUT, "/v2/two/app/manifests/slow", &[], body).await
    };
    let slow = futures_util::future::join_all((0..20).map(|_| slow()));
    let quick = async {
        let (first, large) = (small.clone(), index(json!({ "x": "y".repeat(100_000) })));
        for content in [first, large] {
            let put = tokio::time::timeout(5 * SOON, node.put_large("one", "quick", content)).await;
            assert_eq!(put.expect("nobody waits").code(), "201 -");
        }
        let length = small.len().to_string();
        let headers = [("content-type", crate::manifest::INDEX), ("content-length", &length)];
        let own = node.ask_as("two", Method::PUT, "/v2/two/app/manifests/own", &headers, full(small.clone()));
        let own = tokio::time::timeout(5 * SOON, own).await;
        assert_eq!(own.expect("what is small needs no room").code(), "201 -");
    };
    tokio::select! {
        biased;
        _ = slow => panic!("they never end"),
        () = quick => {}
    }
}

#[tokio::test]
async fn manifests_that_nobody_reads_are_few() {
    let node = free();
    let large = index(json!({ "x": of_mib(4) }));
    for account in ["one", "two"] {
        assert_eq!(node.put_large(account, "large", large.clone()).await.code(), "201 -");
    }
    let path = "/v2/one/app/manifests/large";
    let mut unread = Vec::new();
    while let Ok(answer) = tokio::time::timeout(SOON, node.get("one", path)).await {
        assert_eq!(answer.status(), StatusCode::OK);
        unread.push(answer);
        assert!(unread.len() < 20, "they are in memory");
    }
    assert!(unread.len() >= 8, "{}", unread.len());
    let head = node.ask(Method::HEAD, path, "").await;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, &*large.len().to_string()));
    let other = node.get("two", "/v2/two/app/manifests/large").await;
    assert_eq!(seen(other).await.body, large);
    for answer in unread.drain(..2) {
        assert_eq!(seen(answer).await.body, large);
    }
    let next = tokio::time::timeout(5 * SOON, node.get("one", path)).await.unwrap();
    assert_eq!(seen(next).await.body, large);
}

#[tokio::test]
async fn many_large_manifests_about_one_are_listed_in_small_pages() {
    let node = free();
    let subject = digest(b"any");
    let put = async |more: Json| {
        let mut content = json!({ "subject": { "digest": subject, "size": 1 } });
        content.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let content = index(content);
        let digest = digest(content.as_bytes());
        assert_eq!(node.put_large("one", &digest, content).await.code(), "201 -");
        digest
    };
    let mut all = HashSet::new();
    for n in 0..40 {
        all.insert(
            put(json!({ "artifactType": "a/b", "annotations": { "n": "y".repeat(60_000 + n) } })).await,
        );
    }
    let pages = node.referrers(&subject, "").await;
    let digests: Vec<_> = pages.iter().flatten().map(|own| own["digest"].as_str().unwrap()).collect();
    assert_eq!((pages.len(), digests.len()), (3, 40), "18 of 60 kB are more than 1 MiB");
    assert_eq!(digests.iter().map(|own| (*own).to_owned()).collect::<HashSet<_>>(), all);
    assert!(digests.is_sorted());
    assert!(pages[0][0]["annotations"]["n"].as_str().is_some_and(|text| text.len() >= 60_000));

    // More of others than is read for one page.
    for n in 0..10 {
        put(json!({ "artifactType": "c/d", "annotations": { "n": n.to_string(), "x": of_mib(4) } })).await;
    }
    put(json!({ "artifactType": "e f&g", "annotations": { "n": "one" }, "x": of_mib(4) })).await;
    let pages = node.referrers(&subject, "?artifactType=c/d").await;
    assert_eq!(pages.len(), 2, "each page reads 32 MiB");
    let found: Vec<_> = pages.iter().flatten().collect();
    assert_eq!(found.len(), 10);
    assert!(found.iter().all(|own| own["annotations"].is_null() && own["artifactType"] == "c/d"));
    assert!(found.iter().all(|own| own["size"].as_u64().unwrap() > 4_000_000));
    let pages = node.referrers(&subject, "?artifactType=e%20f%26g").await;
    let found: Vec<_> = pages.iter().flatten().collect();
    assert_eq!((found.len(), &found[0]["annotations"]["n"]), (1, &json!("one")));
}
