//! Event notifications: what becomes of objects comes to a queue, by rules that stock wrangler makes.

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve, serve_in};

const CODE: &str = r#"
export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    switch (pathname) {
      case "/work": {
        await env.FILES.put("img/one.png", "12345");
        await env.FILES.put("img/one.txt", "not of the rule");
        await env.FILES.put("other.png", "neither");
        const upload = await env.FILES.createMultipartUpload("img/parts.png");
        const part = await upload.uploadPart(1, "parts");
        await upload.complete([part]);
        await env.FILES.put("img/never.png", "x", { onlyIf: { etagMatches: "none" } });
        await env.FILES.delete(["img/one.png", "img/absent.png", "other.png"]);
        return new Response("done");
      }
      case "/seen": {
        const { keys } = await env.SEEN.list();
        return Response.json(await Promise.all(keys.map(({ name }) => env.SEEN.get(name, "json"))));
      }
    }
  },
  async queue({ messages }, env) {
    for (const { id, body } of messages) await env.SEEN.put(`${body.eventTime} ${id}`, JSON.stringify(body));
  },
};
"#;

fn deployed(serve: &Serve) -> std::path::PathBuf {
    let empty = serve.project("empty", &[("wrangler.jsonc", "{}")]);
    serve.wrangler(&empty, &["r2", "bucket", "create", "files"]);
    serve.wrangler(&empty, &["queues", "create", "changes"]);
    let kv = serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "seen" }))).json();
    let config = json!({
        "name": "watcher", "main": "index.js", "compatibility_date": "2026-07-01",
        "r2_buckets": [{ "binding": "FILES", "bucket_name": "files" }],
        "kv_namespaces": [{ "binding": "SEEN", "id": kv["result"]["id"] }],
        "queues": { "consumers": [{ "queue": "changes", "max_batch_timeout": 0 }] },
    });
    let dir = serve.project("watcher", &[("index.js", CODE), ("wrangler.jsonc", &config.to_string())]);
    serve.wrangler(&dir, &["deploy"]);
    empty
}

fn seen(serve: &Serve, count: usize) -> Vec<Value> {
    eventually(&format!("{count} notifications"), || {
        let all = serve.get("watcher.main.localhost", "/seen").json().as_array().unwrap().clone();
        assert!(all.len() <= count, "{all:?}");
        (all.len() == count).then_some(all)
    })
}

#[test]
fn changes_of_a_bucket_come_to_the_queue_of_a_rule() {
    let serve = serve();
    let dir = deployed(&serve);
    let rule = ["r2", "bucket", "notification", "create", "files", "--queue", "changes"];
    let made = serve.wrangler(
        &dir,
        &[
            &rule[..],
            &["--event-types", "object-create", "object-delete", "--prefix", "img/", "--suffix", ".png"],
            &["--description", "pictures"],
        ]
        .concat(),
    );
    assert!(made.contains("Event notification rule created successfully"), "{made}");
    let listed = serve.wrangler(&dir, &["r2", "bucket", "notification", "list", "files"]);
    for part in ["changes", "img/", ".png", "PutObject", "DeleteObject"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }

    assert_eq!(serve.get("watcher.main.localhost", "/work").text(), "done");
    let all = seen(&serve, 3);
    let said: Vec<(&str, &str)> = all
        .iter()
        .map(|one| (one["action"].as_str().unwrap(), one["object"]["key"].as_str().unwrap()))
        .collect();
    for expected in [
        ("PutObject", "img/one.png"),
        ("CompleteMultipartUpload", "img/parts.png"),
        ("DeleteObject", "img/one.png"),
    ] {
        assert!(said.contains(&expected), "{said:?}");
    }
    let put = all.iter().find(|one| one["action"] == "PutObject").unwrap();
    assert_eq!((&put["account"], &put["bucket"]), (&json!(serve.account), &json!("files")));
    let object = json!({ "key": "img/one.png", "size": 5, "eTag": "827ccb0eea8a706c4c34a16891f84e7b" });
    assert_eq!(put["object"], object);
    let gone = all.iter().find(|one| one["action"] == "DeleteObject").unwrap();
    assert_eq!(gone["object"], json!({ "key": "img/one.png" }));

    // Also what is stored over the API, and after a restart.
    let serve = serve_in(serve.stop("KILL"), &[]);
    let dir = serve.project("empty", &[("up.png", "up")]);
    serve.wrangler(&dir, &["r2", "object", "put", "files/img/up.png", "--file", "up.png", "--remote"]);
    assert_eq!(seen(&serve, 4).last().unwrap()["object"]["key"], "img/up.png");

    rules(&serve, &dir);
}

/// Rules are made, shown and removed one by one, over the API and by wrangler.
fn rules(serve: &Serve, dir: &std::path::Path) {
    let configuration = "/event_notifications/r2/files/configuration";
    let all = serve.call("GET", configuration, None).json()["result"].clone();
    let queue = all["queues"][0]["queueId"].as_str().unwrap().to_owned();
    let own = format!("{configuration}/queues/{queue}");
    assert_eq!(serve.call("GET", &own, None).json()["result"], all["queues"][0]);
    assert_eq!(all["queues"][0]["rules"][0]["description"], "pictures");
    let more = json!({ "rules": [{ "actions": ["PutObject", "PutObject"], "prefix": "more/" }] });
    assert_eq!(serve.call("PUT", &own, Some(&more)).status, 200);
    let rules = serve.call("GET", &own, None).json()["result"]["rules"].clone();
    assert_eq!((rules.as_array().unwrap().len(), &rules[1]["actions"]), (2, &json!(["PutObject"])));

    let code = |method: &str, path: &str, body: Option<Value>| {
        let answer = serve.call(method, path, body.as_ref());
        (answer.status, answer.json()["errors"][0]["code"].as_u64().unwrap_or_default())
    };
    assert_eq!(code("PUT", &own, Some(json!({ "rules": [] }))), (400, 10001));
    assert_eq!(code("PUT", &own, Some(json!({ "rules": [{ "actions": ["Explode"] }] }))), (400, 10001));
    let none = format!("{configuration}/queues/none");
    assert_eq!(code("GET", &none, None), (404, 11000));
    assert_eq!(code("DELETE", &own, Some(json!({ "ruleIds": ["none"] }))), (404, 11015));
    let absent = "/event_notifications/r2/absent/configuration";
    assert_eq!(code("GET", absent, None), (404, 10006));

    let id = rules[0]["ruleId"].as_str().unwrap();
    let delete = ["r2", "bucket", "notification", "delete", "files", "--queue", "changes"];
    serve.wrangler(dir, &[&delete[..], &["--rule", id]].concat());
    let left = serve.call("GET", &own, None).json()["result"]["rules"].clone();
    assert_eq!((left.as_array().unwrap().len(), &left[0]["prefix"]), (1, &json!("more/")));
    serve.wrangler(dir, &delete);
    assert_eq!(code("GET", &own, None), (404, 11015));
    assert_eq!(serve.call("GET", configuration, None).json()["result"]["queues"], json!([]));
}

#[test]
fn rules_that_are_made_at_the_same_time_are_all_there() {
    let serve = serve();
    let dir = deployed(&serve);
    serve.wrangler(&dir, &["queues", "create", "others"]);
    let queues = serve.call("GET", "/queues", None).json()["result"].clone();
    let configuration = "/event_notifications/r2/files/configuration";
    let own = |queue: &Value| format!("{configuration}/queues/{}", queue["queue_id"].as_str().unwrap());
    let all: Vec<String> = queues.as_array().unwrap().iter().map(own).collect();
    std::thread::scope(|scope| {
        for n in 0..24 {
            let (serve, own) = (&serve, &all[n % all.len()]);
            scope.spawn(move || {
                let rule = json!({ "rules": [{ "actions": ["PutObject"], "prefix": format!("{n}/") }] });
                assert_eq!(serve.call("PUT", own, Some(&rule)).status, 200);
            });
        }
    });
    let made = serve.call("GET", configuration, None).json()["result"]["queues"].clone();
    let rules = made.as_array().unwrap().iter().flat_map(|queue| queue["rules"].as_array().unwrap());
    let mut prefixes: Vec<&str> = rules.map(|rule| rule["prefix"].as_str().unwrap()).collect();
    prefixes.sort_by_key(|prefix| prefix.trim_end_matches('/').parse::<u32>().unwrap());
    assert_eq!(prefixes, (0..24).map(|n| format!("{n}/")).collect::<Vec<_>>());
}
