//! Our own JavaScript in a cell: events, objects of and for other cells, Workflows, assets in front.

use std::collections::BTreeSet;

use bytes::Bytes;
use skep_wire::SENDFILE_LEAST;

use super::{
    EVENTS_SOCKET, MAIL_PARTS_FILE, Render, SHIM_DATE, class, designator, es_module, external_name,
    js_string, workflow_class,
};
use crate::capnp::{Value, fields, list, text};
use crate::responses::RESPONSES;
use crate::spec::{Binding, Code, DurableClass, Exposed, Tail};

const EVENTS: &str = include_str!("../../../../shims/events.js");
const DISPATCHED: &str = include_str!("../../../../shims/dispatched.js");
const LIMITS: &str = include_str!("../../../../shims/limits.js");
const LIMITED: &str = include_str!("../../../../shims/limited.js");
const AFTER: &str = include_str!("../../../../shims/after.js");
const CHAIN: &str = include_str!("../../../../shims/chain.js");
const STUBS: &str = include_str!("../../../../shims/stubs.js");
const COUNTING_ENGINE: &str = include_str!("../../../../shims/engine.js");
const LOADING: &str = include_str!("../../../../shims/loading.js");
const LOADED_ENGINE: &str = include_str!("../../../../shims/loaded-engine.js");
const LOADED_LIMITED: &str = include_str!("../../../../shims/loaded-limited.js");
/// What `loading.js` is where nothing is loaded.
const NOT_LOADING: &str = "export default () => {};";
const FRONT: &str = include_str!("../../../../shims/front.js");
const OBJECTS: &str = include_str!("../../../../shims/objects.js");
const OUTBOUND: &str = include_str!("../../../../shims/outbound.js");
const PASSAGE: &str = include_str!("../../../../shims/passage.js");
const SENDFILE: &str = include_str!("../../../../shims/sendfile.js");
const TAIL: &str = include_str!("../../../../shims/tail.js");
const TRACE: &str = include_str!("../../../../shims/trace.js");
const REMOTE_OBJECT: &str = include_str!("../../../../shims/remote-object.js");
const WORKFLOWS: &str = include_str!("../../../../shims/workflows.js");
const WORKFLOW_AWAKE: &str = include_str!("../../../../shims/workflow-awake.js");
const WORKFLOW_INDEX: &str = include_str!("../../../../shims/workflow-index.js");
const WORKFLOW_SLOTS: &str = include_str!("../../../../shims/workflow-slots.js");
const WORKFLOW_STEPS: &str = include_str!("../../../../shims/workflow-steps.js");

impl Render<'_> {
    pub(super) fn workflows(&mut self) -> Value {
        let workflows = &self.spec.workflows;
        let namespaces = workflows.iter().map(|w| {
            let namespace =
                fields([("className", text(workflow_class(&w.name))), ("serviceName", text("user"))]);
            fields([("name", text(format!("workflow:{}", w.name))), ("durableObjectNamespace", namespace)])
        });
        let apis = workflows
            .iter()
            .map(|w| fields([("name", text(format!("api:{}", w.name))), ("service", workflow_api(&w.name))]));
        let limits = workflows.iter().map(|w| format!("{}:{}", js_string(&w.name), w.settings));
        let limits = format!("{{{}}}", limits.collect::<Vec<_>>().join(","));
        let limits = fields([("name", text("WORKFLOWS")), ("json", text(limits))]);
        let engine = fields([("name", text("workflows.js")), ("bundled", text("/workerd/workflows.js"))]);
        let files = [
            ("skep-workflows.js", WORKFLOWS),
            ("workflow-awake.js", WORKFLOW_AWAKE),
            ("workflow-index.js", WORKFLOW_INDEX),
            ("workflow-slots.js", WORKFLOW_SLOTS),
            ("workflow-steps.js", WORKFLOW_STEPS),
        ];
        self.files.extend(files.iter().map(|(name, content)| ((*name).into(), (*content).into())));
        let modules = files.iter().map(|(name, _)| es_module(name)).chain([engine]);
        let worker = fields([
            ("modules", list(modules)),
            ("compatibilityDate", text(SHIM_DATE)),
            ("compatibilityFlags", list([text("experimental")])),
            ("durableObjectStorage", fields([("localDisk", text("object-disk"))])),
            ("bindings", list(namespaces.chain(apis).chain([limits]))),
        ]);
        self.services.push(fields([("name", text("skep-workflows")), ("worker", worker)]));
        let own = workflows.iter().map(|w| {
            fields([
                ("className", text(&w.class)),
                ("name", text(&w.name)),
                ("bindingService", workflow_api(&w.name)),
            ])
        });
        fields([("actorClass", designator("skep-workflows", Some("Engine"), None)), ("workflows", list(own))])
    }

    /// The main module of a script that a dispatcher calls, and what it imports.
    pub(super) fn dispatched(&mut self, entry: String) -> (String, Vec<Value>) {
        // What is imported first is evaluated first: all of ours before the application.
        let (counts, handled) = match self.spec.limits {
            Some(_) => ("import { handled, visited, within } from \"skep-limits.js\";\n", "handled(app);\n"),
            None => ("const visited = (_, __, then) => then();\n", ""),
        };
        let (sends, mut shims) = self.sends();
        let counts = format!("{counts}{sends}");
        if !self.spec.dispatched {
            return (format!("{counts}{entry}\n{handled}"), shims);
        }
        let marks = match self.spec.outbound {
            Some(_) => "import { carry } from \"skep-outbound.js\";\n",
            None => "const carry = (_, then) => then();\n",
        };
        let uncounted = match self.spec.limits {
            Some(_) => "",
            None => "const within = (_, __, then) => then();\n",
        };
        let last = "import { called, dispatched } from \"skep-dispatched.js\";\n\
             export const skepDispatched = dispatched(visit, report, carry, within);\n\
             export const skepCalled = typeof main === \"function\" ? called(main, carry, within) : main ?? {};\n";
        let (first, last) = (format!("{counts}{marks}"), format!("{handled}{uncounted}{last}"));
        shims.push(self.shim("skep-dispatched.js", "dispatched.js", DISPATCHED));
        if self.spec.outbound.is_some() {
            shims.push(self.shim("skep-outbound.js", "outbound.js", OUTBOUND));
        }
        (format!("{first}{entry}\n{last}"), shims)
    }

    /// What has Skep send what the code only passes on, where it has buckets or a dispatch namespace; and what it imports.
    fn sends(&mut self) -> (&'static str, Vec<Value>) {
        let bindings = &self.spec.bindings;
        let bucket = bindings.iter().find(|(_, b)| matches!(b, Binding::R2 { .. })).map(|(name, _)| name);
        let dispatches = self.spec.dispatches();
        if bucket.is_none() && !dispatches {
            return ("const watch = () => {};\nconst sent = (_, response) => response;\n", Vec::new());
        }
        let bucket = format!("const BUCKET = {};", js_string(bucket.map_or("", String::as_str)));
        let dispatches = format!("const DISPATCHES = {dispatches};");
        let least = format!("const LEAST = {SENDFILE_LEAST};");
        let shim = SENDFILE.replace("const BUCKET = \"\";", &bucket).replace("const LEAST = 1;", &least);
        let shim = shim.replace("const DISPATCHES = false;", &dispatches);
        let import = "import { sent, watch } from \"skep-sendfile.js\";\n";
        (import, vec![self.shim("skep-sendfile.js", "sendfile.js", shim)])
    }

    /// A module beside the main one.
    fn shim(&mut self, name: &str, file: &str, content: impl Into<Bytes>) -> Value {
        self.files.push((file.into(), content.into()));
        fields([("name", text(name)), ("esModule", Value::Embed(file.into()))])
    }

    /// The module by which the main module takes over what counts; it comes before all of the application's.
    pub(super) fn counted(&mut self) -> Option<Value> {
        self.spec.limits?;
        Some(self.shim("skep-limits.js", "limited.js", LIMITED))
    }

    /// The binding that has what counts evaluated before the application, which does not see it.
    pub(super) fn counting(&mut self) -> Option<Value> {
        let limits = self.spec.limits?;
        let limit = format!("const LIMIT = {};", limits.subrequests);
        let after = format!("const AFTER = {};", limits.after.as_millis());
        let time = format!("const TIME = {};", if self.spec.is_exclusive() { 1_000 } else { 10_000 });
        let listens = format!("const LISTENS = {};", matches!(self.spec.code, Code::ServiceWorker(_)));
        let traced = format!("const TRACED = {};", self.spec.trace.is_some());
        let counts = LIMITS.replace("const TRACED = false;", &traced);
        let counts = counts.replace("const LIMIT = 0;", &limit).replace("const TIME = 1;", &time);
        let counts = counts.replace("const AFTER = 2;", &after).replace("const LISTENS = false;", &listens);
        let loads = self.spec.bindings.values().any(|binding| matches!(binding, Binding::WorkerLoader));
        let loading = if loads { loading(&counts) } else { NOT_LOADING.to_owned() };
        for (name, content) in [
            ("limits", counts),
            ("after", AFTER.to_owned()),
            ("chain", CHAIN.to_owned()),
            ("stubs", STUBS.to_owned()),
            ("engine", COUNTING_ENGINE.to_owned()),
            ("loading", loading),
        ] {
            self.extend(&format!("skep-internal:{name}"), &format!("{name}.js"), content);
        }
        let inner =
            [("responses", "service"), ("kv", "kvNamespace"), ("bucket", "r2Bucket"), ("queue", "queue")];
        let inner =
            inner.map(|(name, kind)| fields([("name", text(name)), (kind, text(external_name(RESPONSES)))]));
        let loader = loads.then(|| fields([("name", text("loader")), ("workerLoader", fields([]))]));
        let inner = list(inner.into_iter().chain(loader));
        let wrapped = fields([("moduleName", text("skep-internal:limits")), ("innerBindings", inner)]);
        Some(fields([("name", text("__skep")), ("wrapped", wrapped)]))
    }

    /// The worker through which a dispatcher calls methods of its namespace's scripts.
    pub(super) fn passage(&mut self) -> Value {
        if !self.files.iter().any(|(file, _)| file == "passage.js") {
            self.files.push(("passage.js".into(), PASSAGE.into()));
            let engine = fields([("name", text("ENGINE")), ("workerdDebugPort", Value::Bare("void"))]);
            let worker = vec![
                ("modules", list([es_module("passage.js")])),
                ("compatibilityDate", text(SHIM_DATE)),
                ("compatibilityFlags", list([text("experimental")])),
                ("bindings", list([engine])),
            ];
            self.through("skep-passage", worker);
        }
        designator("skep-passage", Some("Passage"), None)
    }

    /// The stand-ins for other scripts' classes.
    pub(super) fn remote_objects(&mut self) {
        let mut classes: Vec<(usize, &DurableClass)> = Vec::new();
        for binding in self.spec.bindings.values() {
            if let (Binding::RemoteDurableObject { class, .. }, Some((script, exposed))) =
                (binding, binding.remote())
                && let Some(n) = self.links.iter().position(|l| l.script == script && l.exposed == exposed)
                && !classes.iter().any(|(other, _)| *other == n)
            {
                classes.push((n, class));
            }
        }
        if classes.is_empty() {
            return;
        }
        let exports =
            classes.iter().map(|(n, _)| format!("export const link{n} = remoteObject(\"link{n}\");\n"));
        let main = format!(
            "import {{ remoteObject }} from \"./remote-object.js\";\nexport default {{}};\n{}",
            exports.collect::<String>()
        );
        let namespaces = classes.iter().map(|(n, remote)| {
            let link = DurableClass {
                name: format!("link{n}"),
                unique_key: remote.unique_key.clone(),
                sqlite: true,
            };
            class(&link, None)
        });
        let bindings = classes.iter().map(|(n, _)| {
            fields([("name", text(format!("link{n}"))), ("service", text(format!("link{n}")))])
        });
        self.files.push(("remote-main.js".into(), main.into()));
        self.files.push(("remote-object.js".into(), REMOTE_OBJECT.into()));
        let worker = vec![
            ("modules", list([es_module("remote-main.js"), es_module("remote-object.js")])),
            ("compatibilityDate", text(SHIM_DATE)),
            ("durableObjectNamespaces", list(namespaces)),
            ("durableObjectStorage", fields([("inMemory", Value::Bare("void"))])),
            ("bindings", list(bindings)),
        ];
        self.through("skep-remote", worker);
    }

    pub(super) fn events(&mut self) {
        self.files.push(("events.js".into(), EVENTS.into()));
        let service = |name: &str, service: &str| fields([("name", text(name)), ("service", text(service))]);
        let mut bindings = vec![service("USER", "user")];
        if !self.spec.workflows.is_empty() {
            bindings.push(service("WORKFLOWS", "skep-workflows"));
        }
        if let Some(mail) = &self.spec.mail {
            let handler = matches!(self.spec.code, Code::Modules(_)).then_some("skepEmail");
            bindings.push(fields([("name", text("MAILED")), ("service", designator("user", handler, None))]));
            bindings.push(service("MAIL", &external_name(mail)));
        }
        let mut worker = vec![
            ("modules", list([es_module("events.js"), es_module(MAIL_PARTS_FILE)])),
            ("compatibilityDate", text(SHIM_DATE)),
            ("compatibilityFlags", list([text("experimental"), text("service_binding_extra_handlers")])),
            ("bindings", Value::List(bindings)),
        ];
        if self.trace_heard().is_some() {
            // It hears only which span an event is.
            worker.push(("streamingTails", list([designator("skep-trace", Some("events"), None)])));
        }
        self.services.push(fields([("name", text("skep-events")), ("worker", Value::Struct(worker))]));
        self.sockets.push((EVENTS_SOCKET.into(), text("skep-events")));
    }

    /// The worker that passes events on; returns its service's name.
    pub(super) fn tail(&mut self, tail: &Tail) -> &'static str {
        self.listener("skep-tail", ("tail.js", TAIL), tail, Vec::new(), &[]);
        "skep-tail"
    }

    /// The worker that passes spans on; returns its service's name.
    pub(super) fn trace(&mut self, trace: &Tail) -> &'static str {
        let edge = match self.spec.code {
            Code::Modules(_) => "\"skepEdge\"",
            Code::ServiceWorker(_) => "null",
        };
        let edge = fields([("name", text("EDGE")), ("json", text(edge))]);
        let flags = ["experimental", "streaming_tail_worker"];
        self.listener("skep-trace", ("trace.js", TRACE), trace, vec![edge], &flags);
        "skep-trace"
    }

    /// Adds a worker that passes calls on: of whom a call is, its traces say.
    fn through(&mut self, name: &str, mut worker: Vec<(&'static str, Value)>) {
        if self.trace_heard().is_some() {
            worker.push(("streamingTails", list([designator("skep-trace", Some("through"), None)])));
        }
        self.services.push(fields([("name", text(name)), ("worker", Value::Struct(worker))]));
    }

    fn listener(
        &mut self,
        name: &str,
        (file, code): (&str, &'static str),
        tail: &Tail,
        mut bindings: Vec<Value>,
        flags: &[&str],
    ) {
        self.files.push((file.into(), code.into()));
        bindings.push(fields([("name", text("SINK")), ("service", text(external_name(&tail.service)))]));
        bindings.push(fields([("name", text("RATE")), ("json", text(tail.rate.to_string()))]));
        let mut worker = vec![
            ("modules", list([es_module(file)])),
            ("compatibilityDate", text(SHIM_DATE)),
            ("bindings", Value::List(bindings)),
        ];
        if !flags.is_empty() {
            worker.push(("compatibilityFlags", list(flags.iter().copied().map(text))));
        }
        self.services.push(fields([("name", text(name)), ("worker", Value::Struct(worker))]));
    }

    pub(super) fn exposed(&mut self) {
        let mut namespaces = BTreeSet::new();
        let spec = self.spec;
        for exposed in &spec.exposed {
            let service = match exposed {
                Exposed::Entrypoint { entrypoint: None, props } if spec.front.is_some() => {
                    self.front(&exposed.socket(), props.as_deref())
                }
                Exposed::Entrypoint { entrypoint, props } => {
                    designator("user", entrypoint.as_deref(), props.as_deref())
                }
                Exposed::Workflow { name } => workflow_api(name),
                Exposed::Outbound => match spec.code {
                    Code::Modules(_) => designator("user", Some("skepOutbound"), None),
                    Code::ServiceWorker(_) => text("user"),
                },
                Exposed::Objects { class } => {
                    namespaces.insert(class.as_str());
                    let props = format!("{{\"binding\":{}}}", js_string(class));
                    designator("skep-objects", Some("ObjectGateway"), Some(&props))
                }
            };
            self.sockets.push((exposed.socket(), service));
        }
        if namespaces.is_empty() {
            return;
        }
        let bindings = namespaces.into_iter().map(|class| {
            let namespace = fields([("className", text(class)), ("serviceName", text("user"))]);
            fields([("name", text(class)), ("durableObjectNamespace", namespace)])
        });
        self.files.push(("objects.js".into(), OBJECTS.into()));
        let worker = vec![
            ("modules", list([es_module("objects.js")])),
            ("compatibilityDate", text(SHIM_DATE)),
            ("bindings", list(bindings)),
        ];
        self.through("skep-objects", worker);
    }

    /// A service that stands before the default entrypoint and its assets.
    fn front(&mut self, name: &str, props: Option<&str>) -> Value {
        let router = external_name(self.spec.front.as_deref().unwrap_or_default());
        let worker = vec![
            ("modules", list([es_module("front.js")])),
            ("compatibilityDate", text(SHIM_DATE)),
            (
                "bindings",
                list([
                    fields([("name", text("USER")), ("service", designator("user", None, props))]),
                    fields([("name", text("ROUTER")), ("service", text(router))]),
                ]),
            ),
        ];
        let name = format!("skep-front-{name}");
        self.through(&name, worker);
        if !self.files.iter().any(|(file, _)| file == "front.js") {
            self.files.push(("front.js".into(), FRONT.into()));
        }
        designator(&name, Some("Front"), None)
    }
}

/// What has all counted that a script loads: with the modules that count it, of which `limits` is the script's own.
fn loading(limits: &str) -> String {
    let own = limits.lines().find(|line| line.starts_with("const LIMIT = ")).unwrap_or_default();
    let limits = limits.replacen(own, "import LIMIT from \"./limit.js\";", 1);
    let limits = limits.replace("const LISTENS = true;", "const LISTENS = false;");
    let limits = limits.replace("const TRACED = true;", "const TRACED = false;");
    let parts = [
        ("limited.js", LOADED_LIMITED),
        ("limits.js", &limits),
        ("after.js", AFTER),
        ("chain.js", CHAIN),
        ("stubs.js", STUBS),
        ("engine.js", LOADED_ENGINE),
        ("free.js", super::FREE),
        ("loading.js", NOT_LOADING),
    ];
    let parts = parts.map(|(name, content)| {
        let near = ["after", "chain", "engine", "free", "limits", "loading", "stubs"].iter().fold(
            content.to_owned(),
            |content, module| {
                content.replace(&format!("\"skep-internal:{module}\""), &format!("\"./{module}.js\""))
            },
        );
        format!("{}:{}", js_string(name), js_string(&near))
    });
    LOADING.replace("const PARTS = {};", &format!("const PARTS = {{{}}};", parts.join(",")))
}

/// The API of one Workflow of this cell.
pub(super) fn workflow_api(name: &str) -> Value {
    let props = format!("{{\"workflow\":{}}}", js_string(name));
    designator("skep-workflows", Some("WorkflowBinding"), Some(&props))
}
