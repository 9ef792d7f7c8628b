//! What hostile tenants reach for: data of others, files of the machine, more than their share of requests.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::accounts::{Account, two_accounts};
use crate::harness::scene::{HOST, NEIGHBOUR, Scene, door, scene, scene_on};
use crate::harness::serve::{FORM, Serve, form, serve_in};

const FLOOD: &str = r#"
export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname === "/") return new Response("fine");
    const came = { ok: 0, failed: {} };
    const note = (promise) => promise.then(() => came.ok++, ({ message }) => { came.failed[message] = (came.failed[message] ?? 0) + 1; });
    const ask = url.pathname === "/kv" ? () => env.KV.get("k") : () => fetch(url.searchParams.get("to"));
    await Promise.all(Array.from({ length: 100_000 }, () => note(ask())));
    return Response.json(came);
  },
};
"#;

#[test]
fn a_hundred_thousand_subrequests_are_ten_thousand_and_an_exception() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--egress-allow", "127.0.0.1/32"]);
    let kv = serve.call("POST", "/storage/kv/namespaces", Some(&json!({ "title": "kept" }))).json();
    let kv = json!({ "type": "kv_namespace", "name": "KV", "namespace_id": kv["result"]["id"] });
    let scene = scene_on(serve, &json!({ "bindings": [kv] }), FLOOD);
    let flood = |path: &str, most: u32| {
        let (status, text) = scene.meanwhile(|| scene.bad(path));
        assert_eq!(status, 200, "{path}: {text}");
        let said: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(said["ok"], most, "{path}: {said}");
        let failed: Vec<_> = said["failed"].as_object().unwrap().iter().collect();
        assert!(failed.len() == 1 && failed[0].0.starts_with("Too many "), "{said}");
        assert_eq!(*failed[0].1, 100_000 - most);
    };
    flood("/kv", 10_000);
    // Who is asked closes each connection.
    let (port, came) = door(
        TcpListener::bind("127.0.0.1:0").unwrap(),
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
    );
    let fewer = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01", "limits": { "subrequests": 1000 },
    });
    assert_eq!(scene.serve.upload("bad", &fewer, FLOOD).status, 200);
    flood(&format!("/fetch?to=http://127.0.0.1:{port}/"), 1000);
    assert_eq!(came.load(Ordering::SeqCst), 1000);
    scene.recovered();
}

#[test]
fn requests_beyond_those_that_may_be_in_a_cell_at_once_are_refused_and_others_are_served() {
    let code = r#"export default { async fetch(request) {
        await request.text();
        return new Response("fine");
    } }"#;
    let scene = scene(&json!({}), code, &["--cell-requests", "3"]);
    scene.meanwhile(|| {
        let held: Vec<_> = (0..8).map(|_| half_a_request(&scene)).collect();
        crate::harness::eventually("a refusal", || {
            (scene.bad("/") == (503, "error code: 1102".into())).then_some(())
        });
        drop(held);
        scene.recovered();
    });
}

/// A request of which the rest never comes: it is in the cell for as long as the connection is open.
fn half_a_request(scene: &Scene) -> TcpStream {
    let output = scene.serve.output();
    let port =
        output.split("http://*.localhost:").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    write!(stream, "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\n").unwrap();
    stream
}

#[test]
fn slow_bodies_hold_up_nobody_else() {
    let code = "export default { async fetch(request) { return new Response('got ' + (await request.text()).length) } }";
    let scene = scene(&json!({}), code, &["--body-timeout", "2s"]);
    let mut slow: Vec<TcpStream> = (0..100).map(|_| half_a_request(&scene)).collect();
    scene.meanwhile(|| {
        for _ in 0..30 {
            for stream in &mut slow {
                let _ = stream.write_all(b"x");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(scene.serve.send("POST", HOST, "/", &[], Some(b"12345")).text(), "got 5");
}

const SCRIPT: &str = "reaching.main.localhost";

/// Uploads a script of these modules to `account`.
fn upload(serve: &Serve, account: &Account, metadata: &Value, modules: &[(&str, &str)]) -> (u16, Value) {
    let form = form(metadata, modules);
    let answer = account.send(serve, "PUT", "/workers/scripts/reaching", FORM, Some(&form));
    (answer.status, answer.json())
}

/// The same, for visitors: it has its address at [`SCRIPT`].
fn publish(serve: &Serve, account: &Account, metadata: &Value, code: &str) {
    let (status, answer) = upload(serve, account, metadata, &[("index.js", code)]);
    assert_eq!(status, 200, "{answer}");
    let address = "/workers/scripts/reaching/subdomain";
    let answer = account.send(serve, "POST", address, "application/json", Some(b"{\"enabled\":true}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn bindings_to_what_another_account_has_are_refused() {
    let (serve, own, other) = two_accounts();
    let theirs = |name: &str| json!(other.ids[name]);
    let plain = |bindings: Value| {
        json!({
            "main_module": "index.js", "compatibility_date": "2026-07-01", "bindings": bindings,
        })
    };
    let worker = [("index.js", NEIGHBOUR)];
    for binding in [
        json!({ "type": "kv_namespace", "name": "A", "namespace_id": theirs("kv") }),
        json!({ "type": "kv_namespace", "name": "A", "namespace_id": format!("../{}/{}", other.id, other.ids["kv"]) }),
        json!({ "type": "d1", "name": "A", "id": theirs("database") }),
        json!({ "type": "d1", "name": "A", "id": format!("../../{}/d1/{}", other.id, other.ids["database"]) }),
        json!({ "type": "r2_bucket", "name": "A", "bucket_name": theirs("bucket") }),
        json!({ "type": "r2_bucket", "name": "A", "bucket_name": "../other-bucket" }),
        json!({ "type": "vectorize", "name": "A", "index_name": theirs("index") }),
        json!({ "type": "vectorize", "name": "A", "index_name": format!("../../{}/vectorize/{}", other.id, other.ids["index"]) }),
        json!({ "type": "secrets_store_secret", "name": "A", "store_id": theirs("store"), "secret_name": "KEY" }),
        json!({ "type": "service", "name": "A", "service": theirs("script") }),
        json!({ "type": "service", "name": "A", "service": format!("{}/{}", other.id, other.ids["script"]) }),
        json!({ "type": "durable_object_namespace", "name": "A", "class_name": "Room", "script_name": theirs("script") }),
        json!({ "type": "durable_object_namespace", "name": "A", "namespace_id": theirs("objects") }),
        json!({ "type": "dispatch_namespace", "name": "A", "namespace": theirs("dispatch") }),
        json!({ "type": "dispatch_namespace", "name": "A", "namespace": format!("{}/{}", other.id, other.ids["dispatch"]) }),
    ] {
        let (status, answer) = upload(&serve, &own, &plain(json!([binding])), &worker);
        assert!((400..500).contains(&status), "{binding}: {status} {answer}");
    }
    // Where a name is taken that nobody has yet, it is a name of one's own.
    let flow = json!({
        "type": "workflow", "name": "A", "workflow_name": theirs("workflow"), "class_name": "Flow", "script_name": theirs("script"),
    });
    let start = "export default { async fetch(_, env) {
        try { return new Response((await env.A.create({ id: 'intruder' })).id) } catch { return new Response('refused') }
    } }";
    let (status, _) = upload(&serve, &own, &plain(json!([flow])), &[("index.js", start)]);
    if status == 200 {
        publish(&serve, &own, &plain(json!([flow])), start);
        assert_eq!(serve.get(SCRIPT, "/").text(), "refused");
    }
    let instance = format!("/workflows/{}/instances/intruder", other.ids["workflow"]);
    assert_eq!(other.send(&serve, "GET", &instance, "application/json", None).status, 404);
    // The same words mean one's own: each has a queue of this name.
    let queue = plain(json!([{ "type": "queue", "name": "A", "queue_name": "t" }]));
    let code =
        "export default { async fetch(_, env) { await env.A.send('mine'); return new Response('sent') } }";
    publish(&serve, &own, &queue, code);
    assert_eq!(serve.get(SCRIPT, "/").text(), "sent");
    let held = |account: &Account| {
        let path = format!("/queues/{}/metrics", account.ids["queue"]);
        account.send(&serve, "GET", &path, "application/json", None).json()["result"]["backlog_count"].clone()
    };
    assert_eq!((held(&own), held(&other)), (json!(2), json!(1)));
}

#[test]
fn a_dispatcher_finds_no_script_but_those_of_its_namespace() {
    let (serve, own, other) = two_accounts();
    let metadata = json!({
        "main_module": "index.js", "compatibility_date": "2026-07-01",
        "bindings": [{ "type": "dispatch_namespace", "name": "TENANTS", "namespace": own.ids["dispatch"] }],
    });
    let code = "export default { async fetch(request, env) {
        const name = decodeURIComponent(new URL(request.url).search.slice(1));
        try { return await env.TENANTS.get(name).fetch(request) } catch (error) { return new Response(error.message) }
    } }";
    publish(&serve, &own, &metadata, code);
    let ask = |name: &str| serve.get(SCRIPT, &format!("/?{name}")).text();
    assert_eq!(ask("own-s"), "ok");
    let namespaces =
        other.send(&serve, "GET", "/workers/dispatch/namespaces", "application/json", None).json();
    let id = namespaces["result"][0]["namespace_id"].as_str().unwrap().to_owned();
    let tenant = &other.ids["script"];
    for name in [
        tenant.clone(),
        format!("{id}:{tenant}"),
        format!("{id}/{tenant}"),
        format!("../{id}/{tenant}"),
        format!("{}:{tenant}", other.ids["dispatch"]),
        format!("{}/{tenant}", other.id),
        "reaching".into(),
        "../reaching".into(),
        "own-s@".into(),
        ":own-s".into(),
        "%00".into(),
        "".into(),
    ] {
        assert_eq!(ask(&name), "Worker not found.", "{name}");
    }
}

#[test]
fn paths_of_modules_and_assets_lead_to_no_file_of_the_machine() {
    let (serve, own, _) = two_accounts();
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    for name in
        ["../index.js", "/etc/passwd", "a/../../b.js", "..\\\\b.js", "skep-limits.js", "skep-entry.js"]
    {
        let modules = [("index.js", NEIGHBOUR), (name, "export default 1")];
        let (status, answer) = upload(&serve, &own, &metadata, &modules);
        // A name that a module may have is a name and nothing else: see below.
        assert!(
            status == 400 || (status == 200 && !name.starts_with(['.', '/'])),
            "{name}: {status} {answer}"
        );
    }
    for wanted in
        ["/etc/passwd", "../../../../etc/passwd", "file:///etc/passwd", "./config.capnp", "skep:app"]
    {
        let code = format!("import * as a from {}; export default {{ fetch() {{}} }}", json!(wanted));
        let (status, answer) = upload(&serve, &own, &metadata, &[("index.js", &code)]);
        assert_eq!((status, &answer["errors"][0]["code"]), (400, &json!(10021)), "{wanted}: {answer}");
        let code = format!("export default {{ async fetch() {{
            try {{ return Response.json(Object.keys(await import({}))) }} catch (error) {{ return new Response('refused') }}
        }} }}", json!(wanted));
        publish(&serve, &own, &metadata, &code);
        assert_eq!(serve.get(SCRIPT, "/").text(), "refused", "{wanted}");
    }
    // A file of one's own, under names that would lead elsewhere.
    for path in
        ["/../../registry.sqlite", "/..%2f..%2fregistry.sqlite", "no/slash", "/a/../../../b", "/\u{0}"]
    {
        let hash = "0123456789abcdef0123456789abcdef";
        let manifest = json!({ "manifest": { path: { "hash": hash, "size": 4 } } });
        let session = "/workers/scripts/reaching/assets-upload-session";
        let answer =
            own.send(&serve, "POST", session, "application/json", Some(manifest.to_string().as_bytes()));
        assert!(answer.status < 500, "{path}: {}", answer.text());
        assert!(!serve.dir.path().join("b").exists());
    }
    for path in [
        "/../../credentials.json",
        "/%2e%2e/%2e%2e/registry.sqlite",
        "/..%2f..%2fregistry.sqlite",
        "//etc/passwd",
    ] {
        let answer = serve.get(SCRIPT, path);
        assert_eq!(answer.text(), "refused", "{path}");
    }
}
