//! The app that the README runs: every binding through its own API.

use serde_json::{Value, json};

use crate::harness::{Skep, copy, dev_with, eventually, repository};

fn post(skep: &Skep, path: &str, body: &Value) -> Value {
    let headers = [("content-type", "application/json")];
    skep.send("POST", path, &headers, Some(body.to_string().as_bytes())).json()
}

#[test]
fn the_hive_works_and_remembers() {
    let project = copy(&repository().join("examples/hive"));
    let state = tempfile::tempdir().unwrap();
    {
        let skep = dev_with(project.path(), state.path(), &["--test-scheduled"]);
        page(&skep);
        storage(&skep);
        later(&skep);
        people(&skep);
    }
    let skep = dev_with(project.path(), state.path(), &[]);
    assert_eq!(skep.get("/api/v1/notes").json()[0]["text"], "kept");
    assert_eq!(skep.get("/api/v1/files/a.txt").text(), "0123456789");
    assert_eq!(skep.get("/api/v1/settings").json()["theme"], "night");
    assert_eq!(skep.get("/api/v1/rooms/lobby/history").json()[0]["text"], "hello");
}

fn page(skep: &Skep) {
    let home = skep.get("/");
    assert_eq!((home.status, home.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(home.header("x-content-type-options"), "nosniff");
    // Single-page application: any path is the page, except for the API's.
    assert_eq!(skep.get("/any/where").text(), home.text());
    assert_eq!(skep.get("/api/v1/nowhere").status, 404);
    let about = skep.get("/api/v1/about").json();
    assert_eq!(about["greeting"], "Welcome to the hive");
    assert!(about["story"].as_str().unwrap().contains("straw"));
    assert_eq!(about["version"]["id"].as_str().unwrap().len(), 36);
}

fn storage(skep: &Skep) {
    assert_eq!(post(skep, "/api/v1/notes", &json!({ "text": "kept" }))["text"], "kept");
    assert!(post(skep, "/api/v1/notes", &json!({ "text": "" }))["error"].is_string());
    assert_eq!(
        skep.send("PUT", "/api/v1/files/a.txt", &[("content-type", "text/plain")], Some(b"0123456789"))
            .status,
        201
    );
    let part = skep.send("GET", "/api/v1/files/a.txt", &[("range", "bytes=2-4")], None);
    assert_eq!(part.text(), "234");
    let etag = skep.get("/api/v1/files/a.txt").header("etag").to_owned();
    assert_eq!(skep.send("GET", "/api/v1/files/a.txt", &[("if-none-match", &etag)], None).status, 304);
    let headers = [("content-type", "application/json")];
    let put = skep.send("PUT", "/api/v1/settings", &headers, Some(br#"{"theme":"night"}"#));
    assert_eq!(put.json()["theme"], "night");
    assert_eq!(skep.get("/api/v1/slow").json()["cached"], false);
    assert_eq!(skep.get("/api/v1/slow").json()["cached"], true);
}

fn later(skep: &Skep) {
    let job = post(skep, "/api/v1/jobs", &json!({ "text": "shout" }));
    let path = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
    let done = eventually("result of the job", || {
        Some(skep.get(&path).json()).filter(|state| state["state"] == "done")
    });
    assert_eq!(done["result"], "SHOUT");
    let harvest = post(skep, "/api/v1/harvest", &json!({}));
    let path = format!("/api/v1/harvest/{}", harvest["id"].as_str().unwrap());
    let complete =
        eventually("harvest", || Some(skep.get(&path).json()).filter(|state| state["status"] == "complete"));
    assert_eq!(complete["output"], "10 g of clover honey");
    assert_eq!(skep.get("/__scheduled?cron=*+*+*+*+*").text(), "Ran scheduled event");
    assert_eq!(skep.get("/cdn-cgi/handler/scheduled?cron=*+*+*+*+*").text(), "ok");
    assert!(skep.get("/api/v1/about").json()["cron"]["runs"].as_u64().unwrap() >= 2);
}

fn people(skep: &Skep) {
    assert_eq!(skep.get("/api/v1/census").json()["answer"], "50,000 bees");
    assert_eq!(skep.get("/api/v1/square/12").json()["square"], 144);
    let shouts: Vec<u16> = (0..6).map(|_| skep.post("/api/v1/shout", "").status).collect();
    assert_eq!(shouts, [200, 200, 200, 200, 200, 429]);
    let mut ada = skep.websocket("/api/v1/rooms/lobby?who=Ada");
    let mut grace = skep.websocket("/api/v1/rooms/lobby?who=Grace");
    ada.send("hello".into()).unwrap();
    for socket in [&mut ada, &mut grace] {
        let line: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
        assert_eq!((line["who"].as_str(), line["text"].as_str()), (Some("Ada"), Some("hello")));
    }
    let budget = skep.get("/api/v1/notes").header("x-budget-remaining").parse::<u32>().unwrap();
    assert!(budget < 290, "{budget}");
}
