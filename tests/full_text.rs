//! Searches of full-text indexes in D1: they are done in processes that can be ended, as nobody looks at the clock in them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::scene::{NEIGHBOUR, Scene, scene};
use crate::storms::alone;

const TIMED_OUT: &str = "D1 DB storage operation exceeded timeout which caused object to be reset.";
const TOO_MUCH: &str = "D1 DB's isolate exceeded its memory limit and was reset.";

/// Each would search for minutes or hours in one step, or takes gigabytes: a text of a single word, a hundred thousand times.
const BOMBS: &str = r#"
const words = (count) => "a ".repeat(count);
const bombs = {
  phrase: ['SELECT count(*) c FROM t WHERE t MATCH ?', `"${words(20000)}"`],
  valued: ['SELECT count(*) c FROM t(?)', `NEAR(${words(250)})`],
  ranked: ["SELECT rowid FROM t WHERE t MATCH ? ORDER BY rank", `NEAR(${words(300)})`],
  snippet: ["SELECT snippet(t, 0, '', '', '', 5) FROM t WHERE t MATCH ?", "a"],
};
export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    const name = pathname.slice(1);
    if (name === "fill") {
      for (const d of [env.D0, env.D1]) {
        await d.batch([
          d.prepare("CREATE VIRTUAL TABLE t USING fts5(a)"),
          d.prepare("INSERT INTO t VALUES (?)").bind(words(100000)),
        ]);
      }
      return new Response("filled");
    }
    const run = ([sql, text], n) =>
      env["D" + (n % 2)].prepare(sql).bind(text).first().then((x) => x, (error) => error.message);
    if (name === "writes") {
      return new Response(await run(["DELETE FROM t WHERE t MATCH ?", `NEAR(${words(60)})`], 1));
    }
    const n = Object.keys(bombs).indexOf(name);
    if (n >= 0) return Response.json(await run(bombs[name], n));
    return new Response("fine");
  },
};
"#;

/// Searches as an application does.
const SEARCHER: &str = r#"
export default {
  async fetch(request, { DB }) {
    const { pathname } = new URL(request.url);
    const search = DB.prepare("SELECT highlight(t, 0, '[', ']') h, ?2 x FROM t WHERE t MATCH ?1 ORDER BY rank").bind("fox", Infinity);
    if (pathname === "/set") {
      const made = [
        DB.prepare("CREATE VIRTUAL TABLE t USING fts5(a)"),
        DB.prepare("INSERT INTO t VALUES ('the quick fox'), ('no such animal'), ('fox, fox and ''Ä'' fox')"),
        search,
        DB.prepare("DELETE FROM t WHERE t MATCH 'animal'"),
      ];
      return Response.json((await DB.batch(made)).map((each) => each.results));
    }
    if (pathname === "/again") {
      const made = ["DROP TABLE t", "CREATE TABLE u (x)", "CREATE VIRTUAL TABLE t USING fts5(a, b)", "INSERT INTO t VALUES ('', 'no fox'), ('a fox', '')"];
      await DB.batch(made.map((sql) => DB.prepare(sql)));
    }
    if (pathname === "/pair") {
      const pair = await DB.batch([search, DB.prepare("SELECT count(*) c FROM t")]);
      return Response.json(pair.map((each) => each.results));
    }
    if (pathname === "/wrong") {
      return new Response(await DB.prepare("SELECT a FROM t WHERE t MATCH 'a AND'").all().catch((error) => error.message));
    }
    const { results, meta } = await search.all();
    return Response.json({ found: results.map((row) => row.h), read: meta.rows_read > 0, raw: await search.raw({ columnNames: true }) });
  },
};
"#;

fn with_databases(scene: &Scene, script: &str, code: &str, names: &[(&str, &str)]) {
    let mut metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    let made = names.iter().map(|(binding, name)| {
        let made = scene.serve.call("POST", "/d1/database", Some(&json!({ "name": name })));
        json!({ "type": "d1", "name": binding, "id": made.json()["result"]["uuid"] })
    });
    metadata["bindings"] = made.collect();
    assert_eq!(scene.serve.upload(script, &metadata, code).status, 200);
}

fn found() -> Value {
    json!(["[fox], [fox] and 'Ä' [fox]", "the quick [fox]"])
}

#[test]
fn searches_find_what_they_find_at_cloudflare() {
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    with_databases(&scene, "search", SEARCHER, &[("DB", "db")]);
    let get = |path: &str| scene.serve.get("search.main.localhost", path);
    let rows = json!([{ "h": found()[0], "x": null }, { "h": found()[1], "x": null }]);
    assert_eq!(get("/set").json(), json!([[], [], rows, []]), "with what is not committed yet");
    for _ in 0..3 {
        let said = get("/").json();
        assert_eq!((&said["found"], &said["read"]), (&found(), &json!(true)), "{said}");
        let raw = json!([["h", "x"], [found()[0], null], [found()[1], null]]);
        assert_eq!(said["raw"], raw);
        assert_eq!(get("/pair").json(), json!([rows, [{ "c": 2 }]]));
        assert_eq!(get("/wrong").text(), "D1_ERROR: fts5: syntax error near \"\": SQLITE_ERROR");
    }
    assert_eq!(get("/again").json()["found"], json!(["", "a [fox]"]), "of another table with that name");
}

#[test]
fn searches_without_end_are_ended_and_hold_nobody_up() {
    let _alone = alone();
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    with_databases(&scene, "bad", BOMBS, &[("D0", "d0"), ("D1", "d1")]);
    with_databases(&scene, "search", SEARCHER, &[("DB", "db")]);
    assert_eq!(scene.bad("/fill"), (200, "filled".into()));
    assert_eq!(scene.serve.get("search.main.localhost", "/set").status, 200);
    let start = Instant::now();
    let bombs = ["phrase", "valued", "ranked", "snippet"];
    scene.meanwhile(|| {
        std::thread::scope(|scope| {
            let bad = &scene;
            let asked = bombs.map(|bomb| scope.spawn(move || bad.bad(&format!("/{bomb}")).1));
            let mut searched = 0;
            while !asked.iter().all(|one| one.is_finished()) {
                let said = scene.serve.get("search.main.localhost", "/").json();
                assert_eq!(said["found"], found(), "{said}");
                searched += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(searched > 5, "{searched} in {:?}", start.elapsed());
            for (one, bomb) in asked.into_iter().zip(bombs) {
                let said = one.join().unwrap();
                // The phrase takes memory, too: which ends it is a matter of the processor.
                let ends = [Some(TIMED_OUT), (bomb == "phrase").then_some(TOO_MUCH)];
                assert!(
                    ends.into_iter().flatten().any(|end| said == format!("\"D1_ERROR: {end}\"")),
                    "{bomb}: {said}"
                );
            }
        });
    });
    // Their processes are gone.
    eventually("no process that searches a database of the hostile script", || {
        let searching = scene.serve.children().into_iter().filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|argument| argument == b"__search")
        });
        (searching.count() <= 1).then_some(())
    });
}
