//! `worker_loaders` on a node: deployed by wrangler, in dispatch namespaces, and code that means harm.

use std::net::TcpListener;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::{CODE, CONFIG};
use crate::harness::scene::{Scene, door, scene, scene_on};
use crate::harness::serve::{Serve, serve, serve_in};

fn deploy(serve: &Serve, name: &str, config: serde_json::Value, code: &str, args: &[&str]) {
    let mut all = json!({ "name": name, "main": "index.js", "compatibility_date": "2026-07-01" });
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let dir = serve.project(name, &[("index.js", code), ("wrangler.jsonc", &all.to_string())]);
    serve.wrangler(&dir, &[&["deploy"], args].concat());
}

#[test]
fn wrangler_deploys_a_worker_that_loads_code() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--egress-allow", "127.0.0.1/32"]);
    let dir = serve.project("loading", &[("index.js", CODE), ("wrangler.jsonc", CONFIG)]);
    let said = serve.wrangler(&dir, &["deploy"]);
    assert!(said.contains("env.LOADER"), "{said}");
    let host = "loading.main.localhost";
    let answer = |calls: u32| json!({ "calls": calls, "env": ["GREETING"], "greeting": "hello" });
    let expected = |n: u32| json!({ "answers": [answer(n), answer(n + 1), answer(n)], "sum": 13 });
    for (n, made) in [(1, 2), (2, 0)] {
        let mut said = serve.get(host, "/").json();
        assert_eq!(said["made"].take(), made);
        said.as_object_mut().unwrap().remove("made");
        // What was loaded under an id is there for the next invocation.
        let first = if n == 1 { 1 } else { 3 };
        let mut expected = expected(first);
        expected["answers"][2] = answer(n);
        assert_eq!(said, expected);
    }
    // It is kept with the version, and shown as it was sent.
    let settings = serve.call("GET", "/workers/scripts/loading/settings", None).json();
    let bindings = settings["result"]["bindings"].as_array().unwrap();
    assert!(bindings.contains(&json!({ "name": "LOADER", "type": "worker_loader" })), "{settings}");
    let said = serve.wrangler(&dir, &["versions", "upload"]);
    let version =
        said.split("Worker Version ID: ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    serve.wrangler(&dir, &["versions", "deploy", &format!("{version}@100%"), "--yes"]);
    assert_eq!(serve.get(host, "/").json()["sum"], 13);
    let seen = serve.get(host, "/experimental").json();
    assert!(seen[0].as_str().is_some_and(|said| said.contains("'allowExperimental'")), "{seen}");
    assert!(seen[1].as_str().is_some_and(|said| said.contains("experimental")), "{seen}");
}

const LOADS: &str = r#"
import { WorkerEntrypoint } from "cloudflare:workers";
const heard = [];
export class Tail extends WorkerEntrypoint {
  tail(events) { for (const { logs, outcome } of events) heard.push({ outcome, logs: logs.map(({ message }) => message) }); }
}
const SOURCE = `
  import { env as imported } from "cloudflare:workers";
  import { connect } from "cloudflare:sockets";
  import { createHash } from "node:crypto";
  const hold = [];
  const tried = async (what) => { try { return String(await what()); } catch ({ message }) { return "refused: " + message; } };
  export default { async fetch(request, env, ctx) {
    const url = new URL(request.url);
    const to = url.searchParams.get("to");
    switch (url.pathname) {
      case "/loop": for (;;);
      case "/heap": for (;;) hold.push(new Array(1 << 16).fill(Math.random()));
      case "/buffers": for (;;) hold.push(new Uint8Array(8 << 20).fill(1));
      case "/log": console.log("logged inside"); return new Response("logged");
      case "/reach": return Response.json({
        fetch: await tried(async () => (await fetch("http://" + to)).text()),
        connect: await tried(() => connect(to).opened),
        unix: await tried(() => connect("unix:/run/bindings:1").opened),
      });
    }
    const hash = createHash("sha256").update("x").digest("hex").slice(0, 8);
    return Response.json({ env: Object.keys(env), imported: Object.keys(imported), exports: Object.keys(ctx.exports), hash });
  } };
`;
export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    if (url.pathname === "/") return new Response("fine");
    if (url.pathname === "/heard") return Response.json(heard);
    const code = {
      compatibilityDate: "2026-07-01", compatibilityFlags: ["nodejs_compat"], mainModule: "main.js", modules: { "main.js": SOURCE },
      tails: [ctx.exports.Tail({})], ...(url.searchParams.has("none") && { globalOutbound: null }),
    };
    return env.LOADER.get(url.search, () => code).getEntrypoint().fetch(request);
  },
};
"#;

fn loads() -> serde_json::Value {
    json!({
        "bindings": [
            { "type": "worker_loader", "name": "LOADER" }, { "type": "secret_text", "name": "SECRET", "text": "s3cret" },
        ],
    })
}

#[test]
fn loaded_code_that_takes_all_there_is_is_ended_with_its_script_and_nobody_else() {
    let mut metadata = loads();
    metadata["limits"] = json!({ "cpu_ms": 200 });
    let scene = scene(&metadata, LOADS, &[]);
    let ends = |scene: &Scene, path, outcome, count| {
        scene.recovered();
        let answer = scene.meanwhile(|| scene.bad(path));
        assert_eq!(answer, (503, "error code: 1102".into()), "{path}");
        scene.heard(outcome, count);
    };
    ends(&scene, "/loop", "exceededCpu", 1);
    // Filling the memory takes time as well, on some machines more than 200 ms: it has what scripts have by default.
    let scene = scene_on(scene.serve, &loads(), LOADS);
    ends(&scene, "/heap", "exceededMemory", 1);
    ends(&scene, "/buffers", "exceededMemory", 2);
    scene.recovered();
}

#[test]
fn loaded_code_reaches_what_it_was_given_and_no_private_address() {
    let (port, came) = door(
        TcpListener::bind("127.0.0.1:0").unwrap(),
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
    );
    let scene = scene(&loads(), LOADS, &[]);
    let said: serde_json::Value = serde_json::from_str(&scene.bad("/what").1).unwrap();
    let expected =
        json!({ "env": [], "imported": [], "exports": ["default", "skepGoes"], "hash": "2d711642" });
    assert_eq!(said, expected);
    for address in
        [format!("127.0.0.1:{port}"), format!("[::ffff:127.0.0.1]:{port}"), "169.254.169.254:80".into()]
    {
        for none in ["", "&none"] {
            let (_, text) = scene.bad(&format!("/reach?to={address}{none}"));
            let said: serde_json::Value = serde_json::from_str(&text).unwrap();
            for way in ["fetch", "connect", "unix"] {
                assert!(
                    said[way].as_str().is_some_and(|said| said.starts_with("refused: ")),
                    "{address}: {said}"
                );
            }
        }
    }
    assert_eq!(came.load(Ordering::SeqCst), 0);
    assert_eq!(scene.bad("/log").1, "logged");
    crate::harness::eventually("a tail event of loaded code", || {
        scene.bad("/heard").1.contains("logged inside").then_some(())
    });
}

#[test]
fn without_an_outside_loaded_code_has_none() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--egress-allow", "127.0.0.1/32"]);
    let scene = scene_on(serve, &loads(), LOADS);
    let (port, came) = door(
        TcpListener::bind("127.0.0.1:0").unwrap(),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into(),
    );
    let (_, text) = scene.bad(&format!("/reach?to=127.0.0.1:{port}&none"));
    assert!(text.contains("not permitted to access the internet"), "{text}");
    assert_eq!(came.load(Ordering::SeqCst), 0);
    let (_, text) = scene.bad(&format!("/reach?to=127.0.0.1:{port}"));
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said["fetch"], "ok", "{said}");
    assert_eq!(said["connect"], "[object Object]", "{said}");
}

#[test]
fn what_a_tenant_loads_goes_through_the_outbound_worker_of_its_namespace() {
    let serve = serve();
    serve.make_namespace("tenants");
    let tenant = r#"
        const SOURCE = `export default { fetch: () => fetch("http://outside.example/x") }`;
        export default { fetch: (_, env) => env.LOADER.load({
          compatibilityDate: "2026-07-01", mainModule: "m.js", modules: { "m.js": SOURCE },
        }).getEntrypoint().fetch("http://loaded/") };
    "#;
    let loader = json!({ "worker_loaders": [{ "binding": "LOADER" }] });
    deploy(&serve, "tenant", loader, tenant, &["--dispatch-namespace", "tenants"]);
    let out = "export default { fetch: ({ url }) => new Response('seen ' + url) }";
    deploy(&serve, "out", json!({}), out, &[]);
    let binding = json!({ "dispatch_namespaces": [
        { "binding": "D", "namespace": "tenants", "outbound": { "service": "out" } },
    ] });
    let code = "export default { fetch: (request, env) => env.D.get('tenant').fetch(request) }";
    deploy(&serve, "dispatcher", binding, code, &[]);
    assert_eq!(serve.get("dispatcher.main.localhost", "/").text(), "seen http://outside.example/x");
}

#[test]
fn a_worker_that_loads_under_ever_new_ids_keeps_to_its_memory() {
    let code = r#"
        const source = `import { abortIsolate } from "cloudflare:workers";
        let calls = 0; export default { async fetch(request) {
          const { pathname } = new URL(request.url);
          if (pathname === "/slow") await scheduler.wait(1500);
          if (pathname === "/abort") abortIsolate();
          return new Response(String(++calls));
        } }`;
        const code = { compatibilityDate: "2026-07-01", mainModule: "m.js", modules: { "m.js": source } };
        export default { async fetch(request, env) {
          const { pathname, searchParams } = new URL(request.url);
          const stub = env.LOADER.get(searchParams.get("id"), () => code).getEntrypoint();
          return stub.fetch("http://x" + pathname).catch(() => new Response("failed"));
        } };
    "#;
    let metadata = json!({ "bindings": [{ "type": "worker_loader", "name": "LOADER" }] });
    let scene = scene(&metadata, code, &[]);
    let ask = |path: &str| scene.bad(path).1;
    assert_eq!([ask("/?id=one"), ask("/?id=one")], ["1", "2"]);
    // Each in a request of its own; kept, they would take more than twice the memory that there is.
    for n in 0..300 {
        assert_eq!(ask(&format!("/?id=n{n}")), "1", "{n}");
    }
    assert_eq!([ask("/?id=n299"), ask("/?id=one")], ["2", "1"], "the last ones are kept, others not");
    // Nothing is left to let go where code went by itself.
    assert_eq!(ask("/abort?id=gone"), "failed");
    (0..40).for_each(|n| drop(ask(&format!("/?id=l{n}"))));
    assert_eq!(ask("/?id=gone"), "1");
    // What is let go while it is asked for something comes to its end.
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| ask("/slow?id=slow"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        (0..40).for_each(|n| drop(ask(&format!("/?id=m{n}"))));
        assert_eq!(slow.join().unwrap(), "1");
    });
    let said = scene.serve.output();
    assert!(!said.contains("terminated"), "{said}");
}
