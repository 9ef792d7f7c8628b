//! Crates depend only downwards.

use crate::harness::repository;

/// Lowest first. A crate may depend on those before it.
const LAYERS: &[&str] = &[
    "intercept",
    "runtime",
    "wire",
    "store",
    "backup",
    "catalog",
    "config",
    "toolchain",
    "bundle",
    "assets",
    "kv",
    "r2",
    "d1",
    "queues",
    "ratelimit",
    "hyperdrive",
    "images",
    "ai",
    "cache",
    "analytics",
    "registry",
    "vectorize",
    "s3",
    "logs",
    "cron",
    "containers",
    "sandbox",
    "browser",
    "acme",
    "otlp",
    "fleet",
    "edge",
    "api",
    "deploy",
];

#[test]
fn crates_depend_only_on_those_below_them() {
    let bindings = [
        "assets",
        "kv",
        "r2",
        "d1",
        "queues",
        "ratelimit",
        "hyperdrive",
        "images",
        "ai",
        "browser",
        "cache",
        "analytics",
        "registry",
        "vectorize",
        "cron",
        "containers",
    ];
    for (level, name) in LAYERS.iter().enumerate() {
        let manifest = repository().join("crates").join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let dependencies = text.split("[dev-dependencies]").next().unwrap();
        for line in dependencies.lines().filter_map(|line| line.strip_prefix("skep-")) {
            let other = line.split(['.', ' ', '=']).next().unwrap();
            let other_level = LAYERS.iter().position(|l| *l == other).unwrap_or_else(|| panic!("{other}?"));
            assert!(other_level < level, "{name} must not depend on {other}");
            let siblings = bindings.contains(name) && bindings.contains(&other);
            assert!(!siblings, "the binding server {name} must not know {other}");
        }
    }
}

#[test]
fn every_crate_has_its_layer() {
    for entry in std::fs::read_dir(repository().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "skep" || LAYERS.contains(&name.as_str()), "{name} is in no layer");
    }
}
