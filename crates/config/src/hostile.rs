//! Configurations with anything in them: they are read or refused with a place, and nothing panics.

#[path = "../../../tests/shared/odd_json.rs"]
mod odd_json;

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::{LoadOptions, edit, load};

/// A configuration with every kind of binding.
fn real() -> Value {
    let example = include_str!("../../../examples/hive/wrangler.jsonc");
    let without_comments: String = example.lines().filter(|line| !line.trim().starts_with("//")).collect();
    let mut all: Value = serde_json::from_str(&without_comments).unwrap();
    let more = json!({
        "compatibility_flags": ["nodejs_compat"],
        "rules": [{ "type": "Text", "globs": ["**/*.é"], "fallthrough": true }],
        "alias": { "a": "./b" },
        "define": { "X": "1" },
        "unsafe": { "bindings": [{ "name": "OLD", "type": "ratelimit", "namespace_id": "1", "simple": { "limit": 1, "period": 60 } }] },
        "env": { "é": { "name": "other", "vars": { "A": "b" }, "kv_namespaces": [{ "binding": "K", "id": "k" }] } },
        "nope": 1,
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// Loads a text as each kind of file, with and without an environment. Errors are shown, as to a person.
fn load_all(text: &str) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["wrangler.jsonc", "wrangler.toml"] {
        let path: PathBuf = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        for environment in [None, Some("é".to_owned())] {
            match load(&path, &LoadOptions { environment, ..LoadOptions::default() }) {
                Ok(loaded) => loaded.notes.iter().for_each(|note| drop(note.brief() + &note.to_string())),
                Err(problems) => assert!(problems.to_string().contains("error: ")),
            }
        }
    }
    let _ = edit::set(text, &["vars".into(), "A".into()], &json!(1));
}

proptest! {
    #[test]
    fn any_value_may_stand_anywhere(changes in odd_json::changes()) {
        load_all(&odd_json::with(real(), changes).to_string());
    }

    #[test]
    fn any_text_is_read_or_refused(
        text in "\\PC{0,60}",
        toml in "(\\[{0,2}[a-zé.]{0,9}\\]{0,2}\n|[a-zé.]{0,9} ?= ?[\"'0-9{}\\[\\]é,]{0,9}\n){0,6}",
        from: Index,
        odd in "[\\[\\]{}\",:/*é\\\\\n-]{1,3}",
    ) {
        load_all(&text);
        load_all(&toml);
        let mut config = serde_json::to_string_pretty(&real()).unwrap();
        let at = (0..=from.index(config.len())).rev().find(|at| config.is_char_boundary(*at)).unwrap();
        config.insert_str(at, &odd);
        load_all(&config);
        config.truncate(at);
        load_all(&config);
    }
}

#[test]
fn depth_is_refused() {
    for open in ["[", "{\"a\":", "a=[", "a={b="] {
        load_all(&open.repeat(100_000));
    }
}
