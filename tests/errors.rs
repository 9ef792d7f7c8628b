//! Mistakes in a project, and what a developer is told of them.

use std::path::Path;
use std::process::Command;

use crate::harness::{command, dev_with, eventually, small_project, start, try_dev};

const GOOD: &str = "export default { fetch() { return new Response('good') } };";

fn config(more: &str) -> String {
    format!(r#"{{ "name": "e", "main": "index.ts", "compatibility_date": "2026-07-01"{more} }}"#)
}

/// Code that does not run is reported with its place; saving good code makes it answer.
#[test]
fn code_that_does_not_start_is_shown_with_its_place_and_can_be_mended() {
    for (code, says) in [
        (
            "const x: number = 1;\n\nthrow new Error('at start');\n",
            vec!["Uncaught Error: at start", "index.ts:3:7"],
        ),
        (
            "export default {\n  fetch( { return 1 }\n};",
            vec!["Expected \"}\" but found \"1\"", "index.ts:2:18:"],
        ),
        ("console.log(1);", vec!["No event handlers were registered. This script does nothing."]),
        (
            "import x from './nothing';\nexport default x;",
            vec!["Could not resolve \"./nothing\"", "index.ts:1:14:"],
        ),
        (
            "import x from 'no-such-package';\nexport default x;",
            vec!["Could not resolve \"no-such-package\""],
        ),
        ("export default {};", vec!["Ready on"]),
    ] {
        let project = small_project(&config(""), &[("index.ts", code)]);
        let state = tempfile::tempdir().unwrap();
        let skep = dev_with(project.path(), state.path(), &[]);
        for text in says {
            assert!(skep.output().contains(text), "{text:?} of {code:?} in\n{}", skep.output());
        }
        std::fs::write(project.path().join("index.ts"), GOOD).unwrap();
        eventually("an answer of the mended code", || (skep.get("/").text() == "good").then_some(()));
    }
}

#[test]
fn a_class_that_is_not_exported_is_named() {
    let binding = r#", "durable_objects": { "bindings": [{ "name": "A", "class_name": "Nope" }] }"#;
    let project = small_project(&config(binding), &[("index.ts", GOOD)]);
    let state = tempfile::tempdir().unwrap();
    let skep = dev_with(project.path(), state.path(), &[]);
    let said = skep.output();
    assert!(
        said.contains("Durable Objects, which are not exported in your entrypoint file: Nope."),
        "{said}"
    );
}

/// What `skep dev` says before it ends without success.
fn refusal(project: &Path, args: &[&str]) -> String {
    let state = tempfile::tempdir().unwrap();
    match try_dev(project, state.path(), args) {
        Ok(skep) => panic!("it came up:\n{}", skep.output()),
        Err(output) => output,
    }
}

#[test]
fn a_wrong_configuration_is_shown_where_it_is_wrong() {
    for (file, text, says) in [
        (
            "wrangler.jsonc",
            "{ \"name\": \"e\",\n  \"main\": index.ts }",
            vec!["wrangler.jsonc:2:11", "^^^^^"],
        ),
        (
            "wrangler.jsonc",
            "{ \"name\": \"e\", \"bogus\": 1 }",
            vec![
                "unknown key \"bogus\": it has no effect",
                "wrangler.jsonc:1:16",
                "neither \"main\" nor \"assets\"",
            ],
        ),
        (
            "wrangler.jsonc",
            "{ \"name\": \"e\", \"main\": 5 }",
            vec!["\"main\" should be a string, but it is a number", "wrangler.jsonc:1:24"],
        ),
        (
            "wrangler.jsonc",
            "{ \"name\": \"e\", \"main\": \"index.ts\",\n  \"media\": { \"binding\": \"B\" } }",
            vec!["\"media\" does not work on Skep", "wrangler.jsonc:2:3"],
        ),
        ("wrangler.toml", "name = \"e\"\nmain = [\n", vec!["wrangler.toml:"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(file), text).unwrap();
        std::fs::write(dir.path().join("index.ts"), GOOD).unwrap();
        let said = refusal(dir.path(), &[]);
        for part in says {
            assert!(said.contains(part), "{part:?} of {text:?} in\n{said}");
        }
    }
}

#[test]
fn what_is_not_there_is_named_with_the_way_out() {
    let project = small_project(&config(""), &[("index.ts", GOOD)]);
    let empty = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = refusal(empty.path(), &[]);
    assert!(said.contains("there is no wrangler.jsonc, wrangler.json or wrangler.toml in"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.arg("dev").arg(project.path()).args(["--port", &port, "--inspector-port", "0", "--persist-to"]);
    command.arg(empty.path());
    let Err(said) = start(command) else { panic!("it came up") };
    assert!(said.contains(&port) && said.contains("in use"), "{said}");
    let said = refusal(project.path(), &["--env", "nope"]);
    assert!(said.contains("nope"), "{said}");
    let said = refusal(project.path(), &["--workerd", "/nowhere/workerd"]);
    assert!(said.contains("/nowhere/workerd"), "{said}");
    let said = refusal(project.path(), &["--workerd", "/bin/true"]);
    assert!(said.contains("/bin/true"), "{said}");
}

#[test]
fn without_npm_the_engine_cannot_be_fetched_and_that_is_said() {
    let project = small_project(&config(""), &[("index.ts", GOOD)]);
    let (state, cache, path) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command: Command = command(project.path(), state.path());
    command.env("SKEP_CACHE", cache.path()).env("PATH", path.path()).env_remove("SKEP_WORKERD");
    let Err(said) = start(command) else { panic!("it came up") };
    assert!(said.contains("npm"), "{said}");
}
