//! From a [`CellSpec`] to the engine's configuration. Pure: the same spec and folder give the same text.

mod bindings;
mod shims;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use skep_wire::BINDING_HEADER;

use crate::capnp::{Value, fields, list, text};
use crate::responses::RESPONSES;
use crate::spec::{CellSpec, Code, DurableClass, Exposed, Module, ModuleKind, Tail};

/// The header in which `request.cf` travels as JSON, on every hop of ours.
pub const CF_HEADER: &str = "x-skep-cf";
/// The header in which the URL's scheme travels.
pub const PROTO_HEADER: &str = "x-skep-proto";
/// With this header in its reply, a [`CellSpec::front`] says that the request is for the worker.
pub const RUN_WORKER_HEADER: &str = "x-skep-run-worker";
/// The socket that takes requests.
pub(crate) const HTTP_SOCKET: &str = "http";
/// The socket that takes events.
pub(crate) const EVENTS_SOCKET: &str = "events";
/// The socket that answers as soon as the code gives others their turn, in a cell that takes no events.
pub(crate) const PULSE_SOCKET: &str = "pulse";
/// A folder without files: what answers there.
pub(crate) const PULSE_FOLDER: &str = "empty";
/// The socket that has the code's garbage collected.
pub(crate) const COLLECT_SOCKET: &str = "collect";
/// The socket that says what the code exports, in a cell that only tries it out.
pub(crate) const EXPORTS_SOCKET: &str = "exports";
/// The socket on which a script of a dispatch namespace can be called over RPC, and what the engine calls it. It reaches
/// all that is in the cell: only [passages](crate::Worker::passage) lead there.
pub(crate) const DEBUG_SOCKET: &str = "debug";
const DEBUG_PORT: &str = "debug-port";
/// The socket on which we serve the cell's bindings.
pub(crate) const BINDINGS_SOCKET: &str = "bindings";

/// The socket of a server in [`CellSpec::connections`].
pub(crate) fn connections_socket(id: &str) -> String {
    format!("c-{id}")
}

/// Shims carry their own date: their behaviour is ours, not the application's.
const SHIM_DATE: &str = "2026-11-01";
/// Shows a script `node:async_hooks`, which marks its requests to the outside and says which invocation they are of.
const ALS_FLAG: &str = "nodejs_als";
const NO_ALS_FLAG: &str = "no_nodejs_als";
/// The engine's later way to keep modules, and the earlier one.
const MODULES_FLAG: &str = "new_module_registry";
const NO_MODULES_FLAG: &str = "legacy_module_registry";
const RPC_HOST: &str = "skep";

const ENTRY: &str = include_str!("../../../../shims/entry.js");
const RATELIMIT: &str = include_str!("../../../../shims/ratelimit.js");
const IMAGES: &str = include_str!("../../../../shims/images.js");
const SEND_EMAIL: &str = include_str!("../../../../shims/send-email.js");
const MAIL_PARTS: &str = include_str!("../../../../shims/mail-parts.js");
const STORED_SECRET: &str = include_str!("../../../../shims/stored-secret.js");
const DISPATCH: &str = include_str!("../../../../shims/dispatch.js");
const FREE: &str = include_str!("../../../../shims/free.js");
const ABSENT: &str = include_str!("../../../../shims/absent.js");
const ABSENT_FILE: &str = "absent.js";
const EMAIL: &str = include_str!("../../../../shims/email.js");

/// A cell's files and what has to be around them.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// The configuration.
    pub config: Value,
    /// Files that it embeds, by name.
    pub files: Vec<(String, Bytes)>,
    /// Names of the sockets that the engine will listen on.
    pub sockets: Vec<String>,
    /// Sockets that we must listen on and pass on to other cells.
    pub links: Vec<Link>,
}

/// A socket in a cell's folder that leads to another cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub socket: String,
    pub script: String,
    pub exposed: Exposed,
}

/// Where a cell's Durable Objects are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In the spec's folder.
    Real,
    /// In the process's own folder, gone with it: a cell that only shows whether the code starts.
    Throwaway,
}

/// Where a process of `spec` keeps its objects.
pub(crate) fn object_folder(spec: &CellSpec, folder: &Path, storage: Storage) -> PathBuf {
    match storage {
        Storage::Real => spec.object_storage.clone(),
        Storage::Throwaway => folder.join("objects"),
    }
}

/// The file that both the binding that sends mail and the worker with the events are made of.
const MAIL_PARTS_FILE: &str = "mail-parts.js";

/// Whether a process of `spec` takes events. One that only shows whether the code starts gets none.
pub(crate) fn takes_events(spec: &CellSpec, storage: Storage) -> bool {
    storage == Storage::Real && spec.takes_events()
}

/// The names of the subfolders that the engine keeps objects in: one per class, one per Workflow.
pub fn object_keys(spec: &CellSpec) -> impl Iterator<Item = String> {
    let workflows = spec.workflows.iter().map(|workflow| workflow_class(&workflow.name));
    spec.classes.iter().map(|class| class.unique_key.clone()).chain(workflows)
}

/// What the class of a Workflow's instances is called, and their folder.
pub fn workflow_class(name: &str) -> String {
    format!("miniflare-workflows-{name}")
}

struct Render<'a> {
    spec: &'a CellSpec,
    folder: &'a Path,
    storage: Storage,
    files: Vec<(String, Bytes)>,
    services: Vec<Value>,
    sockets: Vec<(String, Value)>,
    links: Vec<Link>,
    extensions: Vec<Value>,
}

/// Renders `spec` for a process whose sockets and files live in `folder`.
pub(crate) fn render(spec: &CellSpec, folder: &Path, storage: Storage) -> Rendered {
    let mut render = Render {
        spec,
        folder,
        storage,
        files: Vec::new(),
        services: Vec::new(),
        sockets: Vec::new(),
        links: Vec::new(),
        extensions: Vec::new(),
    };
    render.user();
    match takes_events(spec, storage) {
        true => render.events(),
        false => render.pulse(),
    }
    render.externals();
    render.exposed();
    render.finish()
}

impl<'a> Render<'a> {
    /// Whether what it logs goes anywhere: what a trial says, the real one says again.
    fn is_heard(&self) -> bool {
        self.storage == Storage::Real
    }

    /// Who is told of its spans.
    fn trace_heard(&self) -> Option<&'a Tail> {
        self.spec.trace.as_ref().filter(|_| self.is_heard())
    }

    fn user(&mut self) {
        let mut worker = vec![self.code()];
        worker.push(("compatibilityDate", text(&self.spec.compatibility_date)));
        let spec = self.spec;
        let mut flags: Vec<&str> = spec.compatibility_flags.iter().map(String::as_str).collect();
        if (spec.outbound.is_some() || spec.limits.is_some()) && !flags.contains(&ALS_FLAG) {
            flags.retain(|flag| *flag != NO_ALS_FLAG);
            flags.push(ALS_FLAG);
        }
        // Without it there are no modules at all beside such a script, and so nothing that could come before it.
        if spec.limits.is_some() && matches!(spec.code, Code::ServiceWorker(_)) {
            flags.retain(|flag| ![MODULES_FLAG, NO_MODULES_FLAG].contains(flag));
            flags.push(MODULES_FLAG);
        }
        if !flags.is_empty() {
            worker.push(("compatibilityFlags", list(flags.into_iter().map(text))));
        }
        let mut bindings: Vec<Value> = spec.bindings.iter().map(|(name, b)| self.binding(name, b)).collect();
        bindings.extend(self.counting());
        worker.push(("bindings", Value::List(bindings)));
        let outbound = spec.outbound.as_deref().map_or_else(|| "internet".to_owned(), external_name);
        worker.push(("globalOutbound", text(outbound)));
        if let Some(tail) = spec.tail.as_ref().filter(|_| self.is_heard()) {
            worker.push(("tails", list([text(self.tail(tail))])));
        }
        if let Some(trace) = self.trace_heard() {
            worker.push(("streamingTails", list([text(self.trace(trace))])));
        }
        if let Some(cache) = &spec.cache {
            worker.push(("cacheApiOutbound", text(external_name(cache))));
        }
        if !spec.classes.is_empty() {
            worker.push((
                "durableObjectNamespaces",
                list(spec.classes.iter().map(|own| class(own, self.image(own)))),
            ));
        }
        if spec.is_exclusive() {
            worker.push(("durableObjectStorage", fields([("localDisk", text("object-disk"))])));
        }
        if let Some(containers) = spec.containers.as_ref().filter(|_| self.has_containers()) {
            let docker = fields([
                ("socketPath", self.address(&connections_socket(&containers.connections))),
                ("containerEgressInterceptorImage", text("skep")),
            ]);
            worker.push(("containerEngine", fields([("localDocker", docker)])));
        }
        if !spec.workflows.is_empty() {
            worker.push(("workflowsEngine", self.workflows()));
        }
        self.services.push(fields([("name", text("user")), ("worker", Value::Struct(worker))]));
        let service = match spec.code {
            Code::Modules(_) => {
                let entrypoint = if spec.dispatched { "skepDispatched" } else { "skepEdge" };
                fields([("name", text("user")), ("entrypoint", text(entrypoint))])
            }
            Code::ServiceWorker(_) => text("user"),
        };
        self.sockets.push((HTTP_SOCKET.into(), service));
        if collects(spec) {
            let collect = fields([("name", text("user")), ("entrypoint", text("skepCollect"))]);
            self.sockets.push((COLLECT_SOCKET.into(), collect));
        }
        if self.storage == Storage::Throwaway && matches!(spec.code, Code::Modules(_)) {
            let exports = fields([("name", text("user")), ("entrypoint", text("skepExports"))]);
            self.sockets.push((EXPORTS_SOCKET.into(), exports));
        }
        self.remote_objects();
    }

    /// Whether objects get containers. What only shows whether the code starts needs none.
    fn has_containers(&self) -> bool {
        self.storage == Storage::Real && self.spec.containers.is_some()
    }

    /// The image of a class that has containers.
    fn image(&self, class: &DurableClass) -> Option<&'a str> {
        let containers = self.spec.containers.as_ref().filter(|_| self.has_containers())?;
        containers.images.get(&class.name).map(String::as_str)
    }

    fn code(&mut self) -> (&'static str, Value) {
        match &self.spec.code {
            Code::ServiceWorker(script) => {
                self.files.push(("worker.js".into(), script.clone()));
                ("serviceWorkerScript", Value::Embed("worker.js".into()))
            }
            Code::Modules(modules) => {
                let main = modules.first().map_or("", |m| &m.name);
                let entry = ENTRY.replace("\"skep:app\"", &js_string(&format!("./{main}")));
                let (entry, mut shims) = self.dispatched(entry);
                shims.extend(self.counted());
                self.files.push(("entry.js".into(), entry.into()));
                let entry =
                    fields([("name", text("skep-entry.js")), ("esModule", Value::Embed("entry.js".into()))]);
                let own: Vec<Value> = modules.iter().enumerate().map(|(n, m)| self.module(n, m)).collect();
                ("modules", list(std::iter::once(entry).chain(shims).chain(own)))
            }
        }
    }

    fn module(&mut self, number: usize, module: &Module) -> Value {
        let file = format!("module-{number}");
        self.files.push((file.clone(), module.content.clone()));
        let kind = match module.kind {
            ModuleKind::EsModule => "esModule",
            ModuleKind::CommonJs => "commonJsModule",
            ModuleKind::Text => "text",
            ModuleKind::Data => "data",
            ModuleKind::Wasm => "wasm",
            ModuleKind::Json => "json",
        };
        fields([("name", text(&module.name)), (kind, Value::Embed(file))])
    }

    fn externals(&mut self) {
        let bindings = self.address(BINDINGS_SOCKET);
        let told = self.spec.limits.map(|_| RESPONSES);
        for id in self.spec.services.keys().map(String::as_str).chain(told) {
            let header = fields([("name", text(BINDING_HEADER)), ("value", text(id))]);
            let http = fields([
                ("cfBlobHeader", text(CF_HEADER)),
                ("forwardedProtoHeader", text(PROTO_HEADER)),
                ("injectRequestHeaders", list([header])),
            ]);
            let external = fields([("address", bindings.clone()), ("http", http)]);
            self.services.push(fields([("name", text(external_name(id))), ("external", external)]));
        }
        let (absent, links): (Vec<_>, Vec<_>) = std::mem::take(&mut self.links)
            .into_iter()
            .enumerate()
            .partition(|(_, link)| self.spec.absent.contains(&link.script));
        self.files.extend((!absent.is_empty()).then(|| (ABSENT_FILE.into(), ABSENT.into())));
        for (number, link) in &absent {
            self.services.push(self.absent(*number, link));
        }
        for (number, link) in &links {
            let external = fields([("address", self.address(&link.socket)), ("http", rpc_options())]);
            self.services.push(fields([("name", text(format!("link{number}"))), ("external", external)]));
        }
        self.links = links.into_iter().map(|(_, link)| link).collect();
        let internet = fields([
            ("allow", list(self.spec.egress.iter().map(text))),
            ("tlsOptions", fields([("trustBrowserCas", Value::Bare("true"))])),
        ]);
        self.services.push(fields([("name", text("internet")), ("network", internet)]));
        if self.spec.is_exclusive() {
            let disk = fields([
                ("path", text(object_folder(self.spec, self.folder, self.storage).to_string_lossy())),
                ("writable", Value::Bare("true")),
            ]);
            self.services.push(fields([("name", text("object-disk")), ("disk", disk)]));
        }
    }

    /// What answers from the engine's only thread without any code: it takes no time to start.
    fn pulse(&mut self) {
        let folder = text(self.folder.join(PULSE_FOLDER).to_string_lossy());
        let disk = fields([("path", folder)]);
        self.services.push(fields([("name", text("skep-pulse")), ("disk", disk)]));
        self.sockets.push((PULSE_SOCKET.into(), text("skep-pulse")));
    }

    fn finish(mut self) -> Rendered {
        for (name, file, content) in [
            ("skep-internal:ratelimit", "ratelimit.js", RATELIMIT),
            ("cloudflare-internal:email", "email.js", EMAIL),
            ("skep-internal:dispatch", "dispatch.js", DISPATCH),
            ("skep-internal:images", "images.js", IMAGES),
            ("skep-internal:send-email", "send-email.js", SEND_EMAIL),
            ("skep-internal:mail-parts", MAIL_PARTS_FILE, MAIL_PARTS),
            ("skep-internal:stored-secret", "stored-secret.js", STORED_SECRET),
            ("skep-internal:free", "free.js", FREE),
        ] {
            self.extend(name, file, content.to_owned());
        }
        let modules = Value::List(std::mem::take(&mut self.extensions));
        let sockets = self.sockets.iter().map(|(name, service)| {
            fields([
                ("name", text(name)),
                ("address", self.address(name)),
                ("http", if name.starts_with('x') { callee_options() } else { http_options() }),
                ("service", service.clone()),
            ])
        });
        let config = fields([
            ("services", Value::List(self.services.clone())),
            ("sockets", list(sockets)),
            ("extensions", list([fields([("modules", modules)])])),
            ("v8Flags", list(self.v8_flags().into_iter().map(text))),
            ("logging", fields([("structuredLogging", Value::Bare("true"))])),
        ]);
        Rendered {
            config,
            files: self.files,
            sockets: self
                .sockets
                .into_iter()
                .map(|(name, _)| name)
                .chain(self.spec.dispatched.then(|| DEBUG_PORT.to_owned()))
                .collect(),
            links: self.links,
        }
    }

    /// Adds a module that modules of the engine can import, and of ours, but none of the application.
    fn extend(&mut self, name: &str, file: &str, content: String) {
        self.files.push((file.into(), content.into()));
        self.extensions.push(fields([
            ("name", text(name)),
            ("internal", Value::Bare("true")),
            ("esModule", Value::Embed(file.to_owned())),
        ]));
    }

    fn v8_flags(&self) -> Vec<String> {
        // Short collections of the young generation; without it the p99 is four times as long.
        let mut flags = vec!["--max-semi-space-size=1".to_owned()];
        flags.extend(self.spec.limits.map(|l| format!("--max-old-space-size={}", l.heap_mib())));
        // V8 would wait for long with its first collection, which then takes long: until then 200 MB of requests that are over
        // hang on a small heap. Who can be asked for a collection is, and keeps the code that the engine has compiled ahead;
        // workers of ours beside the application cannot, but for the one with the events.
        let asked = 1 + usize::from(takes_events(self.spec, self.storage));
        let others = self.services.iter().filter(|service| is_worker(service)).count() > asked;
        // A trial ends too soon for any.
        if self.storage == Storage::Real && (others || !collects(self.spec)) {
            flags.push("--initial-old-space-size=4".to_owned());
        }
        flags
    }

    fn address(&self, socket: &str) -> Value {
        text(format!("unix:{}", self.folder.join(socket).display()))
    }
}

/// Whether a service has code.
fn is_worker(service: &Value) -> bool {
    matches!(service, Value::Struct(fields) if fields.iter().any(|(name, _)| *name == "worker"))
}

/// Whether a cell of `spec` can be asked to collect its garbage: where there is a module of ours beside the application's.
pub(crate) fn collects(spec: &CellSpec) -> bool {
    matches!(spec.code, Code::Modules(_))
}

fn http_options() -> Value {
    fields([("cfBlobHeader", text(CF_HEADER)), ("forwardedProtoHeader", text(PROTO_HEADER))])
}

/// The caller's end of a link; both speak HTTP and, after `CONNECT`, the engine's RPC.
fn rpc_options() -> Value {
    fields([
        ("cfBlobHeader", text(CF_HEADER)),
        ("forwardedProtoHeader", text(PROTO_HEADER)),
        ("capnpConnectHost", text(RPC_HOST)),
    ])
}

/// The callee's end: HTTP needs a `Host`, and between two workers on Cloudflare there is none.
fn callee_options() -> Value {
    fields([
        ("cfBlobHeader", text(CF_HEADER)),
        ("forwardedProtoHeader", text(PROTO_HEADER)),
        ("capnpConnectHost", text(RPC_HOST)),
        ("injectRequestHeaders", list([fields([("name", text("Host"))])])),
    ])
}

fn es_module(file: &str) -> Value {
    fields([("name", text(file)), ("esModule", Value::Embed(file.to_owned()))])
}

fn external_name(id: &str) -> String {
    format!("binding {id}")
}

fn class(class: &DurableClass, image: Option<&str>) -> Value {
    let mut namespace = vec![
        ("className", text(&class.name)),
        ("uniqueKey", text(&class.unique_key)),
        ("enableSql", Value::Bare(if class.sqlite { "true" } else { "false" })),
    ];
    namespace.extend(image.map(|image| ("container", fields([("imageName", text(image))]))));
    Value::Struct(namespace)
}

fn designator(service: &str, entrypoint: Option<&str>, props: Option<&str>) -> Value {
    let mut designator = vec![("name", text(service))];
    designator.extend(entrypoint.map(|e| ("entrypoint", text(e))));
    designator.extend(props.map(|p| ("props", fields([("json", text(p))]))));
    Value::Struct(designator)
}

/// A JavaScript and JSON string literal.
fn js_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn hex_name(name: &str) -> String {
    name.bytes().map(|b| format!("{b:02x}")).collect()
}
