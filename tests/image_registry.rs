//! The image registry of a node, as Docker, wrangler and others use it.

pub mod docker;

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::serve::{Serve, run, serve, serve_in};
use crate::harness::{Answer, request};
use docker::Docker;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// `127.0.0.1:PORT`
pub fn host(serve: &Serve) -> String {
    serve.api.trim_start_matches("http://").trim_end_matches("/client/v4").to_owned()
}

fn credentials(serve: &Serve) -> (String, String) {
    let path = format!("/containers/registries/{}/credentials", host(serve));
    let body = json!({ "expiration_minutes": 15, "permissions": ["push", "pull"] });
    let answer = serve.call("POST", &path, Some(&body));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let result = answer.json()["result"].clone();
    let text = |key: &str| result[key].as_str().unwrap().to_owned();
    (text("username"), text("password"))
}

fn basic((user, password): &(String, String)) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// A request to the registry.
fn ask(serve: &Serve, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let authorization = basic(&credentials(serve));
    let mut all = vec![("authorization", authorization.as_str())];
    all.extend(headers);
    let body = (!matches!(method, "GET" | "HEAD")).then_some(body);
    request(&format!("http://{}{path}", host(serve)), method, &all, body).unwrap()
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

fn push_blob(serve: &Serve, repository: &str, content: &[u8]) -> (Answer, String) {
    let digest = digest(content);
    let path = format!("/v2/{}/{repository}/blobs/uploads/?digest={digest}", serve.account);
    (ask(serve, "POST", &path, &[], content), digest)
}

/// Pushes an image of one layer; its digest.
fn push(serve: &Serve, repository: &str, tag: &str, layer: &[u8]) -> String {
    let (config, layer_digest) =
        (push_blob(serve, repository, b"{}").1, push_blob(serve, repository, layer).1);
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len() }] })
    .to_string();
    let path = format!("/v2/{}/{repository}/manifests/{tag}", serve.account);
    let put = ask(serve, "PUT", &path, &[("content-type", MANIFEST)], manifest.as_bytes());
    assert_eq!(put.status, 201, "{}", put.text());
    digest(manifest.as_bytes())
}

#[test]
fn docker_pushes_and_pulls_and_wrangler_lists_and_removes() {
    let Some(docker) = Docker::start() else { return };
    let serve = serve();
    let (host, account) = (host(&serve), serve.account.clone());
    let content: Vec<u8> =
        (0..3_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    docker.image("app:1", &[("x", &content), ("y", b"why")]);
    let name = format!("{host}/{account}/app:1");
    docker.must(&["tag", "app:1", &name]);
    let refused = docker.docker(&["push", &name]);
    assert!(!refused.success && refused.text.contains("no basic auth credentials"), "{}", refused.text);
    let (user, password) = credentials(&serve);
    let wrong = docker.docker(&["login", "--username", &user, "--password", "wrong", &host]);
    assert!(!wrong.success && wrong.text.contains("401 Unauthorized"), "{}", wrong.text);
    docker.must(&["login", "--username", &user, "--password", &password, &host]);
    docker.must(&["push", &name]);
    // Another repository gets the layers that are there without sending them again.
    let other = format!("{host}/{account}/team/other:2");
    docker.must(&["tag", "app:1", &other]);
    assert!(docker.must(&["push", &other]).contains("Mounted from"));
    let elsewhere = format!("{host}/00000000000000000000000000000000/app:1");
    docker.must(&["tag", "app:1", &elsewhere]);
    let denied = docker.docker(&["push", &elsewhere]);
    assert!(!denied.success && denied.text.contains("denied"), "{}", denied.text);
    let pinned = docker.must(&["image", "inspect", &name, "--format", "{{ index .RepoDigests 0 }}"]);
    assert!(pinned.contains("@sha256:"), "{pinned}");

    // It is all there after a restart, for whoever asks for new credentials.
    let before = basic(&(user, password));
    let serve = serve_in(serve.stop("KILL"), &[]);
    let host = self::host(&serve);
    let old = request(&format!("http://{host}/v2/"), "GET", &[("authorization", &before)], None).unwrap();
    assert_eq!(old.status, 401, "credentials end with the node");
    docker.must(&["image", "rm", "--force", &name, &other, &elsewhere, "app:1"]);
    let pinned = format!("{host}/{account}/app@{}", pinned.trim().split_once('@').unwrap().1);
    let (user, password) = credentials(&serve);
    docker.must(&["login", "--username", &user, "--password", &password, &host]);
    docker.must(&["pull", pinned.trim()]);
    docker.must(&["create", "--name", "made", pinned.trim()]);
    docker.must(&["cp", "made:/x", serve.dir.path().join("x").to_str().unwrap()]);
    assert!(std::fs::read(serve.dir.path().join("x")).unwrap() == content, "what came back is what went");
    let manifest = docker.must(&["manifest", "inspect", "--insecure", "-v", pinned.trim()]);
    assert!(manifest.contains(pinned.trim().split_once('@').unwrap().1), "{manifest}");

    let dir =
        serve.project("p", &[("wrangler.jsonc", r#"{ "name": "p", "compatibility_date": "2026-01-01" }"#)]);
    docker.image("made:v1", &[("y", b"why")]);
    let mut command = serve.wrangler_command(&dir, &["containers", "push", "made:v1"]);
    command.args(["--path-to-docker", docker.program().to_str().unwrap()]);
    let pushed = run(command.env("CLOUDFLARE_CONTAINER_REGISTRY", &host));
    assert!(pushed.success, "{}", pushed.text);
    let listed = serve.wrangler(&dir, &["containers", "list"]);
    assert!(listed.contains("No containers found."), "{listed}");
    let given = serve.wrangler(&dir, &["containers", "registries", "list"]);
    assert!(given.contains("[]"), "{given}");

    // What `wrangler containers images delete` asks for, which speaks https only.
    let all = ask(&serve, "GET", "/v2/_catalog?tags=true", &[], b"").json();
    assert_eq!(
        all["repositories"],
        json!({
        format!("{account}/app"): ["1"], format!("{account}/made"): ["v1"], format!("{account}/team/other"): ["2"] })
    );
    for image in ["app/manifests/1", "made/manifests/v1", "team/other/manifests/2"] {
        let path = format!("/v2/{account}/{image}");
        assert!(ask(&serve, "HEAD", &path, &[], b"").header("docker-content-digest").starts_with("sha256:"));
        assert_eq!(ask(&serve, "DELETE", &path, &[], b"").status, 202);
    }
    assert_eq!(ask(&serve, "PUT", "/v2/gc/layers", &[], b"").status, 200);
    assert_eq!(ask(&serve, "GET", "/v2/_catalog?tags=true", &[], b"").json(), json!({ "repositories": {} }));
    let blobs = serve.dir.path().join(format!("data/accounts/{account}/registry/blobs"));
    let left: usize = std::fs::read_dir(blobs)
        .unwrap()
        .map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count())
        .sum();
    assert_eq!(left, 0, "nobody needs the layers any more");
}

#[test]
fn what_is_wrong_or_somebody_elses_is_refused() {
    let serve = serve();
    let account = serve.account.clone();
    let anybody = request(&format!("http://{}/v2/", host(&serve)), "GET", &[], None).unwrap();
    assert_eq!((anybody.status, anybody.header("www-authenticate").starts_with("Basic")), (401, true));
    let bearer = format!("Bearer {}", serve.token);
    let token =
        request(&format!("http://{}/v2/", host(&serve)), "GET", &[("authorization", &bearer)], None).unwrap();
    assert_eq!(token.status, 401, "an API token is no password of the registry");

    push(&serve, "app", "v1", b"layer");
    let (wrong, _) = (
        ask(&serve, "POST", &format!("/v2/{account}/app/blobs/uploads/?digest={}", digest(b"a")), &[], b"b"),
        0,
    );
    assert_eq!((wrong.status, wrong.json()["errors"][0]["code"].as_str()), (400, Some("DIGEST_INVALID")));
    for (path, status) in [
        (format!("/v2/{account}/../{account}/app/manifests/v1"), 400),
        (format!("/v2/{account}/%2e%2e/app/manifests/v1"), 400),
        (format!("/v2/{account}/app%2Fx/manifests/v1"), 400),
        (format!("/v2/{account}/APP/manifests/v1"), 400),
        (format!("/v2/{account}/app/blobs/sha256:..%2F..%2Fregistry.sqlite"), 400),
        ("/v2/0123456789abcdef0123456789abcdef/app/manifests/v1".to_owned(), 403),
        (format!("/v2/{account}/app/manifests/v1"), 200),
    ] {
        assert_eq!(ask(&serve, "GET", &path, &[("accept", MANIFEST)], b"").status, status, "{path}");
    }
    let preparing = |image: &str| {
        serve.call("POST", "/containers/image-preparations", Some(&json!({ "image": image }))).json()["result"].clone()
    };
    assert_eq!(preparing(&format!("{}/{account}/app:v1", host(&serve))), json!({ "status": "ready" }));
    for image in [format!("{}/{account}/app:v2", host(&serve)), "docker.io/library/nginx:1".to_owned()] {
        let said = preparing(&image);
        assert_eq!(said["status"], "error", "{said}");
        assert!(said["reason"].as_str().unwrap().contains("push"), "{said}");
    }
    let refusals = [
        ("docker.io", json!({ "expiration_minutes": 5, "permissions": ["pull"] }), 404),
        ("r.test", json!({ "expiration_minutes": 0, "permissions": ["pull"] }), 400),
        ("r.test", json!({ "expiration_minutes": 5, "permissions": ["everything"] }), 400),
        ("r.test", json!({ "permissions": ["pull"] }), 400),
    ];
    for (domain, body, status) in refusals {
        let answer = serve.call("POST", &format!("/containers/registries/{domain}/credentials"), Some(&body));
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

#[test]
fn images_count_towards_what_an_account_may_store() {
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--max-account-storage", "8"]);
    let fits = push_blob(&serve, "app", &vec![1; 3 << 20]).0;
    assert_eq!(fits.status, 201, "{}", fits.text());
    let over = push_blob(&serve, "app", &vec![2; 6 << 20]).0;
    assert_eq!(
        (over.status, over.json()["errors"][0]["code"].as_str()),
        (403, Some("DENIED")),
        "{}",
        over.text()
    );
    let said: Value = over.json();
    assert!(said["errors"][0]["message"].as_str().unwrap().contains("storage limit"), "{said}");
    let fits = push_blob(&serve, "app", &vec![2; 1 << 20]).0;
    assert_eq!(fits.status, 201, "what was refused takes no room: {}", fits.text());
}
