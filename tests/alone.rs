//! What scripts do by themselves, when nobody asks them anything any more: it has an end, and its CPU time is counted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::scene::{HOST, scene};
use crate::harness::serve::{Serve, serve_in};

/// `/work` works in turns for ever after the answer, `/alarms` from alarm to alarm; `/beats` says how often either has.
const OBJECT: &str = r#"
import { DurableObject } from "cloudflare:workers";
const spin = (ms) => { for (const end = Date.now() + ms; Date.now() < end; ); };
export class Room extends DurableObject {
  async begin(ms, pause) {
    const beat = () => { spin(ms); this.ctx.storage.kv.put("beats", (this.ctx.storage.kv.get("beats") ?? 0) + 1); };
    setInterval(beat, pause);
    // What keeps it from being evicted by the engine.
    this.ctx.waitUntil(new Promise(() => {}));
  }
  async ring(ms) { this.ctx.storage.kv.put("ms", ms); await this.ctx.storage.setAlarm(Date.now() + 50); }
  async alarm() {
    spin(this.ctx.storage.kv.get("ms"));
    const beats = (this.ctx.storage.kv.get("beats") ?? 0) + 1;
    this.ctx.storage.kv.put("beats", beats);
    if (beats < 20) await this.ctx.storage.setAlarm(Date.now() + 20);
  }
  beats() { return this.ctx.storage.kv.get("beats") ?? 0; }
}
export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const [room, ms] = [env.ROOM.getByName("a"), Number(searchParams.get("ms"))];
    switch (pathname) {
      case "/work": await room.begin(ms, Number(searchParams.get("pause"))); return new Response("answered");
      case "/alarms": await room.ring(ms); return new Response("answered");
      case "/beats": return new Response(String(await room.beats()));
    }
    return new Response("fine");
  },
};
"#;

fn objects(cpu_ms: u64) -> Value {
    json!({
        "compatibility_date": "2026-10-01", "limits": { "cpu_ms": cpu_ms },
        "migrations": { "new_tag": "v1", "new_sqlite_classes": ["Room"] },
        "bindings": [{ "type": "durable_object_namespace", "name": "ROOM", "class_name": "Room" }],
    })
}

#[test]
fn what_an_object_does_without_events_ends_with_its_process() {
    let serve = serve_in(
        tempfile::tempdir().unwrap(),
        &["--idle-timeout", "2s", "--object-timeout", "4s", "--waiting-cells", "0"],
    );
    let mut metadata = objects(30_000);
    metadata["main_module"] = json!("index.js");
    assert_eq!(serve.upload("bad", &metadata, OBJECT).status, 200);
    assert_eq!(serve.get(HOST, "/work?ms=10&pause=40").text(), "answered");
    let [cell] = serve.cells()[..] else { panic!("not one process: {:?}", serve.cells()) };
    // Longer than an idle process lives: it does work.
    std::thread::sleep(Duration::from_millis(3000));
    assert_eq!(serve.cells(), [cell]);
    eventually("the end of the process", || serve.cells().is_empty().then_some(()));
    let beats = |serve: &Serve| serve.get(HOST, "/beats").text().parse::<u64>().unwrap();
    let kept = beats(&serve);
    assert!(kept > 10, "only {kept} beats");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(beats(&serve), kept, "nothing is left of it in the next process");
}

#[test]
fn what_an_object_does_without_events_has_the_cpu_time_of_one_invocation() {
    let scene = scene(&objects(400), OBJECT, &[]);
    assert_eq!(scene.bad("/work?ms=20&pause=10"), (200, "answered".into()));
    scene.meanwhile(|| scene.heard("exceededCpu", 1));
    scene.recovered();
    assert!(scene.bad("/beats").1.parse::<u64>().unwrap() > 5);
}

#[test]
fn each_alarm_has_a_cpu_time_of_its_own() {
    let scene = scene(&objects(600), OBJECT, &[]);
    // Twenty times 150 ms, and nobody asks anything meanwhile.
    assert_eq!(scene.bad("/alarms?ms=150"), (200, "answered".into()));
    std::thread::sleep(Duration::from_millis(4500));
    eventually("all alarms", || (scene.bad("/beats").1 == "20").then_some(()));
    let heard = scene.serve.get("watcher.main.localhost", "/").json();
    assert!(!heard.to_string().contains("exceeded"), "{heard}");
}

const CALLEE: &str = r#"
import { WorkerEntrypoint } from "cloudflare:workers";
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const note = async (env, name, ms) => { await sleep(ms); await env.KV.put(name, "done"); };
export class Early extends WorkerEntrypoint {
  constructor(ctx, env) {
    ctx.waitUntil(note(env, "slow-constructor", 8000));
    super(ctx, env);
    ctx.waitUntil(note(env, "quick-constructor", 100));
  }
  hello() { return "hello"; }
}
export default class extends WorkerEntrypoint {
  work(name, ms) { this.ctx.waitUntil(note(this.env, name, ms)); return "answered"; }
  async slow() { this.ctx.waitUntil(note(this.env, "quick-after", 2300)); await sleep(2000); return "answered"; }
  async fetch(request) {
    const { searchParams } = new URL(request.url);
    this.ctx.waitUntil(note(this.env, searchParams.get("name"), Number(searchParams.get("ms"))));
    return new Response(null, { status: 204 });
  }
}
"#;

const CALLER: &str = r#"
export default {
  async fetch(request, env) {
    if (new URL(request.url).pathname === "/seen") return Response.json((await env.KV.list()).keys.map((key) => key.name));
    const said = [await env.EARLY.hello()];
    for (const [name, ms] of [["slow", 8000], ["quick", 100]]) {
      said.push(await env.CALLEE.work(`${name}-method`, ms));
      said.push((await env.CALLEE.fetch(`http://callee/?name=${name}-fetch&ms=${ms}`)).status);
    }
    // Longer than it may go on afterwards.
    said.push(await env.CALLEE.slow());
    return Response.json(said);
  },
};
"#;

#[test]
fn what_a_called_script_goes_on_with_after_its_answer_ends() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--wait-until", "1s"]);
    let kv = serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "kv" }))).json();
    let kv = json!({ "type": "kv_namespace", "name": "KV", "namespace_id": kv["result"]["id"] });
    let plain = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01", "bindings": [kv] });
    assert_eq!(serve.upload("callee", &plain, CALLEE).status, 200);
    let mut caller = plain.clone();
    caller["bindings"] = json!([kv, { "type": "service", "name": "CALLEE", "service": "callee" },
        { "type": "service", "name": "EARLY", "service": "callee", "entrypoint": "Early" }]);
    assert_eq!(serve.upload("bad", &caller, CALLER).status, 200);
    let said = json!(["hello", "answered", 204, "answered", 204, "answered"]);
    assert_eq!(serve.get(HOST, "/").json(), said);
    let seen = || serve.get(HOST, "/seen").json();
    let quick = json!(["quick-after", "quick-constructor", "quick-fetch", "quick-method"]);
    eventually("the quick ones", || (seen() == quick).then_some(()));
    std::thread::sleep(Duration::from_secs(9));
    assert_eq!(seen(), quick);
}
