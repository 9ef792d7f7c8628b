//! Schemathesis against `skep serve`, by the description that the node itself gives of its API.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::json;
use skep_api::{OPERATIONS, Operation};

use crate::harness::accounts::two_accounts;
use crate::harness::serve::serve;
use crate::harness::{python, repository, request};

const PACKAGES: [&str; 2] = ["schemathesis==4.32.5", "openapi-spec-validator==0.9.0"];

fn tools() -> Option<std::path::PathBuf> {
    python::with("schemathesis-4.32.5", &PACKAGES, "schemathesis, openapi_spec_validator")
}

#[test]
fn the_description_is_valid_and_for_everybody() {
    let serve = serve();
    let answer = request(&format!("{}/openapi.json", serve.api), "GET", &[], None).unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let document = answer.json();
    assert_eq!(
        (&document["openapi"], &document["servers"]),
        (&json!("3.1.0"), &json!([{ "url": "/client/v4" }]))
    );
    for secret in [&serve.token, &serve.account] {
        assert!(!answer.text().contains(secret.as_str()));
    }
    let Some(python) = tools() else { return };
    let file = serve.dir.path().join("openapi.json");
    std::fs::write(&file, &answer.body).unwrap();
    let output = Command::new(python).args(["-m", "openapi_spec_validator"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Kilobytes that a process has in memory.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// `GET /accounts/{account}`
fn label(operation: &Operation) -> String {
    let segments = operation.path.split('/').map(|segment| match segment.strip_prefix([':', '*']) {
        Some(name) => format!("{{{name}}}"),
        None => segment.to_owned(),
    });
    format!("{} {}", operation.method, segments.collect::<Vec<_>>().join("/"))
}

#[test]
fn every_operation_keeps_to_its_description_whatever_is_sent() {
    let Some(python) = tools() else { return };
    let (serve, own, other) = two_accounts();
    let before = other.state(&serve);
    assert!(before.iter().filter(|(_, status, _)| *status == 200).count() > 50, "{before:#?}");
    let known = json!({ "account": own.id, "own": own.ids, "other": other.ids });
    let examples = std::env::var("SKEP_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| "3".into());
    let checks = [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "ignored_auth",
        "unsupported_method",
    ];
    let seen = serve.dir.path().join("seen.json");
    let output = Command::new(python.with_file_name("schemathesis"))
        .arg("run")
        .arg(format!("{}/openapi.json", serve.api))
        .args(["--header", &format!("Authorization: Bearer {}", own.token)])
        .args(["--checks", &checks.join(",")])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", &examples])
        .args(["--seed", "1", "--generation-database", "none", "--no-shrink", "--continue-on-failure"])
        .args(["--suppress-health-check", "all", "--warnings", "off", "--no-color"])
        .current_dir(serve.dir.path())
        .env("PYTHONPATH", repository().join("tests/schemathesis"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("SKEP_KNOWN", known.to_string())
        .env("SKEP_SEEN", &seen)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}\n{}", serve.output());
    // Refusals alone would say little.
    let seen: BTreeMap<String, BTreeSet<u16>> =
        serde_json::from_slice(&std::fs::read(seen).unwrap()).unwrap();
    // The description itself was read before.
    let asked = OPERATIONS.iter().filter(|operation| operation.path != "/openapi.json");
    let worked = asked.filter(|operation| {
        let statuses = seen.get(&label(operation)).unwrap_or_else(|| panic!("{}", label(operation)));
        statuses.iter().any(|status| *status < 300)
    });
    let worked = worked.count();
    assert!(worked > 110, "{worked} of {} worked: {seen:#?}", OPERATIONS.len());
    for (then, now) in before.iter().zip(other.state(&serve)) {
        assert_eq!(*then, now, "of another account");
    }
    assert_eq!(serve.get("other-s.other.localhost", "/").text(), "ok");
    assert_eq!(serve.call("GET", "/workers/scripts", None).status, 200);
    assert!(!serve.output().contains("an operation of the API failed"), "{}", serve.output());
    assert!(memory(serve.pid()) < 400 << 10, "{} kB", memory(serve.pid()));
}
