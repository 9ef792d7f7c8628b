//! Scripts that call each other in circles: sixteen calls follow on a visitor's request, and no more.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve_in};
use crate::harness::{dev, small_project};

/// Cloudflare's words.
const DEEP: &str = "Subrequest depth limit exceeded. This request recursed through Workers too many times. This can happen e.g. if \
                    you have a Worker or Durable Object that calls other Workers or objects recursively.";

/// Answers with what each of the calls was told of how many may follow, and how the last one ended.
const CIRCLES: &str = r#"
import { DurableObject } from "cloudflare:workers";

const ask = async (request, next) => {
  const via = request.headers.get("cf-ew-via");
  try {
    const text = await (await next()).text();
    return Response.json([via, ...(text.startsWith("[") ? JSON.parse(text) : [text.trim()])]);
  } catch ({ message }) {
    return Response.json([via, message]);
  }
};
const room = (env, n) => env.ROOM.get(env.ROOM.idFromName(`room ${n}`));
export class Room extends DurableObject {
  fetch(request) {
    const n = Number(new URL(request.url).searchParams.get("n"));
    return ask(request, () => room(this.env, n + 1).fetch(`http://room/?n=${n + 1}`));
  }
}
export default {
  fetch(request, env) {
    const url = new URL(request.url);
    const to = url.searchParams.get("to");
    const headers = { a: "1" };
    if (url.searchParams.has("init") && request.headers.get("a") !== "1") return new Response("a header was lost");
    const next = {
      "/self": () => env.SELF.fetch("http://self/self"),
      "/passed": () => env.SELF.fetch(request),
      "/changed": () => env.SELF.fetch(new Request(request, { headers: { "CF-EW-Via": "16" } })),
      "/init": () => env.SELF.fetch("http://self/init?init", { headers }),
      "/headers": () => env.SELF.fetch(new URL("http://self/headers?init"), { headers: new Headers(headers) }),
      "/other": () => (env.OTHER ?? env.BACK).fetch(request),
      "/room": () => room(env, 0).fetch("http://room/?n=0"),
      "/tenant": () => env.TENANTS.get("circles").fetch(request),
      "/outside": () => fetch(to + "/outside?to=" + to),
      "/through": () => fetch(new Request(to + url.pathname + url.search, request)),
      "/both": () => url.searchParams.has("in") ? fetch(to + "/both?to=" + to) : env.SELF.fetch(request.url + "&in"),
    }[url.pathname];
    return ask(request, next);
  },
};
"#;

/// What leads from the outside to a host of the node, as a proxy before it does; each connection has one request.
fn proxy(to: std::net::SocketAddr, host: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for visitor in listener.incoming().flatten() {
            std::thread::spawn(move || pass(visitor, to, host));
        }
    });
    url
}

fn pass(mut visitor: TcpStream, to: std::net::SocketAddr, host: &str) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        visitor.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let kept = head.trim_end().lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !name.eq_ignore_ascii_case("host") && !name.eq_ignore_ascii_case("connection")
    });
    let head = kept.collect::<Vec<_>>().join("\r\n");
    let mut node = TcpStream::connect(to)?;
    write!(node, "{head}\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    std::io::copy(&mut node, &mut visitor)?;
    visitor.shutdown(Shutdown::Both)
}

fn told(calls: u32, end: &str) -> Value {
    let vias = std::iter::once(Value::Null).chain((0..calls).rev().map(|left| left.to_string().into()));
    vias.chain([end.into()]).collect()
}

fn deploy(serve: &Serve, script: &str, bindings: Value, more: Value) {
    let mut metadata =
        json!({ "main_module": "index.js", "compatibility_date": "2026-07-01", "bindings": bindings });
    metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = serve.upload(script, &metadata, CIRCLES);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn calls_in_circles_end_after_sixteen() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--egress-allow", "127.0.0.1/32"]);
    serve.make_namespace("tenants");
    let own = json!([
        { "type": "service", "name": "SELF", "service": "circles" },
        { "type": "durable_object_namespace", "name": "ROOM", "class_name": "Room" },
        { "type": "dispatch_namespace", "name": "TENANTS", "namespace": "tenants" },
    ]);
    let room = json!({ "migrations": { "new_tag": "v1", "new_sqlite_classes": ["Room"] } });
    deploy(&serve, "circles", own.clone(), room);
    deploy(&serve, "other", json!([{ "type": "service", "name": "BACK", "service": "circles" }]), json!({}));
    let mut with_other = own.clone();
    with_other
        .as_array_mut()
        .unwrap()
        .push(json!({ "type": "service", "name": "OTHER", "service": "other" }));
    deploy(&serve, "circles", with_other, json!({}));
    let tenants =
        json!({ "bindings": [own[2]], "main_module": "index.js", "compatibility_date": "2026-07-01" });
    serve.upload_tenant("tenants", "circles", &tenants, CIRCLES);

    let to = proxy(serve.connect().peer_addr().unwrap(), "circles.main.localhost");
    let ask = |path: &str| serve.get("circles.main.localhost", &format!("{path}?to={to}")).json();
    for path in ["/self", "/passed", "/changed", "/init", "/headers", "/other", "/room", "/tenant"] {
        assert_eq!(ask(path), told(16, DEEP), "{path}");
    }
    // What comes back from the outside is counted by the edge.
    for path in ["/outside", "/through"] {
        assert_eq!(ask(path), told(16, "error code: 1019"), "{path}");
    }
    // Both kinds take from the same; the last one is a call of a script.
    assert_eq!(ask("/both"), told(16, DEEP));
    // Nobody has to pay for it.
    assert_eq!(ask("/self"), told(16, DEEP));
    assert!(!serve.output().contains("ended"), "{}", serve.output());
}

#[test]
fn in_dev_a_worker_that_passes_requests_on_to_itself_is_told() {
    let config = r#"{ "name": "circle", "main": "index.js", "compatibility_date": "2026-07-01" }"#;
    let code = "export default { fetch: (request) => fetch(request) };";
    let project = small_project(config, &[("index.js", code)]);
    let skep = dev(project.path());
    for _ in 0..2 {
        let answer = skep.get("/any");
        assert_eq!(answer.status, 500, "{}", answer.text());
        assert!(
            answer.text().starts_with("error code: 1019\nWorkers have called each other"),
            "{}",
            answer.text()
        );
    }
    assert!(!skep.output().contains("ended unexpectedly"), "{}", skep.output());
}
