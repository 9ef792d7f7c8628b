//! Several workers in one session: calls between cells.

use serde_json::{Value, json};

use crate::harness::{Skep, dev_with, eventually};

const CALLER: &str = r#"
export default {
    async fetch(request, env) {
        const attempt = async (work) => { try { return await work(); } catch (e) { return `${e.name}: ${e.message}`; } };
        const joe = env.ROOM.getByName("joe");
        const cases = {
            fetch: async () => (await env.PLAIN.fetch("https://x.y/path?q", { method: "POST", body: "b" })).text(),
            asset: async () => (await env.PLAIN.fetch("https://x.y/file.txt")).text(),
            rpc: () => env.NAMED.add(1, 2),
            props: () => env.NAMED.props(),
            callback: () => env.NAMED.callback((n) => n * 2),
            stream: async () => new Response(await env.NAMED.stream()).text(),
            target: async () => { using counter = await env.NAMED.counter(); await counter.up(); return counter.up(); },
            pipelined: () => env.NAMED.counter().up(),
            thrown: () => env.NAMED.fail(),
            missing: () => env.NAMED.nothing(),
            object: () => joe.hello(new Date(0)),
            objectName: () => joe.whoami(),
            objectFetch: async () => (await joe.fetch("https://do/x", { method: "PUT", body: "body" })).text(),
            objectProperty: () => joe.size,
            absent: async () => { const r = await env.ABSENT.fetch("https://x/"); return [r.status, await r.text()]; },
            absentRpc: () => env.ABSENT.hello(1),
            absentProperty: () => env.ABSENT.size,
            absentObject: () => env.GONE.getByName("joe").hello(),
            absentObjectFetch: () => env.GONE.getByName("joe").fetch("https://x/"),
            absentWorkflow: () => env.FLOW.create(),
        };
        const { pathname } = new URL(request.url);
        if (pathname === "/ws") return joe.fetch(request);
        if (pathname === "/version") return new Response(await env.NAMED.version());
        const results = {};
        for (const [name, work] of Object.entries(cases)) results[name] = await attempt(work);
        return Response.json(results);
    },
};
"#;

const CALLEE: &str = r#"
import { DurableObject, RpcTarget, WorkerEntrypoint } from "cloudflare:workers";
class Counter extends RpcTarget { #n = 0; up() { return ++this.#n; } }
export class Named extends WorkerEntrypoint {
    add(a, b) { return a + b; }
    props() { return this.ctx.props; }
    callback(f) { return f(21); }
    stream() { return new Response("streamed").body; }
    counter() { return new Counter(); }
    fail() { throw new RangeError("on purpose"); }
    version() { return "one"; }
}
export class Room extends DurableObject {
    get size() { return 42; }
    hello(date) { return ["hello", date.toISOString()]; }
    whoami() { return this.ctx.id.name; }
    async fetch(request) {
        if (request.headers.get("upgrade")) {
            const [client, server] = Object.values(new WebSocketPair());
            this.ctx.acceptWebSocket(server);
            return new Response(null, { status: 101, webSocket: client });
        }
        return new Response(`${request.method} ${request.url} ${await request.text()}`);
    }
    webSocketMessage(socket, message) { socket.send("echo " + message); }
}
export default { async fetch(request) { return new Response(`${request.method} ${request.url} ${await request.text()}`); } };
"#;

fn start() -> (tempfile::TempDir, Skep) {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("caller/index.js", CALLER);
    write(
        "caller/wrangler.jsonc",
        r#"{ "name": "caller", "main": "index.js", "compatibility_date": "2026-07-01",
            "services": [
                { "binding": "PLAIN", "service": "callee" },
                { "binding": "NAMED", "service": "callee", "entrypoint": "Named", "props": { "who": "caller" } },
                { "binding": "ABSENT", "service": "absent" }
            ],
            "workflows": [{ "binding": "FLOW", "name": "flow", "class_name": "Flow", "script_name": "absent" }],
            "durable_objects": { "bindings": [
                { "name": "GONE", "class_name": "Gone", "script_name": "absent" },
                { "name": "ROOM", "class_name": "Room", "script_name": "callee" }] } }"#,
    );
    write("callee/index.js", CALLEE);
    write("callee/public/file.txt", "an asset");
    write(
        "callee/wrangler.jsonc",
        r#"{ "name": "callee", "main": "index.js", "compatibility_date": "2026-07-01",
            "assets": { "directory": "public" },
            "durable_objects": { "bindings": [{ "name": "ROOM", "class_name": "Room" }] },
            "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Room"] }] }"#,
    );
    let path = |name: &str| dir.path().join(name).join("wrangler.jsonc").to_str().unwrap().to_owned();
    let state = dir.path().join("state");
    let skep = dev_with(dir.path(), &state, &["-c", &path("caller"), "-c", &path("callee")]);
    (dir, skep)
}

#[test]
fn calls_between_workers_keep_everything_that_rpc_has() {
    let (_dir, skep) = start();
    let expected: Value = json!({
        "fetch": "POST https://x.y/path?q b",
        "asset": "an asset",
        "rpc": 3,
        "props": { "who": "caller" },
        "callback": 42,
        "stream": "streamed",
        "target": 2,
        "pipelined": 1,
        "thrown": "RangeError: on purpose",
        "missing": "TypeError: The RPC receiver does not implement the method \"nothing\".",
        "object": ["hello", "1970-01-01T00:00:00.000Z"],
        "objectName": "joe",
        "objectFetch": "PUT https://do/x body",
        "objectProperty": 42,
        "absent": [503, "Worker \"absent\" not found. Make sure it is running locally."],
        "absentRpc": "Error: Worker \"absent\" not found. Make sure it is running locally.",
        "absentProperty": "Error: Worker \"absent\" not found. Make sure it is running locally.",
        "absentObject": "Error: Worker \"absent\" not found. Make sure it is running locally.",
        "absentObjectFetch": "Error: Worker \"absent\" not found. Make sure it is running locally.",
        "absentWorkflow": "Error: Worker \"absent\" not found. Make sure it is running locally.",
    });
    assert_eq!(skep.get("/").json(), expected);
    let mut socket = skep.websocket("/ws");
    socket.send("over".into()).unwrap();
    assert_eq!(socket.read().unwrap().to_text().unwrap(), "echo over");
}

#[test]
fn a_callee_is_replaced_without_its_caller() {
    let (dir, skep) = start();
    assert_eq!(skep.get("/version").text(), "one");
    let caller = skep.cells();
    std::fs::write(dir.path().join("callee/index.js"), CALLEE.replace("\"one\"", "\"two\"")).unwrap();
    eventually("the new version", || (skep.get("/version").text() == "two").then_some(()));
    assert!(skep.cells().iter().any(|cell| caller.contains(cell)), "the caller need not be replaced");
}
