//! The S3 API of R2, driven by the AWS SDK and by aws4fetch, which workers sign URLs with.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::accounts::add;
use crate::harness::serve::{Serve, serve, serve_in};
use crate::harness::{command, npm, repository, small_project, start};

const PACKAGES: [&str; 4] = [
    "@aws-sdk/client-s3@3.1175.0",
    "@aws-sdk/lib-storage@3.1175.0",
    "@aws-sdk/s3-request-presigner@3.1169.0",
    "aws4fetch@1.0.20",
];
const PROJECT: &str = r#"{ "name": "local", "main": "index.js", "compatibility_date": "2026-07-01", "r2_buckets": [
    { "binding": "B", "bucket_name": "shared", "local_dev": { "experimental_s3_credentials": { "accessKeyId": "one", "secretAccessKey": "s1" } } },
    { "binding": "C", "bucket_name": "second", "local_dev": { "experimental_s3_credentials": { "accessKeyId": "two", "secretAccessKey": "s2" } } },
    { "binding": "D", "bucket_name": "without" }] }"#;
const READ: &str = "6a018a9f2fc74eb6b293b0c548f38b39";
const MAKES_TOKENS: &str = "5bc3f8b21c554832afc660159ab75fa4";
const READ_KV: &str = "8b47d2786a534c08a1f94ee8f9f599ef";
const WRITE: &str = "2efd5506f9c8494dacb1fa10a3e7d5b6";

/// The secret access key of a token.
fn secret(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// The access key of the account's first token, and its secret.
pub fn key(serve: &Serve) -> [String; 2] {
    let verified = serve.token_call("GET", "/user/tokens/verify", &[], None).json();
    [verified["result"]["id"].as_str().unwrap().to_owned(), secret(&serve.token)]
}

fn host(serve: &Serve) -> String {
    format!("{}.r2.localhost", serve.account)
}

pub fn endpoint(serve: &Serve) -> String {
    format!("http://{}:{}", host(serve), serve.connect().peer_addr().unwrap().port())
}

/// Runs a driver, which ends with an error if anything is not as it should be.
fn drive(serve: &Serve, name: &str, variables: &[(&str, &str)]) {
    drive_in(serve.dir.path(), name, variables);
}

fn drive_in(dir: &Path, name: &str, variables: &[(&str, &str)]) {
    let folder = npm::installed("aws-sdk-3.1175.0", &PACKAGES);
    let script = dir.join(name);
    for file in [name, "names.mjs"] {
        std::fs::copy(repository().join("tests/s3").join(file), dir.join(file)).unwrap();
    }
    let modules = dir.join("node_modules");
    if !modules.exists() {
        std::os::unix::fs::symlink(folder.join("node_modules"), modules).unwrap();
    }
    let mut command = Command::new("node");
    command.arg("--no-warnings").arg(&script).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.ends_with("all is as it should be\n"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_aws_sdk_does_with_buckets_what_it_does_with_r2() {
    let serve = serve();
    let [key, secret] = key(&serve);
    let (endpoint, folder) = (endpoint(&serve), serve.dir.path().to_str().unwrap().to_owned());
    let variables =
        [("S3_ENDPOINT", &*endpoint), ("S3_KEY", &key), ("S3_SECRET", &secret), ("S3_FOLDER", &folder)];
    drive(&serve, "drive.mjs", &variables);
    assert!(serve.cells().is_empty(), "no script has run");
}

/// A token with these policies, as an access key and its secret; and what it answers to a change.
fn token(serve: &Serve, name: &str, policies: &Value) -> [String; 2] {
    let body = json!({ "name": name, "policies": policies }).to_string();
    let made = serve.token_call("POST", "/user/tokens", &[], Some(body.as_bytes())).json();
    let result = &made["result"];
    let id = result["id"].as_str().unwrap_or_else(|| panic!("{made}"));
    [id.to_owned(), secret(result["value"].as_str().unwrap())]
}

#[test]
fn a_key_reaches_what_its_token_reaches() {
    let first = serve();
    let dir = first.stop("TERM");
    let (_, other) = add(&dir.path().join("data/registry.sqlite"));
    let serve = serve_in(dir, &["--max-body", "1000"]);
    let policy = |group: &str, resource: &str| json!([{ "effect": "allow", "resources": { resource: "*" }, "permission_groups": [{ "id": group }] }]);
    let account = format!("com.cloudflare.api.account.{}", serve.account);
    let bucket = format!("com.cloudflare.edge.r2.bucket.{}_default_logs", serve.account);
    let reader = token(&serve, "reader", &policy(READ, &account));
    let one = token(&serve, "one", &policy(WRITE, &bucket));
    let rolled = token(&serve, "rolled", &policy(WRITE, &account));
    let roll = serve.token_call("PUT", &format!("/user/tokens/{}/value", rolled[0]), &[], Some(b"{}"));
    assert_eq!(roll.status, 200, "{}", roll.text());
    let disabled = token(&serve, "disabled", &policy(WRITE, &account));
    let off =
        json!({ "name": "disabled", "status": "disabled", "policies": policy(WRITE, &account) }).to_string();
    let off = serve.token_call("PUT", &format!("/user/tokens/{}", disabled[0]), &[], Some(off.as_bytes()));
    assert_eq!(off.status, 200, "{}", off.text());
    // On a bucket there are no scripts, and what would reach all of the account is not given for one bucket.
    for group in ["e086da7e2179491d91ee5f35b3ca210a", "bf7481a1826f439697cb59a20b22293e"] {
        let body = json!({ "name": "more", "policies": policy(group, &bucket) }).to_string();
        let refused = serve.token_call("POST", "/user/tokens", &[], Some(body.as_bytes()));
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains("is given on an account, not on a bucket"), "{}", refused.text());
    }
    // Nor does one that makes tokens make one for more buckets than it has itself.
    let groups = json!([{ "id": MAKES_TOKENS }]);
    let mut policies = policy(WRITE, &bucket);
    let makes = json!({ "effect": "allow", "resources": { &account: "*" }, "permission_groups": groups });
    policies.as_array_mut().unwrap().push(makes);
    let body = json!({ "name": "maker", "policies": policies }).to_string();
    let maker = serve.token_call("POST", "/user/tokens", &[], Some(body.as_bytes())).json();
    let bearer = format!("Bearer {}", maker["result"]["value"].as_str().unwrap_or_else(|| panic!("{maker}")));
    for (resource, status) in [(&bucket, 200), (&account, 403)] {
        let body = json!({ "name": "made", "policies": policy(WRITE, resource) }).to_string();
        let made =
            serve.raw_call("POST", "/user/tokens", &[("authorization", &bearer)], Some(body.as_bytes()));
        assert_eq!(made.status, status, "{}", made.text());
    }
    let roll = format!("/user/tokens/{}/value", reader[0]);
    let rolled_by = serve.raw_call("PUT", &roll, &[("authorization", &bearer)], Some(b"{}"));
    assert_eq!(rolled_by.status, 403, "{}", rolled_by.text());
    let none = token(&serve, "none", &policy(READ_KV, &account));
    // Of another account: its id is right, and its secret.
    let verified =
        serve.raw_call("GET", "/user/tokens/verify", &[("authorization", &format!("Bearer {other}"))], None);
    let other = [verified.json()["result"]["id"].as_str().unwrap().to_owned(), secret(&other)];
    let keys = json!({ "endpoint": endpoint(&serve), "keys": [key(&serve), reader, one, rolled, disabled, other, none] });
    drive(&serve, "reach.mjs", &[("S3_KEYS", &keys.to_string())]);
    // The host name is of the account, and of no script.
    let answer = serve.get(&host(&serve), "/");
    assert_eq!((answer.status, answer.header("content-type")), (400, "application/xml"));
    assert_eq!(serve.get(&format!("{}.r2.localhost", "0".repeat(32)), "/").status, 404);
}

const WORKER: &str = r#"export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === "/put") {
      await env.B.put("from worker", "w", { customMetadata: { plain: "é", "schlüssel": "x" }, httpMetadata: { contentType: "a/b" } });
      return new Response("put");
    }
    const object = await env.B.get("from s3");
    return Response.json([await object.text(), object.customMetadata, object.httpMetadata]);
  },
};"#;

#[test]
fn a_worker_and_the_s3_api_have_the_same_objects() {
    let serve = serve();
    assert_eq!(serve.call("POST", "/r2/buckets", Some(&json!({ "name": "shared" }))).status, 200);
    let bindings = json!([{ "type": "r2_bucket", "name": "B", "bucket_name": "shared" }]);
    let metadata =
        json!({ "main_module": "index.js", "bindings": bindings, "compatibility_date": "2026-07-01" });
    assert_eq!(serve.upload("both", &metadata, WORKER).status, 200);
    assert_eq!(serve.get("both.main.localhost", "/put").text(), "put");
    let keys = json!({ "endpoint": endpoint(&serve), "key": key(&serve) }).to_string();
    drive(&serve, "shared.mjs", &[("S3_KEYS", &keys)]);
    let seen = serve.get("both.main.localhost", "/get").json();
    assert_eq!(seen, json!(["s", { "name": "ü" }, { "contentType": "text/x-own" }]));
}

#[test]
fn under_skep_dev_a_bucket_has_the_key_that_its_configuration_says() {
    let project = small_project(PROJECT, &[("index.js", WORKER)]);
    let (state, scripts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let skep = start(command(project.path(), state.path())).unwrap();
    assert_eq!(skep.get("/put").text(), "put");
    let keys = json!({ "endpoint": format!("{}/cdn-cgi/local/r2/s3", skep.url) }).to_string();
    drive_in(scripts.path(), "local.mjs", &[("S3_KEYS", &keys)]);
    assert_eq!(skep.get("/get").json(), json!(["s", { "name": "ü" }, { "contentType": "text/x-own" }]));
}
