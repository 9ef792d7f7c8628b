//! Scripts that nobody uses have no process; they are there when they are asked for.

use serde_json::json;

use crate::harness::accounts::add;
use crate::harness::eventually;
use crate::harness::serve::{serve, serve_in};

const WORKER: &str = r#"
import { DurableObject } from "cloudflare:workers";
export class Clock extends DurableObject {
  async set(ms) { await this.ctx.storage.setAlarm(Date.now() + ms); }
  async alarm() { await this.ctx.storage.put("rang", Date.now()); }
  rang() { return this.ctx.storage.get("rang"); }
  async fetch() {
    const [client, server] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }
  webSocketMessage(socket, text) { socket.send("echo " + text); }
}
export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const clock = env.CLOCK.getByName("one");
    if (pathname === "/ws") return clock.fetch(request);
    if (pathname === "/set") await clock.set(Number(searchParams.get("ms")));
    return Response.json({ rang: (await clock.rang()) ?? null });
  },
};
"#;

const CONFIG: &str = r#"{
  "name": "clock", "main": "index.js", "compatibility_date": "2026-07-01",
  "durable_objects": { "bindings": [{ "name": "CLOCK", "class_name": "Clock" }] },
  "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Clock"] }]
}"#;

#[test]
fn an_idle_script_has_no_process_and_is_back_for_a_request_and_for_an_alarm() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--idle-timeout", "400ms"]);
    let dir = serve.project("clock", &[("index.js", WORKER), ("wrangler.jsonc", CONFIG)]);
    serve.wrangler(&dir, &["deploy"]);
    let host = "clock.main.localhost";
    let gone = || eventually("the end of the idle process", || serve.cells().is_empty().then_some(()));
    gone();
    assert_eq!(serve.get(host, "/").json(), json!({ "rang": null }));
    assert_eq!(serve.cells().len(), 1);
    gone();

    // An open WebSocket keeps it.
    let mut socket = serve.websocket(host, "/ws");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(serve.cells().len(), 1);
    socket.send("hi".into()).unwrap();
    assert_eq!(socket.read().unwrap().into_text().unwrap(), "echo hi");
    drop(socket);
    gone();

    // An alarm that is far enough away lets it rest, and wakes it.
    let set = std::time::SystemTime::now();
    serve.get(host, "/set?ms=12500");
    gone();
    assert!(set.elapsed().unwrap().as_secs() < 10, "it rested before the alarm");
    eventually("the alarm's process", || (!serve.cells().is_empty()).then_some(()));
    let rang = eventually("the alarm", || serve.get(host, "/").json()["rang"].as_u64());
    let late = rang
        - u64::try_from(set.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
        - 12_500;
    assert!(late < 5_000, "{late} ms late");

    // An alarm that was set before a restart of the node, too.
    let before = serve.get(host, "/set?ms=3000").json()["rang"].as_u64();
    let serve = serve_in(serve.stop("KILL"), &["--idle-timeout", "400ms"]);
    let file = serve.dir.path().join("data/accounts");
    assert!(file.exists());
    eventually("the alarm's process", || (!serve.cells().is_empty()).then_some(()));
    eventually("the second alarm", || {
        let rang = serve.get(host, "/").json()["rang"].as_u64();
        (rang != before).then_some(())
    });
}

#[test]
fn there_are_no_more_processes_than_allowed() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--max-cells", "2"]);
    for n in 0..4 {
        let name = format!("w{n}");
        let code = format!("export default {{ fetch() {{ return new Response('{name}'); }} }};");
        let config = format!(r#"{{ "name": "{name}", "main": "i.js", "compatibility_date": "2026-07-01" }}"#);
        let dir = serve.project(&name, &[("i.js", &code), ("wrangler.jsonc", &config)]);
        serve.wrangler(&dir, &["deploy"]);
    }
    for round in 0..3 {
        for n in 0..4 {
            let name = format!("w{n}");
            assert_eq!(serve.get(&format!("{name}.main.localhost"), "/").text(), name, "round {round}");
        }
        eventually("no more than two processes", || (serve.cells().len() <= 2).then_some(()));
    }
}

#[test]
fn an_account_that_starts_many_leaves_others_theirs() {
    let dir = serve().stop("TERM");
    let (other, token) = add(&dir.path().join("data/registry.sqlite"));
    let mut serve = serve_in(dir, &["--max-cells", "4"]);
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    let code = |name: &str| format!("export default {{ fetch() {{ return new Response('{name}') }} }}");

    let own = (std::mem::replace(&mut serve.account, other), std::mem::replace(&mut serve.token, token));
    assert_eq!(serve.upload("small", &metadata, &code("small")).status, 200);
    (serve.account, serve.token) = own;
    assert_eq!(serve.get("small.other.localhost", "/").text(), "small");
    let [small] = serve.cells()[..] else { panic!("{:?}", serve.cells()) };

    for n in 0..7 {
        let name = format!("many{n}");
        assert_eq!(serve.upload(&name, &metadata, &code(&name)).status, 200);
        assert_eq!(serve.get(&format!("{name}.main.localhost"), "/").text(), name);
    }
    // All together, and not the one that was used longest ago of all.
    eventually("no more processes than may be", || (serve.cells().len() <= 4).then_some(()));
    assert!(serve.cells().contains(&small));
}
