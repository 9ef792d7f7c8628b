//! `ai` bindings: models behind a server with OpenAI's API, and at Cloudflare.

use serde_json::{Value, json};

use crate::harness::models::{ModelServer, Says, models};
use crate::harness::{Skep, dev_with, eventually, small_project};

pub const CONFIG: &str = r#"{
  "name": "clever", "main": "index.js", "compatibility_date": "2026-07-01", "ai": { "binding": "AI" }
}"#;

/// Calls what it is told to, and says what came of it.
pub const CODE: &str = r#"
const show = async (answer, ai) => {
  if (answer instanceof ReadableStream) {
    return { kind: "stream", text: await new Response(answer).text() };
  }
  if (answer instanceof Response) {
    return { kind: "response", status: answer.status, type: answer.headers.get("content-type"), text: await answer.text() };
  }
  return { kind: "value", answer, hasId: /^[0-9a-f-]{36}$/.test(ai.lastRequestId) };
};

const calls = {
  run: async (ai, [model, inputs, options]) => show(await ai.run(model, inputs, options), ai),
  audio: async (ai, [model, bytes]) => {
    const body = new Blob([new Uint8Array(bytes)]).stream();
    return show(await ai.run(model, { audio: { body, contentType: "audio/wav" }, language: "en" }), ai);
  },
  // What comes first, and then no more.
  begin: async (ai, [model, inputs]) => {
    const reader = (await ai.run(model, { ...inputs, stream: true })).getReader();
    const { value } = await reader.read();
    await reader.cancel();
    return new TextDecoder().decode(value);
  },
  models: (ai, args) => ai.models(...args),
  markdown: (ai) => ai.toMarkdown({ name: "a.html", blob: new Blob(["<b>x</b>"], { type: "text/html" }) }),
  formats: (ai) => ai.toMarkdown().supported(),
  gateway: (ai) => ai.gateway("g").getUrl("openai"),
  gatewayRun: async (ai) => (await ai.gateway("g").run({ provider: "openai", endpoint: "x", headers: {}, query: {} })).text(),
  autorag: (ai) => ai.autorag("r").search({ query: "x" }),
  aiSearch: (ai) => ai.aiSearch(),
};

export default {
  async fetch(request, env) {
    const [method, ...args] = await request.json();
    try {
      return Response.json(await calls[method](env.AI, args));
    } catch (error) {
      return Response.json({ name: error.name, message: error.message });
    }
  },
};
"#;

pub const LLAMA: &str = "@cf/meta/llama-3.1-8b-instruct";

pub fn chunk(delta: &Value) -> String {
    let chunk = json!({ "id": "c", "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] });
    format!("data: {chunk}\n\n")
}

/// What most models say: the answer hangs on the path, on the model and on what they are asked.
pub fn usual() -> ModelServer {
    models(|request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let usage = json!({ "prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6 });
        let asked = body["messages"][0]["content"].as_str().unwrap_or_default();
        let error = |status, message: &str| Says::Json(status, json!({ "error": { "message": message } }));
        let said = |message: Value| {
            Says::Json(
                200,
                json!({ "model": body["model"], "choices": [{ "index": 0, "message": message }], "usage": usage }),
            )
        };
        let first = ["{", "Hel"].map(|text| chunk(&json!({ "content": text }))).concat();
        let (one, two) = first.split_at(first.len() / 2);
        match (request.path.as_str(), asked) {
            (_, "missing") => error(404, "model 'x' not found, try pulling it first"),
            (_, "wrong") => error(400, "context length exceeded"),
            (_, "busy") => error(429, "slow down"),
            (_, "key") => error(401, "Incorrect API key provided: sk-hidden"),
            (_, "broken") => error(500, "out of memory at 0x1234"),
            (_, "html") => Says::Bytes(200, "text/html", b"<html>".to_vec()),
            (_, "hold") => Says::Held,
            (_, "endless") => Says::Endless(vec![one.into(), two.into()]),
            (_, "cut") => Says::Cut(vec![one.into(), two.into()]),
            ("/v1/chat/completions", _) if body["stream"] == true => {
                let last = format!("data: {}\n\ndata: [DONE]\n\n", json!({ "choices": [], "usage": usage }));
                Says::Pieces(vec![one.into(), two.into(), ": still here\n\n".into(), last])
            }
            ("/v1/chat/completions", "call") => {
                let function = json!({ "name": "add", "arguments": "{\"a\":1}" });
                said(
                    json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "c1", "type": "function", "function": function }] }),
                )
            }
            ("/v1/chat/completions", "json") => {
                said(json!({ "role": "assistant", "content": "{\"capital\":\"Delhi\"}" }))
            }
            ("/v1/chat/completions", _) => said(json!({ "role": "assistant", "content": "Hello" })),
            ("/v1/embeddings", _) => Says::Json(
                200,
                json!({ "data": [
                { "index": 0, "embedding": [0.5, -1.25] }, { "index": 1, "embedding": [1, 2] },
            ] }),
            ),
            ("/v1/responses", _) => {
                let content = json!([{ "type": "output_text", "text": "Hello", "annotations": [] }]);
                let message = json!({ "type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content });
                Says::Json(
                    200,
                    json!({ "id": "r", "object": "response", "model": body["model"], "output": [message] }),
                )
            }
            ("/v1/images/generations", _) => Says::Json(200, json!({ "data": [{ "b64_json": "iVBORw==" }] })),
            ("/v1/audio/transcriptions", _) => Says::Json(200, json!({ "text": "the bees hum" })),
            ("/v1/models", _) => Says::Json(200, json!({ "data": [{ "id": "qwen3:8b" }] })),
            (path, _) => error(404, &format!("no {path}")),
        }
    })
}

/// What a call of the worker comes to.
pub fn call(skep: &Skep, method: &str, args: &[Value]) -> Value {
    let all: Vec<Value> = std::iter::once(json!(method)).chain(args.iter().cloned()).collect();
    skep.post("/", &json!(all).to_string()).json()
}

pub fn failed(code: u32, text: &str) -> Value {
    json!({ "name": "AiError", "message": format!("{code}: {text}") })
}

/// `skep dev` with `args`.
fn dev(args: &[&str]) -> (Skep, tempfile::TempDir, tempfile::TempDir) {
    let (project, state) = (small_project(CONFIG, &[("index.js", CODE)]), tempfile::tempdir().unwrap());
    (dev_with(project.path(), state.path(), args), project, state)
}

#[test]
fn models_behind_openais_api_answer_as_workers_ai_does() {
    let server = usual();
    let (skep, ..) = dev(&["--ai", &server.url]);
    let run = |args: &[Value]| call(&skep, "run", args);
    let usage = json!({ "prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6 });

    let said = run(&[json!(LLAMA), json!({ "prompt": "hi", "max_tokens": 9 })]);
    assert_eq!(
        said,
        json!({ "kind": "value", "answer": { "response": "Hello", "usage": usage }, "hasId": true }),
        "{}",
        skep.output()
    );
    let asked = json!({ "model": LLAMA, "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(server.only(), asked);

    let raw = run(&[json!(LLAMA), json!({ "prompt": "hi" }), json!({ "returnRawResponse": true })]);
    let text = json!({ "response": "Hello", "usage": usage }).to_string();
    assert_eq!(raw, json!({ "kind": "response", "status": 200, "type": "application/json", "text": text }));

    let streamed = run(&[json!(LLAMA), json!({ "prompt": "hi", "stream": true })]);
    let text = format!(
        "data: {{\"response\":\"{{\"}}\n\ndata: {{\"response\":\"Hel\"}}\n\ndata: {}\n\ndata: [DONE]\n\n",
        json!({ "response": "", "usage": usage })
    );
    assert_eq!(streamed, json!({ "kind": "stream", "text": text }));

    let called = run(&[json!(LLAMA), json!({ "messages": [{ "role": "user", "content": "call" }] })]);
    assert_eq!(
        called["answer"]["tool_calls"],
        json!([{ "name": "add", "arguments": { "a": 1 }, "id": "c1" }])
    );
    let format = json!({ "type": "json_schema", "json_schema": { "type": "object" } });
    let read = run(&[json!(LLAMA), json!({ "prompt": "json", "response_format": format })]);
    assert_eq!(read["answer"]["response"], json!({ "capital": "Delhi" }));
    let unread = run(&[json!(LLAMA), json!({ "prompt": "hi", "response_format": format })]);
    assert_eq!(unread, failed(5024, "JSON Mode couldn't be met"));
    let newer = run(&[json!("@cf/qwen/qwen3-30b-a3b-fp8"), json!({ "prompt": "hi" })]);
    assert_eq!(newer["answer"]["choices"][0]["message"]["content"], "Hello");
    assert_eq!(newer["answer"]["model"], "@cf/qwen/qwen3-30b-a3b-fp8");

    let vectors = run(&[json!("@cf/baai/bge-m3"), json!({ "text": ["a", "b"] })]);
    assert_eq!(vectors["answer"], json!({ "shape": [2, 2], "data": [[0.5, -1.25], [1, 2]] }));
    let picture = run(&[json!("@cf/black-forest-labs/flux-1-schnell"), json!({ "prompt": "a bee" })]);
    assert_eq!(picture["answer"], json!({ "image": "iVBORw==" }));
    let file = run(&[json!("@cf/lykon/dreamshaper-8-lcm"), json!({ "prompt": "a bee" })]);
    assert_eq!(file["kind"], "stream");
    let heard = json!({ "text": "the bees hum", "word_count": 3 });
    server.take();
    assert_eq!(run(&[json!("@cf/openai/whisper"), json!({ "audio": [82, 73, 70, 70] })])["answer"], heard);
    assert_eq!(
        call(&skep, "audio", &[json!("@cf/openai/whisper"), json!([82, 73, 70, 70])])["answer"],
        heard
    );
    for request in server.take() {
        let form = String::from_utf8(request.body).unwrap();
        assert!(form.contains("filename=\"audio.wav\"") && form.contains("\r\n\r\nRIFF\r\n"), "{form}");
    }
    assert_eq!(call(&skep, "models", &[])[0]["name"], "qwen3:8b");
}

#[test]
fn a_stream_comes_as_it_is_made_and_ends_with_who_reads_it() {
    let server = usual();
    let (skep, ..) = dev(&["--ai", &server.url]);
    let first = call(&skep, "begin", &[json!(LLAMA), json!({ "prompt": "endless" })]);
    assert!(first.as_str().unwrap().starts_with("data: {\"response\":\"{\"}\n\n"), "{first}");
    eventually("the model's server to see that nobody reads", || (server.left() == 1).then_some(()));
    // What was cut off is no answer.
    let cut = call(&skep, "run", &[json!(LLAMA), json!({ "prompt": "cut", "stream": true })]);
    assert!(cut["message"].is_string() && cut.get("text").is_none(), "{cut}");
    skep.wait_for_output("Workers AI: ");
}

#[test]
fn what_a_model_cannot_do_is_said_in_cloudflares_words() {
    let server = usual();
    let (skep, ..) = dev(&["--ai", &server.url, "--ai-timeout", "1s"]);
    let run = |prompt: &str| call(&skep, "run", &[json!(LLAMA), json!({ "prompt": prompt })]);
    assert_eq!(run("missing"), failed(5007, &format!("No such model {LLAMA} or task")));
    assert_eq!(run("wrong"), failed(5006, "Error: context length exceeded"));
    assert_eq!(run("busy"), failed(3040, "Capacity temporarily exceeded, please try again."));
    assert_eq!(run("hold"), failed(3007, "Request timeout"));
    let lost = "Internal server error: the models' server does not accept Skep's key for it";
    assert_eq!(run("key"), failed(3043, lost));
    assert_eq!(run("broken"), failed(3043, "Internal server error: the models' server failed"));
    let strange = "Internal server error: the models' server gives an answer that is not OpenAI's";
    assert_eq!(run("html"), failed(3043, strange));
    skep.wait_for_output("sk-hidden");
    skep.wait_for_output("out of memory at 0x1234");

    let nothing = call(&skep, "run", &[json!(LLAMA), json!({})]);
    assert!(
        nothing["message"].as_str().unwrap().starts_with("5006: Error: oneOf at '/' not met"),
        "{nothing}"
    );
    server.take();
    let elsewhere = call(&skep, "run", &[json!("@cf/../../models"), json!({ "prompt": "hi" })]);
    assert_eq!(elsewhere, failed(3042, "The model name is invalid"));
    assert_eq!(server.seen(), 0);
    let translated =
        call(&skep, "run", &[json!("@cf/meta/m2m100-1.2b"), json!({ "text": "a", "target_lang": "de" })]);
    assert!(translated["message"].as_str().unwrap().contains("translation"), "{translated}");
    let socket = call(&skep, "run", &[json!(LLAMA), json!({ "prompt": "hi" }), json!({ "websocket": true })]);
    assert!(socket["text"].as_str().unwrap().contains("WebSocket"), "{socket}");

    for (method, name) in [
        ("gateway", "AI Gateway"),
        ("gatewayRun", "AI Gateway"),
        ("autorag", "AI Search"),
        ("markdown", "toMarkdown"),
    ] {
        let said = call(&skep, method, &[]).to_string();
        assert!(said.contains(name) && said.contains("Skep does not have"), "{method}: {said}");
    }
    assert_eq!(call(&skep, "formats", &[]), json!([]));
    let search = call(&skep, "aiSearch", &[]);
    assert!(search["message"].is_string(), "{search}");
}

#[test]
fn a_file_says_which_model_stands_for_which() {
    let server = usual();
    let file = tempfile::NamedTempFile::new().unwrap();
    let names = json!({
        LLAMA: { "model": "llama3.1:8b", "max_tokens": 1000, "format": "openai" }, "@cf/*": "qwen3:8b", "@cf/meta/llama-2*": null,
    });
    std::fs::write(file.path(), names.to_string()).unwrap();
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "sk-test\n").unwrap();
    let (file, key) = (file.path().to_str().unwrap(), key.path().to_str().unwrap());
    let url = format!("{}/v1/", server.url);
    let (skep, ..) = dev(&["--ai", &url, "--ai-models", file, "--ai-key-file", key]);
    let run = |model: &str| call(&skep, "run", &[json!(model), json!({ "prompt": "hi" })]);
    assert_eq!(run(LLAMA)["answer"]["choices"][0]["message"]["content"], "Hello");
    let seen = server.take();
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!((&body["model"], &body["max_tokens"]), (&json!("llama3.1:8b"), &json!(1000)));
    assert_eq!(seen[0].header("authorization"), "Bearer sk-test");
    assert_eq!(run("@cf/google/gemma-7b-it")["answer"]["response"], "Hello");
    assert_eq!(server.only()["model"], "qwen3:8b");
    assert_eq!(run("@cf/meta/llama-2-7b"), failed(5007, "No such model @cf/meta/llama-2-7b or task"));
    assert_eq!(server.seen(), 0);
}

#[test]
fn without_a_place_where_models_run_a_worker_starts_and_calls_say_what_to_do() {
    let (skep, ..) = dev(&[]);
    let said = call(&skep, "run", &[json!(LLAMA), json!({ "prompt": "hi" })]);
    let message = said["message"].as_str().unwrap();
    assert!(message.starts_with("3023: ") && message.contains("`--ai URL`"), "{said}");
    skep.wait_for_output("nothing: start with --ai");
    let said = call(&skep, "models", &[]).to_string();
    assert!(said.contains("--ai URL"), "{said}");
}

#[test]
fn calls_pass_to_cloudflare_as_they_are() {
    let server = models(|request| {
        let error = |status, code: u32, message: &str| {
            Says::Json(
                status,
                json!({ "success": false, "errors": [{ "code": code, "message": message }], "result": null }),
            )
        };
        match request.path.as_str() {
            "/v4/accounts/acc/ai/run/@cf/meta/m2m100-1.2b" => Says::Json(
                200,
                json!({ "result": { "translated_text": "Biene", "n": 1.50 }, "success": true, "errors": [] }),
            ),
            "/v4/accounts/acc/ai/run/@cf/gone" => {
                error(400, 5007, "AiError: AiError: No such model @cf/gone or task")
            }
            "/v4/accounts/acc/ai/run/@cf/denied" => error(401, 10000, "Authentication error"),
            "/v4/accounts/acc/ai/run/@cf/voice" => Says::Bytes(200, "audio/mpeg", b"beep".to_vec()),
            "/v4/accounts/acc/ai/run/@cf/stream" => Says::Pieces(vec![
                "data: {\"response\":\"x\",\"p\":\"ab\"}\n\n".into(),
                "data: [DONE]\n\n".into(),
            ]),
            "/v4/accounts/acc/ai/run/@cf/openai/whisper?language=en" => {
                Says::Json(200, json!({ "result": { "text": "hum" }, "success": true }))
            }
            "/v4/accounts/acc/ai/tomarkdown" => Says::Json(
                200,
                json!({ "result": [{ "name": "a.html", "format": "markdown", "data": "**x**" }] }),
            ),
            path => error(404, 7003, &format!("no {path}")),
        }
    });
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "cf-token").unwrap();
    let api = format!("{}/v4", server.url);
    let args = [
        "--ai",
        "cloudflare",
        "--ai-account",
        "acc",
        "--ai-api",
        &api,
        "--ai-key-file",
        key.path().to_str().unwrap(),
    ];
    let (skep, ..) = dev(&args);
    let run = |args: &[Value]| call(&skep, "run", args);
    let inputs = json!({ "text": "bee", "target_lang": "de", "odd": [1.5, null] });
    let gateway = json!({ "gateway": { "id": "g", "skipCache": true } });
    let said = run(&[json!("@cf/meta/m2m100-1.2b"), inputs.clone(), gateway]);
    assert_eq!(said["answer"], json!({ "translated_text": "Biene", "n": 1.5 }));
    let seen = server.take();
    assert_eq!(serde_json::from_slice::<Value>(&seen[0].body).unwrap(), inputs);
    let header = |name: &str| seen[0].header(name).to_owned();
    assert_eq!(
        [header("authorization"), header("cf-aig-gateway-id"), header("cf-aig-skip-cache")],
        ["Bearer cf-token", "g", "true"]
    );
    assert_eq!(run(&[json!("@cf/gone"), json!({})]), failed(5007, "No such model @cf/gone or task"));
    let denied = run(&[json!("@cf/denied"), json!({})]);
    assert_eq!(denied, failed(3043, "Internal server error: Cloudflare does not accept Skep's token for it"));
    assert_eq!(run(&[json!("@cf/voice"), json!({})]), json!({ "kind": "stream", "text": "beep" }));
    let stream =
        json!({ "kind": "stream", "text": "data: {\"response\":\"x\",\"p\":\"ab\"}\n\ndata: [DONE]\n\n" });
    assert_eq!(run(&[json!("@cf/stream"), json!({ "stream": true })]), stream);
    server.take();
    assert_eq!(
        call(&skep, "audio", &[json!("@cf/openai/whisper"), json!([1, 2])])["answer"],
        json!({ "text": "hum" })
    );
    let seen = server.take();
    assert_eq!((seen[0].header("content-type"), seen[0].body.as_slice()), ("audio/wav", &[1, 2][..]));
    assert_eq!(call(&skep, "markdown", &[])["data"], "**x**");
    let elsewhere = run(&[json!("@cf/../../../accounts"), json!({})]);
    assert_eq!(elsewhere, failed(3042, "The model name is invalid"));
}
