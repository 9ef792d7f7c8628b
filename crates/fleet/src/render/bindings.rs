//! A script's bindings as the engine takes them.

use bytes::Bytes;

use super::shims::workflow_api;
use super::{
    ABSENT_FILE, Link, Render, SHIM_DATE, connections_socket, designator, es_module, external_name, hex_name,
};
use crate::capnp::{Value, fields, list, text};
use crate::spec::{Binding, Exposed, Origin};

impl Render<'_> {
    pub(super) fn binding(&mut self, name: &str, binding: &Binding) -> Value {
        let service = |id: &str| text(external_name(id));
        let (kind, value) = match binding {
            Binding::Text(value) => ("text", text(value)),
            Binding::Json(value) => ("json", text(value)),
            Binding::Data(content) => ("data", self.embed(name, "data", content)),
            Binding::Wasm(content) => ("wasmModule", self.embed(name, "wasm", content)),
            Binding::Kv { service: id } => ("kvNamespace", service(id)),
            Binding::R2 { service: id } => ("r2Bucket", service(id)),
            Binding::Queue { service: id } => ("queue", service(id)),
            Binding::Analytics { service: id } => ("analyticsEngine", service(id)),
            Binding::Fetcher { service: id } => ("service", service(id)),
            Binding::D1 { service: id } => {
                ("wrapped", wrapped("cloudflare-internal:d1-api", service(id), None))
            }
            Binding::Ai { service: id } => {
                ("wrapped", wrapped("cloudflare-internal:ai-api", service(id), None))
            }
            Binding::RateLimit { service: id, defaults } => {
                let defaults = fields([("name", text("defaults")), ("json", text(defaults))]);
                ("wrapped", wrapped("skep-internal:ratelimit", service(id), Some(defaults)))
            }
            Binding::Vectorize { service: id, index } => {
                let inner = |name: &str, kind: &'static str, value: &str| {
                    fields([("name", text(name)), (kind, text(value))])
                };
                let extra = [
                    inner("indexId", "text", index),
                    inner("indexVersion", "text", "v2"),
                    inner("useNdJson", "json", "true"),
                ];
                ("wrapped", wrapped("cloudflare-internal:vectorize-api", service(id), extra))
            }
            Binding::Images { service: id } => {
                ("wrapped", wrapped("skep-internal:images", service(id), None))
            }
            Binding::SendEmail { service: id } => {
                ("wrapped", wrapped("skep-internal:send-email", service(id), None))
            }
            Binding::Dispatch { service: id } => {
                let passage = fields([("name", text("passage")), ("service", self.passage())]);
                ("wrapped", wrapped("skep-internal:dispatch", service(id), Some(passage)))
            }
            Binding::Hyperdrive { origin, scheme, user, password, database } => {
                let designator = format!("hyperdrive-{}", hex_name(name));
                let address = match origin {
                    Origin::Address(address) => text(address),
                    Origin::Here(id) => self.address(&connections_socket(id)),
                };
                let external = fields([("address", address), ("tcp", fields([]))]);
                self.services.push(fields([("name", text(&designator)), ("external", external)]));
                let fields = fields([
                    ("designator", text(designator)),
                    ("scheme", text(scheme)),
                    ("user", text(user)),
                    ("password", text(password)),
                    ("database", text(database)),
                ]);
                ("hyperdrive", fields)
            }
            Binding::DurableObject { class } => ("durableObjectNamespace", text(class)),
            Binding::RemoteDurableObject { .. } => {
                let class = text(self.link(binding).unwrap_or_default());
                (
                    "durableObjectNamespace",
                    fields([("className", class), ("serviceName", text("skep-remote"))]),
                )
            }
            Binding::OwnEntrypoint { entrypoint, props } => {
                ("service", designator("user", entrypoint.as_deref(), props.as_deref()))
            }
            Binding::RemoteEntrypoint { .. } => ("service", text(self.link(binding).unwrap_or_default())),
            Binding::StoredSecret { name, value } => {
                let inner = |key: &str, value: &str| fields([("name", text(key)), ("text", text(value))]);
                let value = value.as_deref().map(|value| inner("value", value));
                let inner = list(std::iter::once(inner("name", name)).chain(value));
                let module = text("skep-internal:stored-secret");
                ("wrapped", fields([("moduleName", module), ("innerBindings", inner)]))
            }
            Binding::WorkerLoader => ("workerLoader", fields([])),
            Binding::Workflow { name } => {
                ("wrapped", wrapped("cloudflare-internal:workflows-api", workflow_api(name), None))
            }
            Binding::RemoteWorkflow { .. } => {
                let link = text(self.link(binding).unwrap_or_default());
                ("wrapped", wrapped("cloudflare-internal:workflows-api", link, None))
            }
        };
        fields([("name", text(name)), (kind, value)])
    }

    fn embed(&mut self, name: &str, kind: &str, content: &Bytes) -> Value {
        let file = format!("binding-{}-{kind}", hex_name(name));
        self.files.push((file.clone(), content.clone()));
        Value::Embed(file)
    }

    /// What answers a link in the place of a script that does not run.
    pub(super) fn absent(&self, number: usize, link: &Link) -> Value {
        let said = format!("Worker \"{}\" not found. Make sure it is running locally.", link.script);
        let throws = !matches!(link.exposed, Exposed::Entrypoint { .. });
        let bindings = [
            fields([("name", text("SAID")), ("text", text(said))]),
            fields([("name", text("THROWS")), ("json", text(throws.to_string()))]),
        ];
        let worker = fields([
            ("modules", list([es_module(ABSENT_FILE)])),
            ("compatibilityDate", text(SHIM_DATE)),
            ("bindings", list(bindings)),
        ]);
        fields([("name", text(format!("link{number}"))), ("worker", worker)])
    }

    /// The name of the link that a remote binding goes through, made when first asked for.
    pub(super) fn link(&mut self, binding: &Binding) -> Option<String> {
        let (script, exposed) = binding.remote()?;
        let same = |link: &Link| link.script == script && link.exposed == exposed;
        let number = self.links.iter().position(same).unwrap_or_else(|| {
            self.links.push(Link {
                socket: format!("l{}", self.links.len()),
                script: script.to_owned(),
                exposed,
            });
            self.links.len() - 1
        });
        Some(format!("link{number}"))
    }
}

fn wrapped(module: &'static str, fetcher: Value, extra: impl IntoIterator<Item = Value>) -> Value {
    let fetcher = fields([("name", text("fetcher")), ("service", fetcher)]);
    fields([("moduleName", text(module)), ("innerBindings", list(std::iter::once(fetcher).chain(extra)))])
}
