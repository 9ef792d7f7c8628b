//! Queues whose consumer fetches over HTTP.

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve, serve_in};

fn post(serve: &Serve, path: &str, body: Value) -> Value {
    let answer = serve.call("POST", path, Some(&body));
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    answer.json()["result"].clone()
}

fn leases(pulled: &Value) -> Vec<Value> {
    let messages = pulled["messages"].as_array().unwrap();
    messages.iter().map(|message| json!({ "lease_id": message["lease_id"] })).collect()
}

#[test]
fn a_pull_consumer_takes_acknowledges_and_retries() {
    let serve = serve();
    let dir = serve.project("empty", &[]);
    std::fs::create_dir_all(&dir).unwrap();
    for queue in ["jobs", "dead"] {
        serve.wrangler(&dir, &["queues", "create", queue]);
    }
    let listed = serve.call("GET", "/queues", None).json();
    let id = |name: &str| {
        let all = listed["result"].as_array().unwrap();
        all.iter().find(|queue| queue["queue_name"] == name).unwrap()["queue_id"].as_str().unwrap().to_owned()
    };
    let (jobs, dead) =
        (format!("/queues/{}/messages", id("jobs")), format!("/queues/{}/messages", id("dead")));
    let refused = serve.call("POST", &format!("{jobs}/pull"), Some(&json!({})));
    assert_eq!(refused.status, 405, "{}", refused.text());
    let args = [
        "queues",
        "consumer",
        "http",
        "add",
        "jobs",
        "--message-retries",
        "1",
        "--dead-letter-queue",
        "dead",
    ];
    serve.wrangler(&dir, &args);
    let second = json!({ "type": "http_pull" });
    let refused = serve.call("POST", &format!("/queues/{}/consumers", id("jobs")), Some(&second));
    assert_eq!(refused.json()["errors"][0]["code"], 11004, "a queue has one consumer");

    for body in [
        json!({ "body": "é", "content_type": "text" }),
        json!({ "body": { "a": 1 }, "content_type": "json" }),
    ] {
        post(&serve, &jobs, body);
    }
    let pull = |ms: u64| {
        post(&serve, &format!("{jobs}/pull"), json!({ "batch_size": 10, "visibility_timeout_ms": ms }))
    };
    let first = pull(600_000);
    let seen: Vec<_> =
        first["messages"].as_array().unwrap().iter().map(|m| (&m["body"], &m["attempts"])).collect();
    assert_eq!(seen, [(&json!("é"), &json!(1)), (&json!("eyJhIjoxfQ=="), &json!(1))]);
    assert_eq!(first["messages"][1]["metadata"]["CF-Content-Type"], "json");
    assert_eq!(pull(600_000)["messages"], json!([]), "they are somebody's");

    // A lease outlives a restart; what is acknowledged is gone, what is to be retried is there at once.
    let taken = leases(&first);
    let serve = serve_in(serve.stop("KILL"), &[]);
    let ack = |body: Value| post(&serve, &format!("{jobs}/ack"), body);
    let pull = |ms: u64| {
        post(&serve, &format!("{jobs}/pull"), json!({ "batch_size": 10, "visibility_timeout_ms": ms }))
    };
    assert_eq!(pull(600_000)["messages"], json!([]), "nor after a restart");
    let said = ack(json!({ "acks": [taken[0]], "retries": [taken[1]] }));
    assert_eq!(said, json!({ "ackCount": 1, "retryCount": 1, "warnings": [] }));
    let again = pull(200);
    assert_eq!(
        (again["messages"].as_array().unwrap().len(), &again["messages"][0]["attempts"]),
        (1, &json!(2))
    );

    // An earlier lease is worth nothing, and neither is one twice.
    let said = ack(json!({ "acks": [taken[0], taken[1]] }));
    assert_eq!((&said["ackCount"], said["warnings"].as_array().unwrap().len()), (&json!(0), 2));

    // The time-out ends; two deliveries were all, so it goes to the dead letters.
    eventually("its end", || (pull(200)["message_backlog_count"] == 0).then_some(()));
    let consumer = json!({ "type": "http_pull" });
    post(&serve, &format!("/queues/{}/consumers", id("dead")), consumer);
    let letters = post(&serve, &format!("{dead}/pull"), json!({}));
    assert_eq!(letters["messages"][0]["body"], "eyJhIjoxfQ==");
    let both = json!({ "acks": [leases(&letters)[0], leases(&letters)[0]] });
    assert_eq!(post(&serve, &format!("{dead}/ack"), both)["ackCount"], 1, "one message, once");

    for (path, body) in [
        ("pull", json!({ "batch_size": 101 })),
        ("pull", json!({ "visibility_timeout_ms": 43_200_001 })),
        ("pull", json!([])),
        ("ack", json!({ "acks": [{ "lease_id": "nonsense" }] })),
        ("ack", json!({ "retries": [{ "lease_id": "1-1", "delay_seconds": 86_401 }] })),
    ] {
        assert_eq!(serve.call("POST", &format!("{dead}/{path}"), Some(&body)).status, 400, "{path} {body}");
    }
}
