//! Node.js modules: which the engine has itself at a compatibility date and which come from unenv.
//!
//! The tables are those of `unenv` 2.0.0-rc.24 and `@cloudflare/unenv-preset` 2.16.2.

use std::path::{Path, PathBuf};

/// How Node.js modules are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Not at all: `node:` imports stay, with a warning.
    Off,
    /// Only `node:async_hooks`: `nodejs_als`.
    Als,
    /// `node:` imports stay: `nodejs_compat` before 2024-09-23.
    V1,
    /// The engine's own modules and unenv for the rest.
    V2,
}

/// From this date `nodejs_compat` is on unless a flag says otherwise.
const ON_SINCE: &str = "2026-08-04";
/// From this date it means all of Node.js's modules.
const ALL_SINCE: &str = "2024-09-23";

/// The mode at a compatibility date with flags.
pub(crate) fn mode(date: &str, flags: &[String]) -> Mode {
    let has = |flag: &str| flags.iter().any(|f| f == flag);
    let default = date >= ON_SINCE;
    let on = has("nodejs_compat") || (default && !has("no_nodejs_compat"));
    let all = default || (on && date >= ALL_SINCE);
    if has("nodejs_compat_v2") || (all && !has("no_nodejs_compat_v2")) {
        return Mode::V2;
    }
    match (on, has("nodejs_als")) {
        (true, _) => Mode::V1,
        (_, true) => Mode::Als,
        _ => Mode::Off,
    }
}

/// Whether the engine has `navigator`.
pub(crate) fn has_navigator(date: &str, flags: &[String]) -> bool {
    let has = |flag: &str| flags.iter().any(|f| f == flag);
    (has("global_navigator") || date >= "2022-03-21") && !has("no_global_navigator")
}

/// Node.js's modules that may be named without `node:`.
pub(crate) const BARE: [&str; 69] = [
    "_http_agent",
    "_http_client",
    "_http_common",
    "_http_incoming",
    "_http_outgoing",
    "_http_server",
    "_stream_duplex",
    "_stream_passthrough",
    "_stream_readable",
    "_stream_transform",
    "_stream_wrap",
    "_stream_writable",
    "_tls_common",
    "_tls_wrap",
    "assert",
    "assert/strict",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "dns/promises",
    "domain",
    "events",
    "fs",
    "fs/promises",
    "http",
    "http2",
    "https",
    "inspector",
    "inspector/promises",
    "module",
    "net",
    "os",
    "path",
    "path/posix",
    "path/win32",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "readline",
    "readline/promises",
    "repl",
    "stream",
    "stream/consumers",
    "stream/promises",
    "stream/web",
    "string_decoder",
    "sys",
    "timers",
    "timers/promises",
    "tls",
    "trace_events",
    "tty",
    "url",
    "util",
    "util/types",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
    "zlib",
    "sqlite",
];

/// The engine has these whenever Node.js compatibility is on.
const NATIVE: [&str; 36] = [
    "_stream_duplex",
    "_stream_passthrough",
    "_stream_readable",
    "_stream_transform",
    "_stream_writable",
    "_tls_common",
    "_tls_wrap",
    "assert",
    "assert/strict",
    "async_hooks",
    "buffer",
    "constants",
    "crypto",
    "diagnostics_channel",
    "dns",
    "dns/promises",
    "events",
    "net",
    "path",
    "path/posix",
    "path/win32",
    "querystring",
    "module",
    "stream",
    "stream/consumers",
    "stream/promises",
    "stream/web",
    "string_decoder",
    "sys",
    "timers",
    "timers/promises",
    "tls",
    "url",
    "util",
    "util/types",
    "zlib",
];

/// The engine has these since a date: modules, the name in the flags, the date.
const SINCE: [(&[&str], &str, &str); 20] = [
    (
        &["_http_agent", "_http_client", "_http_common", "_http_incoming", "_http_outgoing", "http", "https"],
        "http_modules",
        "2025-08-15",
    ),
    (&["http2"], "http2_module", "2025-09-01"),
    (&["os"], "os_module", "2025-09-15"),
    (&["fs/promises", "fs"], "fs_module", "2025-09-15"),
    (&["console"], "console_module", "2025-09-21"),
    (&["vm"], "vm_module", "2025-10-01"),
    (&["punycode"], "punycode_module", "2025-12-04"),
    (&["cluster"], "cluster_module", "2025-12-04"),
    (&["trace_events"], "trace_events_module", "2025-12-04"),
    (&["domain"], "domain_module", "2025-12-04"),
    (&["wasi"], "wasi_module", "2025-12-04"),
    (&["inspector/promises", "inspector"], "inspector_module", "2026-01-29"),
    (&["sqlite"], "sqlite_module", "2026-01-29"),
    (&["dgram"], "dgram_module", "2026-01-29"),
    (&["_stream_wrap"], "stream_wrap_module", "2026-01-29"),
    (&["repl"], "repl_module", "2026-03-17"),
    (&["v8"], "v8_module", "2026-03-17"),
    (&["tty"], "tty_module", "2026-03-17"),
    (&["child_process"], "child_process_module", "2026-03-17"),
    (&["worker_threads"], "worker_threads_module", "2026-03-17"),
];

/// npm packages that unenv replaces.
const SHIMS: [(&str, &str); 10] = [
    ("cross-fetch", "unenv/npm/cross-fetch"),
    ("fsevents", "unenv/npm/fsevents"),
    ("inherits", "unenv/npm/inherits"),
    ("node-fetch", "unenv/npm/node-fetch"),
    ("node-fetch-native", "unenv/npm/node-fetch"),
    ("whatwg-url", "unenv/npm/whatwg-url/index"),
    ("whatwg-url/webidl2js-wrapper", "unenv/npm/whatwg-url/webidl2js-wrapper"),
    ("cross-fetch/polyfill", "unenv/mock/empty"),
    ("node-fetch-native/polyfill", "unenv/mock/empty"),
    ("isomorphic-fetch", "unenv/mock/empty"),
];

/// Where an import goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The engine has it.
    Engine,
    /// A module of unenv or of the preset, by its specifier.
    Unenv(String),
}

/// What the engine has at one date with some flags.
#[derive(Clone, Debug)]
pub(crate) struct NodeModules {
    native: Vec<&'static str>,
}

impl NodeModules {
    /// At a compatibility date with flags.
    pub fn new(date: &str, flags: &[String]) -> Self {
        let has = |flag: &str| flags.iter().any(|f| f == flag);
        let on = |name: &str, since: &str| {
            (has(&format!("enable_nodejs_{name}")) || date >= since)
                && !has(&format!("disable_nodejs_{name}"))
        };
        let mut native = NATIVE.to_vec();
        for (modules, name, since) in SINCE {
            if on(name, since) {
                native.extend(modules);
            }
        }
        if on("http_modules", "2025-08-15") && on("http_server_modules", "2025-09-01") {
            native.push("_http_server");
        }
        if on("readline_module", "2026-03-17") {
            native.extend(["readline", "readline/promises"]);
        }
        if on("perf_hooks_module", "2026-03-17") {
            native.push("perf_hooks");
        }
        let iterable = (has("fetch_iterable_type_support") || date >= "2026-02-19")
            && !has("no_fetch_iterable_type_support");
        let adjusted = (has("fetch_iterable_type_support_override_adjustment") || date >= "2026-01-15")
            && !has("no_fetch_iterable_type_support_override_adjustment");
        if iterable && adjusted && on("process_v2", "2025-09-15") {
            native.push("process");
        }
        Self { native }
    }

    /// Where an import of `specifier` goes; nothing for what is no Node.js module and not replaced.
    pub fn target(&self, specifier: &str) -> Option<Target> {
        let name = specifier.strip_prefix("node:").unwrap_or(specifier);
        if specifier == "sqlite" || !BARE.contains(&name) {
            let shim = SHIMS.iter().find(|(from, _)| *from == specifier)?;
            return Some(Target::Unenv(shim.1.to_owned()));
        }
        if self.native.contains(&name) {
            return Some(Target::Engine);
        }
        Some(Target::Unenv(match name {
            "console" | "process" => format!("@cloudflare/unenv-preset/node/{name}"),
            "path/posix" | "path/win32" => "unenv/node/path".to_owned(),
            "sys" => "unenv/node/util".to_owned(),
            _ if name.starts_with('_') => "unenv/mock/proxy-cjs".to_owned(),
            _ => format!("unenv/node/{name}"),
        }))
    }

    /// Globals that are set before the Worker's code runs, with the modules whose default export they are.
    pub fn globals(&self) -> Vec<(&'static str, &'static str)> {
        let all = [
            ("process", "@cloudflare/unenv-preset/node/process"),
            ("console", "@cloudflare/unenv-preset/node/console"),
        ];
        all.into_iter().filter(|(name, _)| !self.native.contains(name)).collect()
    }

    /// Modules that are loaded first for what they do.
    pub fn polyfills(&self) -> Vec<&'static str> {
        let needed = !self.native.contains(&"perf_hooks");
        needed.then_some("@cloudflare/unenv-preset/polyfill/performance").into_iter().collect()
    }
}

/// Every import that [`NodeModules::target`] may know, as a pattern.
pub(crate) fn pattern() -> String {
    let shims = SHIMS.iter().map(|(from, _)| *from);
    let names: Vec<String> = BARE.into_iter().chain(shims).map(crate::glob::escaped).collect();
    format!("^({}|node:.+)$", names.join("|"))
}

/// The file of a module of unenv or of the preset; `root` holds the `node_modules`.
pub(crate) fn file(root: &Path, specifier: &str) -> PathBuf {
    let modules = root.join("node_modules");
    if specifier.starts_with("unenv/mock/proxy-cjs") {
        return modules.join("unenv/lib/mock.cjs");
    }
    let (package, rest) = match specifier.strip_prefix("@cloudflare/unenv-preset/") {
        Some(rest) => ("@cloudflare/unenv-preset", rest),
        None => ("unenv", specifier.strip_prefix("unenv/").unwrap_or(specifier)),
    };
    modules.join(package).join("dist/runtime").join(format!("{rest}.mjs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(flags: &[&str]) -> Vec<String> {
        flags.iter().map(|flag| (*flag).to_owned()).collect()
    }

    #[test]
    fn the_mode_follows_date_and_flags() {
        for (date, set, expected) in [
            ("2026-01-01", &[][..], Mode::Off),
            ("2024-09-22", &["nodejs_compat"], Mode::V1),
            ("2024-09-23", &["nodejs_compat"], Mode::V2),
            ("2024-09-23", &["nodejs_compat", "no_nodejs_compat_v2"], Mode::V1),
            ("2023-01-01", &["nodejs_compat_v2"], Mode::V2),
            ("2026-01-01", &["nodejs_als"], Mode::Als),
            ("2026-08-03", &[], Mode::Off),
            ("2026-08-04", &[], Mode::V2),
            ("2026-08-04", &["no_nodejs_compat_v2"], Mode::V1),
            ("2026-08-04", &["no_nodejs_compat", "no_nodejs_compat_v2"], Mode::Off),
        ] {
            assert_eq!(mode(date, &flags(set)), expected, "{date} {set:?}");
        }
    }

    #[test]
    fn a_module_moves_into_the_engine_at_its_date() {
        let target = |date, set: &[&str], name| NodeModules::new(date, &flags(set)).target(name);
        assert_eq!(target("2025-09-14", &[], "fs"), Some(Target::Unenv("unenv/node/fs".into())));
        assert_eq!(target("2025-09-15", &[], "node:fs"), Some(Target::Engine));
        assert_eq!(target("2024-09-23", &["enable_nodejs_fs_module"], "fs"), Some(Target::Engine));
        assert_ne!(target("2026-09-15", &["disable_nodejs_fs_module"], "fs"), Some(Target::Engine));
        assert_eq!(target("2026-09-15", &[], "sqlite"), None);
        assert_eq!(target("2026-09-15", &[], "react"), None);
    }

    /// The file lists where every specifier goes at the first date, and what changes at each later one, as the two
    /// packages themselves say. (A bare `sqlite`, which they list too, is not Node.js's name for it.)
    #[test]
    fn every_module_goes_where_the_preset_sends_it() {
        let mut expected = std::collections::BTreeMap::new();
        let lines: Vec<Vec<&str>> =
            include_str!("../tests/node-modules.txt").lines().map(|l| l.split(' ').collect()).collect();
        for of_date in lines.chunk_by(|a, b| a[0] == b[0]) {
            expected.extend(of_date.iter().map(|line| (line[1], line[2])));
            let modules = NodeModules::new(of_date[0][0], &[]);
            for (specifier, to) in &expected {
                let target = match *to {
                    "ENGINE" => Target::Engine,
                    to => Target::Unenv(to.to_owned()),
                };
                assert_eq!(modules.target(specifier), Some(target), "{specifier} at {}", of_date[0][0]);
            }
        }
        assert!(expected.len() > 140);
    }
}
