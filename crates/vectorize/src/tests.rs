//! The binding over HTTP, and what is kept.

use http::Method;
use serde_json::{Value as Json, json};
use skep_runtime::{Clock, ManualClock};
use skep_store::Quota;
use skep_wire::{Service, full, read_all};

use crate::{Binding, Local, Metric, Property, PropertyKind, Shape, VectorizeError, VectorizeStore};

fn clock() -> Clock {
    ManualClock::at(1_800_000_000_000).clock()
}

fn store() -> (tempfile::TempDir, VectorizeStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = VectorizeStore::open(dir.path(), clock()).unwrap();
    (dir, store)
}

async fn call(binding: &Binding, method: Method, path: &str, body: String) -> (u16, Json) {
    let request = http::Request::builder().method(method).uri(path).body(full(body)).unwrap();
    let response = binding.call(request).await;
    let status = response.status().as_u16();
    let body = read_all(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn post(binding: &Binding, path: &str, body: Json) -> (u16, Json) {
    call(binding, Method::POST, path, body.to_string()).await
}

/// A vector whose first numbers are given.
fn line(id: &str, first: &[f32]) -> Json {
    let mut values = first.to_vec();
    values.resize(32, 0.0);
    json!({ "id": id, "values": values })
}

async fn keep(binding: &Binding, path: &str, vectors: &[Json]) -> (u16, Json) {
    let lines: Vec<String> = vectors.iter().map(Json::to_string).collect();
    call(binding, Method::POST, path, lines.join("\n")).await
}

async fn count(binding: &Binding) -> Json {
    call(binding, Method::GET, "/info", String::new()).await.1["vectorCount"].clone()
}

#[tokio::test]
async fn the_engines_client_gets_what_it_asks_for() {
    let (_dir, store) = store();
    store.create("i", Shape { dimensions: 32, metric: Metric::Euclidean }).unwrap();
    let binding = store.binding("i", None);
    let (status, made) = keep(&binding, "/insert", &[line("a", &[1.0]), line("b", &[4.0])]).await;
    assert_eq!((status, made["mutationId"].as_str().unwrap().len()), (200, 36));
    let (_, info) = call(&binding, Method::GET, "/info", String::new()).await;
    assert_eq!(
        info,
        json!({
            "dimensions": 32, "vectorCount": 2, "processedUpToDatetime": "2027-01-15T08:00:00.000Z",
            "processedUpToMutation": made["mutationId"],
        })
    );
    let (_, found) = post(&binding, "/query", json!({ "vector": line("", &[2.0])["values"] })).await;
    assert_eq!(
        found,
        json!({ "count": 2, "matches": [{ "id": "a", "score": 1.0 }, { "id": "b", "score": 2.0 }] })
    );
    let (_, found) = post(&binding, "/query", json!({ "vectorId": "b", "topK": 1 })).await;
    assert_eq!(found, json!({ "count": 1, "matches": [{ "id": "b", "score": 0.0 }] }));
    let (_, got) = post(&binding, "/getByIds", json!({ "ids": ["b", "none"] })).await;
    assert_eq!(got, json!([line("b", &[4.0])]));
    assert_eq!(post(&binding, "/deleteByIds", json!({ "ids": ["a", "none"] })).await.0, 200);
    assert_eq!(count(&binding).await, 1);
}

#[tokio::test]
async fn what_is_refused_is_said_as_cloudflare_says_it_and_nothing_is_stored() {
    let (_dir, store) = store();
    store.create("i", Shape { dimensions: 32, metric: Metric::Cosine }).unwrap();
    let binding = store.binding("i", None);
    let said = |(status, answer): (u16, Json)| {
        (status, answer["code"].as_u64().unwrap(), answer["error"].as_str().unwrap().to_owned())
    };
    let good = line("good", &[1.0]);
    let short = json!({ "id": "x", "values": [1, 2, 3] });
    assert_eq!(
        said(keep(&binding, "/insert", &[good.clone(), short]).await),
        (400, 40012, "invalid vector for id=\"x\", expected 32 dimensions, and got 3 dimensions".into())
    );
    assert_eq!(
        said(keep(&binding, "/upsert", &[good.clone(), line(&"i".repeat(74), &[])]).await),
        (400, 40008, "id too long; max is 64 bytes, got 74 bytes".into())
    );
    let mut large = line("large", &[]);
    large["metadata"] = json!({ "text": "x".repeat(10_240) });
    assert_eq!(said(keep(&binding, "/upsert", &[good.clone(), large]).await).1, 40016);
    let many = vec![good.clone(); 1001];
    assert_eq!(
        said(keep(&binding, "/upsert", &many).await),
        (400, 40006, "too many vectors in payload; max count is 1000, got 1001".into())
    );
    assert_eq!(
        said(call(&binding, Method::POST, "/upsert", format!("{good}\n{{")).await),
        (
            400,
            40023,
            "failed to parse upsert vectors request in ndjson format: line Some(1) was not expected format"
                .into()
        )
    );
    assert_eq!(count(&binding).await, 0);
    assert_eq!(
        said(post(&binding, "/query", json!({ "vector": [] })).await),
        (400, 40006, "invalid query vector, expected 32 dimensions, and got 0 dimensions".into())
    );
    assert_eq!(said(post(&binding, "/query", json!({ "vectorId": "none" })).await).1, 40006);
    let ids = |n: usize| json!({ "ids": vec!["a"; n] });
    assert_eq!(
        said(post(&binding, "/getByIds", ids(21)).await),
        (400, 40007, "too many ids in payload; max id count is 20, got 21".into())
    );
    assert_eq!(
        said(post(&binding, "/deleteByIds", ids(101)).await).2,
        "too many ids in payload; max id count is 100, got 101"
    );
    assert_eq!(said(post(&store.binding("other", None), "/query", json!({ "vector": [1] })).await).1, 3000);
    assert_eq!(post(&binding, "/other", json!({})).await.0, 404);
}

#[tokio::test]
async fn insert_leaves_and_upsert_replaces_what_is_there() {
    let (_dir, store) = store();
    let index = store.create("i", Shape { dimensions: 32, metric: Metric::Cosine }).unwrap();
    let binding = store.binding("i", None);
    let mut first = line("a", &[1.0]);
    first["metadata"] = json!({ "k": 1 });
    first["namespace"] = "n".into();
    keep(&binding, "/insert", &[first.clone()]).await;
    keep(&binding, "/insert", &[line("a", &[2.0])]).await;
    let get = || async { post(&binding, "/getByIds", json!({ "ids": ["a"] })).await.1[0].clone() };
    assert_eq!(get().await["values"][0], 1.0);
    assert_eq!(get().await["namespace"], "n");
    keep(&binding, "/upsert", &[line("a", &[3.0])]).await;
    assert_eq!(get().await, line("a", &[3.0]), "nothing of the old one stays");
    let in_n = json!({ "vectorId": "a", "namespace": "n" });
    assert_eq!(post(&binding, "/query", in_n).await.1["count"], 0);
    assert_eq!(index.details().unwrap().vector_count, 1);
}

#[tokio::test]
async fn a_filter_asks_for_what_has_a_metadata_index() {
    let (_dir, store) = store();
    let index = store.create("i", Shape { dimensions: 32, metric: Metric::Cosine }).unwrap();
    let binding = store.binding("i", None);
    let with = |id: &str, metadata: Json| {
        let mut vector = line(id, &[1.0]);
        vector["metadata"] = metadata;
        vector
    };
    let long = "l".repeat(70);
    let all = [
        with("a", json!({ "p": "x", "q": 1, "long": long })),
        with("b", json!({ "p": "y", "q": 2 })),
        line("c", &[1.0]),
    ];
    keep(&binding, "/insert", &all).await;
    let ids = |filter: Json| {
        let body = json!({ "vectorId": "a", "filter": filter, "returnMetadata": "indexed" });
        let binding = &binding;
        async move {
            let found = post(binding, "/query", body).await.1["matches"].take();
            found.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect::<String>()
        }
    };
    assert_eq!(ids(json!({ "p": "x" })).await, "", "without an index nothing is found");
    for (name, kind) in [("p", PropertyKind::String), ("long", PropertyKind::String)] {
        index.add_property(Property { property_name: name.into(), index_type: kind }).await.unwrap();
    }
    assert_eq!(ids(json!({ "p": "x" })).await, "a");
    assert_eq!(ids(json!({ "p": { "$ne": "x" } })).await, "bc");
    assert_eq!(ids(json!({ "p": "x", "q": 1 })).await, "");
    let body = json!({ "vectorId": "a", "topK": 1, "returnMetadata": "indexed" });
    let indexed = post(&binding, "/query", body).await.1["matches"][0]["metadata"].take();
    assert_eq!(indexed, json!({ "long": "l".repeat(64), "p": "x" }));
    index.remove_property("p".into()).await.unwrap();
    assert_eq!(ids(json!({ "p": "x" })).await, "");
    assert!(matches!(index.remove_property("p".into()).await, Err(VectorizeError::NoProperty(_))));
    for n in 0..9 {
        let property = Property { property_name: format!("p{n}"), index_type: PropertyKind::Boolean };
        index.add_property(property).await.unwrap();
    }
    let eleventh = Property { property_name: "more".into(), index_type: PropertyKind::Boolean };
    assert!(matches!(index.add_property(eleventh).await, Err(VectorizeError::TooManyProperties)));
    assert_eq!(index.properties().unwrap().len(), 10);
}

#[tokio::test]
async fn an_index_that_nobody_made_comes_with_its_first_vector() {
    let (dir, store) = store();
    let binding = store.binding("i", Some(Local { dimensions: None, metric: Metric::Cosine }));
    let (_, info) = call(&binding, Method::GET, "/info", String::new()).await;
    assert_eq!((&info["dimensions"], &info["vectorCount"]), (&json!(0), &json!(0)));
    assert_eq!(post(&binding, "/query", json!({ "vector": [1, 2] })).await.1["count"], 0);
    let (status, refused) = keep(&binding, "/insert", &[json!({ "id": "a", "values": [1, 2] })]).await;
    assert_eq!((status, &refused["code"]), (400, &json!(40012)));
    let mut first = line("a", &[1.0]);
    first["metadata"] = json!({ "any": true });
    keep(&binding, "/insert", &[first]).await;
    let wrong = json!({ "id": "b", "values": vec![1.0; 33] });
    assert_eq!(keep(&binding, "/insert", std::slice::from_ref(&wrong)).await.1["code"], 40012);
    let filtered = json!({ "vectorId": "a", "filter": { "any": true } });
    assert_eq!(post(&binding, "/query", filtered).await.1["count"], 1, "all metadata is indexed");
    let reopened = VectorizeStore::open(dir.path(), clock()).unwrap();
    let other = Some(Local { dimensions: None, metric: Metric::DotProduct });
    for store in [store, reopened] {
        let cosine = store.binding("i", Some(Local::default()));
        let asked = || json!({ "vector": line("", &[3.0])["values"] });
        assert_eq!(post(&cosine, "/query", asked()).await.1["matches"][0]["score"], 1.0);
        let binding = store.binding("i", other);
        let found = post(&binding, "/query", asked()).await.1;
        assert_eq!(found["matches"][0]["score"], -3.0, "the metric may change");
    }
    let store = VectorizeStore::open(dir.path(), clock()).unwrap();
    let binding = store.binding("i", other);
    post(&binding, "/deleteByIds", json!({ "ids": ["a"] })).await;
    assert_eq!(keep(&binding, "/insert", &[wrong]).await.0, 200, "an empty index begins anew");
}

#[tokio::test]
async fn an_index_that_is_made_anew_is_found_by_who_knew_the_old_one() {
    let (_dir, store) = store();
    store.create("i", Shape { dimensions: 32, metric: Metric::Cosine }).unwrap();
    let binding = store.binding("i", None);
    keep(&binding, "/insert", &[line("a", &[1.0])]).await;
    store.remove("i").unwrap();
    let (status, gone) = post(&binding, "/query", json!({ "vectorId": "a" })).await;
    assert_eq!(
        (status, gone),
        (400, json!({ "code": 3000, "error": "vectorize.index.not_found - Index name \"i\"" }))
    );
    store.create("i", Shape { dimensions: 40, metric: Metric::Cosine }).unwrap();
    let (_, info) = call(&binding, Method::GET, "/info", String::new()).await;
    assert_eq!((&info["dimensions"], &info["vectorCount"]), (&json!(40), &json!(0)));
}

#[tokio::test]
async fn what_an_account_may_store_holds() {
    let (_dir, store) = store();
    let store = store.within(std::sync::Arc::new(Quota::new(1000)));
    store.create("i", Shape { dimensions: 32, metric: Metric::Cosine }).unwrap();
    let binding = store.binding("i", None);
    let vectors: Vec<Json> = (0..5).map(|n| line(&n.to_string(), &[1.0])).collect();
    let (status, refused) = keep(&binding, "/insert", &vectors).await;
    assert_eq!(
        (status, refused["error"].as_str().unwrap()),
        (507, "Insufficient storage: the account's storage limit is reached")
    );
    assert_eq!(count(&binding).await, 0);
    assert_eq!(keep(&binding, "/insert", &vectors[..2]).await.0, 200);
}

#[test]
fn a_page_holds_whole_vectors() {
    let (dir, store) = store();
    store.create("i", Shape { dimensions: 1536, metric: Metric::Cosine }).unwrap();
    let db = rusqlite::Connection::open(dir.path().join("i/index.sqlite")).unwrap();
    let page: i64 = db.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    assert_eq!(page, 32_768);
}
