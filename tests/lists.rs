//! Lists that are too long are refused by name, and what many scripts hold leaves enough to the others.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve, serve_by};

const HELLO: &str = "export default { fetch() { return new Response('hello') } }";

fn module() -> Value {
    json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" })
}

#[test]
fn a_list_that_is_too_long_is_refused_by_name() {
    let serve = serve();
    assert_eq!(serve.upload("s", &module(), HELLO).status, 200);
    assert_eq!(serve.call("POST", "/queues", Some(&json!({ "queue_name": "q" }))).status, 200);
    let queue =
        serve.call("GET", "/queues", None).json()["result"][0]["queue_id"].as_str().unwrap().to_owned();
    let script = "/workers/scripts/s";
    let many = |n: usize, one: &dyn Fn(usize) -> Value| (0..n).map(one).collect::<Value>();
    let route = |n: usize| json!({ "pattern": format!("a{n}.example.com/*") });
    let domain = |n: usize| json!({ "hostname": format!("a{n}.example.com") });
    let frame = json!({ "from": 0, "to": 1 });
    let values = (0..1001).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let filter = json!({ "key": "x", "operation": "in", "type": "string", "value": values });
    let resources: serde_json::Map<String, Value> =
        (0..5000).map(|n| (format!("com.cloudflare.api.account.zone.{n:032}"), json!("*"))).collect();
    let policy = json!({ "effect": "allow", "resources": resources, "permission_groups": [] });
    for (method, path, body, says) in [
        ("PUT", format!("{script}/routes"), many(10_001, &route), "limit of 10000 routes"),
        (
            "POST",
            format!("{script}/domains/changeset"),
            many(10_001, &domain),
            "limit of 10000 custom domains",
        ),
        (
            "PUT",
            format!("{script}/domains/records"),
            json!({ "origins": many(10_001, &domain) }),
            "limit of 10000 custom domains",
        ),
        (
            "PATCH",
            format!("{script}/script-settings"),
            json!({ "tags": many(9, &|n| json!(format!("t{n}"))) }),
            "There are 9 tags; a script may have 8",
        ),
        (
            "PATCH",
            format!("{script}/script-settings"),
            json!({ "tail_consumers": many(101, &|n| json!({ "service": format!("s{n}") })) }),
            "There are 101 tail_consumers; a script may have 100",
        ),
        (
            "POST",
            format!("{script}/tails"),
            json!({ "filters": many(21, &|_| json!({ "query": "" })) }),
            "there are more than 20",
        ),
        (
            "POST",
            format!("/queues/{queue}/messages/batch"),
            json!({ "messages": many(101, &|_| json!({ "body": 0 })) }),
            "batch message count of 101 exceeds limit of 100",
        ),
        (
            "POST",
            "/workers/observability/telemetry/query".into(),
            json!({ "queryId": "q", "timeframe": frame, "parameters": { "filters": [filter] } }),
            "has more than 1000 values",
        ),
        ("POST", "/tokens".into(), json!({ "name": "t", "policies": [policy] }), "longer than 262144 bytes"),
    ] {
        let answer = serve.call(method, &path, Some(&body));
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
        assert!(answer.text().contains(says), "{path}: {}", answer.text());
    }
    // As many as there may be are taken, and found.
    assert_eq!(serve.call("PUT", &format!("{script}/routes"), Some(&many(10_000, &route))).status, 200);
    assert_eq!(serve.get("a9999.example.com", "/").text(), "hello");
    assert_eq!(serve.get("b.example.com", "/").status, 404);
    let one_more = serve.call("POST", "/tokens", Some(&json!({ "name": "t" })));
    assert!(one_more.status == 400 && !one_more.text().contains("longer"), "{}", one_more.text());
}

/// Opens as many WebSockets to another script as it can, and keeps them.
const GREEDY: &str = r#"const open = [];
export default { async fetch(request, env) {
  const before = open.length;
  const tries = Array.from({ length: 100 }, async () => {
    const { webSocket } = await env.OTHER.fetch("http://x/", { headers: { upgrade: "websocket" } });
    webSocket.accept();
    open.push(webSocket);
  });
  await Promise.allSettled(tries);
  return Response.json(open.length - before);
} }"#;
const PATIENT: &str = r#"export default { fetch() {
  const [client, server] = Object.values(new WebSocketPair());
  server.accept();
  return new Response(null, { status: 101, webSocket: client });
} }"#;

/// `skep serve` that may have so many files open.
fn with_files(files: usize) -> Serve {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {files}; exec \"$0\" \"$@\"")).arg(env!("CARGO_BIN_EXE_skep"));
    serve_by(command, tempfile::tempdir().unwrap(), &[])
}

#[test]
fn scripts_that_call_each_other_leave_files_to_the_others() {
    let serve = with_files(800);
    assert_eq!(serve.upload("neighbour", &module(), HELLO).status, 200);
    assert_eq!(serve.upload("patient", &module(), PATIENT).status, 200);
    let mut greedy = module();
    greedy["bindings"] = json!([{ "type": "service", "name": "OTHER", "service": "patient" }]);
    let mut held = 0;
    for n in 0..5 {
        let name = format!("greedy{n}");
        let uploaded = serve.upload(&name, &greedy, GREEDY);
        assert_eq!(uploaded.status, 200, "{n}: {}", uploaded.text());
        held += serve.get(&format!("{name}.main.localhost"), "/").json().as_u64().unwrap();
        for _ in 0..10 {
            let answer = serve.get("neighbour.main.localhost", "/");
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "hello"),
                "after {n}: {}",
                serve.output()
            );
        }
    }
    // Two files for each; and each script has some.
    assert!((100..=160).contains(&held), "{held}");
    assert!(!serve.output().contains("Too many open files"), "{}", serve.output());
}
