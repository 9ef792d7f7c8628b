//! `ai` bindings on a node, and the REST API that runs models.

use serde_json::{Value, json};

use crate::ai::{CODE, CONFIG, LLAMA, failed, usual};
use crate::harness::serve::{Serve, serve_in};
use crate::harness::{eventually, npm, repository};

fn post(serve: &Serve, host: &str, args: &[Value]) -> Value {
    let body = json!(args).to_string();
    serve.send("POST", host, "/", &[], Some(body.as_bytes())).json()
}

/// A project like the one above, under a name of its own.
fn clever(serve: &Serve, name: &str) -> std::path::PathBuf {
    let config = CONFIG.replace("\"clever\"", &format!("\"{name}\""));
    serve.project(name, &[("index.js", CODE), ("wrangler.jsonc", &config)])
}

#[test]
fn models_are_run_over_the_rest_api_too() {
    let server = usual();
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--ai", &server.url]);
    let run = |model: &str, kind: &str, body: &[u8]| {
        let headers = [("content-type", kind)];
        serve.own_call("POST", &format!("/ai/run/{model}"), &headers, Some(body))
    };
    let said = |answer: &crate::harness::Answer| (answer.status, answer.json());
    let hello = json!({ "prompt": "hi" }).to_string();
    // curl says that JSON is a form where it is told nothing, and SDKs encode the slashes.
    for (model, kind) in [
        (LLAMA, "application/json"),
        (LLAMA, "application/x-www-form-urlencoded"),
        ("%40cf%2Fmeta%2Fllama-3.1-8b-instruct", "application/json"),
    ] {
        let (status, answer) = said(&run(model, kind, hello.as_bytes()));
        assert_eq!((status, &answer["success"], &answer["errors"]), (200, &json!(true), &json!([])));
        assert_eq!(answer["result"]["response"], "Hello", "{answer}");
    }
    let streamed = run(LLAMA, "application/json", br#"{"prompt":"hi","stream":true}"#);
    assert_eq!(streamed.header("content-type"), "text/event-stream");
    assert!(streamed.text().ends_with("data: [DONE]\n\n"), "{}", streamed.text());
    let heard = run("@cf/openai/whisper?language=en", "audio/wav", b"RIFF....WAVEfmt ");
    assert_eq!(heard.json()["result"]["text"], "the bees hum", "{}", heard.text());

    let failed = |status: u16, code: u32, text: &str| {
        let errors = json!([{ "message": format!("AiError: {text}"), "code": code }]);
        (status, json!({ "errors": errors, "success": false, "result": {}, "messages": [] }))
    };
    let missing = run(LLAMA, "application/json", br#"{"prompt":"missing"}"#);
    assert_eq!(said(&missing), failed(400, 5007, &format!("No such model {LLAMA} or task")));
    let wrong = run("a/../../b", "application/json", hello.as_bytes());
    assert_eq!(said(&wrong), failed(404, 3042, "The model name is invalid"));
    let (status, answer) = said(&run(LLAMA, "application/json", b"{} , \"options\": {}"));
    assert_eq!((status, &answer["errors"][0]["code"]), (400, &json!(5006)), "{answer}");

    let project = clever(&serve, "clever");
    assert!(serve.wrangler(&project, &["ai", "models"]).contains("qwen3:8b"));
    // Who may look may ask, and other tokens may not.
    let token = |group: &str| {
        let policies = json!([{ "effect": "allow", "resources": { format!("com.cloudflare.api.account.{}", serve.account): "*" },
            "permission_groups": [{ "id": group }] }]);
        let made = serve.call("POST", "/tokens", Some(&json!({ "name": "t", "policies": policies }))).json();
        made["result"]["value"].as_str().unwrap().to_owned()
    };
    let asked = |token: &str| {
        let path = format!("/accounts/{}/ai/run/{LLAMA}", serve.account);
        let token = format!("Bearer {token}");
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        serve.raw_call("POST", &path, &headers, Some(hello.as_bytes())).status
    };
    assert_eq!(asked(&token("a92d2450e05d4e7bb7d0a64968f83d11")), 200);
    assert_eq!(asked(&token("1799edaae5db489294430e20d9b519e0")), 403);

    let serve = serve_in(serve.stop("TERM"), &[]);
    let nowhere = serve.call("POST", &format!("/ai/run/{LLAMA}"), Some(&json!({ "prompt": "hi" })));
    assert_eq!((nowhere.status, &nowhere.json()["errors"][0]["code"]), (403, &json!(3023)));
}

#[test]
fn openais_sdk_asks_a_node_in_its_own_words() {
    let server = usual();
    let serve = serve_in(tempfile::tempdir().unwrap(), &["--ai", &server.url]);
    let script = serve.dir.path().join("openai.mjs");
    std::fs::copy(repository().join("tests/ai/openai.mjs"), &script).unwrap();
    let packages = npm::installed("openai-7.59.0", &["openai@7.59.0"]).join("node_modules");
    std::os::unix::fs::symlink(packages, serve.dir.path().join("node_modules")).unwrap();
    let base = format!("{}/accounts/{}/ai/v1", serve.api, serve.account);
    let drive = |token: &str| {
        let mut command = std::process::Command::new("node");
        command.arg(&script).env("AI_BASE", &base).env("AI_TOKEN", token);
        let output = command.output().unwrap();
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned())
    };
    let [said, why] = drive(&serve.token);
    assert_eq!(said, "all is as it should be\n", "{why}");
    let [_, why] = drive("nobody's");
    assert!(why.contains("status: 403") || why.contains("status: 401"), "{why}");
}

#[test]
fn scripts_of_a_node_ask_models_each_so_much_at_once_and_without_the_key() {
    let server = usual();
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "sk-of-the-node").unwrap();
    let args = ["--ai", &server.url, "--ai-key-file", key.path().to_str().unwrap(), "--ai-calls", "2"];
    let serve = serve_in(tempfile::tempdir().unwrap(), &args);
    let said = serve.wrangler(&clever(&serve, "clever"), &["deploy"]);
    assert!(said.contains("env.AI"), "{said}");
    serve.wrangler(&clever(&serve, "other"), &["deploy"]);
    let bindings =
        serve.call("GET", "/workers/scripts/clever/settings", None).json()["result"]["bindings"].clone();
    assert_eq!(bindings, json!([{ "name": "AI", "type": "ai" }]));

    let run = |host: &str, prompt: &str| {
        post(&serve, host, &[json!("run"), json!(LLAMA), json!({ "prompt": prompt })])
    };
    assert_eq!(run("clever.main.localhost", "hi")["answer"]["response"], "Hello");
    assert_eq!(server.take()[0].header("authorization"), "Bearer sk-of-the-node");
    let streamed = post(
        &serve,
        "clever.main.localhost",
        &[json!("run"), json!(LLAMA), json!({ "prompt": "hi", "stream": true })],
    );
    assert!(streamed["text"].as_str().unwrap().ends_with("data: [DONE]\n\n"), "{streamed}");

    serve.wrangler(&clever(&serve, "tenant"), &["dispatch-namespace", "create", "tenants"]);
    serve.wrangler(&clever(&serve, "tenant"), &["deploy", "--dispatch-namespace", "tenants"]);
    let dispatcher = json!({
        "name": "dispatcher", "main": "index.js", "compatibility_date": "2026-07-01",
        "dispatch_namespaces": [{ "binding": "ALL", "namespace": "tenants" }],
    });
    let code = "export default { fetch(request, env) { return env.ALL.get('tenant').fetch(request); } };";
    let files = [("index.js", code), ("wrangler.json", &dispatcher.to_string())];
    serve.wrangler(&serve.project("dispatcher", &files), &["deploy"]);
    assert_eq!(run("dispatcher.main.localhost", "hi")["answer"]["response"], "Hello");

    server.take();
    let busy = failed(3040, "Capacity temporarily exceeded, please try again.");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| run("clever.main.localhost", "hold"));
        }
        eventually("two calls to be under way", || (server.seen() == 2).then_some(()));
        assert_eq!(run("clever.main.localhost", "hi"), busy);
        assert_eq!(run("other.main.localhost", "hi")["answer"]["response"], "Hello");
        server.release();
    });
    assert_eq!(run("clever.main.localhost", "hi")["answer"]["response"], "Hello");
    assert!(!run("clever.main.localhost", "key").to_string().contains("sk-"));
    assert!(!serve.output().contains("sk-of-the-node"), "{}", serve.output());

    // What was deployed runs on without a place where models run; nothing new is deployed.
    let serve = serve_in(serve.stop("TERM"), &[]);
    let said =
        post(&serve, "clever.main.localhost", &[json!("run"), json!(LLAMA), json!({ "prompt": "hi" })]);
    assert!(said["message"].as_str().unwrap().contains("`--ai URL`"), "{said}");
    let refused = serve.try_wrangler(&clever(&serve, "clever"), &["deploy"], "");
    let flat = refused.text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!refused.success && flat.contains("start the node with `--ai URL`"), "{}", refused.text);
}
