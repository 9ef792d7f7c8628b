//! Configurations with anything in them: they are read or refused with a place, and nothing panics.

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

/// A value of any kind.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[], 1, null, { "binding": 1 }])),
        Just(json!({ "name": {}, "bindings": [null, { "name": "é" }], "é": "x" })),
    ]
}

/// The `n`th value of a tree, counted from the top.
fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, n)),
        Value::Object(entries) => entries.values_mut().find_map(|entry| nth(entry, n)),
        _ => None,
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(entries) => entries.values().map(size).sum::<usize>(),
        _ => 0,
    }
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
    fn any_value_may_stand_anywhere(at: Index, value in value(), more in prop::option::of((any::<Index>(), value()))) {
        let mut config = real();
        for (at, value) in [Some((at, value)), more].into_iter().flatten() {
            let mut n = at.index(size(&config));
            if let Some(place) = nth(&mut config, &mut n) {
                *place = value;
            }
        }
        load_all(&config.to_string());
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
