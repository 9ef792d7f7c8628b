//! Stock `wrangler deploy` of a project with a container to a node.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::harness::eventually;
use crate::harness::serve::{Serve, run, serve, serve_in};
use crate::image_registry::docker::Docker;
use crate::image_registry::host;

const WORKER: &str = "import { DurableObject } from 'cloudflare:workers';\n\
    export class Box extends DurableObject {\n\
      async fetch(request) {\n\
        const url = new URL(request.url), box = this.ctx.container;\n\
        if (url.pathname === '/state') return Response.json({ running: box.running });\n\
        if (!box.running) {\n\
          box.start({ enableInternet: true, env: { SAID: 'from the worker' } });\n\
          // Otherwise it ends with the object, ten seconds after the last request.\n\
          await box.setInactivityTimeout(600000);\n\
        }\n\
        for (let n = 0; ; n++) {\n\
          try { return await box.getTcpPort(8080).fetch('http://box' + url.pathname + url.search); }\n\
          catch (e) { if (n > 300) throw e; await scheduler.wait(100); }\n\
        }\n\
      }\n\
    }\n\
    export default { fetch(request, env) { return env.BOX.get(env.BOX.idFromName('one')).fetch(request); } }";

/// Asks for what stands after `?`; `GW` is the machine, as the container sees it.
const TRY: &str = "#!/bin/busybox sh\n\
    echo; GW=$(/bin/busybox ip route | /bin/busybox awk '/default/{print $3}')\n\
    TO=$(echo \"$QUERY_STRING\" | /bin/busybox sed \"s/GW/$GW/;s/:/ /\")\n\
    if printf 'GET /word HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w 3 $TO | /bin/busybox grep -q .; then\n\
    echo \"reached $TO\"; else echo \"no way to $TO\"; fi\n";

fn project(serve: &Serve, word: &str) -> std::path::PathBuf {
    let config = r#"{ "name": "boxed", "main": "index.js", "compatibility_date": "2026-01-01",
        "containers": [{ "class_name": "Box", "image": "./Dockerfile", "max_instances": 2, "instance_type": "basic" }],
        "durable_objects": { "bindings": [{ "name": "BOX", "class_name": "Box" }] },
        "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Box"] }] }"#;
    let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY www /www\n\
        CMD [\"/bin/busybox\", \"sh\", \"/www/init\"]\n";
    // The first process of a container has to take a signal to end by it.
    let init = "trap 'exit 0' TERM\n/bin/busybox httpd -f -p 8080 -h /www &\nwait\n";
    let files = [
        ("wrangler.jsonc", config),
        ("index.js", WORKER),
        ("Dockerfile", dockerfile),
        ("www/word", word),
        ("www/init", init),
        ("www/cgi-bin/try", TRY),
    ];
    let dir = serve.project("boxed", &files);
    std::fs::copy("/bin/busybox", dir.join("busybox")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    for file in ["busybox", "www/cgi-bin/try"] {
        std::fs::set_permissions(dir.join(file), PermissionsExt::from_mode(0o755)).unwrap();
    }
    dir
}

fn deploy(serve: &Serve, docker: &Docker, word: &str) -> String {
    let dir = project(serve, word);
    let mut command = serve.wrangler_command(&dir, &["deploy"]);
    command.env("CLOUDFLARE_CONTAINER_REGISTRY", host(serve)).env("WRANGLER_DOCKER_BIN", docker.program());
    let ran = run(&mut command);
    assert!(ran.success, "{}\n{}", ran.text, serve.output());
    ran.text
}

#[test]
fn a_node_without_an_engine_refuses_containers_by_name() {
    let serve = serve();
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-01-01",
        "migrations": { "new_sqlite_classes": ["Box"] }, "containers": [{ "class_name": "Box" }] });
    let answer = serve.upload("boxed", &metadata, WORKER);
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("skep serve --containers"), "{}", answer.text());
}

#[test]
fn wrangler_deploys_a_container_that_runs_bounded_and_goes_with_its_script() {
    if !std::path::Path::new("/bin/busybox").exists() {
        eprintln!("skipped: there is no /bin/busybox");
        return;
    }
    if std::process::Command::new("iptables").arg("--version").output().is_err() {
        eprintln!("skipped: there is no iptables");
        return;
    }
    let Some(docker) = Docker::start() else { return };
    let flag = format!("--containers=unix://{}", docker.program().with_file_name("docker.sock").display());
    let serve = serve_in(tempfile::tempdir().unwrap(), &[&flag]);
    let said = deploy(&serve, &docker, "first");
    assert!(said.contains("Created application"), "{said}");
    let site = "boxed.main.localhost";
    let get = |serve: &Serve, path: &str| serve.get(site, path).text();
    assert_eq!(get(&serve, "/word"), "first");
    let ours = || docker.must(&["ps", "-q", "--filter", "label=dev.skep.owner"]).lines().count();
    assert_eq!(ours(), 1);

    // What it may reach: itself, and neither the machine nor what is around it.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = reached.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    assert_eq!(get(&serve, "/cgi-bin/try?127.0.0.1:8080").trim(), "reached 127.0.0.1 8080");
    for to in [format!("GW:{port}"), "169.254.169.254:80".to_owned(), format!("10.0.0.1:{port}")] {
        let said = get(&serve, &format!("/cgi-bin/try?{to}"));
        assert!(said.starts_with("no way to ") && !said.starts_with("no way to  "), "{to}: {said}");
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0, "the machine's ports");

    let dir = serve.dir.path().join("boxed");
    let listed = serve.wrangler(&dir, &["containers", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["instances"]), (&json!("boxed-box"), &json!(1)));
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    let shown = serve.wrangler(&dir, &["containers", "instances", &id, "--json"]);
    assert!(shown.contains("running"), "{shown}");

    // The same again changes nothing; another image is rolled out.
    let before = docker.must(&["ps", "-q", "--no-trunc"]);
    let again = deploy(&serve, &docker, "first");
    assert!(again.contains("no changes"), "{again}");
    assert_eq!(get(&serve, "/word"), "first");
    assert_eq!(docker.must(&["ps", "-q", "--no-trunc"]), before, "the container of before goes on");
    let other = deploy(&serve, &docker, "second");
    assert!(other.contains("Modified application"), "{other}");
    eventually("the new image", || {
        let answer = serve.get(site, "/word");
        (answer.status == 200 && answer.text() == "second").then_some(())
    });

    // `skep deploy` finds the node's registry by itself.
    let dir = serve.dir.path().join("boxed");
    std::fs::write(dir.join("www/word"), "third").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_skep"));
    command.arg("deploy").arg(&dir).args(["--target", "skep", "--data"]).arg(serve.dir.path().join("data"));
    command.env("WRANGLER_DOCKER_BIN", docker.program());
    let ran = run(&mut command);
    assert!(ran.success, "{}\n{}", ran.text, serve.output());
    eventually("the image of skep deploy", || {
        let answer = serve.get(site, "/word");
        (answer.status == 200 && answer.text() == "third").then_some(())
    });

    // A node that was killed cleans up at its next start.
    let dir = serve.stop("KILL");
    let serve = serve_in(dir, &[&flag]);
    assert_eq!(ours(), 0);
    assert_eq!(get(&serve, "/word"), "third");
    assert_eq!(ours(), 1);
    assert_eq!(serve.call("DELETE", "/workers/scripts/boxed", None).status, 200);
    assert_eq!(ours(), 0, "containers do not outlive their script");
    assert_eq!(serve.call("GET", "/containers/applications", None).json()["result"], json!([]));
    drop(serve);
}
