//! What esbuild asks while it resolves and loads: wrangler's plugins.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha1::{Digest, Sha1};
use tokio::sync::mpsc;

use crate::glob::{escaped, import_pattern};
use crate::message::BuildMessage;
use crate::module::{Format, Module, identifier};
use crate::node::{self, Mode, NodeModules, Target};
use crate::options::{BundleOptions, Rule, RuleKind};
use crate::packet::Value;
use crate::rules::{Rules, shown};
use crate::service::Caller;

/// Marks our own questions, which we do not answer ourselves.
const OURS: u32 = 7;
const REQUIRED_BUILTIN: &str = "node-built-in-modules";
const REQUIRED_UNENV: &str = "required-unenv-alias";
const MODULE: &str = "skep-module";
const GLOBALS: &str = "_virtual_unenv_global_polyfill-";

/// What one pattern of an import leads to.
#[derive(Clone, Debug)]
enum Hook {
    Alias,
    Rule(Rule),
    RemovedRule(Rule),
    Node,
    Globals,
    PlainNode,
    AsyncHooks,
    Cloudflare,
}

/// What a build has met.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// Imported modules that stay modules.
    pub modules: Vec<Module>,
    /// Their files.
    pub files: Vec<PathBuf>,
    /// Imports that only an ES module can have.
    pub external: Vec<String>,
    /// `node:` imports without Node.js compatibility, and who imports them.
    pub unmet_node: Vec<(String, String)>,
}

/// The answers for one build context.
pub(crate) struct Plugin {
    key: u32,
    options: BundleOptions,
    format: Format,
    hooks: Vec<(String, Hook)>,
    node: NodeModules,
    /// Modules found by walking folders; imports of them stay imports.
    pub found: Mutex<Vec<PathBuf>>,
    met: Mutex<Met>,
    ended: mpsc::UnboundedSender<Value>,
}

impl Plugin {
    /// `ended` receives the results of rebuilds.
    pub fn new(
        key: u32,
        options: &BundleOptions,
        format: Format,
        rules: &Rules,
        ended: mpsc::UnboundedSender<Value>,
    ) -> Self {
        let (date, flags) = (&options.compatibility_date, &options.compatibility_flags);
        let node = NodeModules::new(date, flags);
        let hooks = hooks(options, rules);
        let options = options.clone();
        Self { key, options, format, hooks, node, found: Mutex::default(), met: Mutex::default(), ended }
    }

    /// As esbuild is told of it.
    pub fn description(&self) -> Value {
        let hook = |id: usize, filter: &str, namespace: &str| {
            Value::map([
                ("id", Value::Int(id as u32)),
                ("filter", text(filter)),
                ("namespace", text(namespace)),
            ])
        };
        let resolve = self.hooks.iter().enumerate().map(|(id, (filter, _))| hook(id, filter, "")).collect();
        let loads = [(".*", REQUIRED_BUILTIN), (".*", REQUIRED_UNENV), (".*", MODULE), (GLOBALS, "")];
        let load = loads.iter().enumerate().map(|(id, (filter, space))| hook(id, filter, space)).collect();
        Value::List(vec![Value::map([
            ("name", text("skep")),
            ("onStart", Value::Bool(true)),
            ("onEnd", Value::Bool(true)),
            ("onResolve", Value::List(resolve)),
            ("onLoad", Value::List(load)),
        ])])
    }

    /// The answer to one of esbuild's requests.
    pub async fn answer(&self, request: &Value, caller: &Caller) -> Value {
        let none =
            || Value::map([("errors", Value::List(Vec::new())), ("warnings", Value::List(Vec::new()))]);
        match request.text("command") {
            "on-start" => {
                *self.met() = Met::default();
                none()
            }
            "on-end" => {
                let _ = self.ended.send(request.clone());
                none()
            }
            "on-resolve" => self.resolve(request, caller).await,
            "on-load" => self.load(request),
            _ => Value::map([]),
        }
    }

    /// What the build has met so far.
    pub fn met(&self) -> std::sync::MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files that are loaded before the Worker's code.
    pub fn injected(&self) -> Vec<String> {
        let (date, flags) = (&self.options.compatibility_date, &self.options.compatibility_flags);
        if node::mode(date, flags) != Mode::V2 {
            return Vec::new();
        }
        let root = &self.options.unenv;
        let globals = self.node.globals().into_iter();
        let globals = globals.map(|(_, module)| root.join(format!("{GLOBALS}{}", module.replace('/', "-"))));
        let polyfills = self.node.polyfills().into_iter().map(|module| node::file(root, module));
        globals.chain(polyfills).map(|path| path.to_string_lossy().into_owned()).collect()
    }

    async fn resolve(&self, request: &Value, caller: &Caller) -> Value {
        if request.int("pluginData") == Some(OURS) {
            return Value::map([]);
        }
        for id in request.list("ids") {
            let Value::Int(id) = id else { continue };
            let Some((_, hook)) = self.hooks.get(*id as usize) else { continue };
            if let Some(mut answer) = self.follow(hook, request, caller).await {
                if let Value::Map(entries) = &mut answer {
                    entries.push(("id".into(), Value::Int(*id)));
                }
                return answer;
            }
        }
        Value::map([])
    }

    async fn follow(&self, hook: &Hook, request: &Value, caller: &Caller) -> Option<Value> {
        let path = request.text("path");
        match hook {
            Hook::Alias => {
                let to = &self.options.alias.iter().find(|(from, _)| from == path)?.1;
                let project = self.options.project.to_string_lossy();
                Some(match self.ask(caller, to, "require-call", "", &project).await {
                    Some(file) => Value::map([("path", text(&file))]),
                    None => fault(format!("Could not resolve the alias \"{path}\": \"{to}\"")),
                })
            }
            Hook::Rule(rule) => self.module(rule.kind, request, caller).await,
            Hook::RemovedRule(rule) => Some(fault(format!(
                "The file {path} matched a module rule in your configuration ({}), but was ignored because a \
                 previous rule with the same type was not marked as `fallthrough = true`.",
                shown(rule)
            ))),
            Hook::Node => self.node_module(path, request.text("kind") == "require-call"),
            Hook::Globals => Some(Value::map([("path", text(path))])),
            Hook::AsyncHooks => Some(external(path)),
            Hook::PlainNode => {
                let (importer, folder) = (request.text("importer"), request.text("resolveDir"));
                match self.ask(caller, path, request.text("kind"), importer, folder).await {
                    Some(file) => Some(Value::map([("path", text(&file))])),
                    None => {
                        self.met().unmet_node.push((path.to_owned(), importer.to_owned()));
                        Some(external(path))
                    }
                }
            }
            Hook::Cloudflare => {
                self.met().external.push(path.to_owned());
                Some(external(path))
            }
        }
    }

    /// A file that stays a module of its own, named by its content.
    async fn module(&self, kind: RuleKind, request: &Value, caller: &Caller) -> Option<Value> {
        let path = request.text("path");
        let clean = path.split('?').next().unwrap_or(path);
        let folder = request.text("resolveDir");
        let direct = normal(&Path::new(folder).join(clean));
        if self.found.lock().unwrap_or_else(PoisonError::into_inner).contains(&direct) {
            return Some(external(clean));
        }
        if kind.is_code() {
            return None;
        }
        // wrangler takes what is in a package's folder under this very name, whether the package exports it or not.
        let file = match in_package(Path::new(folder), clean) {
            Some(file) => file,
            None => {
                let (kind, importer) = (request.text("kind"), request.text("importer"));
                self.ask(caller, clean, kind, importer, folder).await.map_or(direct, PathBuf::from)
            }
        };
        let content = match std::fs::read(&file) {
            Ok(content) => content,
            Err(error) => return Some(fault(format!("Could not read {}: {error}", file.display()))),
        };
        let base = clean.rsplit('/').next().unwrap_or(clean);
        let import = match self.options.preserve_file_names {
            true => clean.to_owned(),
            false => format!("./{}-{base}", hex::encode(Sha1::digest(&content))),
        };
        let name = import.trim_start_matches("./").to_owned();
        let mut met = self.met();
        met.files.push(file);
        if met.modules.iter().all(|module| module.name != name) {
            let specifier = Some(import.clone());
            met.modules.push(Module { name, specifier, kind: kind.module_kind(), content: content.into() });
        }
        Some(Value::map([
            ("path", text(&import)),
            ("external", Value::Bool(self.format == Format::Modules)),
            ("namespace", text(MODULE)),
        ]))
    }

    fn node_module(&self, path: &str, required: bool) -> Option<Value> {
        if path == "debug" {
            // Node's build of it, not the browser's.
            return Some(Value::map([("path", text(&real_debug(&self.options.project)?))]));
        }
        let builtin = path.starts_with("node:") || node::BARE.contains(&path) && path != "sqlite";
        if builtin {
            self.met().external.push(path.to_owned());
        }
        let virtual_in = |space| Some(Value::map([("path", text(path)), ("namespace", text(space))]));
        if required && builtin {
            return virtual_in(REQUIRED_BUILTIN);
        }
        match self.node.target(path)? {
            Target::Engine => Some(external(path)),
            Target::Unenv(to)
                if required && (to.starts_with("unenv/npm/") || to.starts_with("unenv/mock/")) =>
            {
                virtual_in(REQUIRED_UNENV)
            }
            Target::Unenv(to) => {
                let file = node::file(&self.options.unenv, &to);
                Some(Value::map([("path", text(&file.to_string_lossy()))]))
            }
        }
    }

    fn load(&self, request: &Value) -> Value {
        let path = request.text("path");
        let quoted = serde_json::Value::from(path).to_string();
        let (mut id, mut folder) = (request.list("ids").first().cloned(), &self.options.project);
        let contents = match request.text("namespace") {
            REQUIRED_BUILTIN => format!("import libDefault from {quoted};\nmodule.exports = libDefault;"),
            REQUIRED_UNENV => format!(
                "import * as esm from {quoted};\nconst exported = \"default\" in esm ? esm.default : {{}};\n\
                 for (const name of Object.keys(esm)) if (name !== \"default\") \
                 Object.defineProperty(exported, name, {{ value: esm[name], enumerable: true }});\n\
                 module.exports = exported;"
            ),
            MODULE => format!("export default {};", identifier(path)),
            _ => {
                folder = &self.options.unenv;
                let globals = self.node.globals();
                let found = globals.iter().find(|(_, module)| path.ends_with(&module.replace('/', "-")));
                let Some((name, module)) = found else { return Value::map([]) };
                format!("import defaultExport from \"{module}\";\nglobalThis.{name} = defaultExport;")
            }
        };
        Value::map([
            ("id", id.take().unwrap_or(Value::Int(0))),
            ("contents", Value::Bytes(contents.into_bytes())),
            ("loader", text("js")),
            ("resolveDir", text(&folder.to_string_lossy())),
        ])
    }

    /// Where esbuild itself finds `path`.
    async fn ask(
        &self,
        caller: &Caller,
        path: &str,
        kind: &str,
        importer: &str,
        dir: &str,
    ) -> Option<String> {
        let request = Value::map([
            ("command", text("resolve")),
            ("path", text(path)),
            ("key", Value::Int(self.key)),
            ("pluginName", text("skep")),
            ("importer", text(importer)),
            ("resolveDir", text(dir)),
            ("kind", text(kind)),
            ("pluginData", Value::Int(OURS)),
        ]);
        let answer = caller.call(request).await.ok()?;
        let found = answer.list("errors").is_empty() && answer.get("external") != Some(&Value::Bool(true));
        Some(answer.text("path").to_owned()).filter(|path| found && !path.is_empty())
    }
}

/// Earlier hooks win.
fn hooks(options: &BundleOptions, rules: &Rules) -> Vec<(String, Hook)> {
    let mut hooks = Vec::new();
    if !options.alias.is_empty() {
        let names: Vec<String> = options.alias.iter().map(|(from, _)| escaped(from)).collect();
        hooks.push((format!("^({})$", names.join("|")), Hook::Alias));
    }
    let finds = options.finds_modules();
    for rule in rules.active.iter().filter(|rule| finds || !rule.kind.is_code()) {
        hooks.extend(rule.globs.iter().map(|glob| (import_pattern(glob), Hook::Rule(rule.clone()))));
    }
    for rule in &rules.removed {
        hooks.extend(rule.globs.iter().map(|glob| (import_pattern(glob), Hook::RemovedRule(rule.clone()))));
    }
    match node::mode(&options.compatibility_date, &options.compatibility_flags) {
        Mode::V2 => {
            hooks.push((node::pattern(), Hook::Node));
            hooks.push((format!("{GLOBALS}(.+)$"), Hook::Globals));
            hooks.push(("^debug$".into(), Hook::Node));
        }
        mode => {
            if mode == Mode::Als {
                hooks.push(("^node:async_hooks(/|$)".into(), Hook::AsyncHooks));
            }
            hooks.push(("node:.*".into(), Hook::PlainNode));
        }
    }
    hooks.push(("^(cloudflare|workerd):.*".into(), Hook::Cloudflare));
    hooks
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn external(path: &str) -> Value {
    Value::map([("path", text(path)), ("external", Value::Bool(true))])
}

fn fault(said: String) -> Value {
    Value::map([("errors", Value::List(vec![BuildMessage::plain(said).value()]))])
}

/// The file that `specifier` names below a `node_modules` of `folder` or one above, if it is there.
fn in_package(folder: &Path, specifier: &str) -> Option<PathBuf> {
    if specifier.starts_with(['.', '/', '#']) {
        return None;
    }
    let mut places = folder.ancestors().map(|folder| normal(&folder.join("node_modules").join(specifier)));
    places.find(|file| file.is_file())
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => drop(out.pop()),
            part => out.push(part),
        }
    }
    out
}

fn real_debug(project: &Path) -> Option<String> {
    project.ancestors().find_map(|folder| {
        let package = folder.join("node_modules/debug");
        let json = std::fs::read(package.join("package.json")).ok()?;
        let json: serde_json::Value = serde_json::from_slice(&json).ok()?;
        let main = json.get("main").and_then(|main| main.as_str()).unwrap_or("index.js");
        let file = normal(&package.join(main));
        file.is_file().then(|| file.to_string_lossy().into_owned())
    })
}
