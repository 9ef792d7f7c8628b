//! Projects as they were written before there were static assets and scripts in module syntax.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::serve::{FORM, Serve, form, run, serve};
use crate::harness::{Answer, Skep, dev_with, eventually, small_project};

const SITE: &str = "name = \"old\"\nmain = \"workers-site/index.js\"\ncompatibility_date = \"2023-01-01\"\n\
                    [site]\nbucket = \"./public\"\nexclude = [\"*.map\"]\n";
/// Answers with what the manifest has for the path.
const SCRIPT: &str = r#"
const manifest = JSON.parse(__STATIC_CONTENT_MANIFEST);
addEventListener("fetch", event => event.respondWith(answer(new URL(event.request.url).pathname.slice(1))));
async function answer(path) {
  if (path === "manifest") return Response.json(manifest);
  const body = manifest[path] && await __STATIC_CONTENT.get(manifest[path], "stream");
  return body ? new Response(body, { headers: { "x-key": manifest[path] } }) : new Response("none", { status: 404 });
}
"#;
/// The same in module syntax.
const MODULE: &str = r#"
import text from "__STATIC_CONTENT_MANIFEST";
const manifest = JSON.parse(text);
export default {
  async fetch(request, env) {
    const path = new URL(request.url).pathname.slice(1);
    const body = manifest[path] && await env.__STATIC_CONTENT.get(manifest[path], "stream");
    return body ? new Response(body, { headers: { "x-key": manifest[path] } }) : new Response("none", { status: 404 });
  },
};
"#;
const FILES: [(&str, &str); 5] = [
    ("public/index.html", "<h1>Hello</h1>\n"),
    ("public/img/a.svg", "<svg/>"),
    ("public/.hidden", "hidden"),
    ("public/app.js.map", "{}"),
    ("public/.well-known/x", "known"),
];

fn site(script: &str) -> Vec<(&str, &str)> {
    [("wrangler.toml", SITE), ("workers-site/index.js", script)].into_iter().chain(FILES).collect()
}

/// What a site answers, wherever it runs. The keys are those that wrangler makes.
fn check_site(get: impl Fn(&str) -> Answer) {
    let index = get("/index.html");
    assert_eq!((index.text().as_str(), index.header("x-key")), ("<h1>Hello</h1>\n", "index.41835f6b9f.html"));
    assert_eq!(get("/img/a.svg").text(), "<svg/>");
    assert_eq!(get("/.well-known/x").text(), "known");
    for path in ["/.hidden", "/app.js.map", "/nothing"] {
        assert_eq!(get(path).status, 404, "{path}");
    }
}

fn start(project: &Path) -> (Skep, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    (dev_with(project, state.path(), &[]), state)
}

fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
    let project = small_project("{}", files);
    std::fs::remove_file(project.path().join("wrangler.jsonc")).unwrap();
    project
}

#[test]
fn a_workers_site_is_served_and_follows_its_files() {
    for script in [SCRIPT, MODULE] {
        let project = written(&site(script));
        let (skep, _state) = start(project.path());
        check_site(|path| skep.get(path));
        let page = project.path().join("public/index.html");
        std::fs::write(page, "<h1>Changed</h1>\n").unwrap();
        std::fs::write(project.path().join("public/new.html"), "new").unwrap();
        eventually("the changed page", || {
            let answer = skep.get("/index.html");
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.text().contains("Changed").then_some(())
        });
        eventually("the new page", || (skep.get("/new.html").text() == "new").then_some(()));
    }
}

#[test]
fn wrangler_deploys_workers_sites() {
    let serve = serve();
    for (name, script) in [("old-script", SCRIPT), ("old-module", MODULE)] {
        let files = site(script);
        let project = serve.project(name, &files);
        serve.wrangler(&project, &["deploy", "--name", name]);
        check_site(|path| serve.get(&format!("{name}.main.localhost"), path));
    }
}

/// `skep deploy` under another name.
fn skep_deploy(serve: &Serve, project: &Path, name: &str, args: &[&str]) -> String {
    let file = project.join("wrangler.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let rest = config.split_once('\n').unwrap().1;
    std::fs::write(file, format!("name = \"{name}\"\n{rest}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.arg("deploy").arg(project).args(["--yes", "--target", "skep", "--data"]);
    let ran = run(command.arg(serve.dir.path().join("data")).args(args));
    assert!(ran.success, "{}\n{}", ran.text, serve.output());
    ran.text
}

#[test]
fn skep_deploy_deploys_workers_sites_and_sends_what_changed() {
    let serve = serve();
    for (name, script) in [("old-script", SCRIPT), ("old-module", MODULE)] {
        let project = serve.project(name, &site(script));
        // What wrangler has deployed is as it should be.
        serve.wrangler(&project, &["deploy", "--name", name]);
        let text = skep_deploy(&serve, &project, name, &["--dry-run"]);
        assert!(text.contains("keep   Workers Site") && !text.contains("create KV"), "{text}");

        let other = format!("{name}-2");
        let host = format!("{other}.main.localhost");
        let deploy = || skep_deploy(&serve, &project, &other, &["--no-smoke"]);
        let first = deploy();
        assert!(first.contains("3 of 3 files sent"), "{first}");
        check_site(|path| serve.get(&host, path));
        let again = deploy();
        assert!(again.contains("Nothing had to change"), "{again}");

        std::fs::write(project.join("public/index.html"), "<h1>Changed</h1>\n").unwrap();
        let changed = deploy();
        assert!(changed.contains("1 of 3 files sent") && changed.contains("1 file removed"), "{changed}");
        assert_eq!(serve.get(&host, "/index.html").text(), "<h1>Changed</h1>\n");
        assert_eq!(serve.get(&host, "/img/a.svg").text(), "<svg/>");
        let all = serve.call("GET", "/storage/kv/namespaces", None).text();
        assert!(all.contains(&format!("\"__{other}-workers_sites_assets\"")), "{all}");
    }
}

/// In service worker syntax, what a script imports and what its configuration names are globals.
#[test]
fn wrangler_deploys_scripts_with_text_data_and_wasm() {
    let serve = serve();
    let project = serve.project("blobs", &[
        (
            "wrangler.toml",
            "name = \"blobs\"\nmain = \"index.js\"\ncompatibility_date = \"2023-01-01\"\n\
             text_blobs = { NOTE = \"./files/note.txt\" }\ndata_blobs = { BYTES = \"./files/bytes.dat\" }\n\
             wasm_modules = { EMPTY = \"./files/empty.wasm\" }\n",
        ),
        ("files/note.txt", "a note"),
        ("files/bytes.dat", "12345"),
        ("index.txt", "imported"),
        (
            "index.js",
            "import text from './index.txt'; import wasm from './files/empty.wasm';\n\
             addEventListener('fetch', event => event.respondWith(Response.json([NOTE, BYTES.byteLength, text,\n\
               [EMPTY, wasm].map(own => WebAssembly.Module.exports(own).length)])));",
        ),
    ]);
    std::fs::write(project.join("files/empty.wasm"), b"\0asm\x01\0\0\0").unwrap();
    serve.wrangler(&project, &["deploy"]);
    let expected = r#"["a note",5,"imported",[0,0]]"#;
    assert_eq!(serve.get("blobs.main.localhost", "/").text(), expected);
    // What a version has comes along with a change of its secrets.
    serve.try_wrangler(&project, &["secret", "put", "KEY"], "value");
    assert_eq!(serve.get("blobs.main.localhost", "/").text(), expected);
    skep_deploy(&serve, &project, "blobs-2", &[]);
    assert_eq!(serve.get("blobs-2.main.localhost", "/").text(), expected);
}

/// wrangler gives each binding a part of its own; the API does not ask for that.
#[test]
fn one_part_of_an_upload_may_be_what_several_bindings_are_of() {
    let serve = serve();
    let code = "addEventListener('fetch', event => event.respondWith(Response.json([A, B, C.byteLength, SELF.length])));";
    let bindings = [
        ("A", "text_blob", "note"),
        ("B", "text_blob", "note"),
        ("C", "data_blob", "note"),
        ("SELF", "text_blob", "index.js"),
    ];
    let bindings = bindings.map(|(name, kind, part)| json!({ "name": name, "type": kind, "part": part }));
    let metadata =
        json!({ "body_part": "index.js", "compatibility_date": "2023-01-01", "bindings": bindings });
    let form = String::from_utf8(form(&metadata, &[("index.js", code), ("note", "a note")])).unwrap();
    let form = form.replace("application/javascript+module", "application/javascript");
    let path = "/workers/scripts/parts";
    let answer = serve.own_call("PUT", path, &[("content-type", FORM)], Some(form.as_bytes()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    serve.call("POST", &format!("{path}/subdomain"), Some(&json!({ "enabled": true })));
    assert_eq!(serve.get("parts.main.localhost", "/").json(), json!(["a note", "a note", 6, code.len()]));
}

#[test]
fn an_entry_file_on_the_command_line_is_the_main_of_the_nearest_configuration() {
    let project = written(&[
        ("wrangler.toml", "name = \"plain\"\ncompatibility_date = \"2026-01-01\"\nvars = { A = \"a\" }\n"),
        ("src/index.js", "export default { fetch: (_, env) => new Response(env.A) };"),
    ]);
    let (skep, _state) = start(&project.path().join("src/index.js"));
    assert_eq!(skep.get("/").text(), "a");
}

/// As in a script of a `package.json`, and under `npx wrangler`.
#[test]
fn a_build_command_finds_the_programs_of_the_projects_packages() {
    let project = small_project(
        r#"{ "name": "built", "main": "out.js", "compatibility_date": "2026-01-01", "build": { "command": "my-copy in.js out.js" } }"#,
        &[("in.js", "export default { fetch: () => new Response('built') };"), ("node_modules/.bin/x", "")],
    );
    std::os::unix::fs::symlink("/bin/cp", project.path().join("node_modules/.bin/my-copy")).unwrap();
    let (skep, _state) = start(project.path());
    assert_eq!(skep.get("/").text(), "built");
}
