//! Containers: images are built and pushed, applications made and rolled out, in the form that wrangler sends.

mod cloudflare;
mod docker;
mod registry;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};

use self::cloudflare::{ACCOUNT, Known, PASSWORD, REGISTRY, answer, cloudflare, limits};
use self::docker::Docker;
use self::registry::{registry, sha256};
use crate::harness::recorder::Recorded;
use crate::harness::serve::{Ran, Serve, run, serve};
use crate::harness::standin::{StandIn, stand_in};

const CODE: &str = "import { DurableObject } from 'cloudflare:workers';\nexport class MyContainer extends DurableObject {}\n\
                    export default { fetch: () => new Response('x') };";

fn config(container: &str) -> String {
    format!(
        r#"{{ "name": "cont", "main": "index.js", "compatibility_date": "2026-01-01", "workers_dev": true,
          "durable_objects": {{ "bindings": [{{ "name": "C", "class_name": "MyContainer" }}] }},
          "migrations": [{{ "tag": "v1", "new_sqlite_classes": ["MyContainer"] }}],
          "containers": [{{ "class_name": "MyContainer", {container} }}] }}"#
    )
}

const BUILT: &str = r#""image": "./box/Dockerfile", "instance_type": "standard-1", "max_instances": 3, "image_vars": { "WHO": "me" }"#;

fn project(dir: &Path, container: &str, dockerfile: &str) {
    std::fs::create_dir_all(dir.join("box")).unwrap();
    std::fs::write(dir.join("index.js"), CODE).unwrap();
    std::fs::write(dir.join("wrangler.jsonc"), config(container)).unwrap();
    std::fs::write(dir.join("box/Dockerfile"), dockerfile).unwrap();
}

fn command(api: &StandIn, docker: &Docker, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.arg("deploy").arg(dir).args(["--no-smoke", "--target", &api.api]).args(args);
    command.env("CLOUDFLARE_ACCOUNT_ID", ACCOUNT).env("CLOUDFLARE_API_TOKEN", "t0ken");
    docker.put_into(&mut command);
    command
}

fn deploy(api: &StandIn, docker: &Docker, dir: &Path, args: &[&str]) -> Ran {
    run(&mut command(api, docker, dir, args))
}

/// Calls that change something at the containers API: method, path, body.
fn changes(seen: &[Recorded]) -> Vec<(String, Value)> {
    let own = seen.iter().filter(|r| r.method != "GET" && r.path.contains("/containers/"));
    own.map(|r| (format!("{} {}", r.method, r.path), serde_json::from_slice(&r.body).unwrap())).collect()
}

#[test]
fn an_image_is_built_and_pushed_and_its_application_made_changed_and_left_alone() {
    let (api, docker, dir) = (cloudflare(limits()), Docker::new(), tempfile::tempdir().unwrap());
    project(dir.path(), BUILT, "FROM scratch\n");
    let dry = deploy(&api, &docker, dir.path(), &["--dry-run"]);
    for line in [
        "check  image of cont-mycontainer",
        "create container cont-mycontainer",
        "MyContainer, up to 3 of standard-1",
    ] {
        assert!(dry.success && dry.text.contains(line), "{line}\n{}", dry.text);
    }
    assert_eq!(docker.calls(), ["info"], "a dry run builds nothing");
    assert!(changes(&api.take()).is_empty());

    let ran = deploy(&api, &docker, dir.path(), &[]);
    assert!(ran.success, "{}", ran.text);
    assert!(!ran.text.contains(PASSWORD));
    let calls = docker.calls();
    let context = dir.path().join("./box").display().to_string();
    let expected = format!(
        "build --load -t cont-mycontainer:building --platform linux/amd64 --provenance=false --build-arg WHO=me -f - {context}"
    );
    assert_eq!(calls[1].replace("/./", "/"), expected.replace("/./", "/"));
    assert!(calls.contains(&format!("login --password-stdin --username v1 {REGISTRY}")), "{calls:?}");
    assert_eq!(std::fs::read_to_string(docker.dir.path().join("last-input-login")).unwrap(), PASSWORD);
    assert_eq!(calls.iter().filter(|call| call.starts_with("push ")).count(), 1);
    assert!(calls.iter().all(|call| !call.contains(PASSWORD)));
    let seen = api.take();
    let put = seen.iter().find(|r| r.method == "PUT").unwrap();
    let text = String::from_utf8_lossy(&put.body).into_owned();
    assert!(
        text.contains(
            r#""containers":[{"name":"cont-mycontainer","class_name":"MyContainer"}],"compatibility_date""#
        ),
        "{text}"
    );
    let made = changes(&seen);
    let names: Vec<&str> = made.iter().map(|(call, _)| call.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["credentials", "applications"]);
    assert_eq!(made[0].1, json!({ "expiration_minutes": 15, "permissions": ["push", "pull"] }));
    let image = made[1].1["configuration"]["image"].as_str().unwrap().to_owned();
    assert!(image.starts_with(&format!("{REGISTRY}/{ACCOUNT}/cont-mycontainer@sha256:")), "{image}");

    // Again: it is built from what is cached, and nothing is pushed or changed.
    let ran = deploy(&api, &docker, dir.path(), &[]);
    assert!(
        ran.success && ran.text.contains("is there already") && ran.text.contains("Nothing had to change."),
        "{}",
        ran.text
    );
    assert!(!docker.calls().iter().any(|call| call.starts_with("push ")));
    let names: Vec<String> = changes(&api.take()).into_iter().map(|(call, _)| call).collect();
    assert!(names.len() == 1 && names[0].ends_with("/credentials"), "{names:?}");

    // A new image, and more instances: the application is changed and rolled out.
    project(
        dir.path(),
        &BUILT.replace("\"max_instances\": 3", "\"max_instances\": 9"),
        "FROM scratch\nENV A=1\n",
    );
    let ran = deploy(&api, &docker, dir.path(), &[]);
    assert!(ran.success, "{}", ran.text);
    assert_eq!(docker.calls().iter().filter(|call| call.starts_with("push ")).count(), 1);
    let changed = changes(&api.take());
    let names: Vec<&str> =
        changed.iter().map(|(call, _)| call.split("/containers/").nth(1).unwrap()).collect();
    assert_eq!(names[1..], ["applications/app-0", "applications/app-0/rollouts"]);
    assert_ne!(changed[1].1["configuration"]["image"], image.as_str());
    assert_eq!(changed[2].1["steps"][1]["step_size"]["percentage"], 100);
}

/// wrangler and `skep deploy` beside each other, each with a folder, a Docker and a Cloudflare of its own: wrangler's first.
struct Pair {
    clouds: [StandIn; 2],
    dirs: [tempfile::TempDir; 2],
    dockers: [Docker; 2],
    serve: Serve,
}

impl Pair {
    fn new() -> Self {
        Self {
            clouds: [cloudflare(limits()), cloudflare(limits())],
            dirs: [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()],
            dockers: [Docker::new(), Docker::new()],
            serve: serve(),
        }
    }

    /// Both deploy a project; what they sent. What they changed at the containers API must be the same.
    fn deploy(&self, container: &str, dockerfile: &str, args: &[&str]) -> [Vec<Recorded>; 2] {
        self.dirs.iter().for_each(|dir| project(dir.path(), container, dockerfile));
        let mut wrangler = self.serve.wrangler_command(self.dirs[0].path(), &["deploy", "--tag", "t"]);
        wrangler
            .env("CLOUDFLARE_API_BASE_URL", &self.clouds[0].api)
            .env("CLOUDFLARE_ACCOUNT_ID", ACCOUNT)
            .env("CLOUDFLARE_API_TOKEN", "t0ken");
        self.dockers[0].put_into(&mut wrangler);
        let ran = run(&mut wrangler);
        assert!(ran.success, "{}", ran.text);
        let ran = self.skep(&[&["--tag", "t"], args].concat());
        assert!(ran.success, "{}", ran.text);
        let sent = self.clouds.each_ref().map(StandIn::take);
        let [theirs, ours] = sent.each_ref().map(|all| -> Vec<String> {
            changes(all).iter().map(|(call, body)| format!("{call} {body}")).collect()
        });
        assert_eq!(ours, theirs, "{container}");
        sent
    }

    fn skep(&self, args: &[&str]) -> Ran {
        deploy(&self.clouds[1], &self.dockers[1], self.dirs[1].path(), args)
    }
}

#[test]
fn what_is_sent_is_what_wrangler_sends() {
    let pair = Pair::new();
    let cases = [
        (BUILT.to_owned(), "FROM scratch\n"),
        (BUILT.replace("3", "9"), "FROM scratch\nENV A=1\n"),
        // Limits of one's own, an image in a registry, steps of one's own.
        (
            r#""image": "registry.example.test/base:1", "max_instances": 5, "rollout_step_percentage": 25, "rollout_active_grace_period": 60,
              "instance_type": { "vcpu": 2, "memory_mib": 2048, "disk_mb": 3072 }, "constraints": { "regions": ["weur"] }"#
                .to_owned(),
            "FROM scratch\n",
        ),
    ];
    for (container, dockerfile) in &cases {
        pair.deploy(container, dockerfile, &[]);
    }
}

#[test]
fn sizes_are_presets_and_what_exceeds_a_limit_or_is_not_there_is_said_before_the_first_step() {
    let (api, docker, dir) = (cloudflare(limits()), Docker::new(), tempfile::tempdir().unwrap());
    project(dir.path(), BUILT, "FROM scratch\n");
    let settings = |text: &str| std::fs::write(dir.path().join("skep.deploy.toml"), text).unwrap();
    settings("[containers.MyContainer]\nsize = \"small\"\nvariable = \"BOX_SIZE\"\n");
    let dry = deploy(&api, &docker, dir.path(), &["--dry-run"]);
    assert!(dry.success && dry.text.contains("up to 3 of 2 vCPU, 2048 MiB, 3072 MB"), "{}", dry.text);
    let ran = run(command(&api, &docker, dir.path(), &[]).env("BOX_SIZE", "large"));
    let message = "Your container configuration uses 8 vCPU which exceeds the account limit of 4 vCPU.";
    assert!(!ran.success && ran.text.contains(message), "{}", ran.text);
    let ran = run(command(&api, &docker, dir.path(), &[]).env("BOX_SIZE", "huge"));
    assert!(!ran.success && ran.text.contains("\"huge\" is not the size of a container"), "{}", ran.text);
    let ran = run(command(&api, &docker, dir.path(), &[]).env("SIZE", "4000000000"));
    assert!(
        !ran.success && ran.text.contains("image of cont-mycontainer: Image too large: needs 4451MB"),
        "{}",
        ran.text
    );
    assert!(changes(&api.take()).is_empty());

    settings("");
    let wrong = r#""image": "./nowhere", "rollout_step_percentage": 30, "class": "x""#;
    project(dir.path(), wrong, "");
    let ran = deploy(&api, &docker, dir.path(), &[]);
    for part in [
        "does not appear to be a valid path to a Dockerfile",
        "must be one of [5, 10, 20, 25, 50, 100], but got 30",
        "Unexpected field found in containers field: \"class\"",
    ] {
        assert!(!ran.success && ran.text.contains(part), "{part}\n{}", ran.text);
    }
    project(dir.path(), BUILT, "FROM scratch\n");
    let ran =
        run(command(&api, &docker, dir.path(), &[]).env("WRANGLER_DOCKER_BIN", dir.path().join("no-docker")));
    assert!(!ran.success && ran.text.contains("The Docker CLI could not be launched"), "{}", ran.text);
}

#[test]
fn ctrl_c_during_a_build_ends_the_deploy_before_anything_is_uploaded() {
    let (api, docker, dir) = (cloudflare(limits()), Docker::new(), tempfile::tempdir().unwrap());
    project(dir.path(), BUILT, "FROM scratch\n");
    let ran = run(command(&api, &docker, dir.path(), &[]).env("INTERRUPT", "1"));
    for part in [
        "the deploy was stopped",
        "done: image of cont-mycontainer",
        "not done: script cont, container cont-mycontainer",
    ] {
        assert!(!ran.success && ran.text.contains(part), "{part}\n{}", ran.text);
    }
    assert!(api.take().iter().all(|request| request.method != "PUT"));
    docker.calls();
    let ran = deploy(&api, &docker, dir.path(), &["--containers-rollout", "none"]);
    assert!(ran.success && docker.calls().is_empty(), "{}", ran.text);
    assert!(changes(&api.take()).is_empty(), "the script alone");
    let ran = deploy(&api, &docker, dir.path(), &[]);
    assert!(ran.success && ran.text.contains("is there already"), "{}", ran.text);
    api.take();
    project(dir.path(), &BUILT.replace("\"max_instances\": 3", "\"max_instances\": 9"), "FROM scratch\n");
    let ran = deploy(&api, &docker, dir.path(), &["--containers-rollout", "immediate"]);
    assert!(ran.success, "{}", ran.text);
    let rollout = changes(&api.take()).into_iter().find(|(call, _)| call.ends_with("/rollouts")).unwrap().1;
    assert_eq!((&rollout["step_percentage"], &rollout["steps"]), (&json!(100), &Value::Null));
}

#[test]
fn a_node_that_runs_no_containers_refuses_them_with_their_place_in_the_file() {
    let (serve, docker, dir) = (serve(), Docker::new(), tempfile::tempdir().unwrap());
    project(dir.path(), BUILT, "FROM scratch\n");
    let data = serve.dir.path().join("data");
    let skep = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command.args(args);
        docker.put_into(&mut command);
        run(&mut command)
    };
    let dir = dir.path().to_str().unwrap();
    let data = data.to_str().unwrap();
    let tried = skep(&["deploy", dir, "--dry-run", "--target", "skep", "--data", data]);
    let deployed = skep(&["deploy", dir, "--target", "skep", "--data", data]);
    for ran in [tried, deployed, by_address(&serve, &docker, dir)] {
        for part in
            ["this server runs none", "wrangler.jsonc:4:", "skep serve --containers", "--target cloudflare"]
        {
            assert!(!ran.success && ran.text.contains(part), "{part}\n{}", ran.text);
        }
    }
    let elsewhere = skep(&["check", dir, "--target", "cloudflare"]);
    assert!(elsewhere.success, "{}", elsewhere.text);
    assert_eq!(serve.call("GET", "/workers/scripts", None).json()["result"], json!([]));
}

fn by_address(serve: &Serve, docker: &Docker, dir: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(["deploy", dir, "--target", &serve.api]);
    command.env("CLOUDFLARE_ACCOUNT_ID", &serve.account).env("CLOUDFLARE_API_TOKEN", &serve.token);
    docker.put_into(&mut command);
    run(&mut command)
}

/// Podman builds without a daemon, and images from nothing without a network; the registry is a small one of the test's own.
#[test]
fn podman_builds_and_pushes_where_it_is_installed() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let podman: Option<PathBuf> =
        std::env::split_paths(&path).map(|dir| dir.join("podman")).find(|file| file.is_file());
    let works = |program: &PathBuf| {
        Command::new(program).arg("info").output().is_ok_and(|output| output.status.success())
    };
    let Some(podman) = podman.filter(works) else {
        eprintln!("podman is not installed, or does not run here: nothing is built");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    project(dir.path(), BUILT, "FROM scratch\nCOPY file /file\n");
    std::fs::write(dir.path().join("box/file"), "content").unwrap();
    let (known, limits, contents) = (Mutex::new(Known::default()), limits(), Mutex::default());
    let api = stand_in(move |request| {
        if request.path.starts_with("/v2/") {
            return registry(&mut contents.lock().unwrap(), request);
        }
        let mut request = request.clone();
        if request.path.ends_with("/credentials") {
            request.path = format!("/accounts/{ACCOUNT}/containers/registries/{REGISTRY}/credentials");
        }
        answer(&mut known.lock().unwrap(), &request, &limits)
    });
    let host = api.api.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    let registries = dir.path().join("registries.conf");
    let insecure = format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
    std::fs::write(&registries, insecure).unwrap();
    let docker = Docker::new();
    let run_once = || {
        let mut command = command(&api, &docker, dir.path(), &[]);
        command.env("WRANGLER_DOCKER_BIN", &podman).env("CLOUDFLARE_CONTAINER_REGISTRY", &host);
        command.env("CONTAINERS_REGISTRIES_CONF", &registries);
        command.env("REGISTRY_AUTH_FILE", dir.path().join("auth.json"));
        run(&mut command)
    };
    let ran = run_once();
    assert!(ran.success && !ran.text.contains(PASSWORD), "{}", ran.text);
    let seen = api.take();
    let pushed = seen.iter().rfind(|r| r.method == "PUT" && r.path.contains("/manifests/")).unwrap();
    let made = changes(&seen).into_iter().find(|(call, _)| call.ends_with("/applications")).unwrap().1;
    let image = format!("{host}/{ACCOUNT}/cont-mycontainer@sha256:{}", sha256(&pushed.body));
    assert_eq!(made["configuration"]["image"], image.as_str());
    // Again: the same image, so that the application stays as it is.
    let ran = run_once();
    assert!(ran.success && ran.text.contains("nothing had to change"), "{}", ran.text);
    let changed: Vec<String> = changes(&api.take()).into_iter().map(|(call, _)| call).collect();
    assert!(changed.iter().all(|call| call.ends_with("/credentials")), "{changed:?}");
    let images =
        Command::new(&podman).args(["images", "--format", "{{.Repository}}:{{.Tag}}"]).output().unwrap();
    for own in
        String::from_utf8_lossy(&images.stdout).lines().filter(|line| line.contains("/cont-mycontainer:"))
    {
        Command::new(&podman).args(["rmi", own]).output().unwrap();
    }
}

/// `metadata.containers` of what was uploaded last.
fn uploaded(seen: &[Recorded]) -> Value {
    let put = seen.iter().rfind(|r| r.method == "PUT" && r.path.contains("/scripts/cont")).unwrap();
    let text = String::from_utf8_lossy(&put.body);
    let metadata = text.split("\r\n").find(|line| line.starts_with("{\"main_module\"")).unwrap();
    serde_json::from_str::<Value>(metadata).unwrap()["containers"].clone()
}

#[test]
fn containers_that_a_durable_object_manages_are_sent_as_wrangler_sends_them() {
    let pair = Pair::new();
    let pinned = format!("{REGISTRY}/{ACCOUNT}/base@sha256:{}", "ab".repeat(32));
    let images = format!(
        r#""images": {{ "one": {{ "dockerfile": "./box/Dockerfile", "build_vars": {{ "WHO": "me" }} }},
            "same": {{ "dockerfile": "./box/Dockerfile", "build_vars": {{ "WHO": "me" }} }}, "fixed": {{ "image": "{pinned}" }} }}"#
    );
    let cases = [
        format!(r#""scheduling_policy": "durable_object", {images}"#),
        // Settings of the application that is there now; then none of the images is the container's own.
        format!(
            r#""scheduling_policy": "durable_object", "observability": {{ "enabled": true }}, "ssh": {{ "enabled": true }},
               "unsafe": {{ "configuration": {{ "experimental_flags": ["b", "a"] }} }}, {images}"#
        ),
        r#""scheduling_policy": "durable_object", "observability": { "enabled": false }"#.to_owned(),
    ];
    for container in &cases {
        let [wrangler, skep] = pair.deploy(container, "FROM scratch\n", &["--force"]);
        assert_eq!(uploaded(&skep).to_string(), uploaded(&wrangler).to_string(), "{container}");
    }
    let wrong = r#""scheduling_policy": "durable_object", "max_instances": 3, "images": { "a": {} }"#;
    project(pair.dirs[1].path(), wrong, "FROM scratch\n");
    let ran = pair.skep(&[]);
    for part in [
        "Unsupported fields for Durable Object-managed Containers",
        "exactly one of \"dockerfile\" or \"image\"",
    ] {
        assert!(!ran.success && ran.text.contains(part), "{part}\n{}", ran.text);
    }
}
