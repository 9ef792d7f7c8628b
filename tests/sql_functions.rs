//! Functions of SQL that take long for what they are given: nobody looks at the clock while one runs.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::scene::{NEIGHBOUR, scene};
use crate::storms::alone;

/// Each ran for half a minute to days.
const FUNCTIONS: &str = r#"
const zeros = "hex(zeroblob(450000))", needle = "hex(zeroblob(200000)) || '1'";
const counted = (name) => `(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) SELECT json_group_object('${name}' || i, 1) FROM n)`;
const signs = "(WITH RECURSIVE n(i) AS (SELECT 4096 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT group_concat(char(i), '') FROM n)";
const last = "replace(hex(zeroblob(200000)), '00', char(50000))";
const queries = {
  replace: `length(replace(${zeros}, ${needle}, ''))`,
  instr: `instr(${zeros}, ${needle})`,
  trim: `length(trim(${last}, ${signs}))`,
  rtrim: `length(rtrim(${last}, ${signs}))`,
  unhex: `length(unhex(${last}, ${signs}))`,
  patch: `length(json_patch(${counted("a")}, ${counted("b")}))`,
};
export default {
  async fetch(request, env) {
    if (new URL(request.url).pathname === "/") return new Response("fine");
    const ask = ([name, query], n) =>
      env["D" + (n % 2)].prepare(`SELECT ${query} x`).first("x").then((x) => [name, x], (error) => [name, error.message]);
    return Response.json(Object.fromEntries(await Promise.all(Object.entries(queries).map(ask))));
  },
};
"#;

#[test]
fn functions_of_sql_take_the_time_of_reading_what_they_are_given() {
    let _alone = alone();
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    let database = |name: &str| {
        let made = scene.serve.call("POST", "/d1/database", Some(&json!({ "name": name })));
        json!({ "type": "d1", "name": name, "id": made.json()["result"]["uuid"] })
    };
    let mut metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    metadata["bindings"] = json!([database("D0"), database("D1")]);
    assert_eq!(scene.serve.upload("bad", &metadata, FUNCTIONS).status, 200);
    let start = Instant::now();
    let (status, text) = scene.meanwhile(|| scene.bad("/all"));
    let took = start.elapsed();
    assert_eq!(status, 200, "{text}");
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    let refused = "D1_ERROR: D1 DB storage operation exceeded timeout which caused object to be reset.";
    assert!(said["patch"].as_str().is_some_and(|said| said.starts_with(refused)), "{said}");
    for (name, right) in [("replace", 900_000), ("instr", 0), ("trim", 0), ("rtrim", 0), ("unhex", 0)] {
        assert_eq!(said[name], right, "{said}");
    }
    // A second where nothing else runs.
    assert!(took < Duration::from_secs(25), "{took:?}");
}
