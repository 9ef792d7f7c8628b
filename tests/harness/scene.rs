//! A hostile script with a neighbour, which is called all the while and must notice nothing.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::serve::{Serve, serve_in};
use super::{Ended, eventually};

/// Where the hostile script is.
pub const HOST: &str = "bad.main.localhost";
/// A script that does no harm.
pub const NEIGHBOUR: &str = "export default { fetch() { return new Response('well') } }";
const WATCHER: &str = r#"
const seen = [];
export default {
  tail(events) { for (const { outcome, scriptName, exceptions } of events) seen.push({ outcome, scriptName, exceptions }); },
  fetch() { return Response.json(seen); },
};
"#;

/// A node with a hostile script, a neighbour, and somebody who hears what becomes of the hostile one's events.
pub struct Scene {
    pub serve: Serve,
}

/// On a fresh node.
pub fn scene(metadata: &Value, code: &str, args: &[&str]) -> Scene {
    scene_on(serve_in(tempfile::tempdir().unwrap(), args), metadata, code)
}

/// The same on a node that is there.
pub fn scene_on(serve: Serve, metadata: &Value, code: &str) -> Scene {
    let plain = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(serve.upload("well", &plain, NEIGHBOUR).status, 200);
    assert_eq!(serve.upload("watcher", &plain, WATCHER).status, 200);
    let mut all = plain;
    all["tail_consumers"] = json!([{ "service": "watcher" }]);
    all.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    let answer = serve.upload("bad", &all, code);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(serve.get("well.main.localhost", "/").text(), "well");
    Scene { serve }
}

impl Scene {
    /// A request to the hostile script: the status and the text.
    pub fn bad(&self, path: &str) -> (u16, String) {
        let answer = self.serve.get(HOST, path);
        (answer.status, answer.text())
    }

    /// Makes a queue; its id.
    pub fn queue(&self, name: &str) -> String {
        let made = self.serve.call("POST", "/queues", Some(&json!({ "queue_name": name }))).json();
        made["result"]["queue_id"].as_str().unwrap().to_owned()
    }

    /// Has the hostile script consume a queue.
    pub fn consume(&self, queue: &str, settings: &Value) {
        let consumer = json!({ "type": "worker", "script_name": "bad", "settings": settings });
        let added = self.serve.call("POST", &format!("/queues/{queue}/consumers"), Some(&consumer));
        assert_eq!(added.status, 200, "{}", added.text());
    }

    /// Does `attack`; the neighbour is called all the while.
    pub fn meanwhile<T>(&self, attack: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let neighbour = scope.spawn(|| {
                let mut times = Vec::new();
                while !done.load(Ordering::SeqCst) || times.len() < 20 {
                    let start = Instant::now();
                    let answer = self.serve.get("well.main.localhost", "/");
                    times.push(start.elapsed());
                    assert_eq!((answer.status, answer.text().as_str()), (200, "well"));
                    std::thread::sleep(Duration::from_millis(5));
                }
                times
            });
            // Also if the attack fails its test: nobody may call for ever.
            let ended = Ended(&done);
            let got = attack();
            drop(ended);
            let mut times = neighbour.join().unwrap();
            times.sort();
            // Milliseconds where nothing else runs; the machine may be busy with other tests.
            let median = times[times.len() / 2];
            assert!(median < Duration::from_millis(100), "the neighbour waited {median:?}");
            got
        })
    }

    /// Waits until a tail has heard `outcome` `count` times.
    pub fn heard(&self, outcome: &str, count: usize) {
        eventually(&format!("{count} times {outcome}"), || {
            let seen = self.serve.get("watcher.main.localhost", "/").json();
            let seen =
                seen.as_array()?.iter().filter(|e| e["outcome"] == outcome && e["scriptName"] == "bad");
            (seen.count() >= count).then_some(())
        });
    }

    /// Waits until the hostile script serves again.
    pub fn recovered(&self) {
        eventually("a cell that serves", || (self.bad("/") == (200, "fine".into())).then_some(()));
    }
}

/// Answers whoever comes, and counts them.
pub fn door(listener: TcpListener, answer: String) -> (u16, Arc<AtomicUsize>) {
    let port = listener.local_addr().unwrap().port();
    let came = Arc::new(AtomicUsize::new(0));
    let count = came.clone();
    std::thread::spawn(move || {
        for visitor in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let mut visitor = visitor;
            let mut request = [0; 4096];
            let _ = std::io::Read::read(&mut visitor, &mut request);
            let _ = std::io::Write::write_all(&mut visitor, answer.as_bytes());
        }
    });
    (port, came)
}
