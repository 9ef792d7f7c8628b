//! What takes memory or disk of the node itself, outside of every process of a script: a bound for it, and a neighbour that notices nothing.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::harness::scene::{NEIGHBOUR, Scene, scene};
use crate::harness::serve::FORM;
use crate::harness::{Ended, eventually};
use crate::storms::{alone, memory};

/// Does `attack` beside the neighbour; by how many MB the node had grown at most.
pub fn grown<T>(scene: &Scene, attack: impl FnOnce() -> T) -> (T, u64) {
    let (before, most, over) = (memory(scene), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                most.fetch_max(memory(scene), Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let ended = Ended(&over);
        let got = scene.meanwhile(attack);
        drop(ended);
        (got, most.load(Ordering::SeqCst).saturating_sub(before) / 1000)
    })
}

const QUERIES: &str = r#"
const count = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 100000000) ";
const gathered = Array.from({ length: 90 }, (_, n) => `length(group_concat(hex(zeroblob(450 + ${n}))))`);
const queries = {
  gather: count.replace("100000000", "1800") + "SELECT " + gathered,
  sort: count + "SELECT length(z) FROM (SELECT zeroblob(1800000) || '' z, random() k FROM c ORDER BY k) LIMIT 1",
};
export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1), query = queries[name];
    if (!query) return new Response("fine");
    const ask = (n) => env["D" + (n % 3)].prepare(query).all().then(() => "done", (error) => error.message);
    const many = { gather: 12, sort: 4 };
    return Response.json(await Promise.all(Array.from({ length: many[name] }, (_, n) => ask(n))));
  },
};
"#;

#[test]
fn queries_that_gather_or_sort_without_end_take_what_a_query_may() {
    let _alone = alone();
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    let database = |name: &str| {
        let made = scene.serve.call("POST", "/d1/database", Some(&json!({ "name": name })));
        json!({ "type": "d1", "name": name, "id": made.json()["result"]["uuid"] })
    };
    let mut metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    metadata["bindings"] = json!([database("D0"), database("D1"), database("D2")]);
    assert_eq!(scene.serve.upload("bad", &metadata, QUERIES).status, 200);
    let ask = |path: &str| {
        let (answer, megabytes) = grown(&scene, || scene.bad(path));
        let said: Vec<String> = serde_json::from_str(&answer.1).unwrap_or_else(|_| panic!("{answer:?}"));
        (said, megabytes)
    };
    // Those that wait for their turn may come to the end of their time.
    let late = |said: &String| said.contains("exceeded timeout");
    // Each gathers 180 MB. It was 2,600 MB.
    let (said, megabytes) = ask("/gather");
    let bounded = |said: &String| said == "done" || said.contains("exceeded its memory limit");
    assert!(said.iter().all(|said| bounded(said) || late(said)), "{said:?}");
    assert!(said.iter().any(bounded), "{said:?}");
    assert!(megabytes < 1500, "{megabytes} MB");
    // It was 14 GB of temporary files, and the query's whole time. What writes the database as well may write four times as much, which a
    // machine that tests need not have: `appetite.rs` of the crate has that bound.
    let (said, _) = ask("/sort");
    let refused = "D1_ERROR: D1 DB's isolate exceeded its memory limit and was reset.";
    assert!(said.iter().all(|said| said == refused || late(said)), "{said:?}");
    assert!(said.iter().any(|said| said == refused), "{said:?}");
    scene.recovered();
}

/// 256 KB of log for each request, as zeros: values of JSON take many times as much as their text.
const LOGS: &str = r#"
const zeros = Array.from({ length: 100_000 }, () => 0);
export default {
  fetch(request) {
    if (new URL(request.url).pathname !== "/") console.log(zeros);
    return new Response("fine");
  },
};
"#;
/// Consumes events, and does not come to an end with any.
const HANGS: &str =
    "export default { tail() { return new Promise(() => {}) }, fetch() { return new Response('fine') } }";

/// Calls of `/log`, eight at once. What a process cannot get rid of at once it leaves out itself.
fn logs(scene: &Scene) {
    for _ in 0..4 {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..30).for_each(|_| assert_eq!(scene.bad("/log").0, 200)));
            }
        });
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn events_that_nobody_takes_are_left_out() {
    let _alone = alone();
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(scene.serve.upload("hangs", &metadata, HANGS).status, 200);
    let consumed = |consumers: Value| {
        let mut metadata = metadata.clone();
        metadata["tail_consumers"] = consumers;
        assert_eq!(scene.serve.upload("bad", &metadata, LOGS).status, 200);
        scene.recovered();
    };
    consumed(json!([]));
    let tail = scene.serve.call("POST", "/workers/scripts/bad/tails", Some(&json!({}))).json();
    let url = tail["result"]["url"].as_str().unwrap().to_owned();
    let address = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
    let stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = tungstenite::ClientRequestBuilder::new(url.parse().unwrap()).with_sub_protocol("trace-v1");
    let mut tail = tungstenite::client(request, stream).unwrap().0;
    // It was 1,400 MB.
    let ((), megabytes) = grown(&scene, || logs(&scene));
    assert!(megabytes < 450, "{megabytes} MB");
    // Who reads again hears of it, with the first event that there is room for.
    let heard = (0..1000).any(|read| {
        if read % 20 == 0 {
            scene.recovered();
        }
        tail.read().unwrap().to_text().unwrap().contains("Tail is currently in sampling mode")
    });
    assert!(heard);
    drop(tail);
    consumed(json!([{ "service": "hangs" }]));
    // It was 700 MB.
    let ((), megabytes) = grown(&scene, || logs(&scene));
    assert!(megabytes < 450, "{megabytes} MB");
    scene.recovered();
}

#[test]
fn uploads_wait_for_room_and_connections_are_counted() {
    let _alone = alone();
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    // The node has as many files as it may have; so do we, from here on.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", scene.serve.pid())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let files: Vec<&str> = files.split_whitespace().take(2).collect();
    assert_eq!(files[0], files[1], "soft and hard");
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let address = scene.serve.api.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let connect = || {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    };
    // Uploads that stop just before their end. They were all in memory: 1,500 MB.
    let piece = vec![b'x'; 1 << 20];
    let ((), megabytes) = grown(&scene, || {
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let mut client = connect();
                    let head = format!(
                        "PUT /client/v4/accounts/{}/workers/scripts/a HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
                         content-type: {FORM}\r\ncontent-length: 63000000\r\n\r\n",
                        scene.serve.account, scene.serve.token
                    );
                    client.write_all(head.as_bytes()).unwrap();
                    let _ = (0..60).try_for_each(|_| client.write_all(&piece));
                    std::thread::sleep(Duration::from_secs(2));
                });
            }
        });
    });
    assert!(megabytes < 900, "{megabytes} MB");
    // The room is given back.
    assert_eq!(scene.serve.upload("a", &json!({ "main_module": "index.js" }), NEIGHBOUR).status, 200);
    // Whoever comes without a token: what is too much is closed.
    let many: Vec<_> = (0..2300).map(|_| connect()).collect();
    let closed = many.iter().rev().take(100).filter(|client| {
        let mut client: &std::net::TcpStream = client;
        matches!(client.read(&mut [0]), Ok(0) | Err(_))
    });
    assert_eq!(closed.count(), 100);
    drop(many);
    eventually("that the API is reached again", || {
        let mut client = connect();
        let asked =
            format!("GET /client/v4/accounts/{}/queues HTTP/1.1\r\nhost: a\r\n\r\n", scene.serve.account);
        client.write_all(asked.as_bytes()).ok()?;
        let mut answer = [0; 12];
        client.read_exact(&mut answer).ok()?;
        (&answer == b"HTTP/1.1 400").then_some(())
    });
}

/// So many expressions, each of which mentions the one before twice.
const COPIES: &str = r#"
const copies = (count) => {
  const all = ["c0 AS (SELECT 1 AS x)"];
  for (let n = 1; n < count; n++) all.push(`c${n} AS (SELECT a.x FROM c${n - 1} a, c${n - 1} b)`);
  return `WITH ${all.join(",")} SELECT count(*) AS n FROM c${count - 1}`;
};
export default {
  async fetch(request, env) {
    const [, what, count] = new URL(request.url).pathname.split("/");
    if (what === "") return new Response("fine");
    try {
      if (what === "view") {
        await env.DB.prepare("CREATE VIEW v0 AS SELECT 1 AS x").run();
        for (let n = 1; n < count; n++) await env.DB.prepare(`CREATE VIEW v${n} AS SELECT a.x FROM v${n - 1} a, v${n - 1} b`).run();
      }
      const sql = { copies: () => copies(Number(count)), view: () => `SELECT count(*) AS n FROM v${count - 1}`,
                    list: () => `SELECT 1 AS n WHERE 1 IN (${Array(Number(count)).fill(1).join(",")})` }[what]();
      return Response.json((await env.DB.prepare(sql).all()).results);
    } catch (error) {
      return new Response(error.message);
    }
  },
};
"#;

#[test]
fn a_statement_of_millions_of_copies_of_itself_is_not_compiled() {
    let _alone = alone();
    let scene = scene(&json!({}), NEIGHBOUR, &[]);
    let database = scene.serve.call("POST", "/d1/database", Some(&json!({ "name": "copies" }))).json();
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "d1", "name": "DB", "id": database["result"]["uuid"] }],
    });
    assert_eq!(scene.serve.upload("bad", &metadata, COPIES).status, 200);
    scene.recovered();
    let one = (200, "[{\"n\":1}]".to_owned());
    // As many copies as SQLite joins.
    assert_eq!(scene.bad("/copies/6"), one);
    // Compiled aside, as it takes a while.
    assert_eq!(scene.bad("/list/4000"), one);
    // Gigabytes, and minutes of the thread that serves everybody.
    for path in ["/copies/25", "/copies/2000", "/view/25"] {
        let (status, text) = scene.meanwhile(|| scene.bad(path));
        assert!(status == 200 && text.contains("too complex"), "{path}: {text}");
    }
}
