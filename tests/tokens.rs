//! API tokens: made, used within their permissions, changed, worthless again.

use serde_json::{Value, json};

use crate::harness::Answer;
use crate::harness::serve::{Serve, serve};

/// A call with another token.
fn call_as(serve: &Serve, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let token = format!("Bearer {token}");
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let body = body.map(|body| body.to_string().into_bytes());
    serve.raw_call(method, &path.replace(":account", &serve.account), &headers, body.as_deref())
}

fn group(serve: &Serve, name: &str) -> String {
    let path = format!("/tokens/permission_groups?name={}", name.replace(' ', "%20"));
    serve.call("GET", &path, None).json()["result"][0]["id"].as_str().unwrap().to_owned()
}

fn asked(serve: &Serve, name: &str, groups: &[&str]) -> Value {
    let groups: Vec<Value> = groups.iter().map(|name| json!({ "id": group(serve, name) })).collect();
    let resource = format!("com.cloudflare.api.account.{}", serve.account);
    json!({ "name": name, "policies": [{
        "effect": "allow", "resources": { (resource): "*" }, "permission_groups": groups,
    }] })
}

fn refusal(answer: &Answer) -> (u16, u64) {
    (answer.status, answer.json()["errors"][0]["code"].as_u64().unwrap())
}

#[test]
fn a_token_does_what_its_permission_groups_allow() {
    let serve = serve();
    let asked_for = asked(&serve, "kv only", &["Workers KV Storage Write", "Account API Tokens Write"]);
    let made = serve.call("POST", "/tokens", Some(&asked_for)).json()["result"].clone();
    let (id, secret) = (made["id"].as_str().unwrap(), made["value"].as_str().unwrap().to_owned());
    assert_eq!((&made["name"], &made["status"]), (&json!("kv only"), &json!("active")));

    let namespaces = "/accounts/:account/storage/kv/namespaces";
    let created = call_as(&serve, &secret, "POST", namespaces, Some(&json!({ "title": "t" })));
    assert_eq!(created.status, 200, "{}", created.text());
    for (method, path) in [
        ("GET", "/accounts/:account/workers/scripts"),
        ("GET", "/accounts/:account/r2/buckets"),
        ("GET", "/accounts/:account/d1/database"),
        ("POST", "/accounts/:account/queues"),
        ("PUT", "/accounts/:account/workers/scripts/x/secrets"),
        ("GET", "/accounts/:account/audit_logs"),
    ] {
        let answer = call_as(&serve, &secret, method, path, Some(&json!({})));
        assert_eq!(refusal(&answer), (403, 10000), "{method} {path}");
    }
    let verified = call_as(&serve, &secret, "GET", "/user/tokens/verify", None).json();
    assert_eq!(verified["result"], json!({ "id": id, "status": "active" }));

    // It cannot give more than it has, nor become more.
    let more = asked(&serve, "more", &["D1 Write"]);
    assert_eq!(refusal(&call_as(&serve, &secret, "POST", "/user/tokens", Some(&more))), (403, 10000));
    assert_eq!(
        refusal(&call_as(&serve, &secret, "PUT", &format!("/user/tokens/{id}"), Some(&more))),
        (403, 10000)
    );
    let listed = serve.call("GET", "/tokens", None).json();
    let first = listed["result"].as_array().unwrap().iter().find(|t| t["name"] == "first").unwrap();
    let first = first["id"].as_str().unwrap();
    let taken = call_as(&serve, &secret, "PUT", &format!("/user/tokens/{first}/value"), Some(&json!({})));
    assert_eq!(refusal(&taken), (403, 10000), "nor take another's place");
    let less = asked(&serve, "less", &["Workers KV Storage Write"]);
    assert_eq!(call_as(&serve, &secret, "POST", "/user/tokens", Some(&less)).status, 200);

    // Reading is not writing.
    let read = asked(&serve, "kv only", &["Workers KV Storage Read"]);
    assert_eq!(serve.call("PUT", &format!("/tokens/{id}"), Some(&read)).status, 200);
    assert_eq!(call_as(&serve, &secret, "GET", namespaces, None).status, 200);
    let refused = call_as(&serve, &secret, "POST", namespaces, Some(&json!({ "title": "u" })));
    assert_eq!(refusal(&refused), (403, 10000));

    // A new secret, a pause, an end.
    let rolled = serve.call("PUT", &format!("/tokens/{id}/value"), Some(&json!({}))).json();
    let new = rolled["result"].as_str().unwrap();
    assert_eq!(refusal(&call_as(&serve, &secret, "GET", namespaces, None)), (401, 10000));
    assert_eq!(call_as(&serve, new, "GET", namespaces, None).status, 200);
    let mut paused = read.clone();
    paused["status"] = "disabled".into();
    assert_eq!(
        serve.call("PUT", &format!("/tokens/{id}"), Some(&paused)).json()["result"]["status"],
        "disabled"
    );
    assert_eq!(refusal(&call_as(&serve, new, "GET", namespaces, None)), (401, 10000));
    let mut expired = read.clone();
    expired["expires_on"] = "2020-01-01T00:00:00Z".into();
    assert_eq!(
        serve.call("PUT", &format!("/tokens/{id}"), Some(&expired)).json()["result"]["status"],
        "expired"
    );
    assert_eq!(refusal(&call_as(&serve, new, "GET", namespaces, None)), (401, 10000));
    serve.call("PUT", &format!("/tokens/{id}"), Some(&read));
    assert_eq!(call_as(&serve, new, "GET", namespaces, None).status, 200);
    assert_eq!(serve.call("DELETE", &format!("/tokens/{id}"), None).json()["result"]["id"], id);
    assert_eq!(refusal(&call_as(&serve, new, "GET", namespaces, None)), (401, 10000));
    assert_eq!(refusal(&serve.call("GET", &format!("/tokens/{id}"), None)), (404, 1003));

    // Every change is in the log, with who asked for it and what came of it.
    let log = serve.call("GET", "/audit_logs", None).json();
    let entries = log["result"].as_array().unwrap();
    assert_eq!(entries[0]["action"]["type"], format!("DELETE /accounts/{}/tokens/{id}", serve.account));
    let tried = format!("PUT /user/tokens/{first}/value");
    assert!(!entries.iter().any(|e| e["action"]["type"] == tried && e["action"]["result"] == true), "{log}");
    let output = serve.output();
    assert!(!output.contains(&secret) && !output.contains(new));
}

#[test]
fn a_token_that_makes_no_sense_is_refused() {
    let serve = serve();
    let good = asked(&serve, "t", &["D1 Read"]);
    let with = |path: &str, value: Value| {
        let mut asked = good.clone();
        *asked.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        asked
    };
    let mut condition = good.clone();
    condition["condition"] = json!({ "request_ip": { "in": ["192.0.2.0/24"] } });
    let mut expires = good.clone();
    expires["expires_on"] = "tomorrow".into();
    for (asked, says) in [
        (with("/name", json!("")), "name of a token"),
        (with("/policies", json!([])), "needs a permission group"),
        (with("/policies/0/effect", json!("deny")), "only \"allow\""),
        (with("/policies/0/permission_groups/0/id", json!("nope")), "no permission group \"nope\""),
        (
            with("/policies/0/resources", json!({ "com.cloudflare.api.account.0": "*" })),
            "not of this account",
        ),
        (condition, "conditions"),
        (expires, "tomorrow"),
    ] {
        let answer = serve.call("POST", "/tokens", Some(&asked));
        assert_eq!(answer.status, 400, "{asked}");
        assert!(answer.text().contains(says.replace('"', "\\\"").as_str()), "{says}: {}", answer.text());
    }
    assert_eq!(serve.call("GET", "/tokens", None).json()["result"].as_array().unwrap().len(), 1);
}

#[test]
fn who_tries_many_wrong_tokens_waits() {
    let serve = serve();
    assert_eq!(call_as(&serve, &serve.token, "GET", "/user", None).status, 200);
    let statuses: Vec<u16> =
        (0..40).map(|n| call_as(&serve, &format!("skep_{n}"), "GET", "/user", None).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 30);
    let answer = call_as(&serve, "skep_x", "GET", "/user", None);
    assert_eq!(refusal(&answer), (429, 10429));
    assert!((1..=60).contains(&answer.header("retry-after").parse::<u64>().unwrap()));
    assert_eq!(
        call_as(&serve, &serve.token, "GET", "/user", None).status,
        200,
        "who was right before is let in"
    );
}
