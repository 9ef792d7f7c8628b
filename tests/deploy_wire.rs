//! What `skep deploy` sends is what stock wrangler sends for the same project: `docs/deploy.md` lists the differences.

mod cases;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::recorder::{Recorded, Recorder, recorder};
use crate::harness::serve::{Serve, serve};

const CODE: &str = r#"
import { DurableObject, WorkerEntrypoint, WorkflowEntrypoint } from "cloudflare:workers";
import text from "./a.txt";
import bytes from "./b.bin";
import wasm from "./c.wasm";
import { helper } from "./helper";
export class Room extends DurableObject {}
export class Old extends DurableObject {}
export class Steps extends WorkflowEntrypoint { async run() {} }
export class Admin extends WorkerEntrypoint {}
export default {
  async fetch(request: Request) { return new Response(text + bytes.byteLength + helper(wasm)); },
  async queue() {}, async scheduled() {},
};
"#;

const CONFIG: &str = r#"{
  // Every kind of binding and setting that both sides know.
  "name": "full", "main": "src/index.ts", "compatibility_date": "2026-07-01", "compatibility_flags": ["nodejs_compat"],
  "upload_source_maps": true,
  "vars": { "PLAIN": "v", "OBJECT": { "b": 1, "a": [true, null] }, "NUMBER": 5 },
  "kv_namespaces": [{ "binding": "KV" }],
  "r2_buckets": [{ "binding": "FILES", "bucket_name": "full-files-bucket" }],
  "d1_databases": [{ "binding": "DB" }],
  "durable_objects": { "bindings": [{ "name": "ROOMS", "class_name": "Room" }, { "name": "OLD", "class_name": "Old" }] },
  "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Room", "Older"] }, { "tag": "v2", "renamed_classes": [{ "from": "Older", "to": "Old" }] }],
  "queues": {
    "producers": [{ "binding": "JOBS", "queue": "full-jobs", "delivery_delay": 5 }],
    "consumers": [{ "queue": "full-jobs", "max_batch_size": 7, "max_batch_timeout": 3, "max_retries": 2, "dead_letter_queue": "full-dead", "max_concurrency": 4, "retry_delay": 1 }]
  },
  "workflows": [{ "binding": "STEPS", "name": "full-steps", "class_name": "Steps" }],
  "services": [{ "binding": "ADMIN", "service": "full", "entrypoint": "Admin", "props": { "k": 1 } }],
  "ratelimits": [{ "name": "LIMIT", "namespace_id": "1001", "simple": { "limit": 100, "period": 60 } }],
  "unsafe": { "bindings": [{ "name": "LIMIT2", "type": "ratelimit", "namespace_id": "1002", "simple": { "limit": 5, "period": 10 } }] },
  "analytics_engine_datasets": [{ "binding": "EVENTS", "dataset": "full_events" }],
  "version_metadata": { "binding": "VERSION" },
  "triggers": { "crons": ["*/5 * * * *", "0 0 * * *"] },
  "routes": [{ "pattern": "www.example.com/*", "zone_name": "example.com" }, { "pattern": "app.example.org", "custom_domain": true }],
  "workers_dev": true, "preview_urls": true,
  "limits": { "cpu_ms": 1000 }, "placement": { "mode": "smart" }, "logpush": true,
  "observability": { "enabled": true, "head_sampling_rate": 0.5 },
  "assets": { "directory": "public", "binding": "ASSETS", "html_handling": "drop-trailing-slash", "not_found_handling": "404-page", "run_worker_first": ["/api/*", "!/api/docs/*"] }
}"#;

fn files(code: &str) -> Vec<(&str, &str)> {
    vec![
        ("wrangler.jsonc", CONFIG),
        ("src/index.ts", code),
        (
            "src/helper.ts",
            "export const helper = (module: WebAssembly.Module): string => WebAssembly.Module.exports(module).length + \"ü\";",
        ),
        ("src/a.txt", "hello\n"),
        ("src/b.bin", "\u{1}\u{2}"),
        ("src/c.wasm", "\0asm\u{1}\0\0\0"),
        ("public/index.html", "<h1>hi</h1>"),
        ("public/style.css", "a{}"),
        ("public/img/x.unknownext", "?"),
        ("public/_headers", "/*\n  X-A: b\n"),
        ("public/_redirects", "/a /b 301\n"),
    ]
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&text));
}

fn by_wrangler(serve: &Serve, recorder: &Recorder, dir: &Path, args: &[&str]) -> Vec<Recorded> {
    run(serve
        .wrangler_command(dir, &[&["deploy"], args].concat())
        .env("CLOUDFLARE_API_BASE_URL", &recorder.api));
    recorder.take()
}

fn by_skep(serve: &Serve, recorder: &Recorder, dir: &Path, args: &[&str]) -> Vec<Recorded> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(["deploy", "--no-smoke", "--target", &recorder.api]).args(args).current_dir(dir);
    run(command.env("CLOUDFLARE_ACCOUNT_ID", &serve.account).env("CLOUDFLARE_API_TOKEN", &serve.token));
    recorder.take()
}

/// A part of a form: its headers, and its content.
type Part = (String, Vec<u8>);

fn parts(request: &Recorded) -> Vec<Part> {
    let boundary = request.header("content-type").split_once("boundary=").unwrap().1.to_owned();
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut rest =
        request.body.strip_prefix(delimiter.as_bytes()).expect("the body begins with its boundary");
    let delimiter = format!("\r\n{delimiter}");
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = part.windows(delimiter.len()).position(|w| w == delimiter.as_bytes()).expect("a part ends");
        let head = part.windows(4).position(|w| w == b"\r\n\r\n").expect("a part has headers");
        parts.push((String::from_utf8(part[..head].to_vec()).unwrap(), part[head + 4..end].to_vec()));
        rest = &part[end + delimiter.len()..];
    }
    assert!(matches!(rest, b"--" | b"--\r\n"), "the form ends");
    parts
}

/// What a call sends, without what differs from one account to the next.
fn normal(request: &Recorded, serve: &Serve) -> (String, Vec<Part>) {
    let ids = |text: &str| {
        let text = text.replace(&serve.account, "ACCOUNT");
        let mut normal = String::new();
        let mut word = String::new();
        for c in text.chars().chain(['\n']) {
            if c.is_ascii_hexdigit() || c == '-' {
                word.push(c);
                continue;
            }
            let digits = word.bytes().filter(|b| *b != b'-').count();
            // Hashes of assets and modules are no ids, and have to be the same.
            let is_id = digits == 32 && (word.matches('-').count() == 4 || text.contains("namespace_id"));
            normal.push_str(if is_id { "ID" } else { &word });
            word.clear();
            normal.push(c);
        }
        normal.pop();
        normal
    };
    let call = format!(
        "{} {} {}",
        request.method,
        ids(&request.path),
        request.header("cloudflare-workers-script-api-date")
    );
    let queue = call.split("/queues/").nth(1).map(|rest| rest.split('/').next().unwrap().to_owned());
    let call = queue.map_or(call.clone(), |id| call.replace(&id, "QUEUE"));
    if request.header("content-type").starts_with("multipart/") {
        let mut parts = parts(request);
        for (head, content) in &mut parts {
            if head.contains("name=\"metadata\"") {
                let mut metadata: Value = serde_json::from_slice(content).unwrap();
                if metadata["assets"]["jwt"].is_string() {
                    metadata["assets"]["jwt"] = "TOKEN".into();
                }
                *content = ids(&metadata.to_string()).into_bytes();
            }
        }
        if call.contains("/assets/upload") {
            parts.sort();
        }
        return (call, parts);
    }
    let body = match serde_json::from_slice::<Value>(&request.body) {
        Ok(mut body) => {
            if let Some(manifest) = body.get_mut("manifest").and_then(Value::as_object_mut) {
                manifest.sort_keys();
            }
            ids(&body.to_string()).into_bytes()
        }
        Err(_) => request.body.clone(),
    };
    // wrangler calls some of its JSON text.
    let content_type = request.header("content-type").replace("text/plain;charset=UTF-8", "application/json");
    (call, vec![(content_type, body)])
}

fn changes(all: &[Recorded], serve: &Serve) -> BTreeMap<String, Vec<Part>> {
    all.iter().filter(|request| request.method != "GET").map(|request| normal(request, serve)).collect()
}

/// The documented differences, brought into wrangler's form; each has to be there.
fn undo_differences(skep: &mut BTreeMap<String, Vec<Part>>, whole: bool) {
    let upload = skep.iter_mut().find(|(call, _)| call.contains("bindings_inherit=strict")).unwrap().1;
    let mut metadata: Value = serde_json::from_slice(&upload[0].1).unwrap();
    let annotations = metadata.as_object_mut().unwrap().shift_remove("annotations").unwrap();
    let tag = annotations["workers/tag"].as_str().unwrap();
    assert!(tag.starts_with("skep-") && annotations.as_object().unwrap().len() == 1, "{annotations}");
    // It knows the ids of what has no id in the configuration; wrangler lets the server look at the version before.
    for binding in metadata["bindings"].as_array_mut().unwrap().iter_mut().filter(|_| !whole) {
        if matches!(binding["name"].as_str(), Some("KV" | "DB")) {
            assert!(matches!(binding["type"].as_str(), Some("kv_namespace" | "d1")));
            *binding = json!({ "name": binding["name"], "type": "inherit" });
        }
    }
    upload[0].1 = metadata.to_string().into_bytes();
    if whole {
        let (_, records) = skep.iter_mut().find(|(call, _)| call.contains("/domains/records")).unwrap();
        let mut body: Value = serde_json::from_slice(&records[0].1).unwrap();
        for key in ["override_existing_origin", "override_existing_dns_record"] {
            assert_eq!(body[key], json!(false));
            body[key] = true.into();
        }
        records[0].1 = body.to_string().into_bytes();
    }
}

fn shown(calls: &BTreeMap<String, Vec<Part>>) -> String {
    let part = |(head, content): &Part| {
        format!("    {}\n    {}\n", head.replace("\r\n", " | "), String::from_utf8_lossy(content))
    };
    calls
        .iter()
        .map(|(call, parts)| format!("  {call}\n{}", parts.iter().map(part).collect::<String>()))
        .collect()
}

fn compare(wrangler: &BTreeMap<String, Vec<Part>>, skep: &BTreeMap<String, Vec<Part>>) {
    let only = |a: &BTreeMap<String, Vec<Part>>, b: &BTreeMap<String, Vec<Part>>| {
        let different = a.iter().filter(|(call, parts)| b.get(*call) != Some(*parts));
        shown(&different.map(|(call, parts)| (call.clone(), parts.clone())).collect())
    };
    let (theirs, ours) = (only(wrangler, skep), only(skep, wrangler));
    assert!(theirs.is_empty() && ours.is_empty(), "only wrangler:\n{theirs}\nonly skep:\n{ours}");
}

#[test]
fn a_deploy_sends_what_wrangler_sends() {
    let (theirs, ours) = (serve(), serve());
    let (their_recorder, our_recorder) = (recorder(&theirs.api), recorder(&ours.api));
    // The dead letter queue: wrangler makes queues that are produced to, not those.
    for serve in [&theirs, &ours] {
        for queue in ["full-jobs", "full-dead"] {
            serve.call("POST", "/queues", Some(&json!({ "queue_name": queue })));
        }
    }
    let their_dir = theirs.project("full", &files(CODE));
    let our_dir = ours.project("full", &files(CODE));
    let wrangler = changes(&by_wrangler(&theirs, &their_recorder, &their_dir, &[]), &theirs);
    let mut skep = changes(&by_skep(&ours, &our_recorder, &our_dir, &[]), &ours);
    undo_differences(&mut skep, true);
    compare(&wrangler, &skep);

    // A change of code: a version and its deployment.
    let changed = CODE.replace("hello", "bye").replace("text +", "\"x\" + text +");
    theirs.project("full", &files(&changed));
    ours.project("full", &files(&changed));
    let mut wrangler = changes(&by_wrangler(&theirs, &their_recorder, &their_dir, &[]), &theirs);
    let mut skep = changes(&by_skep(&ours, &our_recorder, &our_dir, &[]), &ours);
    undo_differences(&mut skep, false);
    // What is as it should be is not set again.
    for kept in ["/domains/", "/subdomain", "/schedules", "/consumers/", "/workflows/"] {
        let before = wrangler.len();
        wrangler.retain(|call, _| !call.contains(kept));
        assert!(wrangler.len() < before, "wrangler sets {kept} again");
    }
    compare(&wrangler, &skep);
}

/// The upload of an old project by both, and what is written into its namespace.
fn old_project(files: &[(&str, &str)], wasm: Option<&str>) {
    let (theirs, ours) = (serve(), serve());
    let (their_recorder, our_recorder) = (recorder(&theirs.api), recorder(&ours.api));
    let project = |serve: &Serve| {
        let dir = serve.project("old", files);
        if let Some(wasm) = wasm {
            std::fs::write(dir.join(wasm), b"\0asm\x01\0\0\0").unwrap();
        }
        dir
    };
    let wrangler = by_wrangler(&theirs, &their_recorder, &project(&theirs), &["--tag", "t"]);
    let skep = by_skep(&ours, &our_recorder, &project(&ours), &["--tag", "t"]);
    let (mut wrangler, mut skep) = (changes(&wrangler, &theirs), changes(&skep, &ours));
    for calls in [&mut wrangler, &mut skep] {
        calls.retain(|call, _| call.contains("/workers/scripts/old?") || call.contains("/storage/kv/"));
        let without_id = |call: String| match call.split_once("/namespaces/") {
            Some((before, after)) => format!("{before}/namespaces/ID/{}", after.split_once('/').unwrap().1),
            None => call,
        };
        *calls = std::mem::take(calls).into_iter().map(|(call, parts)| (without_id(call), parts)).collect();
        for (head, content) in calls.values_mut().flatten() {
            // wrangler takes the files as the folder has them.
            if head.contains("__STATIC_CONTENT_MANIFEST\"") && head.contains("text/plain") {
                let mut manifest: Value = serde_json::from_slice(content).unwrap();
                manifest.sort_all_objects();
                *content = manifest.to_string().into_bytes();
            }
            if head == "application/json" && content.starts_with(b"[{\"key\"") {
                let mut entries: Vec<Value> = serde_json::from_slice(content).unwrap();
                entries.sort_by_key(|entry| entry["key"].to_string());
                *content = json!(entries).to_string().into_bytes();
            }
        }
    }
    compare(&wrangler, &skep);
    assert!(!skep.is_empty());
}

#[test]
fn files_that_an_old_configuration_names_are_sent_as_wrangler_sends_them() {
    let config = "name = \"old\"\nmain = \"index.js\"\ncompatibility_date = \"2023-01-01\"\n\
        [text_blobs]\nNOTE = \"./files/note.txt\"\nLETTER = \"files/letter.txt\"\n\
        [data_blobs]\nBYTES = \"./files/bytes.dat\"\n[wasm_modules]\nEMPTY = \"./files/empty.wasm\"\n\
        [vars]\nA = \"1\"\n[version_metadata]\nbinding = \"V\"\n";
    let code = "addEventListener('fetch', event => event.respondWith(Response.json([NOTE, LETTER, BYTES.byteLength])));";
    let files = [
        ("wrangler.toml", config),
        ("files/note.txt", "a note"),
        ("files/letter.txt", "a letter"),
        ("files/bytes.dat", "12345"),
        ("index.js", code),
    ];
    old_project(&files, Some("files/empty.wasm"));
}

#[test]
fn workers_sites_are_sent_as_wrangler_sends_them() {
    let site = "compatibility_date = \"2023-01-01\"\n[site]\nbucket = \"./public\"\nexclude = [\"*.map\"]\n";
    let pages = [
        ("public/index.html", "<h1>Hello</h1>\n"),
        ("public/img/a.svg", "<svg/>"),
        ("public/app.js.map", "{}"),
    ];
    let script =
        "addEventListener('fetch', event => event.respondWith(new Response(__STATIC_CONTENT_MANIFEST)));";
    let config = format!("name = \"old\"\nmain = \"worker/index.js\"\n{site}");
    old_project(
        &[&[("wrangler.toml", config.as_str()), ("worker/index.js", script)], &pages[..]].concat(),
        None,
    );
    // Modules in folders, each of which may import the manifest.
    let config = format!(
        "name = \"old\"\nmain = \"worker/index.js\"\nno_bundle = true\nrules = [{{ type = \"ESModule\", globs = [\"**/*.js\"] }}]\n{site}"
    );
    let main = "import { page } from './lib/page.js'; export default { fetch: () => new Response(page) };";
    let lib = "import manifest from '__STATIC_CONTENT_MANIFEST'; export const page = manifest;";
    let code = [("wrangler.toml", config.as_str()), ("worker/index.js", main), ("worker/lib/page.js", lib)];
    old_project(&[&code[..], &pages].concat(), None);
}

#[test]
fn modules_of_a_script_in_service_worker_syntax_are_sent_as_wrangler_sends_them() {
    let (theirs, ours) = (serve(), serve());
    let (their_recorder, our_recorder) = (recorder(&theirs.api), recorder(&ours.api));
    let files = [
        (
            "wrangler.jsonc",
            r#"{ "name": "old", "main": "old.js", "compatibility_date": "2024-01-01", "vars": { "A": "1" } }"#,
        ),
        (
            "old.js",
            "import text from './a.txt';\nimport data from './b.bin';\naddEventListener('fetch', (event) => event.respondWith(new Response(text + data)));",
        ),
        ("a.txt", "text"),
        ("b.bin", "data"),
    ];
    let output = |command: &mut Command| command.stdin(Stdio::null()).output().unwrap().status.success();
    let dir = theirs.project("old", &files);
    let mut wrangler = theirs.wrangler_command(&dir, &["deploy", "--tag", "t"]);
    assert!(output(wrangler.env("CLOUDFLARE_API_BASE_URL", &their_recorder.api)));
    let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
    skep.args(["deploy", "--tag", "t", "--target", &our_recorder.api])
        .current_dir(ours.project("old", &files));
    skep.env("CLOUDFLARE_ACCOUNT_ID", &ours.account).env("CLOUDFLARE_API_TOKEN", &ours.token);
    assert!(output(&mut skep));
    for serve in [&theirs, &ours] {
        assert_eq!(serve.get("old.main.localhost", "/").text(), "text[object ArrayBuffer]");
    }
    let (mut wrangler, mut skep) =
        (changes(&their_recorder.take(), &theirs), changes(&our_recorder.take(), &ours));
    // What else is called is compared in the other tests.
    for calls in [&mut wrangler, &mut skep] {
        calls.retain(|call, _| call.contains("/workers/scripts/old?"));
        assert_eq!(calls.len(), 1);
    }
    // A comment and the source map name the modules as each program does inside; wrangler's name is another one each time.
    for parts in wrangler.values_mut().chain(skep.values_mut()) {
        assert!(parts.pop().unwrap().0.contains("name=\"old.js.map\""));
        for (_, content) in parts {
            let text = String::from_utf8(content.clone()).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with("  // ") || !line.contains("-module"));
            *content = lines.collect::<Vec<_>>().join("\n").into_bytes();
        }
    }
    compare(&wrangler, &skep);
}

#[test]
fn environments_scripts_assets_alone_and_tenants_are_sent_as_wrangler_sends_them() {
    let (theirs, ours) = (serve(), serve());
    let (their_recorder, our_recorder) = (recorder(&theirs.api), recorder(&ours.api));
    for serve in [&theirs, &ours] {
        serve.make_namespace("tenants");
    }
    for (n, (config, more, args)) in cases::CASES.iter().enumerate() {
        let files = [&[("wrangler.jsonc", *config)], *more].concat();
        let name = format!("case-{n}");
        let (their_dir, our_dir) = (theirs.project(&name, &files), ours.project(&name, &files));
        for again in [false, true] {
            let force: &[&str] = if again { &["--force"] } else { &[] };
            let mut wrangler = changes(&by_wrangler(&theirs, &their_recorder, &their_dir, args), &theirs);
            let skep = changes(&by_skep(&ours, &our_recorder, &our_dir, &[args, force].concat()), &ours);
            // What is as it should be is not set again.
            wrangler.retain(|call, parts| {
                let settings = ["\"limits\"", "\"concurrency\"", "\"schedules\""];
                let is_set = |content: &str| settings.iter().any(|key| content.contains(key));
                let kept = call.contains("/subdomain")
                    || call.contains("/workflows/") && !is_set(&String::from_utf8_lossy(&parts[0].1));
                !again || !kept
            });
            compare(&wrangler, &skep);
        }
    }
}
