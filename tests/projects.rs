//! Real projects run unchanged: an ORM on D1, an agent framework on Durable Objects, Node.js modules.

use serde_json::{Value, json};

use crate::harness::{Skep, copy, dev, dev_with, eventually, project};

#[test]
fn twenty_node_modules_work() {
    let skep = dev(&project("node-modules"));
    let expected = json!({
        "assert": "ERR_ASSERTION", "async_hooks": "ran", "buffer": "hi", "crypto": "ca978112",
        "diagnostics_channel": "object", "events": 7, "fs": "written", "http": "I'm a Teapot", "os": "string",
        "path": "b", "process": "function", "punycode": "xn--maana-pta.com", "querystring": "a=1&b=x%20y",
        "stream": "ab", "stream_promises": "x", "string_decoder": "é", "timers_promises": "slept",
        "url": "/c", "util": "n=3", "zlib": "packed",
    });
    assert_eq!(skep.get("/").json(), expected);
}

fn post(skep: &Skep, path: &str, body: &Value) -> Value {
    skep.post(path, &body.to_string()).json()
}

#[test]
fn drizzle_runs_on_d1() {
    let project = copy(&project("drizzle"));
    let skep = dev(project.path());
    let ada = json!({ "name": "Ada", "email": "ada@example.com" });
    assert_eq!(post(&skep, "/users", &ada), json!([{ "id": 1, "name": "Ada", "email": "ada@example.com" }]));
    let again = post(&skep, "/users", &ada);
    assert!(again["error"].as_str().unwrap().contains("UNIQUE constraint failed: users.email"), "{again}");
    let two = json!([{ "author": 1, "title": "One" }, { "author": 1, "title": "Two" }]);
    assert_eq!(post(&skep, "/posts", &two)[1][0]["id"], 2);
    // A batch is one transaction: the second row's author does not exist.
    let broken = json!([{ "author": 1, "title": "Three" }, { "author": 99, "title": "Four" }]);
    assert!(
        post(&skep, "/posts", &broken)["error"].as_str().unwrap().contains("FOREIGN KEY constraint failed")
    );
    assert_eq!(skep.get("/").json(), json!({ "posts": 2 }));
    let users = skep.get("/users").json();
    assert_eq!(users[0]["posts"][1]["title"], "Two");
}

#[test]
fn an_agents_state_reaches_every_client_and_survives_a_restart() {
    let project = copy(&project("agents"));
    let state = tempfile::tempdir().unwrap();
    {
        let skep = dev_with(project.path(), state.path(), &[]);
        let mut one = skep.websocket("/agents/board/shared");
        let mut two = skep.websocket("/agents/board/shared");
        one.send("hello".into()).unwrap();
        for socket in [&mut one, &mut two] {
            eventually("state", || {
                let message: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
                (message["type"] == "cf_agent_state" && message["state"]["words"] == json!(["hello"]))
                    .then_some(())
            });
        }
        assert_eq!(skep.get("/agents/board/other").json(), json!({ "words": [] }));
    }
    let skep = dev_with(project.path(), state.path(), &[]);
    assert_eq!(skep.get("/agents/board/shared").json(), json!({ "words": ["hello"] }));
    assert_eq!(skep.get("/nowhere").status, 404);
}
