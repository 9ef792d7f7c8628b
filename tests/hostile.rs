//! Hostile tenants: what each attack gets, and that a neighbour, measured meanwhile, notices nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::eventually;
use crate::harness::scene::{HOST, NEIGHBOUR, scene};

const LOOPS: &str = r#"
export default {
  async fetch(request) {
    switch (new URL(request.url).pathname) {
      case "/loop": for (;;);
      case "/promises": for (;;) await null;
      case "/pauses": for (;;) { for (let n = 0; n < 1e6; n++); await scheduler.wait(0); }
      case "/expression": return new Response(/^(a+)+$/.test("a".repeat(64) + "!"));
    }
    return new Response("fine");
  },
};
"#;

#[test]
fn an_endless_loop_gets_its_time_and_error_1102() {
    let scene = scene(&json!({ "limits": { "cpu_ms": 200 } }), LOOPS, &[]);
    for (n, path) in ["/loop", "/promises", "/pauses", "/expression"].into_iter().enumerate() {
        scene.recovered();
        let (answer, took) = scene.meanwhile(|| {
            let start = Instant::now();
            (scene.bad(path), start.elapsed())
        });
        assert_eq!(answer, (503, "error code: 1102".into()), "{path}");
        assert!(took >= Duration::from_millis(185), "{path} had only {took:?}");
        scene.heard("exceededCpu", n + 1);
    }
    scene.recovered();
}

#[test]
fn who_loops_again_and_again_is_made_to_wait_and_comes_back() {
    let scene = scene(&json!({ "limits": { "cpu_ms": 50 } }), LOOPS, &[]);
    // 50, 100, 200, 400, 800 ms: requests wait. Then they are refused at once.
    let refused = eventually("a refusal without a cell", || {
        let start = Instant::now();
        let (status, _) = scene.bad("/loop");
        assert_eq!(status, 503);
        (start.elapsed() < Duration::from_millis(40)).then(Instant::now)
    });
    scene.recovered();
    assert!(refused.elapsed() < Duration::from_secs(12));
}

#[test]
fn code_that_does_not_come_to_its_end_or_takes_all_memory_at_the_start_is_refused() {
    let scene = scene(&json!({}), "export default { fetch() { return new Response('fine') } }", &[]);
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    for (code, says) in [
        ("for (;;);", "Script startup exceeded CPU time limit."),
        (
            "const a = []; for (;;) a.push(new Uint8Array(1 << 22).fill(1));",
            "Script startup exceeded memory limits.",
        ),
    ] {
        let answer = scene.meanwhile(|| scene.serve.upload("bad", &metadata, code));
        let error = &answer.json()["errors"][0];
        assert_eq!((answer.status, &error["code"], &error["message"]), (400, &json!(10021), &json!(says)));
    }
    assert_eq!(scene.bad("/"), (200, "fine".into()));
}

const ELSEWHERE: &str = r#"
import { DurableObject } from "cloudflare:workers";
export class Room extends DurableObject {
  async fetch(request) {
    if (new URL(request.url).pathname === "/object") for (;;);
    await this.ctx.storage.put("kept", "before");
    await this.ctx.storage.setAlarm(Date.now() + 20);
    return new Response("set");
  }
  async kept() { return await this.ctx.storage.get("kept"); }
  async alarm() {
    if (await this.ctx.storage.get("rang")) return;
    await this.ctx.storage.put("rang", true);
    await this.ctx.storage.sync();
    for (;;);
  }
}
export default {
  async fetch(request, env) {
    const room = env.ROOM.get(env.ROOM.idFromName("a"));
    switch (new URL(request.url).pathname) {
      case "/kept": return new Response(await room.kept());
      case "/object": case "/alarm": return room.fetch(request);
      case "/send": await env.QUEUE.send("loop"); return new Response("sent");
    }
    return new Response("fine");
  },
  async queue() { for (;;); },
};
"#;

#[test]
fn a_loop_in_an_object_an_alarm_or_a_consumer_ends_the_same_way() {
    let metadata = json!({
        "limits": { "cpu_ms": 200 },
        "migrations": { "new_tag": "v1", "new_sqlite_classes": ["Room"] },
        "bindings": [{ "type": "durable_object_namespace", "name": "ROOM", "class_name": "Room" }],
    });
    let scene = scene(&metadata, ELSEWHERE, &[]);
    assert_eq!(scene.meanwhile(|| scene.bad("/object")), (503, "error code: 1102".into()));
    scene.heard("exceededCpu", 1);
    scene.recovered();

    // The answer may be lost with the cell: the alarm comes soon after.
    scene.meanwhile(|| {
        scene.serve.get(HOST, "/alarm");
        scene.heard("exceededCpu", 2);
    });
    scene.recovered();
    assert_eq!(scene.bad("/kept"), (200, "before".into()), "what was on the disk is there");
}

#[test]
fn a_loop_in_a_queue_consumer_ends_and_its_message_is_not_kept_for_ever() {
    let scene = scene(&json!({}), "export default { fetch() { return new Response('fine') } }", &[]);
    let queue = scene.queue("jobs");
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": { "cpu_ms": 100 },
        "tail_consumers": [{ "service": "watcher" }],
        "bindings": [{ "type": "queue", "name": "QUEUE", "queue_name": "jobs" }],
    });
    let code =
        ELSEWHERE.replace("const room = env.ROOM.get(env.ROOM.idFromName(\"a\"));", "const room = null;");
    assert_eq!(scene.serve.upload("bad", &metadata, &code).status, 200);
    scene.consume(&queue, &json!({ "batch_size": 1, "max_wait_time_ms": 0, "max_retries": 1 }));
    // The consumer may take the cell, and with it this answer.
    let (status, text) = scene.bad("/send");
    assert!((200, "sent") == (status, &text) || status == 503, "{status} {text}");
    // Once, and once more as it was asked for.
    scene.meanwhile(|| scene.heard("exceededCpu", 2));
    scene.recovered();
}

const BOMBS: &str = r#"
const kept = [];
export default {
  async fetch(request) {
    const turn = () => scheduler.wait(0);
    switch (new URL(request.url).pathname) {
      case "/heap": for (let n = 0; ; n++) { kept.push({ n, text: "x" + n }); if (n % 10000 === 0) await turn(); }
      case "/buffers": for (;;) { kept.push(new Uint8Array(4 << 20).fill(1)); await turn(); }
      case "/wasm": {
        const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536 });
        for (;;) {
          memory.grow(64);
          new Uint8Array(memory.buffer, memory.buffer.byteLength - (64 << 16)).fill(1);
          await turn();
        }
      }
      case "/promises": for (;;) { kept.push(new Promise(() => {})); if (kept.length % 10000 === 0) await turn(); }
      case "/modest": {
        for (let n = 0; n < 64; n++) kept.push(new Uint8Array(1 << 20).fill(1));
        kept.length = 0;
        return new Response("64 MiB");
      }
    }
    return new Response("fine");
  },
};
"#;

#[test]
fn memory_bombs_end_their_own_cell_only() {
    let scene = scene(&json!({}), BOMBS, &["--cell-memory", "96"]);
    assert_eq!(scene.bad("/modest"), (200, "64 MiB".into()));
    for (n, path) in ["/heap", "/buffers", "/wasm", "/promises"].into_iter().enumerate() {
        scene.recovered();
        let answer = scene.meanwhile(|| scene.bad(path));
        assert_eq!(answer, (503, "error code: 1102".into()), "{path}");
        scene.heard("exceededMemory", n + 1);
    }
    scene.recovered();
}

const NOISE: &str = r#"
export default {
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    switch (pathname) {
      case "/log": {
        const text = "x".repeat(10_000);
        for (let n = 0; n < 5_000; n++) { console.log(text); if (n % 100 === 0) await scheduler.wait(0); }
        return new Response("logged");
      }
      case "/header": return new Response("", { headers: { a: "y".repeat(Number(searchParams.get("size"))) } });
      case "/headers": {
        const headers = new Headers();
        for (let n = 0; n < 20_000; n++) headers.append("a" + n, "b");
        return new Response("", { headers });
      }
      case "/seen": return Response.json(Object.fromEntries(request.headers));
    }
    return new Response("fine");
  },
};
"#;

#[test]
fn a_flood_of_logs_slows_only_itself() {
    let scene = scene(&json!({}), NOISE, &[]);
    let flood = scene.serve.start_get(HOST, "/log");
    scene.meanwhile(|| std::thread::sleep(Duration::from_millis(1500)));
    // 50 MB at what is heard in a second.
    assert!(!flood.is_finished(), "a flood of logs was taken in at once");
}

const QUERIES: &str = r#"
const endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
const large = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x, hex(zeroblob(500000)) FROM c";
const limited = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 300000) SELECT count(*) AS n FROM c";
export default {
  async fetch(request, env) {
    const all = Object.keys(env).filter((name) => name.startsWith("DB")).map((name) => env[name]);
    const ask = (db, sql) => db.prepare(sql).first().catch((error) => error.message);
    switch (new URL(request.url).pathname) {
      case "/endless": return Response.json(await Promise.all(all.flatMap((db) => Array.from({ length: 8 }, () => ask(db, endless)))));
      case "/large": return Response.json(await Promise.all(all.flatMap((db) => Array.from({ length: 8 }, () => ask(db, large)))));
      case "/limited": return Response.json((await ask(env.DB, limited)).n);
    }
    return new Response("fine");
  },
};
"#;

#[test]
fn queries_without_end_in_many_databases_leave_others_their_turns_and_the_memory() {
    let scene = scene(&json!({}), "export default { fetch() { return new Response('fine') } }", &[]);
    let database = |name: &str| {
        let made = scene.serve.call("POST", "/d1/database", Some(&json!({ "name": name }))).json();
        json!({ "type": "d1", "name": name, "database_id": made["result"]["uuid"] })
    };
    let plain = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    for (script, names) in [("bad", &["DB1", "DB2", "DB3", "DB4", "DB5", "DB6"][..]), ("asks", &["DB"])] {
        let mut metadata = plain.clone();
        metadata["bindings"] = names.iter().map(|name| database(name)).collect();
        assert_eq!(scene.serve.upload(script, &metadata, QUERIES).status, 200);
    }
    scene.recovered();
    let storm = |path| scene.serve.start_get(HOST, path);
    let mut storms = ["/endless", "/large"].map(|path| (path, storm(path)));
    scene.meanwhile(|| {
        // Some tenths of a second of computing each, among dozens of queries that want all they can get.
        for _ in 0..3 {
            // What has had its thirty seconds begins anew.
            for (path, running) in storms.iter_mut().filter(|(_, running)| running.is_finished()) {
                *running = storm(path);
            }
            assert_eq!(scene.serve.get("asks.main.localhost", "/limited").text(), "300000");
        }
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", scene.serve.pid())).unwrap();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    // Of 48 results that would have 100 MB each.
    assert!(peak.is_some_and(|peak: u64| peak < 1_600_000), "{peak:?} kB");
}

#[test]
fn giant_headers_are_an_error_of_their_own_request() {
    let scene = scene(&json!({}), NOISE, &[]);
    scene.meanwhile(|| {
        for path in ["/header?size=1000000", "/header?size=20000000", "/headers"] {
            let (status, _) = scene.bad(path);
            assert!((500..600).contains(&status), "{path}: {status}");
        }
        scene.recovered();
        let long = "z".repeat(2 << 20);
        let answer = scene.serve.try_send("GET", HOST, "/", &[("a", &long)]);
        assert!(answer.is_none_or(|status| (400..500).contains(&status)), "{answer:?}");
    });
}

#[test]
fn headers_of_the_edge_cannot_be_forged() {
    let scene = scene(&json!({}), NOISE, &[]);
    let forged = [
        ("cf-connecting-ip", "6.6.6.6"),
        ("cf-ray", "forged"),
        ("cf-worker", "forged"),
        ("cf-anything", "forged"),
        ("x-skep-cf", "{\"country\":\"forged\"}"),
        ("x-skep-binding", "kv0"),
        ("x-skep-proto", "forged"),
        ("x-skep-outbound", "forged"),
        ("x-forwarded-proto", "forged"),
    ];
    let seen = scene.serve.send("GET", HOST, "/seen", &forged, None).json();
    assert_eq!(seen["cf-connecting-ip"], "127.0.0.1");
    assert!(!seen.to_string().contains("forged") && !seen.to_string().contains("kv0"), "{seen}");
}

const INSIDE: &str = r#"
import fs from "node:fs";
import process from "node:process";
import child from "node:child_process";
const attempt = (what) => { try { return what(); } catch (error) { return `refused: ${error.name}`; } };
export default {
  fetch() {
    return Response.json({
      passwd: attempt(() => fs.readFileSync("/etc/passwd", "utf8")),
      environ: attempt(() => fs.readFileSync("/proc/self/environ", "utf8")),
      memory: attempt(() => fs.readFileSync("/proc/self/mem")),
      root: attempt(() => fs.readdirSync("/")),
      written: attempt(() => { fs.writeFileSync("/tmp/a", "mine"); return fs.readFileSync("/tmp/a", "utf8"); }),
      env: process.env,
      command: attempt(() => child.execSync("id").toString()),
      code: attempt(() => eval("1 + 1")),
    });
  },
};
"#;

#[test]
fn node_modules_show_nothing_of_the_machine() {
    let metadata = json!({
        "compatibility_flags": ["nodejs_compat"],
        "bindings": [{ "type": "plain_text", "name": "OWN", "text": "mine" }],
    });
    let scene = scene(&metadata, INSIDE, &[]);
    let seen = scene.serve.get(HOST, "/").json();
    for key in ["passwd", "environ", "memory", "command", "code"] {
        assert!(seen[key].as_str().is_some_and(|text| text.starts_with("refused: ")), "{key}: {seen}");
    }
    assert_eq!(seen["env"], json!({ "OWN": "mine" }));
    assert_eq!(seen["written"], "mine", "its own /tmp is in memory");
    assert_eq!(seen["root"], json!(["bundle", "tmp", "dev"]), "a file system of the engine's making");
}

#[test]
fn limits_that_are_none_are_refused() {
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    for limits in
        [json!({ "cpu_ms": 0 }), json!({ "cpu_ms": 1e12 }), json!({ "cpu_ms": "all" }), json!("none")]
    {
        let metadata =
            json!({ "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": limits });
        let answer = scene.serve.upload("bad", &metadata, NEIGHBOUR);
        assert_eq!((answer.status, &answer.json()["errors"][0]["code"]), (400, &json!(10021)), "{limits}");
    }
}

#[test]
fn experimental_features_cannot_be_asked_for() {
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    for flag in ["experimental", "unsafe_module", "service_binding_extra_handlers"] {
        let metadata = json!({
            "main_module": "index.js", "compatibility_date": "2026-07-01", "compatibility_flags": [flag],
        });
        let answer = scene.serve.upload("bad", &metadata, NEIGHBOUR);
        assert_eq!((answer.status, &answer.json()["errors"][0]["code"]), (400, &json!(10021)), "{flag}");
    }
    for kind in ["unsafe_eval", "send_email", "debug_port", "workerd_debug_port", "key_locker"] {
        let metadata = json!({
            "main_module": "index.js", "compatibility_date": "2026-07-01", "bindings": [{ "type": kind, "name": "A" }],
        });
        let answer = scene.serve.upload("bad", &metadata, NEIGHBOUR);
        assert_eq!(answer.status, 400, "{kind}");
        assert!(answer.text().contains(&format!("of type {kind} ")), "{}", answer.text());
    }
}
