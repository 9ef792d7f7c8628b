//! What is uploaded of a version: its metadata and its modules, and what they may be called.
//! <https://developers.cloudflare.com/workers/configuration/multipart-upload-metadata/>

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use crate::call::Call;
use crate::form::{Form, Part};
use crate::reply::ApiError;

/// The kinds of modules, by MIME type.
const MODULE_TYPES: [&str; 10] = [
    "application/javascript+module",
    "text/javascript+module",
    "application/javascript",
    "text/javascript",
    "application/wasm",
    "text/plain",
    "application/octet-stream",
    "application/source-map",
    "text/x-python",
    "text/x-python-requirement",
];
const SOURCE_MAP: &str = "application/source-map";
const NAME_LIMIT: usize = 63;

/// A script's name: what a host name's label can be, and `_`.
/// <https://developers.cloudflare.com/workers/wrangler/configuration/>
pub(crate) fn check_name(name: &str) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.is_empty()
        && name.len() <= NAME_LIMIT
        && name.chars().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
    {
        return Ok(());
    }
    Err(ApiError::bad(
        10016,
        format!(
            "Invalid Worker name '{name}'. Names are 1 to {NAME_LIMIT} lowercase letters, digits, dashes and underscores, \
             and do not start or end with a dash."
        ),
    ))
}

/// A module's name, its MIME type and its content.
pub(crate) type Named<'a> = (String, String, &'a Part);

/// What was uploaded.
pub(crate) struct Upload {
    pub metadata: Json,
    pub modules: Vec<Part>,
}

impl Upload {
    /// Reads the body: a form, or a bare service worker script.
    pub async fn read(call: &mut Call) -> Result<Self, ApiError> {
        if let Some(form) = call.form_within(call.api.limits.upload()).await? {
            return Self::from_form(&form).await;
        }
        let script = call.bytes(usize::MAX).await?;
        if script.is_empty() {
            return Err(ApiError::bad(10021, "The request has no script"));
        }
        let part = Part {
            name: "worker.js".into(),
            file_name: None,
            content_type: Some("application/javascript".into()),
            bytes: script,
        };
        Ok(Self { metadata: serde_json::json!({ "body_part": "worker.js" }), modules: vec![part] })
    }

    async fn from_form(form: &Form) -> Result<Self, ApiError> {
        let metadata = form.typed_document("metadata", "Metadata").await?;
        Ok(Self { metadata, modules: form.without("metadata").cloned().collect() })
    }

    pub fn strings(&self, key: &str) -> Result<Option<Vec<String>>, ApiError> {
        match &self.metadata[key] {
            Json::Null => Ok(None),
            value => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|_| ApiError::bad(10021, format!("{key} is not a list of strings"))),
        }
    }

    /// The modules, the main one first; source maps are left out.
    pub fn ordered(&self) -> Result<(Vec<Named<'_>>, bool), ApiError> {
        let main = self.metadata["main_module"].as_str();
        let body = self.metadata["body_part"].as_str();
        let Some(entry) = main.or(body) else {
            return match self.metadata["assets"].is_object() || self.metadata["keep_assets"] == true {
                true => Ok((Vec::new(), false)),
                false => Err(no_entry()),
            };
        };
        let blobs = blobs(&self.metadata["bindings"], main.is_some())?;
        let parts: HashSet<&str> = self.modules.iter().map(|part| part.name.as_str()).collect();
        if let Some((name, part, _)) = blobs.iter().find(|(_, part, _)| !parts.contains(part)) {
            return Err(ApiError::bad(10021, format!("binding {name}: there is no part named \"{part}\"")));
        }
        let mut bound: HashMap<&str, Vec<(&str, String)>> = HashMap::new();
        for (name, part, kind) in blobs {
            bound.entry(part).or_default().push((name, kind.to_owned()));
        }
        let mut ordered: Vec<Named<'_>> = Vec::new();
        let mut seen = HashSet::new();
        for part in &self.modules {
            let content_type = part.content_type.as_deref().unwrap_or("application/octet-stream");
            let kind = content_type.split(';').next().unwrap_or_default().trim().to_lowercase();
            let own_name = part.file_name.as_deref().unwrap_or(&part.name);
            // One part may be what several bindings are of, and the script itself.
            let mut names = bound.get(part.name.as_str()).cloned().unwrap_or_default();
            if names.is_empty() || own_name == entry {
                names.push((own_name, kind));
            }
            for (name, kind) in names {
                check_module(name, &kind)?;
                if kind == SOURCE_MAP || name.starts_with("./capnp-") {
                    continue;
                }
                if !seen.insert(name) {
                    return Err(ApiError::bad(10021, format!("There are two modules named \"{name}\".")));
                }
                match name == entry {
                    true => ordered.insert(0, (name.to_owned(), kind, part)),
                    false => ordered.push((name.to_owned(), kind, part)),
                }
            }
        }
        match ordered.first() {
            Some((first, ..)) if first == entry => Ok((ordered, main.is_none())),
            _ => Err(ApiError::bad(10021, format!("No such module \"{entry}\"."))),
        }
    }
}

/// The bindings that are parts of the form: their names, their parts, and what these are. Only a script in service worker
/// syntax has them, and gets them by their names, as it does modules.
fn blobs(bindings: &Json, is_module: bool) -> Result<Vec<(&str, &str, &'static str)>, ApiError> {
    let mut blobs = Vec::new();
    for binding in bindings.as_array().into_iter().flatten() {
        let kind = match binding["type"].as_str() {
            Some("wasm_module") => "application/wasm",
            Some("text_blob") => "text/plain",
            Some("data_blob") => "application/octet-stream",
            _ => continue,
        };
        let (name, part) = (binding["name"].as_str(), binding["part"].as_str());
        let (Some(name), Some(part)) = (name, part) else {
            return Err(ApiError::bad(10021, format!("binding {} has no `part`", binding["name"])));
        };
        if is_module {
            let text =
                format!("binding {name}: a script in module syntax imports what is in a part of its upload");
            return Err(ApiError::bad(10021, text));
        }
        blobs.push((name, part, kind));
    }
    Ok(blobs)
}

/// How names of the engine's modules begin.
const RESERVED_SCHEMES: [&str; 6] =
    ["node:", "cloudflare:", "workerd:", "node-internal:", "cloudflare-internal:", "skep-internal:"];
/// Names of modules of ours beside a script's (`shims/`).
const RESERVED: [&str; 5] =
    ["skep-entry.js", "skep-limits.js", "skep-dispatched.js", "skep-outbound.js", "skep-sendfile.js"];

pub(crate) fn no_entry() -> ApiError {
    ApiError::bad(10021, "The metadata names neither main_module nor body_part")
}

fn check_module(name: &str, kind: &str) -> Result<(), ApiError> {
    let leaves = name.split('/').any(|segment| segment == "..");
    if name.is_empty() || name.len() > 1024 || name.starts_with('/') || leaves || name.contains(['\0', '\\'])
    {
        return Err(ApiError::bad(10021, format!("\"{name}\" is not the name of a module")));
    }
    // Such a name would go before the engine's own module, or one of ours, for all that import that.
    if RESERVED_SCHEMES.iter().any(|scheme| name.starts_with(scheme)) || RESERVED.contains(&name) {
        return Err(ApiError::bad(10021, format!("module \"{name}\": the name is reserved")));
    }
    if !MODULE_TYPES.contains(&kind) {
        return Err(ApiError::bad(
            10021,
            format!("module \"{name}\" has unsupported Content-Type \"{kind}\""),
        ));
    }
    if kind.starts_with("text/x-python") {
        return Err(ApiError::bad(10021, format!("module \"{name}\": Skep does not run Python Workers")));
    }
    Ok(())
}
