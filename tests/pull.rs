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
    assert_eq!(said, json!({ "ackCount": 1, "retryCount": 1, "warnings": {} }));
    let again = pull(200);
    assert_eq!(
        (again["messages"].as_array().unwrap().len(), &again["messages"][0]["attempts"]),
        (1, &json!(2))
    );

    // An earlier lease is worth nothing, and neither is one twice.
    let said = ack(json!({ "acks": [taken[0], taken[1]] }));
    assert_eq!((&said["ackCount"], said["warnings"].as_object().unwrap().len()), (&json!(0), 2));

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

#[test]
fn messages_are_looked_at_removed_and_kept_longer() {
    let serve = serve();
    let made = post(&serve, "/queues", json!({ "queue_name": "jobs" }));
    let id = made["queue_id"].as_str().unwrap().to_owned();
    let path = format!("/queues/{id}/messages");
    for body in ["a", "b", "c", "d"] {
        post(&serve, &path, json!({ "body": body, "content_type": "text" }));
    }
    let ask = |what: &str, body: Value| post(&serve, &format!("{path}/{what}"), body);
    let bodies = |seen: &Value| -> Vec<String> {
        let all = seen["messages"].as_array().unwrap().iter();
        all.map(|m| m["body"].as_str().unwrap().to_owned()).collect()
    };
    let peeked = ask("peek", json!({ "batch_size": 3 }));
    assert_eq!(
        (bodies(&peeked), &peeked["messages"][0]["attempts"]),
        (vec!["a".into(), "b".into(), "c".into()], &json!(0))
    );
    assert_eq!(bodies(&ask("peek", json!({ "batch_size": 1 }))), ["a"], "it is still there");
    let named = json!({ "ref": peeked["messages"][1]["ref"] });
    assert_eq!(ask("purge", json!({ "refs": [named, named] }))["warnings"].as_object().unwrap().len(), 1);
    let previewed = ask("preview", json!({}));
    assert_eq!(bodies(&previewed), ["a", "c", "d"]);
    assert_eq!(ask("preview/ack", json!({ "acks": [leases(&previewed)[2]] })), json!({ "warnings": {} }));
    assert_eq!(
        serve.call("GET", &format!("/queues/{id}/metrics"), None).json()["result"]["backlog_count"],
        2
    );

    // What was delivered since is not removed by an earlier look, and no lease is had by looking.
    post(&serve, &format!("/queues/{id}/consumers"), json!({ "type": "http_pull" }));
    assert_eq!(ask("extend", json!({ "extend": [leases(&previewed)[0]] }))["extendCount"], 0);
    let pulled = ask("pull", json!({ "batch_size": 1, "visibility_timeout_ms": 500 }));
    assert_eq!(bodies(&pulled), ["a"]);
    let late = ask("preview/ack", json!({ "acks": [leases(&previewed)[0]] }));
    assert_eq!(late["warnings"].as_object().unwrap().len(), 1);
    let extended = ask("extend", json!({ "extend": leases(&pulled), "visibility_timeout_ms": 600_000 }));
    assert_eq!(extended, json!({ "extendCount": 1, "warnings": {} }));
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(bodies(&ask("peek", json!({}))), ["c"], "the lease lasts");
    assert_eq!(ask("ack", json!({ "acks": leases(&pulled) }))["ackCount"], 1);

    for (what, body) in [
        ("peek", json!({ "batch_size": 0 })),
        ("preview", json!({ "batch_size": 101 })),
        ("purge", json!({ "refs": [{ "ref": "nonsense" }] })),
        ("purge", json!({})),
        ("extend", json!({ "extend": [{ "lease_id": "x" }] })),
        ("extend", json!({ "extend": [], "visibility_timeout_ms": 43_200_001 })),
        ("preview/ack", json!({ "acks": [{ "lease_id": "" }] })),
    ] {
        assert_eq!(serve.call("POST", &format!("{path}/{what}"), Some(&body)).status, 400, "{what} {body}");
    }
}

#[test]
fn a_queue_gets_one_consumer_however_many_ask_at_once() {
    let serve = serve();
    let made = post(&serve, "/queues", json!({ "queue_name": "one" }));
    let path = format!("/queues/{}/consumers", made["queue_id"].as_str().unwrap());
    let add = || serve.call("POST", &path, Some(&json!({ "type": "http_pull" }))).json();
    for _ in 0..8 {
        let answers: Vec<Value> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(add)).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let taken: Vec<&Value> = answers.iter().filter(|answer| answer["success"] == true).collect();
        let [taken] = taken.as_slice() else { panic!("{answers:?}") };
        let refused = answers.iter().filter(|answer| answer["errors"][0]["code"] == 11004).count();
        assert_eq!(refused, 7, "{answers:?}");
        let id = taken["result"]["consumer_id"].as_str().unwrap();
        assert_eq!(serve.call("DELETE", &format!("{path}/{id}"), None).status, 200);
    }
}
