//! A project of Vite with Cloudflare's plug-in: what it builds is deployed and run, as every newer framework's project is.

use std::path::Path;
use std::process::Command;

use crate::harness::serve::{Serve, run, serve};
use crate::harness::{dev_command, npm, start};

const PACKAGES: [&str; 4] =
    ["vite@7.3.8", "@cloudflare/vite-plugin@1.64.0", "wrangler@4.164.0", "hono@4.13.12"];

const FILES: [(&str, &str); 6] = [
    ("package.json", r#"{ "name": "built", "private": true, "type": "module" }"#),
    (
        "vite.config.js",
        r#"import { cloudflare } from "@cloudflare/vite-plugin";
        import { defineConfig } from "vite";
        export default defineConfig({ plugins: [cloudflare()] });"#,
    ),
    (
        "index.html",
        r#"<!doctype html><html><body><script type="module" src="/page.js"></script></body></html>"#,
    ),
    ("page.js", r#"document.body.append("page");"#),
    (
        "worker/index.ts",
        r#"import { DurableObject } from "cloudflare:workers";
        import { Hono } from "hono";
        export class Counter extends DurableObject {
          async next(): Promise<number> {
            const n = ((await this.ctx.storage.get<number>("n")) ?? 0) + 1;
            await this.ctx.storage.put("n", n);
            return n;
          }
        }
        const app = new Hono<{ Bindings: any }>();
        app.get("/api/count", async (c) => c.json({ n: await c.env.COUNTER.getByName("a").next(), where: c.env.WHERE }));
        app.get("/api/kv", async (c) => { await c.env.KV.put("a", "kept"); return c.text(await c.env.KV.get("a")); });
        export default app;"#,
    ),
    (
        "wrangler.jsonc",
        r#"{ "name": "built", "main": "worker/index.ts", "compatibility_date": "2026-10-01", "compatibility_flags": ["nodejs_compat"],
          "assets": { "not_found_handling": "single-page-application", "run_worker_first": ["/api/*"] },
          "durable_objects": { "bindings": [{ "name": "COUNTER", "class_name": "Counter" }] },
          "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Counter"] }],
          "kv_namespaces": [{ "binding": "KV" }], "vars": { "WHERE": "top" }, "observability": { "enabled": true },
          "env": { "staging": { "vars": { "WHERE": "staging" }, "kv_namespaces": [{ "binding": "KV" }],
            "durable_objects": { "bindings": [{ "name": "COUNTER", "class_name": "Counter" }] } } } }"#,
    ),
];

fn built(serve: &Serve, environment: Option<&str>) -> std::path::PathBuf {
    let dir = serve.project("built", &FILES);
    let modules = npm::installed("vite-7.3.8", &PACKAGES).join("node_modules");
    if !dir.join("node_modules").exists() {
        std::os::unix::fs::symlink(modules, dir.join("node_modules")).unwrap();
    }
    let script = match environment {
        Some(name) => {
            format!("process.env.CLOUDFLARE_ENV = '{name}'; await import('./node_modules/vite/bin/vite.js')")
        }
        None => "await import('./node_modules/vite/bin/vite.js')".to_owned(),
    };
    serve.node(&dir, &["--input-type=module", "-e", &script, "vite", "build"]);
    dir
}

fn deploy(serve: &Serve, dir: &Path, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command
        .arg("deploy")
        .arg(dir)
        .args(["--yes", "--target", "skep", "--data"])
        .arg(serve.dir.path().join("data"));
    let ran = run(command.args(args));
    (ran.success, ran.text)
}

#[test]
fn what_vite_builds_is_deployed_by_wrangler_and_by_skep_and_runs_here() {
    let serve = serve();
    let dir = built(&serve, None);
    let text = serve.wrangler(&dir, &["deploy"]);
    assert!(text.contains("Using redirected Wrangler configuration"), "{text}");
    let host = "built.main.localhost";
    assert_eq!(serve.get(host, "/api/count").text(), r#"{"n":1,"where":"top"}"#);
    assert_eq!(serve.get(host, "/api/kv").text(), "kept");
    assert!(serve.get(host, "/some/page").text().contains("/assets/index-"));

    let (success, text) = deploy(&serve, &dir, &[]);
    assert!(success && text.contains("keep   KV namespace") && text.contains("HTTP 200"), "{text}");
    assert!(!text.contains("unknown key"), "{text}");
    assert_eq!(serve.get(host, "/api/count").text(), r#"{"n":2,"where":"top"}"#);

    // Twice, with a build between: a build empties its folder, and the state is not there.
    for n in 1..=2 {
        let skep = start(dev_command(&dir)).unwrap();
        assert_eq!(skep.get("/api/count").text(), format!(r#"{{"n":{n},"where":"top"}}"#));
        assert!(skep.get("/some/page").text().contains("/assets/index-"));
        let output = skep.output();
        assert!(output.contains("generated from") && !output.contains("compile cache"), "{output}");
        drop(skep);
        built(&serve, None);
    }
}

#[test]
fn a_build_is_for_one_environment() {
    let serve = serve();
    let dir = built(&serve, Some("staging"));
    let (success, text) = deploy(&serve, &dir, &["--env", "other"]);
    assert!(!success && text.contains("does not match the target environment \"staging\""), "{text}");
    let (success, text) = deploy(&serve, &dir, &["--env", "staging"]);
    assert!(success, "{text}");
    assert_eq!(
        serve.get("built-staging.main.localhost", "/api/count").text(),
        r#"{"n":1,"where":"staging"}"#
    );
}
