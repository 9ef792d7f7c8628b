//! Code that a script loads while it runs: each of its invocations is counted for itself.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::hidden::{HIDES, HIDES_METHODS};
use super::{counting, node, outside, own};
use crate::harness::serve::Serve;

/// Loads the module `loaded.js` under an id, or another one if the query says so, and lets it answer.
const LOADS: &str = r#"
import { WorkerEntrypoint } from "cloudflare:workers";
export class Given extends WorkerEntrypoint {
  nothing() {}
  fetch() { return new Response("given"); }
}
export default {
  async fetch(request, env, ctx) {
    const query = new URL(request.url).searchParams;
    const given = JSON.parse(query.get("code") ?? "{}");
    const code = {
      compatibilityDate: "2026-07-01", mainModule: "src/main.js",
      modules: { "src/main.js": SOURCE, "beside.js": "export const beside = (to) => fetch(to);" },
      env: { NAMED: ctx.exports.Given({}) }, ...given,
    };
    const id = query.get("id");
    try {
      const worker = id === null ? env.LOADER.load(code) : env.LOADER.get(id, async () => code);
      return await worker.getEntrypoint().fetch(request);
    } catch (error) { return new Response(String(error), { status: 500 }); }
  },
};
"#;

const COUNTS: &str = r#"
import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";
import { beside } from "../beside.js";
const often = async (what) => {
  let times = 0;
  for (; times < 20; times++) {
    try { await what(times); } catch ({ name, message }) { return { times, name, message }; }
  }
  return { times };
};
export class Own extends WorkerEntrypoint {
  nothing() {}
  work(to) { return often(() => fetch(to)); }
}
export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    const to = url.searchParams.get("to");
    const work = {
      "/fetch": () => fetch(to),
      "/beside": () => beside(to),
      "/socket": () => new WebSocket(to.replace("http", "ws")).addEventListener("error", () => {}),
      "/redirects": () => fetch(to + "/redirect"),
      "/given": () => env.NAMED.fetch("http://given/"),
      "/methods": () => env.NAMED.nothing(),
      "/exports": () => ctx.exports.Own.nothing(),
      "/late": async () => { await new Promise((resolve) => setTimeout(resolve, 1)); await fetch(to); },
    }[url.pathname];
    if (work) return Response.json(await often(work));
    if (url.pathname === "/each") return Response.json([await ctx.exports.Own.work(to), await ctx.exports.Own.work(to)]);
    return Response.json({ env: Object.keys(env), als: typeof (await import("node:async_hooks")).AsyncLocalStorage });
  },
};
"#;

fn upload(serve: &Serve, loaded: &str) {
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": { "subrequests": 7 },
        "bindings": [{ "type": "worker_loader", "name": "LOADER" }],
    });
    let answer = serve.upload("loads", &metadata, &LOADS.replace("SOURCE", &json!(loaded).to_string()));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn ask(serve: &Serve, path: &str, to: &str, code: &Value) -> Value {
    let code: String = code.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = serve.get("loads.main.localhost", &format!("{path}?to={to}&id={code}&code={code}"));
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{path}: {}", answer.text()))
}

#[test]
fn each_invocation_of_loaded_code_may_make_as_many_requests_as_its_script() {
    let serve = node();
    let (to, came) = counting();
    upload(&serve, COUNTS);
    for code in [
        json!({}),
        json!({ "compatibilityDate": "2024-05-01", "compatibilityFlags": ["new_module_registry", "enable_ctx_exports"] }),
        json!({ "compatibilityFlags": ["nodejs_compat", "no_nodejs_als"] }),
    ] {
        let ask = |path: &str| ask(&serve, path, &to, &code);
        assert_eq!(ask("/"), json!({ "env": ["NAMED"], "als": "function" }));
        for path in ["/fetch", "/beside", "/late", "/socket", "/fetch"] {
            let said = ask(path);
            assert_eq!((&said["times"], &said["message"]), (&json!(7), &json!(outside())), "{path}: {said}");
        }
        for path in ["/given", "/methods", "/exports"] {
            let said = ask(path);
            assert_eq!((&said["times"], &said["message"]), (&json!(7), &json!(own())), "{path}: {said}");
        }
        assert_eq!(ask("/redirects")["times"], 4);
        let before = came.load(Ordering::SeqCst);
        let each = ask("/each");
        assert_eq!((&each[0]["times"], &each[1]["times"]), (&json!(7), &json!(7)), "{each}");
        assert_eq!(came.load(Ordering::SeqCst) - before, 14);
    }
    for (most, times) in [(3, 3), (300, 7)] {
        let code = json!({ "limits": { "subRequests": most } });
        assert_eq!(ask(&serve, "/fetch", &to, &code)["times"], times);
    }
}

#[test]
fn loaded_code_that_hides_its_requests_is_bounded_too() {
    let serve = node();
    let (to, came) = counting();
    upload(&serve, HIDES);
    let code = json!({});
    let ask = |path: &str| ask(&serve, path, &to, &code);
    assert_eq!(ask("/"), json!(["NAMED"]), "what we count by is not on env");
    assert_eq!(ask("/plain"), 7);
    let before = came.load(Ordering::SeqCst);
    let start = std::time::Instant::now();
    let said = ask("/hidden");
    let sent = came.load(Ordering::SeqCst) - before;
    let windows = 2 + start.elapsed().as_secs() as usize / 10;
    assert!(sent <= 10_007 * windows, "{said}, {sent} in {:?}", start.elapsed());
    assert_eq!(ask("/patched"), 7);
    upload(&serve, HIDES_METHODS);
    for path in ["/plain", "/prototype", "/receiver", "/property", "/super", "/apply", "/plain"] {
        let said = ask(path);
        assert!(said.as_u64().is_some_and(|times| times <= 7), "{path}: {said}");
    }
}

#[test]
fn no_module_of_loaded_code_takes_the_place_of_one_that_counts() {
    let serve = node();
    let (to, _came) = counting();
    upload(&serve, COUNTS);
    let main = "export default { fetch: () => new Response() };";
    for name in ["node:async_hooks", "cloudflare:workers", "./node:async_hooks"] {
        let code = json!({ "mainModule": "main.js", "modules": { "main.js": main, name: { "js": main } } });
        let code: String = code.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = serve.get("loads.main.localhost", &format!("/?to={to}&code={code}"));
        assert_eq!(
            (answer.status, answer.text().contains("must not contain ':'")),
            (500, true),
            "{}",
            answer.text()
        );
    }
}
