//! `worker_loaders`: code that a worker loads while it runs, under `skep dev` and on a node.

mod node;

use serde_json::json;

use crate::harness::{dev, small_project};

const CONFIG: &str = r#"{
  "name": "loading", "main": "index.js", "compatibility_date": "2026-07-01",
  "worker_loaders": [{ "binding": "LOADER" }], "vars": { "OWN": "mine" },
}"#;

const CODE: &str = r#"
import { WorkerEntrypoint } from "cloudflare:workers";

const code = (source, rest) => ({
  compatibilityDate: "2026-07-01", mainModule: "main.js", modules: { "main.js": source }, ...rest,
});
const COUNTER = `
  import { WorkerEntrypoint } from "cloudflare:workers";
  let calls = 0;
  export class Named extends WorkerEntrypoint { sum(a, b) { return a + b + this.ctx.props.more; } }
  export default { fetch: (_, env) => Response.json({ calls: ++calls, env: Object.keys(env), greeting: env.GREETING }) };
`;
const OUTSIDE = `
  export default { async fetch(request) {
    try { return new Response(await (await fetch(request.headers.get("x-to"))).text()); }
    catch (error) { return new Response("refused: " + error.message); }
  } };
`;

/** What loaded code asks the outside, where its parent wants to see it. */
export class Outside extends WorkerEntrypoint {
  fetch(request) { return new Response("seen: " + request.url); }
}

export default {
  async fetch(request, env, ctx) {
    const { pathname, origin } = new URL(request.url);
    if (pathname === "/own") return new Response("the parent");
    const of = async (options) => {
      const stub = env.LOADER.load(code(OUTSIDE, options)).getEntrypoint();
      return (await stub.fetch("http://loaded/", { headers: { "x-to": `${origin}/own` } })).text();
    };
    if (pathname === "/outside") {
      return Response.json({
        inherited: await of({}), none: await of({ globalOutbound: null }),
        given: await of({ globalOutbound: ctx.exports.Outside({}) }),
      });
    }
    if (pathname === "/experimental") {
      const said = async (options) => {
        try { return await (await env.LOADER.load(code(COUNTER, options)).getEntrypoint().fetch("http://loaded/")).text(); }
        catch (error) { return error.message; }
      };
      return Response.json([
        await said({ allowExperimental: true }), await said({ compatibilityFlags: ["experimental"] }),
      ]);
    }
    let made = 0;
    const get = (id) => env.LOADER.get(id, async () => (made++, code(COUNTER, { env: { GREETING: "hello" } })));
    const ask = async (id) => (await get(id).getEntrypoint().fetch("http://loaded/")).json();
    return Response.json({
      answers: [await ask("one"), await ask("one"), await ask("two")], made,
      sum: await get("one").getEntrypoint("Named", { props: { more: 10 } }).sum(1, 2),
    });
  },
};
"#;

#[test]
fn a_worker_runs_code_that_it_loads_once_for_each_id() {
    let project = small_project(CONFIG, &[("index.js", CODE)]);
    let skep = dev(project.path());
    let answer = |calls: u32| json!({ "calls": calls, "env": ["GREETING"], "greeting": "hello" });
    let expected = json!({ "answers": [answer(1), answer(2), answer(1)], "made": 2, "sum": 13 });
    assert_eq!(skep.get("/").json(), expected);
}

#[test]
fn loaded_code_has_the_outside_of_its_parent_or_none_or_what_it_is_given() {
    let project = small_project(CONFIG, &[("index.js", CODE)]);
    let skep = dev(project.path());
    let seen = skep.get("/outside").json();
    assert_eq!(seen["inherited"], "the parent", "{seen}");
    assert!(seen["none"].as_str().is_some_and(|text| text.starts_with("refused: ")), "{seen}");
    let given = seen["given"].as_str().unwrap_or_default();
    assert!(given.starts_with("seen: http://") && given.ends_with("/own"), "{seen}");
}

#[test]
fn loaded_code_has_no_experimental_features_that_its_parent_has_not() {
    let project = small_project(CONFIG, &[("index.js", CODE)]);
    let skep = dev(project.path());
    let said = skep.get("/experimental").json();
    assert_eq!(
        said[0],
        "'allowExperimental' is only allowed when the calling worker has the 'experimental' compat flag set."
    );
    assert!(said[1].as_str().is_some_and(|text| text.contains("experimental")), "{said}");
    assert!(said[1].as_str().is_some_and(|text| !text.contains("calls")), "{said}");
}
