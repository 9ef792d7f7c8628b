//! Containers of Durable Objects in `skep dev`, with a Docker daemon of the tests' own.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::docker::{BASE, Docker, docker};
use crate::harness::{Skep, command, eventually, npm, project, small_project, start};

/// A project whose objects have a container each; `more` are keys of `containers`.
fn boxes(name: &str, more: &Value) -> tempfile::TempDir {
    let mut container = json!({
        "class_name": "Box",
        "image": "./Dockerfile",
        "image_vars": { "BASE": BASE, "PLACE": "/server.js" },
    });
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = json!({
        "name": name,
        "main": "index.js",
        "compatibility_date": "2026-11-01",
        "containers": [container],
        "durable_objects": { "bindings": [{ "name": "BOX", "class_name": "Box" }] },
        "migrations": [{ "tag": "1", "new_sqlite_classes": ["Box"] }],
    });
    let read = |file: &str| std::fs::read_to_string(project("boxes").join(file)).unwrap();
    let files = ["index.js", "server.js", "Dockerfile"].map(|file| (file, read(file)));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    small_project(&config.to_string(), &files)
}

fn run(docker: &Docker, dir: &Path, state: &Path) -> Skep {
    let mut command = command(dir, state);
    command.env("DOCKER_HOST", &docker.host).env_remove("WRANGLER_DOCKER_HOST");
    start(command).unwrap_or_else(|output| panic!("skep dev did not come up:\n{output}"))
}

/// Starts a container and waits until what is in it answers.
fn begin(skep: &Skep, query: &str) {
    let started = skep.get(&format!("/start?{query}"));
    assert_eq!(started.json(), json!({ "running": true }), "{}", skep.output());
    eventually("an answer of the container", || {
        Some(skep.get(&format!("/hello?{query}"))).filter(|answer| answer.status == 200)
    });
}

fn exec(skep: &Skep, query: &str) -> Value {
    skep.get(&format!("/exec?{query}")).json()
}

#[test]
fn a_container_runs_beside_its_object() {
    let Some(docker) = docker() else { return };
    let (dir, state) = (boxes("beside", &json!({})), tempfile::tempdir().unwrap());
    let skep = run(docker, dir.path(), state.path());
    assert!(skep.output().contains("Box.ctx.container"), "{}", skep.output());
    assert_eq!(skep.get("/state").json()["running"], false);

    begin(&skep, "box=a");
    let answer = skep.post("/there?x=1", "body").json();
    assert_eq!(answer, json!({ "method": "POST", "url": "/there?x=1", "body": "body", "greeting": "hi" }));
    assert_eq!(skep.get("/tcp?say=echo").text(), "echo");
    let mut socket = skep.websocket("/socket");
    socket.send("hello".into()).unwrap();
    assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), "container: hello");

    let ran = exec(&skep, "run=echo%20%24A%20%24GREETING%3B%20pwd%20%3E%262%3B%20exit%203");
    assert_eq!(ran, json!({ "out": "1 hi\n", "err": "/tmp\n", "code": 3 }));
    assert_eq!(exec(&skep, "run=cat&in=input"), json!({ "out": "input", "err": "", "code": 0 }));
    skep.get("/signal");
    let state = eventually("the end of the container", || {
        Some(skep.get("/state").json()).filter(|state| state["running"] == false && state["ended"] != "")
    });
    assert!(state["ended"].as_str().unwrap().contains("exit code: 7"), "{state}");

    begin(&skep, "box=a");
    assert_eq!(docker.containers("beside").len(), 1);
    assert_eq!(skep.get("/destroy").text(), "gone");
    assert_eq!(docker.containers("beside"), [""; 0]);
    assert_eq!(skep.get("/state").json()["running"], false);
}

#[test]
fn a_container_has_no_rights_on_the_machine() {
    let Some(docker) = docker() else { return };
    let more = json!({ "instance_type": { "memory_mib": 300 } });
    let (dir, state) = (boxes("rights", &more), tempfile::tempdir().unwrap());
    let skep = run(docker, dir.path(), state.path());
    begin(&skep, "box=closed");
    begin(&skep, "box=open&internet");
    for id in docker.containers("rights") {
        let inspected: Value = serde_json::from_str(&docker.run(&["inspect", &id])).unwrap();
        let host = &inspected[0]["HostConfig"];
        assert_eq!(host["Memory"], 300 << 20);
        assert_eq!(host["MemorySwap"], 300 << 20);
        assert_eq!(host["Privileged"], false);
        assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
        assert!(
            host["PidMode"] == "" && host["IpcMode"] == "private" && host["CgroupnsMode"] == "private",
            "{host}"
        );
        assert!(host["Binds"].is_null() && inspected[0]["Mounts"] == json!([]), "{host}");
        assert!(!host["CapAdd"].as_array().unwrap().contains(&json!("NET_RAW")), "{host}");
        assert!(host["PidsLimit"].as_u64().is_some_and(|most| most > 0), "{host}");
    }
    // Whether there is a way out, and one to each other, is a matter of the networks that they are in.
    let mut networks: Vec<(bool, String)> = docker
        .containers("rights")
        .iter()
        .map(|id| {
            let name = docker.run(&["inspect", "--format", "{{.HostConfig.NetworkMode}}", id]);
            let network: Value = serde_json::from_str(&docker.run(&["network", "inspect", &name])).unwrap();
            let option = network[0]["Options"]["com.docker.network.bridge.enable_icc"].as_str();
            (network[0]["Internal"] == true, option.unwrap_or_default().to_owned())
        })
        .collect();
    networks.sort();
    assert_eq!(networks, [(false, "false".to_owned()), (true, "false".to_owned())]);
}

#[test]
fn no_more_run_than_max_instances() {
    let Some(docker) = docker() else { return };
    let (dir, state) = (boxes("most", &json!({ "max_instances": 1 })), tempfile::tempdir().unwrap());
    let skep = run(docker, dir.path(), state.path());
    begin(&skep, "box=a");
    skep.get("/start?box=b");
    skep.wait_for_output("Maximum number of running container instances exceeded");
    let state = eventually("the refusal", || {
        Some(skep.get("/state?box=b").json()).filter(|state| state["ended"] != "")
    });
    assert_eq!(state["running"], false, "{state}");
    assert_eq!(docker.containers("most").len(), 1);
    skep.get("/destroy?box=a");
    begin(&skep, "box=b");
}

#[test]
fn containers_outlive_a_reload_and_nothing_outlives_skep() {
    let Some(docker) = docker() else { return };
    let (dir, state) = (boxes("outlive", &json!({})), tempfile::tempdir().unwrap());
    let mut skep = run(docker, dir.path(), state.path());
    begin(&skep, "box=a");
    let first = docker.containers("outlive");
    let code = dir.path().join("index.js");
    let changed = std::fs::read_to_string(&code).unwrap().replace("\"gone\"", "\"changed\"");
    std::fs::write(&code, changed).unwrap();
    skep.wait_for_output("Reloaded in");
    assert_eq!(skep.get("/hello").json()["greeting"], "hi");
    assert_eq!(docker.containers("outlive"), first);

    // One that is killed leaves its containers; the next one with the same state removes them.
    skep.signal("KILL");
    skep.wait();
    assert_eq!(docker.containers("outlive"), first);
    let mut skep = run(docker, dir.path(), state.path());
    assert!(skep.output().contains("Removed 1 containers"), "{}", skep.output());
    assert_eq!(docker.containers("outlive"), [""; 0]);
    begin(&skep, "box=b");
    skep.signal("INT");
    skep.wait();
    assert_eq!(docker.containers("outlive"), [""; 0]);
}

#[test]
fn without_docker_the_way_out_is_named() {
    let (dir, state) =
        (boxes("without", &json!({ "image": "docker.io/library/none:1" })), tempfile::tempdir().unwrap());
    let absent = |more: &[&str]| {
        let mut command = command(dir.path(), state.path());
        command.args(more).env_remove("WRANGLER_DOCKER_HOST");
        command.env("DOCKER_HOST", format!("unix://{}/none.sock", state.path().display()));
        start(command).unwrap_or_else(|output| panic!("skep dev did not come up:\n{output}"))
    };
    let skep = absent(&[]);
    let output = skep.output();
    for expected in ["none.sock does not answer", "A Docker engine is needed", "--enable-containers=false"] {
        assert!(output.contains(expected), "{output}");
    }
    drop(skep);
    let skep = absent(&["--enable-containers=false"]);
    assert_eq!(skep.get("/state").json()["has"], false);
}

#[test]
fn the_container_class_of_the_package_works() {
    let Some(docker) = docker() else { return };
    let (dir, state) = (boxes("package", &json!({})), tempfile::tempdir().unwrap());
    let code = r#"
        import { Container } from "@cloudflare/containers";
        export class Box extends Container {
          defaultPort = 8080;
          sleepAfter = "10m";
          enableInternet = false;
          envVars = { GREETING: "packaged" };
          onStart() { console.log("hook: started"); }
          onStop({ exitCode }) { console.log("hook: stopped with " + exitCode); }
          onError(error) { console.log("hook: failed with " + error); throw error; }
        }
        export default {
          async fetch(request, env) {
            const box = env.BOX.getByName("a");
            const { pathname } = new URL(request.url);
            if (pathname === "/state") return Response.json(await box.getState());
            if (pathname === "/stop") { await box.stop(); return new Response("stopping"); }
            return box.fetch(request);
          },
        };"#;
    std::fs::write(dir.path().join("index.js"), code).unwrap();
    let packages = npm::installed("cloudflare-containers", &["@cloudflare/containers@0.3.7"]);
    std::os::unix::fs::symlink(packages.join("node_modules"), dir.path().join("node_modules")).unwrap();
    let skep = run(docker, dir.path(), state.path());
    let answer = skep.post("/first", "x");
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), skep.output());
    assert_eq!(answer.json()["greeting"], "packaged");
    skep.wait_for_output("hook: started");
    assert_eq!(skep.get("/state").json()["status"], "healthy");
    let mut socket = skep.websocket("/socket");
    socket.send("hello".into()).unwrap();
    assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), "container: hello");
    drop(socket);
    skep.get("/stop");
    skep.wait_for_output("hook: ");
    eventually("the end of the container", || {
        Some(skep.get("/state").json())
            .filter(|state| state["status"].as_str().is_some_and(|s| s.starts_with("stopped")))
    });
}

#[test]
fn outbound_handlers_of_the_package_get_http_and_https() {
    let Some(docker) = docker() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: it takes root");
        return;
    }
    let (dir, state) = (boxes("packageout", &json!({})), tempfile::tempdir().unwrap());
    let code = r#"
        import { Container, ContainerProxy } from "@cloudflare/containers";
        export { ContainerProxy };
        export class Box extends Container {
          defaultPort = 8080;
          sleepAfter = "10m";
          enableInternet = false;
          interceptHttps = true;
          async run(url) {
            const code = `fetch("${url}").then((answer) => answer.text()).then(console.log, (error) => console.log(String(error)))`;
            const env = { NODE_EXTRA_CA_CERTS: "/etc/cloudflare/certs/cloudflare-containers-ca.crt" };
            const ran = await this.ctx.container.exec(["/bin/node", "-e", code], { env });
            return new TextDecoder().decode((await ran.output()).stdout);
          }
        }
        Box.outboundByHost = { "api.example": (request) => new Response("by host: " + request.url) };
        Box.outbound = (request) => new Response("any: " + request.url);
        export default {
          async fetch(request, env) {
            const box = env.BOX.getByName("a");
            const url = new URL(request.url).searchParams.get("url");
            return url ? new Response(await box.run(url)) : box.fetch(request);
          },
        };"#;
    std::fs::write(dir.path().join("index.js"), code).unwrap();
    let packages = npm::installed("cloudflare-containers", &["@cloudflare/containers@0.3.7"]);
    std::os::unix::fs::symlink(packages.join("node_modules"), dir.path().join("node_modules")).unwrap();
    let skep = run(docker, dir.path(), state.path());
    let answer = skep.get("/first");
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), skep.output());
    for scheme in ["http", "https"] {
        for (host, by) in [("api.example", "by host"), ("other.example", "any")] {
            let url = format!("{scheme}://{host}/x");
            let said = skep.get(&format!("/?url={url}")).text();
            assert_eq!(said, format!("{by}: {url}\n"), "{}", skep.output());
        }
    }
}

#[test]
fn what_a_container_sends_out_goes_to_its_worker() {
    let Some(docker) = docker() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: it takes root");
        return;
    }
    let (dir, state) = (boxes("outbound", &json!({})), tempfile::tempdir().unwrap());
    let skep = run(docker, dir.path(), state.path());
    // Before the start: the first thing that is sent goes there. The address of the name is nobody's.
    for host in ["one.example", "*.two.example"] {
        let said = skep.get(&format!("/intercept?box=a&host={host}"));
        assert_eq!(said.text(), "intercepted", "{}", skep.output());
    }
    begin(&skep, "box=a");
    let ask = |query: &str, url: &str, options: &str, body: &str| {
        let code = format!(
            "const out = (text) => process.stdout.write(text); const request = require('node:http').request('{url}', \
             {{ timeout: 20000, {options} }}, (answer) => answer.on('data', out)); request.on('error', (error) => out('' + error)); \
             request.on('timeout', () => request.destroy()); request.end('{body}');"
        );
        let run = format!("/bin/node -e \"{code}\"");
        let run: String = run.bytes().map(|byte| format!("%{byte:02x}")).collect();
        exec(&skep, &format!("{query}&run={run}"))["out"].as_str().unwrap().to_owned()
    };
    let fetch = |query: &str, url: &str| ask(query, url, "", "");
    assert_eq!(
        fetch("box=a", "http://one.example/x?y=1"),
        "a: GET http://one.example/x?y=1 ",
        "{}",
        skep.output()
    );
    assert_eq!(fetch("box=a", "http://b.two.example/"), "a: GET http://b.two.example/ ");
    let posted = ask("box=a", "http://9.9.9.9/", "method: 'POST', headers: { host: 'one.example' }", "body");
    assert_eq!(posted, "a: POST http://one.example/ body");
    for other in ["http://three.example/", "http://9.9.9.9/", "http://one.example:81/"] {
        let said = fetch("box=a", other);
        assert!(!said.contains("GET"), "{other}: {said}");
    }
    assert_eq!(docker.containers("outbound").len(), 1);
    assert_eq!(skep.get("/hello?box=a").json()["greeting"], "hi", "the way in is as before");

    // While it runs: from then on, and in no other container.
    begin(&skep, "box=b");
    assert!(!fetch("box=b", "http://one.example/").contains("GET"));
    assert_eq!(skep.get("/intercept-all?box=b").text(), "intercepted", "{}", skep.output());
    assert_eq!(fetch("box=b", "http://anything.example/z"), "all: GET http://anything.example/z ");
    assert_eq!(fetch("box=b", "http://9.9.9.9/"), "all: GET http://9.9.9.9/ ");

    // Nothing is left of it.
    let made = || docker.run(&["ps", "-aq", "--filter", "name=outbound"]).lines().count();
    assert_eq!(made(), 3, "one has a network that is held for it");
    skep.get("/destroy?box=a");
    skep.get("/destroy?box=b");
    eventually("the end of all", || (made() == 0).then_some(()));
}

#[test]
fn what_a_container_sends_by_tls_goes_to_its_worker_too() {
    let Some(docker) = docker() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: it takes root");
        return;
    }
    let (dir, state) = (boxes("outboundtls", &json!({})), tempfile::tempdir().unwrap());
    let skep = run(docker, dir.path(), state.path());
    let ask = |query: &str, trusted: bool, url: &str, body: &str| {
        let code = format!(
            "const out = (text) => process.stdout.write(text); const request = require('node:https').request('{url}', \
             {{ timeout: 20000, method: 'POST' }}, (answer) => answer.on('data', out)); request.on('error', (error) => out('' + error)); \
             request.on('timeout', () => request.destroy()); request.end({body});"
        );
        let authority = "/etc/cloudflare/certs/cloudflare-containers-ca.crt";
        let trust = if trusted { format!("NODE_EXTRA_CA_CERTS={authority} ") } else { String::new() };
        let run = format!("{trust}/bin/node -e \"{code}\"");
        let run: String = run.bytes().map(|byte| format!("%{byte:02x}")).collect();
        exec(&skep, &format!("{query}&run={run}"))["out"].as_str().unwrap().to_owned()
    };
    // Before the start.
    let said = skep.get("/intercept-https?box=a&host=*.secure.example");
    assert_eq!(said.text(), "intercepted", "{}", skep.output());
    begin(&skep, "box=a");
    let url = "https://a.secure.example/x?y=1";
    assert_eq!(ask("box=a", true, url, "'body'"), format!("https: POST {url} body"), "{}", skep.output());
    let long = ask("box=a", true, url, "'0123456789'.repeat(100000)");
    assert_eq!(
        (long.len(), &long[long.len() - 5..]),
        (format!("https: POST {url} ").len() + 1_000_000, "56789")
    );
    let refused = ask("box=a", false, url, "''");
    assert!(refused.contains("certificate") && !refused.contains("POST"), "{refused}");
    for other in ["https://other.example/", "http://a.secure.example/"] {
        let said = ask("box=a", true, other, "''");
        assert!(!said.contains("POST"), "{other}: {said}");
    }

    // While it runs; what one container trusts, another does not.
    begin(&skep, "box=b");
    assert_eq!(skep.get("/intercept-https?box=b&host=*").text(), "intercepted", "{}", skep.output());
    assert_eq!(ask("box=b", true, url, "''"), format!("https: POST {url} "), "{}", skep.output());
    let certificate = |query: &str| {
        exec(&skep, &format!("{query}&run=cat%20/etc/cloudflare/certs/cloudflare-containers-ca.crt"))["out"]
            .clone()
    };
    let (one, other) = (certificate("box=a"), certificate("box=b"));
    assert!(
        one.as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----") && one != other,
        "{one} {other}"
    );

    // One that is started again has another.
    skep.get("/destroy?box=a");
    begin(&skep, "box=a");
    let again = certificate("box=a");
    assert!(again.as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----") && again != one, "{again}");
    assert_eq!(ask("box=a", true, url, "''"), format!("https: POST {url} "), "{}", skep.output());
}
