//! Bindings of an upload: checked, resolved, secrets sealed.
//! <https://developers.cloudflare.com/workers/configuration/multipart-upload-metadata/>

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value as Json, json};
use skep_catalog::{Catalog, Kind, Namespace, Sealer, Version};

use crate::exports::Exports;
use crate::reply::ApiError;
use crate::script_limits::check_variable;
use crate::secrets_store;

/// Cloudflare's code for a binding to a class that is declared, and whose namespace is not there yet.
const UNPROVISIONED: u32 = 100_406;

/// So many bindings are looked at before others have their turn.
const AT_ONCE: usize = 64;

/// Types that hold a value which is never shown again.
const SECRET_TYPES: [&str; 2] = ["secret_text", "secret_key"];

/// Beyond Cloudflare's text: the ids of a project that was deployed to Cloudflare mean nothing here at first.
const HINT: &str =
    " `skep deploy` makes what a project lacks here, under the ids that it has in its configuration.";

/// What bindings are resolved against.
pub(crate) struct Resolver<'a> {
    pub catalog: &'a Catalog,
    pub sealer: &'a Sealer,
    pub account: &'a str,
    pub script: &'a str,
    /// The version whose bindings may be inherited.
    pub previous: Option<&'a Version>,
    /// The Durable Object namespaces that the script will have.
    pub namespaces: &'a BTreeMap<String, Namespace>,
    /// What the version declares of its classes; what it makes there comes with its deployment.
    pub exports: Option<&'a Exports>,
    /// Namespaces that become another script's with this version, by script and class.
    pub handed: &'a BTreeMap<(String, String), Namespace>,
    /// Whether who uploads may let scripts read secrets of the Secrets Store.
    pub binds_secrets: bool,
    /// Whether the node knows where models run.
    pub runs_models: bool,
    /// Whether there is a mail relay.
    pub has_relay: bool,
    /// Whether the node runs browsers.
    pub runs_browsers: bool,
}

/// The place that a secret is sealed for: account, script, binding.
pub fn seal_context(account: &str, script: &str, name: &str) -> String {
    format!("{account}/{script}/{name}")
}

fn invalid(text: impl Into<String>) -> ApiError {
    ApiError::bad(10021, text)
}

fn text<'a>(binding: &'a Json, key: &str) -> Option<&'a str> {
    binding[key].as_str().filter(|text| !text.is_empty())
}

/// A binding's text field, which must be there.
fn need<'a>(binding: &'a Json, key: &str) -> Result<&'a str, ApiError> {
    text(binding, key).ok_or_else(|| {
        let (name, kind) = (binding["name"].as_str().unwrap_or("?"), binding["type"].as_str().unwrap_or("?"));
        invalid(format!("binding {name} of type {kind} must have a valid `{key}` specified"))
    })
}

impl Resolver<'_> {
    /// The bindings of the new version: what was uploaded, then what is kept of the version before.
    /// `keep` lists the types that are kept; `None` keeps secrets.
    pub async fn resolve(&self, uploaded: &[Json], keep: Option<&[String]>) -> Result<Vec<Json>, ApiError> {
        let before = self.previous.map(|version| version.content.bindings.as_slice()).unwrap_or_default();
        let before: HashMap<&str, &Json> =
            before.iter().filter_map(|binding| Some((binding["name"].as_str()?, binding))).collect();
        let mut names = BTreeSet::new();
        let mut resolved = Vec::new();
        let mut not_inherited = Vec::new();
        for (n, binding) in uploaded.iter().enumerate() {
            // There may be ten thousand, and each is looked up.
            if n % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let name = binding["name"].as_str().filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| invalid("a binding has no name"))?;
            if !names.insert(name.to_owned()) {
                return Err(ApiError::bad(
                    10053,
                    format!(
                        "Binding name '{name}' already in use. Please use a different name and try again."
                    ),
                ));
            }
            if binding["type"] == "inherit" {
                match self.inherit(&before, binding, name)? {
                    Some(found) => resolved.push(found),
                    None => not_inherited.push((
                        10057,
                        format!("inherit binding '{name}' is invalid: the previous version of the Worker has no binding of that name"),
                    )),
                }
                continue;
            }
            resolved.push(self.check(binding, name)?);
        }
        if !not_inherited.is_empty() {
            return Err(ApiError {
                status: http::StatusCode::BAD_REQUEST,
                errors: not_inherited,
                header: None,
                meta: None,
            });
        }
        let kept = |kind: &str| match keep {
            Some(kinds) => kinds.iter().any(|k| k == kind),
            None => SECRET_TYPES.contains(&kind),
        };
        for binding in self.previous.iter().flat_map(|version| &version.content.bindings) {
            let (Some(name), Some(kind)) = (binding["name"].as_str(), binding["type"].as_str()) else {
                continue;
            };
            if kept(kind) && names.insert(name.to_owned()) {
                resolved.push(binding.clone());
            }
        }
        Ok(resolved)
    }

    fn inherit(
        &self,
        before: &HashMap<&str, &Json>,
        binding: &Json,
        name: &str,
    ) -> Result<Option<Json>, ApiError> {
        let old_name = text(binding, "old_name").unwrap_or(name);
        let Some(found) = before.get(old_name) else { return Ok(None) };
        let mut found = (*found).clone();
        if old_name != name {
            if let Some(sealed) = found["sealed"].as_str() {
                let value =
                    self.sealer.open_sealed(sealed, &seal_context(self.account, self.script, old_name));
                let value = value.map_err(ApiError::internal)?;
                found["sealed"] = self.seal(&value, name)?.into();
            }
            found["name"] = name.into();
        }
        Ok(Some(found))
    }

    pub fn seal(&self, value: &[u8], name: &str) -> Result<String, ApiError> {
        self.sealer.seal(value, &seal_context(self.account, self.script, name)).map_err(ApiError::internal)
    }

    /// Checks one binding and returns it as it is kept.
    fn check(&self, binding: &Json, name: &str) -> Result<Json, ApiError> {
        let mut kept = binding.clone();
        let kind = need(binding, "type")?;
        match kind {
            "plain_text" if binding["text"].is_string() => {
                check_variable(name, binding["text"].as_str().map_or(0, str::len))?;
            }
            "plain_text" => {
                return Err(invalid(format!("binding {name} of type plain_text must have a `text`")));
            }
            "json" if binding.get("json").is_some() => {
                check_variable(name, binding["json"].to_string().len())?
            }
            "json" => return Err(invalid(format!("binding {name} of type json must have a `json`"))),
            "secret_text" => {
                let Some(value) = binding["text"].as_str() else {
                    return Err(invalid(format!("binding {name} of type secret_text must have a `text`")));
                };
                check_variable(name, value.len())?;
                kept = json!({ "name": name, "type": kind, "sealed": self.seal(value.as_bytes(), name)? });
            }
            "kv_namespace" => self.kv(need(binding, "namespace_id")?)?,
            "r2_bucket" => self.r2(need(binding, "bucket_name")?)?,
            "d1" => {
                let id = text(binding, "database_id").map_or_else(|| need(binding, "id"), Ok)?;
                self.d1(id)?;
                kept["id"] = id.into();
                kept["database_id"] = id.into();
            }
            "hyperdrive" => self.hyperdrive(need(binding, "id")?)?,
            "vectorize" => self.vectorize(need(binding, "index_name")?, name)?,
            "queue" => self.queue(need(binding, "queue_name")?)?,
            "durable_object_namespace" => self.objects(binding, &mut kept)?,
            "service" => self.service(binding, name)?,
            "workflow" => {
                need(binding, "workflow_name")?;
                need(binding, "class_name")?;
            }
            "ratelimit" => {
                need(binding, "namespace_id")?;
                if !binding["simple"]["limit"].is_number() || !binding["simple"]["period"].is_number() {
                    return Err(invalid(format!(
                        "binding {name} of type ratelimit must have `simple.limit` and `simple.period`"
                    )));
                }
            }
            "analytics_engine" => {
                need(binding, "dataset")?;
            }
            "dispatch_namespace" => self.dispatch_namespace(binding, &mut kept)?,
            // What `part` names is read with the modules.
            "assets" | "images" | "version_metadata" | "worker_loader" | "wasm_module" | "text_blob"
            | "data_blob" => {}
            "ai" if self.runs_models => {}
            "ai" => {
                return Err(invalid(format!(
                    "binding {name} of type ai needs a place where models run: start the node with `--ai URL`, the address of a \
                     server with OpenAI's API, or with `--ai cloudflare`"
                )));
            }
            "browser" if self.runs_browsers => {}
            "browser" => {
                return Err(invalid(format!(
                    "binding {name} of type browser needs a node that runs browsers, which this one does not: its operator starts it \
                     with `skep serve --browsers N`"
                )));
            }
            "send_email" => self.send_email(binding, name)?,
            "secrets_store_secret" => {
                let (store, secret) = (need(binding, "store_id")?, need(binding, "secret_name")?);
                secrets_store::check_binding(self.catalog, name, store, secret, self.binds_secrets)?;
            }
            other => {
                return Err(invalid(format!(
                    "binding {name} of type {other} is not supported by Skep; remove it from the configuration"
                )));
            }
        }
        Ok(kept)
    }

    /// The addresses are checked as wrangler does it, which is not the only one to send them.
    fn send_email(&self, binding: &Json, name: &str) -> Result<(), ApiError> {
        if !self.has_relay {
            return Err(invalid(format!(
                "binding {name} of type send_email needs a mail relay, which this node lacks: its operator gives it one with \
                 `skep serve --mail-relay`; else send mail with `fetch()` over the API of a mail service"
            )));
        }
        let wrong = |key: &str, what: &str| {
            Err(invalid(format!("binding {name} of type send_email must have {what} as its `{key}`")))
        };
        let one = &binding["destination_address"];
        if !one.is_null() && !one.is_string() {
            return wrong("destination_address", "an address");
        }
        for key in ["allowed_destination_addresses", "allowed_sender_addresses"] {
            let is_list = |list: &Vec<Json>| list.iter().all(Json::is_string);
            if !binding[key].is_null() && !binding[key].as_array().is_some_and(is_list) {
                return wrong(key, "a list of addresses");
            }
        }
        if !one.is_null() && !binding["allowed_destination_addresses"].is_null() {
            return Err(invalid(format!(
                "binding {name} of type send_email has either `destination_address` or `allowed_destination_addresses`"
            )));
        }
        Ok(())
    }

    fn kv(&self, id: &str) -> Result<(), ApiError> {
        match self.catalog.resource(Kind::Kv, id)? {
            Some(_) => Ok(()),
            None => Err(ApiError::bad(10041, format!("KV namespace '{id}' not found.{HINT}"))),
        }
    }

    fn r2(&self, name: &str) -> Result<(), ApiError> {
        match self.catalog.resource(Kind::R2, name)? {
            Some(_) => Ok(()),
            None => Err(ApiError::bad(10085, format!("R2 bucket '{name}' not found."))),
        }
    }

    fn d1(&self, id: &str) -> Result<(), ApiError> {
        match self.catalog.resource(Kind::D1, id)? {
            Some(_) => Ok(()),
            None => Err(ApiError::bad(10181, format!("D1 database '{id}' not found.{HINT}"))),
        }
    }

    fn hyperdrive(&self, id: &str) -> Result<(), ApiError> {
        match self.catalog.resource(Kind::Hyperdrive, id)? {
            Some(_) => Ok(()),
            None => Err(invalid(format!(
                "Hyperdrive config '{id}' not found. `wrangler hyperdrive create` makes one, with the database's password, \
                 and says its id."
            ))),
        }
    }

    fn vectorize(&self, index: &str, name: &str) -> Result<(), ApiError> {
        match self.catalog.resource(Kind::Vectorize, index)? {
            Some(_) => Ok(()),
            None => Err(ApiError::bad(
                10159,
                format!("Vectorize binding '{name}' references index '{index}' which was not found."),
            )),
        }
    }

    fn queue(&self, name: &str) -> Result<(), ApiError> {
        match self.catalog.resource_named(Kind::Queue, name)? {
            Some(_) => Ok(()),
            None => Err(ApiError::bad(
                100_128,
                format!("Queue \"{name}\" does not exist. To create it, run: wrangler queues create {name}"),
            )),
        }
    }

    fn objects(&self, binding: &Json, kept: &mut Json) -> Result<(), ApiError> {
        let class = need(binding, "class_name")?;
        let own =
            |script: &&str| *script == self.script || *script == skep_catalog::split_name(self.script).1;
        let other = match (text(binding, "script_name"), text(binding, "dispatch_namespace")) {
            (Some(script), Some(within)) => Some(skep_catalog::name_within(&self.dispatch(within)?, script))
                .filter(|name| name != self.script),
            (other, _) => other.filter(|script| !own(script)).map(str::to_owned),
        };
        if other.is_none()
            && let Some(kept) = kept.as_object_mut()
        {
            kept.remove("script_name");
        }
        let namespace = match other.as_deref() {
            None => self.namespaces.get(class).cloned(),
            Some(script) => {
                kept["script_name"] = script.into();
                if self.catalog.script(script)?.is_none() {
                    return Err(ApiError::bad(
                        10061,
                        format!(
                            "Cannot create binding for class '{class}' in script '{script}' because that script does not exist."
                        ),
                    ));
                }
                let handed = self.handed.get(&(script.to_owned(), class.to_owned())).cloned();
                handed.map_or_else(
                    || Ok(self.catalog.namespaces(script)?.remove(class)),
                    |n| Ok::<_, ApiError>(Some(n)),
                )?
            }
        };
        let Some(namespace) = namespace else {
            let expected = self.exports.filter(|_| other.is_none()).and_then(|own| own.expected_from(class));
            if let Some(from) = expected {
                // Cloudflare says that bindings to such a class are not led to the other script's objects.
                return Err(ApiError::bad(
                    UNPROVISIONED,
                    format!(
                        "Cannot create binding for class '{class}': its namespace is still that of Worker '{from}'. Add \
                         the binding when '{from}' has been deployed with the class in the state \"transferred\"."
                    ),
                ));
            }
            if other.is_none() && self.exports.is_some_and(|exports| exports.has_live(class)) {
                return Err(ApiError::bad(
                    UNPROVISIONED,
                    format!(
                        "Cannot create binding for class '{class}': its namespace is made when a version that declares \
                         it in `exports` is deployed."
                    ),
                ));
            }
            return Err(ApiError::bad(
                10061,
                format!(
                    "Cannot create binding for class '{class}' because it is not currently configured to implement \
                     Durable Objects. Did you forget to apply a --new-class migration for this class?"
                ),
            ));
        };
        kept["namespace_id"] = crate::objects::namespace_id(&namespace.unique_key).into();
        Ok(())
    }

    /// The id of a dispatch namespace.
    fn dispatch(&self, name: &str) -> Result<String, ApiError> {
        match self.catalog.resource_named(Kind::Dispatch, name)? {
            Some(namespace) => Ok(namespace.id),
            None => Err(crate::dispatch::no_namespace()),
        }
    }

    fn dispatch_namespace(&self, binding: &Json, kept: &mut Json) -> Result<(), ApiError> {
        kept["namespace_id"] = self.dispatch(need(binding, "namespace")?)?.into();
        if let Some(outbound) = binding.get("outbound").filter(|outbound| !outbound.is_null()) {
            let worker = &outbound["worker"];
            let service = text(worker, "service").or_else(|| text(outbound, "worker")).ok_or_else(|| {
                invalid(format!("binding {} has an `outbound` without a `worker.service`", binding["name"]))
            })?;
            if service != self.script && self.catalog.script(service)?.is_none() {
                return Err(ApiError::bad(
                    10143,
                    format!("The outbound Worker '{service}' of binding {} was not found.", binding["name"]),
                ));
            }
        }
        Ok(())
    }

    fn service(&self, binding: &Json, name: &str) -> Result<(), ApiError> {
        let service = need(binding, "service")?;
        if service == self.script || self.catalog.script(service)?.is_some() {
            return Ok(());
        }
        Err(ApiError::bad(
            10143,
            format!("Service binding '{name}' references Worker '{service}' which was not found."),
        ))
    }
}

/// A binding as the API shows it: without what is secret.
pub(crate) fn shown(binding: &Json) -> Json {
    let mut shown = binding.clone();
    if let Some(object) = shown.as_object_mut() {
        object.remove("sealed");
        if object.get("type").is_some_and(|kind| kind == "dispatch_namespace") {
            object.remove("namespace_id");
        }
        if let Some(script) = object.get("script_name").and_then(Json::as_str) {
            let label = skep_catalog::split_name(script).1.to_owned();
            object.insert("script_name".into(), label.into());
        }
    }
    shown
}
