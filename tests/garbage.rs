//! What a script no longer uses does not count as its memory.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::serve::{Serve, serve_in};

const HOST: &str = "plain.main.localhost";
/// Each answer says how many there were before, in the same process.
const COUNTING: &str = "let n = 0; export default { fetch() { return new Response(`<${++n}>`); } };";
const HOLDING: &str = "
let held = new Uint8Array();
export default { fetch(request) {
  if (request.url.endsWith('/hold')) held = new Uint8Array(70 << 20).fill(1);
  return new Response(`${held.length}`);
} };";
const WATCHER: &str = "
const seen = [];
export default {
  tail(events) { for (const { scriptName, entrypoint, event } of events) seen.push({ scriptName, entrypoint, url: event?.request?.url }); },
  fetch() { return Response.json(seen); },
};";

fn metadata(is_watched: bool) -> Value {
    let mut metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    if is_watched {
        metadata["tail_consumers"] = json!([{ "service": "watcher" }]);
    }
    metadata
}

/// Asks so many times over one connection, some at once; returns the largest count that was answered.
fn ask(serve: &Serve, times: usize) -> u32 {
    const AT_ONCE: usize = 50;
    let mut stream = serve.connect();
    let requests = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").repeat(AT_ONCE);
    let mut largest = 0;
    for _ in 0..times / AT_ONCE {
        stream.write_all(requests.as_bytes()).unwrap();
        let (mut text, mut piece) = (String::new(), [0; 16 << 10]);
        while text.matches('>').count() < AT_ONCE {
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "{text}");
            text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
        assert_eq!(text.matches("HTTP/1.1 200 OK").count(), AT_ONCE, "{text}");
        let counts = text.split('<').skip(1).filter_map(|rest| rest.split('>').next()?.parse().ok());
        largest = counts.max().unwrap_or(0).max(largest);
    }
    largest
}

#[test]
fn a_script_that_only_serves_requests_is_never_ended_for_its_memory() {
    // What is left of 20,000 requests are about 80 MB, of which a collection leaves nothing.
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--cell-memory", "16", "--cells-per-script", "1"]);
    assert_eq!(serve.upload("plain", &metadata(false), COUNTING).status, 200);
    let counts = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(|| ask(&serve, 5_000))).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(counts.into_iter().max(), Some(20_000), "all in one process");
}

#[test]
fn a_collection_of_garbage_is_no_event_of_the_script() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &[]);
    for (script, code, is_watched) in [("watcher", WATCHER, false), ("plain", HOLDING, true)] {
        assert_eq!(serve.upload(script, &metadata(is_watched), code).status, 200);
    }
    let held = (70 << 20).to_string();
    assert_eq!(serve.get(HOST, "/hold").text(), held);
    // Long enough for a look at it, and for what comes of that.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(serve.get(HOST, "/last").text(), held, "it is the same process");
    let seen = eventually("both events", || {
        let seen = serve.get("watcher.main.localhost", "/").json().as_array().unwrap().clone();
        seen.iter()
            .any(|event| event["url"].as_str().is_some_and(|url| url.ends_with("/last")))
            .then_some(seen)
    });
    assert_eq!(seen.len(), 2, "{seen:?}");
}
