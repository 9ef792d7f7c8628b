//! What hostile tenants reach for: data of others, names that lead inside, more than their share of requests.

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::accounts::{Account, two_accounts};
use crate::harness::serve::{Serve, serve_by, serve_in};
use crate::hostile::{HOST, NEIGHBOUR, OUTSIDE, Scene, door, scene, scene_on};

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

/// Answers questions for addresses by the first label of the name: a name server.
fn names(socket: UdpSocket) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            count.fetch_add(1, Ordering::SeqCst);
            let text = String::from_utf8_lossy(&question[12..length]).into_owned();
            let end = 12 + question[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let six = question[end - 3] == 28;
            let loopback6 = [&[0; 15][..], &[1]].concat();
            let mapped = [&[0; 10][..], &[255, 255, 127, 0, 0, 1]].concat();
            let addresses: Vec<Vec<u8>> = match six {
                true if text.contains("six") => vec![loopback6],
                true if text.contains("mapped") => vec![mapped],
                false if text.contains("loop") => vec![vec![127, 0, 0, 1]],
                false if text.contains("any") => vec![vec![0, 0, 0, 0]],
                false if text.contains("meta") => vec![vec![169, 254, 169, 254]],
                false if text.contains("home") => vec![vec![192, 168, 0, 1], vec![10, 0, 0, 1]],
                // Nobody is there, and then somebody inside.
                false if text.contains("both") => vec![vec![192, 0, 2, 1], vec![127, 0, 0, 1]],
                _ => vec![],
            };
            let mut answer = question[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
            for address in addresses {
                answer.extend([
                    0xc0,
                    12,
                    0,
                    if six { 28 } else { 1 },
                    0,
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    address.len() as u8,
                ]);
                answer.extend(address);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    asked
}

#[test]
fn names_that_resolve_to_private_addresses_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("resolv.conf");
    std::fs::write(&settings, "nameserver 127.7.7.7\noptions timeout:1 attempts:1\n").unwrap();
    // A view of the file system in which that is the machine's resolver.
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""])
        .arg(&settings);
    let try_out = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf"])
        .arg(&settings)
        .status();
    let (Ok(server), Ok(true)) = (UdpSocket::bind("127.7.7.7:53"), try_out.map(|status| status.success()))
    else {
        eprintln!("no name server can be put in the place of this machine's: not tested");
        return;
    };
    let asked = names(server);
    command.arg(env!("CARGO_BIN_EXE_skep"));
    let scene = scene_on(serve_by(command, dir, &[]), &json!({}), OUTSIDE);
    let inside = "HTTP/1.0 200 OK\r\n\r\ninside";
    let (port, came) = door(TcpListener::bind("0.0.0.0:0").unwrap(), inside.into());
    let six = TcpListener::bind(("::1", port)).ok().map(|listener| door(listener, inside.into()));
    scene.meanwhile(|| {
        for name in ["loop", "any", "meta", "home", "six", "mapped", "both"] {
            for path in [
                format!("/fetch?to=http://{name}.example:{port}/"),
                format!("/connect?to={name}.example:{port}"),
            ] {
                let before = asked.load(Ordering::SeqCst);
                let (status, text) = scene.bad(&path);
                assert!(status == 200 && text.starts_with("refused: "), "{path}: {status} {text}");
                assert!(asked.load(Ordering::SeqCst) > before, "{path}: the name was not looked up");
            }
        }
    });
    assert_eq!(came.load(Ordering::SeqCst), 0);
    assert_eq!(six.map_or(0, |(_, came)| came.load(Ordering::SeqCst)), 0);
}

/// Uploads a script of these modules to `account`.
fn upload(serve: &Serve, account: &Account, metadata: &Value, modules: &[(&str, &str)]) -> (u16, Value) {
    let mut form = format!("--x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{metadata}\r\n");
    for (name, code) in modules {
        form.push_str(&format!(
            "--x\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: application/javascript+module\r\n\r\n{code}\r\n"
        ));
    }
    form.push_str("--x--\r\n");
    let form_type = "multipart/form-data; boundary=x";
    let answer = account.send(serve, "PUT", "/workers/scripts/reaching", form_type, Some(form.as_bytes()));
    (answer.status, answer.json())
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
        let address = "/workers/scripts/reaching/subdomain";
        own.send(&serve, "POST", address, "application/json", Some(b"{\"enabled\":true}"));
        assert_eq!(serve.get("reaching.main.localhost", "/").text(), "refused");
    }
    let instance = format!("/workflows/{}/instances/intruder", other.ids["workflow"]);
    assert_eq!(other.send(&serve, "GET", &instance, "application/json", None).status, 404);
    // The same words mean one's own: each has a queue of this name.
    let (status, answer) = upload(
        &serve,
        &own,
        &plain(json!([{ "type": "queue", "name": "A", "queue_name": "t" }])),
        &[(
            "index.js",
            "export default { async fetch(_, env) { await env.A.send('mine'); return new Response('sent') } }",
        )],
    );
    assert_eq!(status, 200, "{answer}");
    own.send(
        &serve,
        "POST",
        "/workers/scripts/reaching/subdomain",
        "application/json",
        Some(b"{\"enabled\":true}"),
    );
    assert_eq!(serve.get("reaching.main.localhost", "/").text(), "sent");
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
    let (status, answer) = upload(&serve, &own, &metadata, &[("index.js", code)]);
    assert_eq!(status, 200, "{answer}");
    own.send(
        &serve,
        "POST",
        "/workers/scripts/reaching/subdomain",
        "application/json",
        Some(b"{\"enabled\":true}"),
    );
    let ask = |name: &str| serve.get("reaching.main.localhost", &format!("/?{name}")).text();
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
        assert_eq!(upload(&serve, &own, &metadata, &[("index.js", &code)]).0, 200);
        own.send(
            &serve,
            "POST",
            "/workers/scripts/reaching/subdomain",
            "application/json",
            Some(b"{\"enabled\":true}"),
        );
        assert_eq!(serve.get("reaching.main.localhost", "/").text(), "refused", "{wanted}");
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
        let answer = serve.get("reaching.main.localhost", path);
        assert_eq!(answer.text(), "refused", "{path}");
    }
}
