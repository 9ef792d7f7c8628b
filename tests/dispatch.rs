//! Workers for Platforms: a dispatcher, its namespace, and the scripts in it.

use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve, serve_in};

const DISPATCHER: &str = r#"
export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const [, name, ...rest] = url.pathname.split("/");
    url.pathname = "/" + rest.join("/");
    try {
      const worker = env.DISPATCHER.get(name, {}, { outbound: { customer: name, plan: { tier: 1 } } });
      return await worker.fetch(new Request(url, request));
    } catch (error) {
      const status = error.message.startsWith("Worker not found") ? 404 : 500;
      return Response.json({ caught: error.message, name: error.name }, { status });
    }
  },
};
"#;

const TENANT: &str = r#"
export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    switch (url.pathname) {
      case "/throw": throw new TypeError("the tenant threw");
      case "/ws": {
        const [client, server] = Object.values(new WebSocketPair());
        server.accept();
        server.send("from the tenant");
        return new Response(null, { status: 101, webSocket: client });
      }
      case "/outside": return fetch("http://outside.example/path?q=1", { method: "POST", body: "sent" });
      case "/later": {
        await new Promise((resolve) => setTimeout(resolve, 20));
        return fetch(new Request("https://later.example/"));
      }
    }
    if (env.KV) await env.KV.put("who", "TEXT");
    const forged = [...request.headers.keys()].filter((name) => name.startsWith("x-skep"));
    return Response.json({
      text: "TEXT", path: url.pathname + url.search, cf: request.cf ?? null, forged, body: await request.text(),
      secret: env.SECRET ?? null, kv: (await env.KV?.get("who")) ?? null,
    });
  },
};
"#;

const OUTBOUND: &str = r#"
export default {
  async fetch(request, env) {
    const marks = [...request.headers.keys()].filter((name) => name.startsWith("x-skep"));
    const { url, method } = request;
    return Response.json({ url, method, marks, body: await request.text(), customer: env.customer ?? null, plan: env.plan ?? null });
  },
};
"#;

fn deploy(serve: &Serve, name: &str, code: &str, config: Value, args: &[&str]) {
    let mut all = json!({ "name": name, "main": "index.js", "compatibility_date": "2026-07-01" });
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let dir = serve.project(name, &[("index.js", code), ("wrangler.jsonc", &all.to_string())]);
    serve.wrangler(&dir, &[&["deploy"], args].concat());
}

fn dispatcher(serve: &Serve, binding: Value) {
    let mut all = json!({ "binding": "DISPATCHER", "namespace": "tenants" });
    all.as_object_mut().unwrap().extend(binding.as_object().unwrap().clone());
    deploy(serve, "dispatcher", DISPATCHER, json!({ "dispatch_namespaces": [all] }), &[]);
}

fn tenant(serve: &Serve, name: &str, config: Value) {
    deploy(serve, name, &TENANT.replace("TEXT", name), config, &["--dispatch-namespace", "tenants"]);
}

fn ask(serve: &Serve, path: &str) -> (u16, Value) {
    let answer = serve.get("dispatcher.main.localhost", path);
    (answer.status, answer.json())
}

#[test]
fn a_dispatcher_reaches_the_scripts_of_its_namespace() {
    let serve = serve();
    let dir = serve.project("empty", &[]);
    std::fs::create_dir_all(&dir).unwrap();
    let said = serve.wrangler(&dir, &["dispatch-namespace", "create", "tenants"]);
    assert!(said.contains("tenants"), "{said}");
    let twice = serve.try_wrangler(&dir, &["dispatch-namespace", "create", "tenants"], "");
    assert!(!twice.success && twice.text.contains("already exists"), "{}", twice.text);

    tenant(&serve, "first", json!({}));
    tenant(&serve, "second", json!({}));
    dispatcher(&serve, json!({}));

    let (status, said) = ask(&serve, "/first/some/path?q=1");
    assert_eq!(status, 200, "{said}");
    let expected = json!({
        "text": "first", "path": "/some/path?q=1", "cf": null, "forged": [], "body": "", "secret": null, "kv": null,
    });
    assert_eq!(said, expected, "no request.cf in untrusted mode, none of our headers");
    let posted = serve.send("POST", "dispatcher.main.localhost", "/second/x", &[], Some(b"sent")).json();
    assert_eq!((&posted["text"], &posted["body"]), (&json!("second"), &json!("sent")));

    // What a platform's code looks for.
    let (status, said) = ask(&serve, "/third/");
    assert_eq!((status, &said["caught"]), (404, &json!("Worker not found.")));
    let (_, said) = ask(&serve, "/first/throw");
    assert_eq!(said, json!({ "caught": "the tenant threw", "name": "TypeError" }));
    // A script of a namespace has no address of its own.
    assert_eq!(serve.get("first.main.localhost", "/").status, 404);

    let mut socket = serve.websocket("dispatcher.main.localhost", "/first/ws");
    assert_eq!(socket.read().unwrap().into_text().unwrap(), "from the tenant");

    // Redeployed without a gap, secrets kept; gone when deleted.
    let scripts = "/workers/dispatch/namespaces/tenants/scripts";
    let secret = json!({ "name": "SECRET", "text": "s3cret", "type": "secret_text" });
    assert_eq!(serve.call("PUT", &format!("{scripts}/first/secrets"), Some(&secret)).status, 200);
    assert_eq!(ask(&serve, "/first/").1["secret"], "s3cret");
    tenant(&serve, "first", json!({}));
    assert_eq!(ask(&serve, "/first/").1["secret"], "s3cret");
    let patched =
        serve.call("PUT", "/workers/dispatch/namespaces/tenants", Some(&json!({ "trusted_workers": true })));
    assert_eq!(patched.json()["result"]["trusted_workers"], true);
    assert_eq!(ask(&serve, "/first/").1["cf"]["colo"], "LOC", "trusted scripts see request.cf");
    assert_eq!(serve.call("DELETE", &format!("{scripts}/second"), None).status, 200);
    assert_eq!(ask(&serve, "/second/").0, 404);
    assert_eq!(serve.call("GET", &format!("{scripts}/second"), None).json()["errors"][0]["code"], 10092);

    // All of it is there after a restart, and the namespace goes with its scripts.
    let serve = serve_in(serve.stop("TERM"), &[]);
    assert_eq!(ask(&serve, "/first/").1["text"], "first");
    let said = serve.wrangler(&dir, &["dispatch-namespace", "list"]);
    assert!(said.contains("tenants"), "{said}");
    let said = serve.wrangler(&dir, &["dispatch-namespace", "rename", "tenants", "customers"]);
    assert!(said.contains("customers"), "{said}");
    assert_eq!(ask(&serve, "/first/").1["text"], "first", "a binding follows its namespace");
    serve.wrangler(&dir, &["dispatch-namespace", "delete", "customers"]);
    assert_eq!(ask(&serve, "/first/").0, 404);
    let gone = serve.call("GET", "/workers/dispatch/namespaces/customers", None);
    assert_eq!((gone.status, gone.json()["errors"][0]["code"].as_u64()), (404, Some(100_119)));
}

#[test]
fn requests_to_the_outside_go_through_the_outbound_worker() {
    let serve = serve();
    let dir = serve.project("empty", &[]);
    std::fs::create_dir_all(&dir).unwrap();
    serve.wrangler(&dir, &["dispatch-namespace", "create", "tenants"]);
    // Its cell runs before anybody names an outbound worker.
    tenant(&serve, "first", json!({}));
    dispatcher(&serve, json!({}));
    assert_eq!(ask(&serve, "/first/").0, 200);
    deploy(&serve, "out", OUTBOUND, json!({}), &[]);
    dispatcher(&serve, json!({ "outbound": { "service": "out", "parameters": ["customer", "plan"] } }));
    let (_, said) = ask(&serve, "/first/outside");
    let expected = json!({
        "url": "http://outside.example/path?q=1", "method": "POST", "marks": [], "body": "sent",
        "customer": "first", "plan": { "tier": 1 },
    });
    assert_eq!(said, expected);
    // Also what is fetched later, and each script with its own parameters.
    tenant(&serve, "second", json!({}));
    let (_, said) = ask(&serve, "/second/later");
    assert_eq!((&said["url"], &said["customer"]), (&json!("https://later.example/"), &json!("second")));
    // Those two have no network but that.
    if !serve.output().contains("held by less") {
        let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let apart = serve.cells().into_iter().filter(|cell| network(&cell.to_string()) != network("self"));
        assert!(apart.count() >= 2);
    }
}

const RPC_TENANT: &str = r#"
import { WorkerEntrypoint, RpcTarget } from "cloudflare:workers";

class Counter extends RpcTarget {
  #value = 0;
  add(n) { return (this.#value += n); }
}

export default class extends WorkerEntrypoint {
  get greeting() { return "hello"; }
  sum(a, b) { return a + b; }
  counter() { return new Counter(); }
  async back(call) { return await call("called back"); }
  throws() { throw new RangeError("on purpose"); }
  async outside() { return (await fetch("http://outside.example/rpc")).json(); }
  async later() { await scheduler.wait(20); return (await fetch("http://outside.example/later")).json(); }
  props() { return [this.ctx.props ?? null, Object.keys(this.ctx.props ?? {})]; }
  map() { return new Map([["date", new Date(0)]]); }
  fetch() { return new Response("fetched"); }
}
"#;

const RPC_DISPATCHER: &str = r#"
const attempt = (f) => Promise.resolve().then(f).then((value) => value, ({ name, message }) => ({ name, message }));

export default {
  async fetch(request, env) {
    const tenant = env.DISPATCHER.get("tenant", {}, { outbound: { customer: "c" } });
    const counter = await tenant.counter();
    await counter.add(1);
    await scheduler.wait(50);
    const cases = {
      sum: () => tenant.sum(1, 2),
      property: () => tenant.greeting,
      counter: () => counter.add(2),
      pipelined: () => tenant.counter().add(5),
      back: () => tenant.back((text) => text.toUpperCase()),
      map: async () => [...(await tenant.map())].map(([k, v]) => [k, v.getTime()]),
      throws: () => tenant.throws(),
      nothing: () => tenant.nothing(),
      inherited: () => tenant.toString2(),
      props: () => tenant.props(),
      outside: () => tenant.outside(),
      later: () => tenant.later(),
      awaited: async () => (await (await tenant).fetch("http://x/")).text(),
      absent: () => env.DISPATCHER.get("absent").sum(1, 2),
      undeclared: () => env.DISPATCHER.get("tenant", {}, { outbound: { other: 1 } }).sum(1, 2),
      many: async () => (await Promise.all(Array.from({ length: 30 }, (_, n) => tenant.sum(n, 1)))).reduce((a, b) => a + b),
    };
    const results = {};
    for (const [name, run] of Object.entries(cases)) results[name] = await attempt(run);
    return Response.json(results);
  },
};
"#;

#[test]
fn a_dispatcher_calls_methods_of_the_scripts_of_its_namespace() {
    let serve = serve();
    let dir = serve.project("empty", &[]);
    std::fs::create_dir_all(&dir).unwrap();
    serve.wrangler(&dir, &["dispatch-namespace", "create", "tenants"]);
    deploy(&serve, "out", OUTBOUND, json!({}), &[]);
    deploy(&serve, "tenant", RPC_TENANT, json!({}), &["--dispatch-namespace", "tenants"]);
    let namespace = json!({
        "binding": "DISPATCHER", "namespace": "tenants", "outbound": { "service": "out", "parameters": ["customer"] },
    });
    deploy(&serve, "dispatcher", RPC_DISPATCHER, json!({ "dispatch_namespaces": [namespace] }), &[]);

    let (status, said) = ask(&serve, "/");
    assert_eq!(status, 200, "{said}\n{}", serve.output());
    let error = |name: &str, message: &str| json!({ "name": name, "message": message });
    let outside = |path: &str| {
        json!({
            "url": format!("http://outside.example/{path}"), "method": "GET", "marks": [], "body": "",
            "customer": "c", "plan": null,
        })
    };
    let expected = json!({
        "sum": 3, "property": "hello", "counter": 3, "pipelined": 5, "back": "CALLED BACK", "map": [["date", 0]],
        "throws": error("RangeError", "on purpose"),
        "nothing": error("TypeError", "The RPC receiver does not implement the method \"nothing\"."),
        "inherited": error("TypeError", "The RPC receiver does not implement the method \"toString2\"."),
        "props": [{}, []], "outside": outside("rpc"), "later": outside("later"), "awaited": "fetched",
        "absent": error("Error", "Worker not found."),
        "undeclared": error(
            "Error", "The outbound parameter \"other\" is not declared in the dispatch namespace binding.",
        ),
        "many": 465,
    });
    assert_eq!(said, expected, "{}", serve.output());

    // Without an outbound worker the default entrypoint is called as it is.
    let plain = json!({ "binding": "DISPATCHER", "namespace": "tenants" });
    let code = RPC_DISPATCHER.replace("outbound: { customer: \"c\" }", "");
    deploy(&serve, "dispatcher", &code, json!({ "dispatch_namespaces": [plain] }), &[]);
    let (_, said) = ask(&serve, "/");
    for name in
        ["sum", "property", "counter", "pipelined", "back", "map", "throws", "nothing", "awaited", "absent"]
    {
        assert_eq!(said[name], expected[name], "{name}");
    }
}

#[test]
fn a_dispatcher_says_how_long_a_call_may_take() {
    let serve = serve();
    let dir = serve.project("empty", &[]);
    std::fs::create_dir_all(&dir).unwrap();
    serve.wrangler(&dir, &["dispatch-namespace", "create", "tenants"]);
    let code = r#"import { WorkerEntrypoint } from "cloudflare:workers";
    export default class extends WorkerEntrypoint {
        spin() { for (;;); }
        fetch(request) {
            if (new URL(request.url).pathname === "/spin") this.spin();
            return new Response("done");
        }
    }"#;
    deploy(&serve, "tenant", code, json!({}), &["--dispatch-namespace", "tenants"]);
    let code = r#"export default { async fetch(request, env) {
        try {
            const limits = { cpuMs: 100, subRequests: 5 };
            const tenant = env.DISPATCHER.get("tenant", {}, { limits });
            if (new URL(request.url).pathname === "/call") await tenant.spin();
            return await tenant.fetch(request);
        } catch ({ name, message }) {
            return Response.json({ name, message }, { status: 503 });
        }
    } };"#;
    let namespace = json!({ "binding": "DISPATCHER", "namespace": "tenants" });
    deploy(&serve, "dispatcher", code, json!({ "dispatch_namespaces": [namespace] }), &[]);
    assert_eq!(serve.get("dispatcher.main.localhost", "/").text(), "done");
    let started = std::time::Instant::now();
    let (status, said) = ask(&serve, "/spin");
    assert_eq!(
        (status, said),
        (503, json!({ "name": "Error", "message": "Worker exceeded CPU time limit." }))
    );
    // The script's own limit is 30 s.
    assert!(started.elapsed() < std::time::Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(serve.get("dispatcher.main.localhost", "/").text(), "done", "it is there again");
    // A method's connection breaks off.
    let started = std::time::Instant::now();
    let (status, said) = ask(&serve, "/call");
    assert_eq!((status, &said["name"]), (503, &json!("Error")), "{said}");
    assert!(started.elapsed() < std::time::Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(serve.get("dispatcher.main.localhost", "/").text(), "done");
}
