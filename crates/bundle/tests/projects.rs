//! Whole projects through the real esbuild, which the toolchain's cache has or fetches.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use skep_bundle::{Bundle, BundleError, BundleOptions, Bundler, Format, ModuleKind, SourceMapper};
use skep_toolchain::Toolchain;
use tempfile::TempDir;

fn project(files: &[(&str, &str)]) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    home
}

fn bundler(home: &Path, entry: &str, change: impl FnOnce(&mut BundleOptions)) -> Bundler {
    let tools = Toolchain::locate(None).unwrap();
    let mut options = BundleOptions::new(home.join(entry), home);
    options.compatibility_date = "2026-04-01".into();
    change(&mut options);
    if options.needs_unenv() {
        options.unenv = tools.unenv().unwrap();
    }
    Bundler::new(tools.esbuild().unwrap(), options)
}

fn code(bundle: &Bundle) -> &str {
    std::str::from_utf8(&bundle.modules[0].content).unwrap()
}

#[tokio::test]
async fn typescript_with_a_dependency_takes_the_workerd_condition() {
    let home = project(&[
        (
            "src/index.ts",
            "import { who } from 'dep';\nconst n: number = FLAG;\nexport class Room {}\nexport default { fetch() { return new Response(who + n) } }",
        ),
        (
            "node_modules/dep/package.json",
            r#"{"name":"dep","exports":{"workerd":"./w.js","default":"./d.js"}}"#,
        ),
        ("node_modules/dep/w.js", "export const who = 'for-workerd'"),
        ("node_modules/dep/d.js", "export const who = 'for-others'"),
    ]);
    let mut bundler = bundler(home.path(), "src/index.ts", |o| o.define.push(("FLAG".into(), "42".into())));
    let bundle = bundler.build().await.unwrap();
    assert!(code(&bundle).contains("for-workerd") && code(&bundle).contains("42"), "{}", code(&bundle));
    assert!(!code(&bundle).contains("for-others"));
    assert_eq!((bundle.main.as_str(), bundle.format), ("index.js", Format::Modules));
    assert_eq!(bundle.exports, ["Room", "default"]);
    assert!(bundle.inputs.contains(&home.path().join("node_modules/dep/w.js")));

    std::fs::write(home.path().join("node_modules/dep/w.js"), "export const who = 'saved-again'").unwrap();
    assert!(code(&bundler.build().await.unwrap()).contains("saved-again"));
}

#[tokio::test]
async fn text_data_and_wasm_become_modules_named_by_content() {
    let home = project(&[
        (
            "index.js",
            "import t from './a.txt';\nimport b from './b.bin';\nimport w from './c.wasm?module';\nexport default { t, b, w }",
        ),
        ("a.txt", "hello"),
        ("b.bin", "data"),
        ("c.wasm", "\0asm"),
    ]);
    let bundle = bundler(home.path(), "index.js", |_| {}).build().await.unwrap();
    let text = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d-a.txt";
    assert!(code(&bundle).contains(&format!("\"./{text}\"")), "{}", code(&bundle));
    let mut kinds: Vec<_> = bundle.modules[1..].iter().map(|m| (m.kind, &m.content[..])).collect();
    kinds.sort_by_key(|(_, content)| content.to_vec());
    assert_eq!(
        kinds,
        [(ModuleKind::Wasm, &b"\0asm"[..]), (ModuleKind::Data, b"data"), (ModuleKind::Text, b"hello")]
    );
    assert!(bundle.modules.iter().any(|module| module.name == text));
}

#[tokio::test]
async fn a_module_of_a_package_is_found_whether_the_package_exports_it_or_not() {
    let home = project(&[
        (
            "src/index.js",
            "import a from 'dep/shown.wasm';\nimport b from 'dep/w/hidden.wasm';\nimport c from '@a/b/w/c.txt';\nexport default { a, b, c }",
        ),
        ("node_modules/dep/package.json", r#"{"name":"dep","exports":{"./shown.wasm":"./w/shown.wasm"}}"#),
        ("node_modules/dep/w/shown.wasm", "shown"),
        ("node_modules/dep/w/hidden.wasm", "hidden"),
        ("node_modules/@a/b/package.json", r#"{"name":"@a/b","exports":{}}"#),
        ("node_modules/@a/b/w/c.txt", "scoped"),
    ]);
    let bundle = bundler(home.path(), "src/index.js", |_| {}).build().await.unwrap();
    let mut found: Vec<&[u8]> = bundle.modules[1..].iter().map(|m| &m.content[..]).collect();
    found.sort_unstable();
    assert_eq!(found, [&b"hidden"[..], b"scoped", b"shown"]);
}

#[tokio::test]
async fn an_alias_replaces_a_package() {
    let home = project(&[
        ("index.js", "import x from 'gone';\nexport default { x }"),
        ("here.js", "export default 'aliased'"),
    ]);
    let alias = |o: &mut BundleOptions| o.alias.push(("gone".into(), "./here.js".into()));
    assert!(code(&bundler(home.path(), "index.js", alias).build().await.unwrap()).contains("aliased"));
}

#[tokio::test]
async fn node_modules_come_from_the_engine_or_from_unenv() {
    let names = [
        "fs",
        "path",
        "crypto",
        "stream",
        "util",
        "events",
        "http",
        "os",
        "zlib",
        "buffer",
        "url",
        "vm",
        "repl",
        "v8",
        "tty",
        "perf_hooks",
        "punycode",
    ];
    let imports: String = names.iter().map(|n| format!("import * as m_{n} from 'node:{n}';\n")).collect();
    let all = names.map(|n| format!("m_{n}")).join(", ");
    let entry = format!(
        "{imports}import c from 'cjs';\nimport {{ env }} from 'cloudflare:workers';\nexport default {{ {all}, c, env, p: process.version }}"
    );
    let home = project(&[
        ("index.js", &entry),
        (
            "node_modules/cjs/index.js",
            "const fs = require('node:fs'); const p = require('path'); module.exports = fs.existsSync && p.join",
        ),
    ]);
    for (date, native) in [("2026-04-01", true), ("2024-09-23", false)] {
        let set = |o: &mut BundleOptions| {
            o.compatibility_date = date.into();
            o.compatibility_flags = vec!["nodejs_compat".into()];
        };
        let bundle = bundler(home.path(), "index.js", set).build().await.unwrap();
        let imports = |name: &str| code(&bundle).contains(&format!("from \"{name}\""));
        assert!(imports("cloudflare:workers") && imports("node:path"), "{date}");
        assert_eq!(
            (imports("node:fs"), imports("node:v8"), imports("node:repl")),
            (native, native, native),
            "{date}"
        );
        assert_eq!(code(&bundle).contains("globalThis.process = "), !native, "{date}");
        assert!(!code(&bundle).contains("Dynamic require of \\\"node"), "{date}");
        assert_eq!(bundle.warnings, [], "{date}");
    }
}

#[tokio::test]
async fn node_imports_without_the_flag_stay_with_a_warning() {
    let home = project(&[("index.js", "import fs from 'node:fs';\nexport default { fs }")]);
    let bundle = bundler(home.path(), "index.js", |_| {}).build().await.unwrap();
    assert!(
        bundle.warnings[0].text.contains("\"node:fs\" wasn't found")
            && bundle.warnings[0].text.ends_with(" - index.js")
    );
    std::fs::write(home.path().join("index.js"), "import fs from 'fs';\nexport default { fs }").unwrap();
    let error = bundler(home.path(), "index.js", |_| {}).build().await.unwrap_err().to_string();
    assert!(error.contains("Add the \"nodejs_compat\" compatibility flag"), "{error}");
}

#[tokio::test]
async fn a_syntax_error_is_shown_where_it_is_and_a_repair_builds() {
    let home = project(&[("src/index.ts", "export default {\n  fetch() { return 1 +; },\n}")]);
    let mut bundler = bundler(home.path(), "src/index.ts", |_| {});
    let error = bundler.build().await.unwrap_err().to_string();
    assert!(error.contains("✘ [ERROR] Unexpected \";\"") && error.contains("src/index.ts:2:22:"), "{error}");
    assert!(error.contains("2 │   fetch() { return 1 +; },\n        ╵                       ^"), "{error}");
    std::fs::write(home.path().join("src/index.ts"), "export default {}").unwrap();
    bundler.build().await.unwrap();
}

#[tokio::test]
async fn a_worker_without_exports_is_a_script() {
    let home = project(&[
        ("w.js", "import t from './a.txt';\naddEventListener('fetch', e => e.respondWith(new Response(t)))"),
        ("a.txt", "hello"),
    ]);
    let bundle = bundler(home.path(), "w.js", |_| {}).build().await.unwrap();
    assert_eq!((bundle.format, bundle.main.as_str()), (Format::ServiceWorker, "w.js"));
    assert!(code(&bundle).contains(&bundle.modules[1].global_name()), "{}", code(&bundle));
    std::fs::write(
        home.path().join("w.js"),
        "import 'cloudflare:sockets';\naddEventListener('fetch', e => e)",
    )
    .unwrap();
    let error = bundler(home.path(), "w.js", |_| {}).build().await.unwrap_err().to_string();
    assert!(error.contains("Unexpected external import of \"cloudflare:sockets\""), "{error}");
}

#[tokio::test]
async fn no_bundle_sends_the_files_as_they_are() {
    let home = project(&[
        ("src/index.js", "import a from './lib/a.mjs';\nexport default a"),
        ("src/lib/a.mjs", "export default {}"),
        ("src/t.txt", "t"),
    ]);
    let rule = skep_bundle::Rule {
        kind: skep_bundle::RuleKind::EsModule,
        globs: vec!["**/*.mjs".into()],
        fallthrough: None,
    };
    let set = |o: &mut BundleOptions| (o.no_bundle, o.rules) = (true, vec![rule.clone()]);
    let bundle = bundler(home.path(), "src/index.js", set).build().await.unwrap();
    let names: Vec<_> = bundle.modules.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(names, ["index.js", "lib/a.mjs", "t.txt"]);
    let set = |o: &mut BundleOptions| (o.find_additional_modules, o.rules) = (Some(true), vec![rule.clone()]);
    let bundle = bundler(home.path(), "src/index.js", set).build().await.unwrap();
    assert!(code(&bundle).contains("from \"./lib/a.mjs\""), "{}", code(&bundle));
    assert_eq!(bundle.modules.len(), 3);
}

#[tokio::test]
async fn a_stack_trace_is_led_back_to_the_source() {
    let home =
        project(&[("src/index.ts", "type A = 1;\n\nexport default { fetch(): A { throw new Error('x') } }")]);
    let bundle = bundler(home.path(), "src/index.ts", |_| {}).build().await.unwrap();
    let row = code(&bundle).lines().position(|line| line.contains("throw")).unwrap() + 1;
    let mapper = SourceMapper::new(&bundle.source_map.clone().unwrap()).unwrap();
    let mapped = mapper.map_stack(&format!("Error: x\n    at fetch (index.js:{row}:5)"));
    let expected = format!("    at fetch ({}:3:", home.path().join("src/index.ts").display());
    assert!(mapped.lines().nth(1).unwrap().starts_with(&expected), "{mapped}");
}

#[tokio::test]
async fn python_is_refused() {
    let home = project(&[("main.py", "")]);
    let error = bundler(home.path(), "main.py", |_| {}).build().await.unwrap_err();
    assert!(matches!(error, BundleError::Python(_)));
}
