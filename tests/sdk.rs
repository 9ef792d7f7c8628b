//! The official SDKs against `skep serve`.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::serve::{Serve, serve};
use crate::harness::{npm, python, repository};

/// Runs a driver, which prints what it saw as its last line.
fn run(serve: &Serve, mut command: Command) -> Value {
    let output = command
        .env("CLOUDFLARE_API_BASE_URL", &serve.api)
        .env("CLOUDFLARE_ACCOUNT_ID", &serve.account)
        .env("CLOUDFLARE_API_TOKEN", &serve.token)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {said}"))
}

#[test]
fn the_typescript_sdk_makes_lists_reads_changes_and_removes() {
    let serve = serve();
    let folder = npm::installed("cloudflare-sdk-7.3.0", &["cloudflare@7.3.0"]);
    // It finds its package beside itself.
    let script = serve.dir.path().join("drive.mjs");
    std::fs::copy(repository().join("tests/sdk/node.mjs"), &script).unwrap();
    std::os::unix::fs::symlink(folder.join("node_modules"), serve.dir.path().join("node_modules")).unwrap();
    let mut command = Command::new("node");
    command.arg(&script);
    let seen = run(&serve, command);
    let expected: Value = serde_json::from_str(include_str!("sdk/node.json")).unwrap();
    assert_eq!(seen, expected);
    assert_eq!(serve.get("from-sdk.main.localhost", "/").text(), "second bhush");
}

#[test]
fn every_reply_is_what_the_types_of_the_python_sdk_say() {
    let packages = ["cloudflare==5.9.0"];
    let Some(python) = python::with("cloudflare-python-5.9.0", &packages, "cloudflare") else { return };
    let serve = serve();
    let mut command = Command::new(python);
    command.arg(repository().join("tests/sdk/python.py"));
    let seen = run(&serve, command);
    assert_eq!(
        seen,
        json!({
            "scripts": ["from-python"], "secrets": ["S"], "settings": false, "schedules": ["0 4 * * *"],
            "missing": "404 10007", "kv": "v", "keys": ["k"], "namespaces": ["python"],
            "buckets": ["python-bucket"], "d1": [[{ "n": "5" }], 0.0], "databases": ["python-db"],
            "queues": ["python-queue"], "consumers": ["worker"], "dispatch": ["python-tenants"],
            "tenant": "tenant", "tenant_bindings": ["A"], "tenant_secrets": ["S"], "verified": "active",
        })
    );
    assert_eq!(serve.get("from-python.main.localhost", "/").text(), "from Python");
}
