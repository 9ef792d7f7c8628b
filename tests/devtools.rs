//! Chrome DevTools, as far as their protocol goes: <https://chromedevtools.github.io/devtools-protocol/>.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value as Json, json};
use tungstenite::{Message, WebSocket};

use crate::harness::{Ended, PATIENCE, Skep, dev, eventually, small_project};

const CONFIG: &str = r#"{ "name": "debugged", "main": "index.js", "compatibility_date": "2026-07-01" }"#;
// Some milliseconds of CPU for each request, and which process it was.
const CODE: &str = "let id;
export default { fetch(request) {
  id ??= crypto.randomUUID();
  const path = new URL(request.url).pathname;
  let n = 1;
  for (let i = 0; i < 1e6; i++) n = (n * 1103515245 + 12345) & 0x7fffffff;
  return new Response(path === '/id' ? id : `${path} ${n}`);
} };";

struct DevTools {
    socket: WebSocket<TcpStream>,
    last: u64,
    events: Vec<Json>,
}

fn connect(skep: &Skep) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", skep.inspector_port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// An answer to a request of a page that is no DevTools.
fn ask(skep: &Skep, path: &str, headers: &str) -> String {
    let mut stream = connect(skep);
    write!(stream, "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

impl DevTools {
    fn attach(skep: &Skep) -> Self {
        let stream = connect(skep);
        let url = format!("ws://{}/user", stream.peer_addr().unwrap());
        let (socket, _) = tungstenite::client(url, stream).unwrap();
        Self { socket, last: 0, events: Vec::new() }
    }

    fn next(&mut self) -> Json {
        loop {
            if let Message::Text(text) = self.socket.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    fn call(&mut self, method: &str, params: Json) -> Json {
        self.last += 1;
        let call = json!({ "id": self.last, "method": method, "params": params });
        self.socket.send(Message::text(call.to_string())).unwrap();
        loop {
            let said = self.next();
            if said["id"] == self.last {
                return said["result"].clone();
            }
            self.events.push(said);
        }
    }

    fn evaluate(&mut self, expression: &str) -> Json {
        self.call("Runtime.enable", json!({}));
        let context = self.event("Runtime.executionContextCreated")["context"]["id"].clone();
        let result = self.call("Runtime.evaluate", json!({ "expression": expression, "contextId": context }));
        result["result"]["value"].clone()
    }

    fn event(&mut self, method: &str) -> Json {
        loop {
            if let Some(place) = self.events.iter().position(|event| event["method"] == method) {
                return self.events.remove(place)["params"].clone();
            }
            let said = self.next();
            self.events.push(said);
        }
    }
}

#[test]
fn devtools_evaluate_and_stop_at_a_breakpoint() {
    let project = small_project(CONFIG, &[("index.js", CODE)]);
    let skep = dev(project.path());
    let mut devtools = DevTools::attach(&skep);
    assert_eq!(devtools.evaluate("1 + 1"), 2);
    devtools.call("Debugger.enable", json!({}));
    let at = json!({ "urlRegex": ".*index.js$", "lineNumber": 3 });
    let breakpoint = devtools.call("Debugger.setBreakpointByUrl", at);
    assert_eq!(breakpoint["locations"].as_array().map(Vec::len), Some(1), "{breakpoint}");
    std::thread::scope(|scope| {
        let visitor = scope.spawn(|| skep.get("/stops").text());
        let paused = devtools.event("Debugger.paused");
        let frame = &paused["callFrames"][0];
        assert_eq!(frame["functionName"], "fetch", "{paused}");
        let asked = json!({ "callFrameId": frame["callFrameId"], "expression": "request.url.slice(-6)" });
        let url = devtools.call("Debugger.evaluateOnCallFrame", asked);
        assert_eq!(url["result"]["value"], "/stops", "{url}");
        devtools.call("Debugger.removeBreakpoint", json!({ "breakpointId": breakpoint["breakpointId"] }));
        devtools.call("Debugger.resume", json!({}));
        assert!(visitor.join().unwrap().starts_with("/stops "));
    });
}

#[test]
fn load_makes_several_processes_and_devtools_see_all_requests_in_one() {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        return;
    }
    let project = small_project(CONFIG, &[("index.js", CODE)]);
    let skep = dev(project.path());
    let processes = || -> BTreeSet<String> { (0..20).map(|_| skep.get("/id").text()).collect() };
    assert_eq!(processes().len(), 1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ended = Ended(&stop);
        for _ in 0..6 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(skep.get("/").status, 200);
                }
            });
        }
        let several = || eventually("another process", || (processes().len() > 1).then_some(()));
        several();
        let mut devtools = DevTools::attach(&skep);
        assert_eq!(devtools.evaluate("globalThis.seen = 'here'"), "here");
        for _ in 0..5 {
            assert_eq!(processes().len(), 1, "load is no reason while somebody debugs");
        }
        drop(devtools);
        several();
    });
}

#[test]
fn devtools_find_the_sources_of_a_bundle() {
    let config = CONFIG.replace("index.js", "src/index.ts");
    let code = "interface Named { name: string }\nexport default { fetch: () => new Response(({ name: 'n' } as Named).name) };";
    let project = small_project(&config, &[("src/index.ts", code)]);
    let skep = dev(project.path());
    assert_eq!(skep.get("/").text(), "n");
    let mut devtools = DevTools::attach(&skep);
    devtools.call("Debugger.enable", json!({}));
    let url = loop {
        let script = devtools.event("Debugger.scriptParsed");
        if script["url"] == "index.js" {
            break script["sourceMapURL"].as_str().unwrap().to_owned();
        }
    };
    let path = url.strip_prefix(&format!("http://127.0.0.1:{}", skep.inspector_port())).unwrap();
    let answer = ask(&skep, path, "Host: localhost\r\nOrigin: https://devtools.devprod.cloudflare.dev\r\n");
    let (head, map) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let map: Json = serde_json::from_str(map).unwrap();
    assert!(map["sources"][0].as_str().unwrap().ends_with("src/index.ts"), "{map}");
    assert_eq!(map["sourcesContent"][0], code);
}

#[test]
fn a_page_that_is_not_devtools_cannot_run_code_in_the_worker() {
    let project = small_project(CONFIG, &[("index.js", CODE)]);
    let skep = dev(project.path());
    let upgrade =
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let page = format!("Host: 127.0.0.1\r\nOrigin: https://evil.example\r\n{upgrade}");
    let answer = ask(&skep, "/user", &page);
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("Disallowed `Origin` header."),
        "{answer}"
    );
    // A name that leads to this machine.
    let rebound = format!("Host: evil.example:9229\r\n{upgrade}");
    let answer = ask(&skep, "/json", &rebound);
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.ends_with("Disallowed `Host` header."), "{answer}");
    let answer = ask(&skep, "/json", "Host: 127.0.0.1\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("/user"), "{answer}");
}
