//! Scripts that hide what they ask of others.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::{counting, node};
use crate::harness::serve::{FORM, form};

pub(super) const HIDES: &str = r#"
import { AsyncLocalStorage } from "node:async_hooks";
const elsewhere = AsyncLocalStorage.snapshot();
const plain = globalThis.fetch;
const count = async (what) => {
  for (let n = 0; n < 15_000; n++) {
    let said;
    try { said = await what(); } catch { return n; }
    // Ten thousand answers that nobody has read are a quarter of a gigabyte in the engine.
    await said.body?.cancel();
  }
  return "all";
};
const main = {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    const to = url.searchParams.get("to");
    switch (url.pathname) {
      case "/inner": return fetch(to);
      // Before the application came, nothing was left to be found.
      case "/plain": return Response.json(await count(() => plain(to)));
      case "/patched":
        AsyncLocalStorage.prototype.getStore = () => ({ left: 1e9 });
        AsyncLocalStorage.prototype.run = (store, then, ...args) => then(...args);
        Reflect.apply = () => new Response("");
        Object.prototype.left = 1e9;
        const said = await count(() => fetch(to));
        delete Object.prototype.left;
        return Response.json(said);
      case "/hidden": {
        const forged = () => Object.create(Object.getPrototypeOf(ctx));
        const inner = () => new Request("http://x/inner?to=" + to);
        const ways = [
          () => fetch(to),
          () => main.fetch(inner(), env, forged()),
          () => main.fetch(inner(), env, ctx),
        ];
        const sent = await Promise.all(Array.from({ length: 60 }, (_, n) => count(() => elsewhere(ways[n % 3]))));
        return Response.json(sent);
      }
    }
    return Response.json(Object.keys(env));
  },
};
export default main;
"#;

#[test]
fn who_hides_his_requests_is_bounded_too() {
    let serve = node();
    let (to, came) = counting();
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": { "subrequests": 5 },
    });
    assert_eq!(serve.upload("hides", &metadata, HIDES).status, 200);
    let ask = |path: &str| serve.get("hides.main.localhost", &format!("{path}?to={to}")).json();
    assert_eq!(ask("/"), json!([]), "what we count by is not on env");
    assert_eq!(ask("/plain"), 5);
    // 60 at once, each of which would send 15,000.
    let before = came.load(Ordering::SeqCst);
    let start = std::time::Instant::now();
    let said = ask("/hidden");
    let sent = came.load(Ordering::SeqCst) - before;
    let windows = 2 + start.elapsed().as_secs() as usize / 10;
    assert!(sent <= 10_005 * windows, "{said}, {sent} in {:?}", start.elapsed());
    // Last, as it does not repair what it breaks.
    assert_eq!(ask("/patched"), 5);
}

pub(super) const HIDES_METHODS: &str = r#"
import { RpcProperty, ServiceStub, WorkerEntrypoint, waitUntil } from "cloudflare:workers";
import { connect } from "cloudflare:sockets";
export class Named extends WorkerEntrypoint { nothing() {} }
/** How many calls of 30 work. */
const count = async (call) => {
  for (let n = 0; n < 30; n++) { try { await call(); } catch { return n; } }
  return "all";
};
const stubs = ServiceStub.prototype;
/** Ways to a method that are not the one that is there. */
const ways = {
  plain: (env) => () => env.NAMED.nothing(),
  prototype(env) {
    const attempts = [
      () => Object.setPrototypeOf(stubs, Object.prototype), () => Reflect.setPrototypeOf(stubs, null),
      () => { stubs.__proto__ = Object.prototype; }, () => Object.setPrototypeOf(Object.getPrototypeOf(stubs), null),
      () => Object.prototype.__lookupSetter__("__proto__").call(stubs, null),
    ];
    for (const attempt of attempts) { try { attempt(); } catch {} }
    return () => env.NAMED.nothing();
  },
  // Whoever is asked for the name while ours is out of the way would get the engine's own.
  receiver(env) {
    let got;
    const grab = () => { got ??= env.NAMED.nothing; };
    for (const receiver of [
      new Proxy(env.NAMED, { get() { grab(); }, getOwnPropertyDescriptor() { grab(); }, getPrototypeOf() { grab(); return stubs; } }),
      { __proto__: stubs, get evil() { grab(); return 1; } },
    ]) {
      for (const from of [stubs, Object.getPrototypeOf(stubs), env.NAMED]) { try { Reflect.get(from, "evil", receiver); } catch {} }
    }
    Object.defineProperty(stubs, "evil", { get: grab, configurable: true });
    try { Reflect.get(Object.getPrototypeOf(stubs), "evil", env.NAMED); } catch {}
    delete stubs.evil;
    return () => (got ?? env.NAMED.nothing)();
  },
  // What is behind the proxy.
  property(env) {
    let got;
    for (const trap of ["has", "getOwnPropertyDescriptor", "ownKeys", "isExtensible", "getPrototypeOf", "construct", "deleteProperty", "set"]) {
      Object.defineProperty(Object.prototype, trap, { configurable: true, get() { return (target) => { if (typeof target === "function") got ??= target; return undefined; }; } });
      for (const use of [() => "x" in env.NAMED.nothing, () => Object.keys(env.NAMED.nothing), () => Object.getPrototypeOf(env.NAMED.nothing), () => delete env.NAMED.nothing.x]) { try { use(); } catch {} }
      delete Object.prototype[trap];
    }
    Object.defineProperty(RpcProperty.prototype, "self", { configurable: true, get() { return this; } });
    const plain = RpcProperty.prototype.then;
    RpcProperty.prototype.then = function (...args) { got ??= this; return plain.apply(this, args); };
    const self = env.NAMED.nothing.self;
    try { env.NAMED.nothing.then(() => {}, () => {}); } catch {}
    RpcProperty.prototype.then = plain;
    return () => (got ?? self ?? env.NAMED.nothing)();
  },
  super(env) {
    class Sub { static get() { return super.nothing; } }
    Object.setPrototypeOf(Sub, env.NAMED);
    return () => (Sub.get() ?? env.NAMED.nothing)();
  },
  apply: (env) => () => Function.prototype.call.call(env.NAMED.nothing, env.NAMED),
};
export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    return Response.json(await count(ways[pathname.slice(1)](env)));
  },
};
"#;

#[test]
fn who_hides_his_calls_of_methods_is_counted_as_well() {
    let serve = node();
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": { "subrequests": 9 },
        "bindings": [{ "type": "service", "name": "NAMED", "service": "hides", "entrypoint": "Named" }],
    });
    let answer = serve.upload("hides", &metadata, HIDES_METHODS);
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Twice, as attempts may have broken something.
    for path in ["plain", "prototype", "receiver", "property", "super", "apply", "plain"] {
        let said = serve.get("hides.main.localhost", &format!("/{path}")).json();
        let few = said.as_u64().is_some_and(|times| times <= 9);
        assert!(few, "{path}: {said}");
    }
}

#[test]
fn no_module_takes_the_place_of_one_that_counts() {
    let serve = node();
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    let code = "export default { fetch: () => new Response() };";
    for name in
        ["cloudflare:workers", "node:async_hooks", "skep-limits.js", "skep-entry.js", "skep-internal:limits"]
    {
        let form = form(&metadata, &[("index.js", code), (name, "export const visited = 1;")]);
        let answer = serve.own_call("PUT", "/workers/scripts/takes", &[("content-type", FORM)], Some(&form));
        assert_eq!((answer.status, &answer.json()["errors"][0]["code"]), (400, &json!(10021)), "{name}");
    }
}
