//! Declared exports of an upload: read, brought in line with what is there, told.
//! <https://developers.cloudflare.com/durable-objects/reference/durable-objects-migrations/>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use skep_catalog::{Change, Content, Declared, Namespace, Reconciled, Remark, Standing, Version, reconcile};

use crate::platform::Tenant;
use crate::reply::ApiError;

/// Entries of a declaration, and letters of a class's name: Cloudflare's bounds.
const MOST_ENTRIES: usize = 100;
const LONGEST_NAME: usize = 128;

/// Cloudflare's code for exports that cannot be reconciled; `meta.details` says which and why.
const RECONCILIATION: u32 = 100_402;
/// Cloudflare's code for versions of one deployment that declare different classes.
const DIVERGENT: u32 = 100_405;

/// What an upload declares.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Exports {
    /// Its Durable Object classes.
    pub objects: BTreeMap<String, Declared>,
}

impl Exports {
    /// Reads `exports`; `None` where there are none.
    pub fn read(exports: &Json) -> Result<Option<Self>, ApiError> {
        let Some(entries) = exports.as_object() else { return Ok(None) };
        let mut wrong = Vec::new();
        if entries.len() > MOST_ENTRIES {
            let text = format!("exports has {} entries; {MOST_ENTRIES} are allowed", entries.len());
            return Err(ApiError::bad(10021, text));
        }
        let mut objects = BTreeMap::new();
        for (name, entry) in entries {
            match entry_of(name, entry) {
                Ok(Some(declared)) => {
                    objects.insert(name.clone(), declared);
                }
                Ok(None) => {}
                Err(message) => wrong.push(Remark {
                    class: name.clone(),
                    scenario: "invalid_export",
                    message,
                    suggestion: None,
                    users: Vec::new(),
                }),
            }
        }
        if !wrong.is_empty() {
            return Err(refusal(&wrong));
        }
        Ok(Some(Self { objects }))
    }

    /// Whether they say anything of Durable Objects: otherwise nothing is reconciled.
    pub fn of_objects(self) -> Option<Self> {
        (!self.objects.is_empty()).then_some(self)
    }

    /// Whether a class is declared that is there.
    pub fn has_live(&self, class: &str) -> bool {
        matches!(self.objects.get(class), Some(Declared::Live { .. }))
    }

    /// What there is around them. Only where classes go it matters who else uses them.
    pub fn surroundings(&self, tenant: &Arc<dyn Tenant>, script: &str) -> Result<Surroundings, ApiError> {
        let gone = self.objects.values().any(|declared| !matches!(declared, Declared::Live { .. }));
        Ok(Surroundings {
            provisioned: tenant.catalog().namespaces(script)?,
            users: if gone { users(tenant, script)? } else { BTreeMap::new() },
        })
    }

    /// What they change.
    pub fn reconcile(
        &self,
        around: &Surroundings,
        code: Option<&BTreeSet<String>>,
        may_delete: bool,
    ) -> Result<Reconciled, ApiError> {
        let Surroundings { provisioned, users } = around;
        let standing = Standing { provisioned, in_code: code, users, may_delete };
        reconcile(&self.objects, standing).map_err(|wrong| refusal(&wrong))
    }
}

/// What a script's exports are brought in line with.
pub(crate) struct Surroundings {
    /// The Durable Object namespaces of the script, by class.
    provisioned: BTreeMap<String, Namespace>,
    /// By class, other scripts that have bindings to it.
    users: BTreeMap<String, Vec<String>>,
}

/// One entry: a class of Durable Objects, or nothing that has a life of its own.
fn entry_of(name: &str, entry: &Json) -> Result<Option<Declared>, String> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(format!("The name of an export has 1 to {LONGEST_NAME} letters."));
    }
    let fields = entry.as_object().ok_or("An export is an object.")?;
    let text = |key: &str| match fields.get(key) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("`{key}` of '{name}' is not a string.")),
    };
    let state = text("state")?.unwrap_or("created");
    let allowed: &[&str] = match (text("type")?, state) {
        (Some("worker"), "created") => &["type", "state", "cache"],
        (Some("durable-object"), "created") => &["type", "state", "storage"],
        (Some("durable-object"), "deleted") => &["type", "state"],
        (Some("durable-object"), "renamed") => &["type", "state", "renamed_to"],
        (Some("durable-object"), "transferred" | "expecting-transfer") => {
            return Err(format!(
                "Skep does not move '{name}' to another Worker in this way: use `transferred_classes` of `migrations`."
            ));
        }
        (Some("workflow"), _) => {
            return Err(format!(
                "Skep does not have Workflows in `exports`: declare '{name}' in `workflows`."
            ));
        }
        (Some(kind), state) => {
            return Err(format!("'{name}' has the unknown type \"{kind}\" or state \"{state}\"."));
        }
        (None, _) => return Err(format!("'{name}' has no `type`.")),
    };
    if let Some(extra) = fields.keys().find(|key| !allowed.contains(&key.as_str())) {
        return Err(match extra.as_str() {
            "container" => format!("Skep does not have containers yet: '{name}' cannot be backed by one."),
            _ => format!("`{extra}` is not allowed in the entry of '{name}'."),
        });
    }
    if allowed.contains(&"cache") {
        return Ok(None);
    }
    Ok(Some(match (state, text("storage")?, text("renamed_to")?) {
        ("deleted", ..) => Declared::Deleted,
        ("renamed", _, Some(to)) => Declared::Renamed { to: to.to_owned() },
        ("renamed", _, None) => return Err(format!("'{name}' is renamed, but has no `renamed_to`.")),
        (_, Some("sqlite"), _) => Declared::Live { sqlite: true },
        (_, Some("legacy-kv"), _) => Declared::Live { sqlite: false },
        _ => return Err(format!("`storage` of '{name}' must be \"sqlite\" or \"legacy-kv\".")),
    }))
}

/// Other scripts whose bindings name classes of `script`.
pub(crate) fn users(
    tenant: &Arc<dyn Tenant>,
    script: &str,
) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let catalog = tenant.catalog();
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for other in catalog.scripts()?.iter().filter(|other| other.name != script) {
        let Some(version) = crate::scripts::current_version(tenant, other)? else { continue };
        for binding in &version.content.bindings {
            if binding["type"] == "durable_object_namespace"
                && binding["script_name"] == script
                && let Some(class) = binding["class_name"].as_str()
            {
                let its = users.entry(class.to_owned()).or_default();
                if !its.contains(&other.name) {
                    its.push(other.name.clone());
                }
            }
        }
    }
    Ok(users)
}

/// A deployment declares one set of classes: that of all its versions. The changes that it brings.
pub(crate) fn of_deployment(
    tenant: &Arc<dyn Tenant>,
    script: &str,
    tag: &str,
    versions: &[Version],
) -> Result<Vec<Change>, ApiError> {
    let mut declared = Vec::new();
    for version in versions {
        let exports = version.content.exports.as_ref().map_or(Ok(None), Exports::read)?;
        declared.push(exports.and_then(Exports::of_objects));
    }
    if declared.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(ApiError::bad(
            DIVERGENT,
            "All versions in a multi-version deployment must declare identical `exports`.",
        ));
    }
    let (Some(version), Some(Some(exports))) = (versions.first(), declared.into_iter().next()) else {
        return Ok(Vec::new());
    };
    let may_delete = !tenant.catalog().was_deployed(tag, &version.id)?;
    let surroundings = exports.surroundings(tenant, script)?;
    let code = in_code(&version.content);
    Ok(exports.reconcile(&surroundings, Some(&code), may_delete)?.changes)
}

/// The classes that a version was seen to export.
pub(crate) fn in_code(content: &Content) -> BTreeSet<String> {
    content.named_handlers.iter().map(|named| named.name.clone()).collect()
}

fn told(remark: &Remark) -> Json {
    let mut told = json!({ "class": remark.class, "scenario": remark.scenario, "message": remark.message });
    if let Some(suggestion) = &remark.suggestion {
        told["suggestion"] = suggestion.clone().into();
    }
    if !remark.users.is_empty() {
        told["referencing_scripts"] = remark.users.clone().into();
    }
    told
}

fn refusal(wrong: &[Remark]) -> ApiError {
    let lines: Vec<&str> = wrong.iter().map(|remark| remark.message.as_str()).collect();
    let text = format!("Durable Object exports reconciliation failed:\n{}", lines.join("\n"));
    let details: Vec<Json> = wrong.iter().map(told).collect();
    ApiError::bad(RECONCILIATION, text).with_meta(json!({ "details": details }))
}

/// `exports_reconciliation` of a reply. Every list is always there.
pub(crate) fn summary(reconciled: &Reconciled) -> Json {
    let (mut created, mut deleted, mut renamed) = (Vec::new(), Vec::new(), Vec::new());
    for change in &reconciled.changes {
        match change {
            Change::New { class, .. } => created.push(class.clone()),
            Change::Delete { class } => deleted.push(class.clone()),
            Change::Rename { from, to } => renamed.push(json!({ "from": from, "to": to })),
            Change::Transfer { .. } => {}
        }
    }
    json!({
        "created": created, "updated": [], "deleted": deleted, "renamed": renamed, "transferred": [],
        "transfer_pending": [], "warnings": [], "info": reconciled.notes.iter().map(told).collect::<Vec<_>>(),
        "removable_entries": reconciled.removable,
    })
}

/// `exports` as the API shows them: what is there, not what is gone.
pub(crate) fn shown(exports: Option<&Json>) -> Option<Json> {
    let live = |entry: &Json| entry["state"].as_str().is_none_or(|state| state == "created");
    let entries = exports?.as_object()?;
    let kept: Map<String, Json> =
        entries.iter().filter(|(_, entry)| live(entry)).map(|(k, v)| (k.clone(), v.clone())).collect();
    Some(kept.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_tombstones_are_not_shown() {
        let exports = json!({
            "A": { "type": "durable-object", "storage": "sqlite" },
            "B": { "type": "durable-object", "state": "renamed", "renamed_to": "A" },
            "C": { "type": "durable-object", "state": "deleted" },
            "default": { "type": "worker", "cache": { "enabled": true } },
        });
        let read = Exports::read(&exports).unwrap().unwrap();
        assert_eq!(read.objects.len(), 3);
        assert!(read.has_live("A") && !read.has_live("B") && !read.has_live("default"));
        let shown = shown(Some(&exports)).unwrap();
        assert_eq!(shown.as_object().unwrap().keys().collect::<Vec<_>>(), ["A", "default"]);
        assert_eq!(Exports::read(&Json::Null).unwrap(), None);
        let workers = json!({ "default": { "type": "worker" } });
        assert_eq!(Exports::read(&workers).unwrap().unwrap().of_objects(), None);
    }

    #[test]
    fn what_an_entry_cannot_be_is_named() {
        for (entry, part) in [
            (json!(1), "is an object"),
            (json!({}), "has no `type`"),
            (json!({ "type": "durable-object" }), "`storage`"),
            (json!({ "type": "durable-object", "storage": "kv" }), "`storage`"),
            (json!({ "type": "durable-object", "storage": 1 }), "not a string"),
            (json!({ "type": "durable-object", "state": "renamed" }), "no `renamed_to`"),
            (
                json!({ "type": "durable-object", "state": "deleted", "storage": "sqlite" }),
                "`storage` is not allowed",
            ),
            (json!({ "type": "durable-object", "storage": "sqlite", "container": "c" }), "containers"),
            (
                json!({ "type": "durable-object", "state": "transferred", "transferred_to": "x" }),
                "transferred_classes",
            ),
            (json!({ "type": "workflow", "name": "w" }), "`workflows`"),
            (json!({ "type": "worker", "state": "deleted" }), "unknown type"),
        ] {
            let refused = Exports::read(&json!({ "A": entry })).unwrap_err();
            assert_eq!(refused.errors[0].0, RECONCILIATION);
            let details = &refused.meta.unwrap()["details"][0];
            assert!(details["message"].as_str().unwrap().contains(part), "{details}");
            assert_eq!((&details["class"], &details["scenario"]), (&json!("A"), &json!("invalid_export")));
        }
        let many: Map<String, Json> =
            (0..101).map(|n| (format!("C{n}"), json!({ "type": "worker" }))).collect();
        assert_eq!(Exports::read(&many.into()).unwrap_err().errors[0].0, 10021);
    }
}
