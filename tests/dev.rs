//! `skep dev` itself: starting, swapping, ending.

use std::time::Duration;

use crate::harness::{dev, dev_with, eventually, is_alive, small_project};

const HELLO: &str = r#"export default { fetch(request) { return new Response("hello " + new URL(request.url).pathname); } };"#;
const CONFIG: &str = r#"{ "name": "hello", "main": "index.js", "compatibility_date": "2026-11-01" }"#;

#[test]
fn a_worker_answers_and_sigterm_ends_everything_with_success() {
    let project = small_project(CONFIG, &[("index.js", HELLO)]);
    for signal in ["TERM", "INT"] {
        let mut skep = dev(project.path());
        assert_eq!(skep.get("/a").text(), "hello /a");
        let cells = skep.cells();
        assert_eq!(cells.len(), 1);
        skep.signal(signal);
        assert!(skep.wait().success());
        eventually("end of the cell", || (!is_alive(cells[0])).then_some(()));
    }
}

#[test]
fn no_cell_survives_when_skep_is_killed() {
    let project = small_project(CONFIG, &[("index.js", HELLO)]);
    let mut skep = dev(project.path());
    let cells = skep.cells();
    skep.signal("KILL");
    skep.wait();
    eventually("end of the cell", || (!is_alive(cells[0])).then_some(()));
}

#[test]
fn a_killed_cell_is_started_again() {
    let project = small_project(CONFIG, &[("index.js", HELLO)]);
    let skep = dev(project.path());
    let cell = skep.cells()[0];
    crate::harness::signal(cell, "KILL");
    skep.wait_for_output("ended unexpectedly");
    assert_eq!(skep.get("/again").text(), "hello /again");
    assert_ne!(skep.cells()[0], cell);
}

#[test]
fn a_saved_change_is_served_without_a_failed_request() {
    let project = small_project(CONFIG, &[("index.js", HELLO)]);
    let skep = dev(project.path());
    let index = project.path().join("index.js");
    for round in 0..5 {
        std::fs::write(&index, HELLO.replace("hello ", &format!("round {round} "))).unwrap();
        eventually("new code", || {
            let answer = skep.get("/");
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.text().starts_with(&format!("round {round}")).then_some(())
        });
    }
}

#[test]
fn state_is_kept_between_runs() {
    let config = r#"{ "name": "kv", "main": "index.js", "compatibility_date": "2026-11-01",
        "kv_namespaces": [{ "binding": "KV", "id": "n" }] }"#;
    let code = r#"export default { async fetch(request, env) {
        if (request.method === "PUT") { await env.KV.put("k", await request.text()); return new Response("ok"); }
        return new Response(await env.KV.get("k"));
    } };"#;
    let project = small_project(config, &[("index.js", code)]);
    let state = tempfile::tempdir().unwrap();
    {
        let skep = dev_with(project.path(), state.path(), &[]);
        assert_eq!(skep.send("PUT", "/", &[], Some(b"kept")).text(), "ok");
    }
    let skep = dev_with(project.path(), state.path(), &[]);
    assert_eq!(skep.get("/").text(), "kept");
}

#[test]
fn console_output_and_exceptions_are_shown_with_the_workers_name() {
    let code = r#"export default { fetch(request) {
        console.log("said", { a: 1 });
        throw new TypeError("thrown on purpose");
    } };"#;
    let project = small_project(CONFIG, &[("index.js", code)]);
    let skep = dev(project.path());
    let answer = skep.get("/");
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("error code: 1101"), "{}", answer.text());
    skep.wait_for_output("said { a: 1 }");
    skep.wait_for_output("TypeError: thrown on purpose");
    skep.wait_for_output("index.js:3:");
    assert!(skep.output().contains("hello"), "{}", skep.output());
}

#[test]
fn broken_code_is_reported_and_the_last_good_code_goes_on() {
    let project = small_project(CONFIG, &[("index.js", HELLO)]);
    let skep = dev(project.path());
    let index = project.path().join("index.js");
    std::fs::write(&index, "export default { fetch( {").unwrap();
    skep.wait_for_output("index.js:1:");
    assert_eq!(skep.get("/x").text(), "hello /x");
    std::fs::write(&index, "throw new Error('at start');").unwrap();
    skep.wait_for_output("at start");
    assert_eq!(skep.get("/y").text(), "hello /y");
    std::fs::write(&index, HELLO.replace("hello", "good")).unwrap();
    eventually("good code", || (skep.get("/z").text() == "good /z").then_some(()));
}

#[test]
fn a_second_skep_on_the_same_state_is_refused() {
    let project = small_project(CONFIG, &[("index.js", HELLO)]);
    let state = tempfile::tempdir().unwrap();
    let _first = dev_with(project.path(), state.path(), &[]);
    let Err(output) = crate::harness::try_dev(project.path(), state.path(), &[]) else {
        panic!("two processes on one state")
    };
    assert!(output.contains("is in use"), "{output}");
    std::thread::sleep(Duration::from_millis(1));
}

#[test]
fn websockets_of_a_replaced_script_are_told_to_come_back() {
    let config = r#"{ "name": "room", "main": "index.js", "compatibility_date": "2026-07-01",
        "durable_objects": { "bindings": [{ "name": "ROOM", "class_name": "Room" }] },
        "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Room"] }] }"#;
    let code = r#"import { DurableObject } from "cloudflare:workers";
        export class Room extends DurableObject {
            async fetch() {
                const [client, server] = Object.values(new WebSocketPair());
                this.ctx.acceptWebSocket(server);
                return new Response(null, { status: 101, webSocket: client });
            }
            webSocketMessage(socket, message) { socket.send("echo " + message); }
        }
        export default { fetch: (request, env) => env.ROOM.getByName("a").fetch(request) };"#;
    let project = small_project(config, &[("index.js", code)]);
    let skep = dev(project.path());
    let echo = |socket: &mut tungstenite::WebSocket<std::net::TcpStream>| {
        socket.send("hi".into()).unwrap();
        socket.read().unwrap().into_text().unwrap().to_string()
    };
    let mut socket = skep.websocket("/");
    assert_eq!(echo(&mut socket), "echo hi");
    std::fs::write(project.path().join("index.js"), code.replace("echo", "new echo")).unwrap();
    let tungstenite::Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no close frame") };
    assert_eq!(u16::from(close.code), 1012);
    let mut socket = skep.websocket("/");
    assert_eq!(echo(&mut socket), "new echo hi");
}
