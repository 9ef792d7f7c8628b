//! The templates of `create-cloudflare` run unchanged.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Skep, dev, eventually, npm};

/// The release whose templates are run.
const CREATE_CLOUDFLARE: &str = "2.67.4";

/// A template as `create-cloudflare` would lay it out: files copied, placeholders filled in.
fn project(template: &str) -> tempfile::TempDir {
    let source = npm::unpacked("create-cloudflare", CREATE_CLOUDFLARE).join("templates").join(template);
    let dir = tempfile::tempdir().unwrap();
    lay_out(&source, dir.path());
    dir
}

fn lay_out(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap().replace("__dot__", ".");
        let target = to.join(&name);
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            lay_out(&entry.path(), &target);
        } else if name == "wrangler.jsonc" {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let text =
                text.replace("<WORKER_NAME>", "my-worker").replace("<COMPATIBILITY_DATE>", "2026-11-17");
            std::fs::write(target, text.replace("<TBD>", "my-worker")).unwrap();
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Both variants of a template, started.
fn both(template: &str) -> Vec<(tempfile::TempDir, Skep)> {
    let start = |language: &str| {
        let dir = project(&format!("{template}/{language}"));
        let skep = dev(dir.path());
        (dir, skep)
    };
    ["ts", "js"].map(start).into()
}

/// Installs what the template needs at run time.
fn install(dir: &Path) {
    let output = Command::new("npm")
        .args(["install", "--omit=dev", "--no-audit", "--no-fund"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn hello_world() {
    for (_dir, skep) in both("hello-world") {
        assert_eq!(skep.get("/").text(), "Hello World!");
    }
}

#[test]
fn hello_world_durable_object() {
    for (_dir, skep) in both("hello-world-durable-object") {
        assert_eq!(skep.get("/").text(), "Hello, world!");
    }
}

#[test]
fn hello_world_with_assets() {
    for (_dir, skep) in both("hello-world-with-assets") {
        assert_eq!(skep.get("/message").text(), "Hello, World!");
        assert_eq!(skep.get("/random").text().len(), 36);
        let page = skep.get("/");
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        assert!(page.text().contains("<!doctype html>"));
        assert_eq!(skep.get("/index.html").status, 307);
    }
}

#[test]
fn hello_world_durable_object_with_assets() {
    for (_dir, skep) in both("hello-world-durable-object-with-assets") {
        assert!(skep.get("/").text().to_lowercase().contains("<!doctype html>"));
        let before = skep.get("/count").text();
        let counted = skep.post("/increment", "");
        assert!(counted.status < 500, "{before} {}", counted.text());
    }
}

#[test]
fn hello_world_assets_only() {
    let dir = project("hello-world-assets-only/templates");
    let skep = dev(dir.path());
    assert!(skep.get("/").text().to_lowercase().contains("<!doctype html>"));
    assert_eq!(skep.get("/nowhere").status, 404);
    assert_eq!(skep.post("/", "").status, 405);
    assert!(skep.engines().is_empty(), "assets alone need no engine");
}

#[test]
fn hello_world_workflows() {
    // The JavaScript variant's constructor does not call `super()`: its instances end in that error everywhere.
    for ((_dir, skep), expected) in both("hello-world-workflows").into_iter().zip(["waiting", "errored"]) {
        let created = skep.get("/").json();
        let path = format!("/?instanceId={}", created["id"].as_str().unwrap());
        eventually(expected, || (skep.get(&path).json()["status"]["status"] == expected).then_some(()));
        assert_eq!(skep.get("/favicon.ico").status, 404);
    }
}

#[test]
fn scheduled() {
    for (_dir, skep) in both("scheduled") {
        assert!(skep.get("/").text().contains("/__scheduled"));
        // The handler asks a server on the internet: without one it throws, and the outcome says so.
        let ran = skep.get("/cdn-cgi/handler/scheduled?cron=*+*+*+*+*&format=json").json();
        assert!(["ok", "exception"].contains(&ran["outcome"].as_str().unwrap()), "{ran}");
        assert_eq!(ran["noRetry"], Value::Bool(false));
    }
}

#[test]
fn queues() {
    for (_dir, skep) in both("queues") {
        assert_eq!(skep.get("/path").text(), "Sent message to the queue");
        skep.wait_for_output("processed: {\"url\":");
    }
}

#[test]
fn openapi() {
    let dir = project("openapi/ts");
    install(dir.path());
    let skep = dev(dir.path());
    assert!(skep.get("/").text().contains("openapi"));
    let schema = skep.get("/openapi.json").json();
    assert!(schema["paths"]["/api/tasks"].is_object(), "{schema}");
    let tasks = skep.get("/api/tasks?page=0&isCompleted=true").json();
    assert_eq!(tasks["success"], true, "{tasks}");
    let body = br#"{"name":"lorem","slug":"ipsum","due_date":"2026-11-17"}"#;
    let created = skep.send("POST", "/api/tasks", &[("content-type", "application/json")], Some(body)).json();
    assert_eq!(created["success"], true, "{created}");
    assert_eq!(
        skep.send("POST", "/api/tasks", &[("content-type", "application/json")], Some(b"{}")).status,
        400
    );
}

#[test]
fn hono() {
    let dir = project("hono/workers/templates");
    std::fs::write(
        dir.path().join("package.json"),
        r#"{ "name": "hono", "dependencies": { "hono": "^4.12.0" } }"#,
    )
    .unwrap();
    install(dir.path());
    let skep = dev(dir.path());
    assert!(skep.get("/").text().to_lowercase().contains("<!doctype html>"));
    assert_eq!(skep.get("/message").text(), "Hello Hono!");
}
