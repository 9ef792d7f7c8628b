//! Declared exports of an upload: read, brought in line with what is there, told.
//! <https://developers.cloudflare.com/durable-objects/reference/durable-objects-migrations/>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use skep_catalog::{
    Change, Content, Declared, Namespace, Reconciled, Remark, Standing, Transfers, Version, reconcile,
    split_name,
};

use crate::aside::each;
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
        self.objects.get(class).is_some_and(Declared::is_live)
    }

    /// The script that a class is expected from.
    pub fn expected_from(&self, class: &str) -> Option<&str> {
        match self.objects.get(class) {
            Some(Declared::Expecting { from, .. }) => Some(from),
            _ => None,
        }
    }

    /// What there is around them. Only where classes go it matters who else uses them.
    pub async fn surroundings(
        &self,
        tenant: &Arc<dyn Tenant>,
        script: &str,
    ) -> Result<Surroundings, ApiError> {
        let gone = self.objects.values().any(|declared| !declared.is_live());
        Ok(Surroundings {
            script: script.to_owned(),
            provisioned: tenant.catalog().namespaces(script)?,
            transfers: tenant.catalog().transfers(script, &self.objects)?,
            users: if gone { users(tenant, script).await? } else { BTreeMap::new() },
        })
    }

    /// What they change.
    pub fn reconcile(
        &self,
        around: &Surroundings,
        code: Option<&BTreeSet<String>>,
        may_delete: bool,
    ) -> Result<Reconciled, ApiError> {
        let Surroundings { script, provisioned, users, transfers } = around;
        let standing = Standing { script, provisioned, in_code: code, users, transfers, may_delete };
        reconcile(&self.objects, standing).map_err(|wrong| refusal(&wrong))
    }
}

/// What a script's exports are brought in line with.
pub(crate) struct Surroundings {
    script: String,
    /// The Durable Object namespaces of the script, by class.
    provisioned: BTreeMap<String, Namespace>,
    /// By class, other scripts that have bindings to it.
    users: BTreeMap<String, Vec<String>>,
    /// Classes on their way from and to other scripts.
    transfers: Transfers,
}

impl Surroundings {
    /// The namespaces that `changes` give to other scripts, by script and class.
    pub fn handed(&self, changes: &[Change]) -> BTreeMap<(String, String), Namespace> {
        let handed = changes.iter().filter_map(|change| match change {
            Change::HandOver { class, to_script } => {
                let namespace = self.provisioned.get(class)?;
                Some(((to_script.clone(), class.clone()), namespace.clone()))
            }
            _ => None,
        });
        handed.collect()
    }
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
        (Some("durable-object"), "transferred") => &["type", "state", "transferred_to"],
        (Some("durable-object"), "expecting-transfer") => &["type", "state", "storage", "transfer_from"],
        // What holds for its instances comes by the Workflows API, which wrangler calls after the upload.
        (Some("workflow"), "created") => &[
            "type",
            "state",
            "name",
            "limits",
            "concurrency",
            "schedules",
            "default_retention",
            "jurisdiction",
        ],
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
    if allowed.contains(&"name") {
        return workflow(name, text("name")?).map(|()| None);
    }
    let partner = |key: &str| match text(key)? {
        Some(script) if !script.is_empty() && script.len() <= LONGEST_NAME => Ok(script.to_owned()),
        _ => Err(format!("'{name}' is in the state \"{state}\", but has no `{key}`.")),
    };
    let sqlite = || match text("storage")? {
        Some("sqlite") => Ok(true),
        Some("legacy-kv") => Ok(false),
        _ => Err(format!("`storage` of '{name}' must be \"sqlite\" or \"legacy-kv\".")),
    };
    Ok(Some(match state {
        "deleted" => Declared::Deleted,
        "renamed" => Declared::Renamed { to: partner("renamed_to")? },
        "transferred" => Declared::Transferred { to: partner("transferred_to")? },
        "expecting-transfer" => Declared::Expecting { sqlite: sqlite()?, from: partner("transfer_from")? },
        _ => Declared::Live { sqlite: sqlite()? },
    }))
}

/// A Workflow's name is wrangler's: 1 to 64 letters, digits, `_` and `-`, not beginning with `-`.
fn workflow(class: &str, name: Option<&str>) -> Result<(), String> {
    let name = name.ok_or_else(|| format!("The Workflow '{class}' has no `name`."))?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('-') {
        return Ok(());
    }
    Err(format!(
        "The name of the Workflow '{class}' is invalid. Workflow names must be 1-64 characters long, start with a letter, \
         number, or underscore, and may only contain letters, numbers, underscores, or hyphens."
    ))
}

/// Other scripts whose bindings name classes of `script`.
pub(crate) async fn users(
    tenant: &Arc<dyn Tenant>,
    script: &str,
) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let catalog = tenant.catalog();
    let mut others = catalog.scripts()?;
    if let Some(within) = split_name(script).0 {
        others.extend(catalog.scripts_within(within)?);
    }
    others.retain(|other| other.name != script);
    let (tenant, script) = (tenant.clone(), script.to_owned());
    let named = each(others, move |other| {
        let version = crate::scripts::current_version(&tenant, &other)?;
        let bindings = version.iter().flat_map(|version| &version.content.bindings);
        let objects = bindings.filter(|binding| {
            binding["type"] == "durable_object_namespace" && binding["script_name"] == script.as_str()
        });
        let classes = objects.filter_map(|binding| binding["class_name"].as_str().map(str::to_owned));
        Ok((other.name, classes.collect::<BTreeSet<_>>()))
    });
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (other, classes) in named.await? {
        for class in classes {
            users.entry(class).or_default().push(other.clone());
        }
    }
    Ok(users)
}

/// A deployment declares one set of classes: that of all its versions. The changes that it brings.
pub(crate) async fn of_deployment(
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
        return forgone(tenant, script);
    };
    let may_delete = !tenant.catalog().was_deployed(tag, &version.id)?;
    let surroundings = exports.surroundings(tenant, script).await?;
    let code = in_code(&version.content);
    Ok(exports.reconcile(&surroundings, Some(&code), may_delete)?.changes)
}

/// What a deployment without `exports` of objects changes: the script does not wait for classes any more.
pub(crate) fn forgone(tenant: &Arc<dyn Tenant>, script: &str) -> Result<Vec<Change>, ApiError> {
    let awaited = tenant.catalog().awaited(script)?;
    Ok(awaited.into_iter().map(|class| Change::Forgo { class }).collect())
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
    let (mut transferred, mut pending) = (Vec::new(), Vec::new());
    let label = |script: &str| split_name(script).1.to_owned();
    for change in &reconciled.changes {
        match change {
            Change::New { class, .. } => created.push(class.clone()),
            Change::Delete { class } => deleted.push(class.clone()),
            Change::Rename { from, to } => renamed.push(json!({ "from": from, "to": to })),
            Change::Await { class, from_script } => {
                pending.push(json!({ "class": class, "from": label(from_script) }));
            }
            Change::HandOver { class, to_script } => {
                transferred.push(json!({ "class": class, "to": label(to_script), "phase": "committed" }));
            }
            Change::Forgo { .. } | Change::Transfer { .. } => {}
        }
    }
    json!({
        "created": created, "updated": [], "deleted": deleted, "renamed": renamed, "transferred": transferred,
        "transfer_pending": pending, "warnings": [], "info": reconciled.notes.iter().map(told).collect::<Vec<_>>(),
        "removable_entries": reconciled.removable,
    })
}

/// `exports` as the API shows them: what is there, not what is gone.
pub(crate) fn shown(exports: Option<&Json>) -> Option<Json> {
    let live =
        |entry: &Json| matches!(entry["state"].as_str(), None | Some("created" | "expecting-transfer"));
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
            "D": { "type": "durable-object", "state": "transferred", "transferred_to": "x" },
            "E": { "type": "durable-object", "state": "expecting-transfer", "storage": "sqlite", "transfer_from": "y" },
            "default": { "type": "worker", "cache": { "enabled": true } },
        });
        let read = Exports::read(&exports).unwrap().unwrap();
        assert_eq!(read.objects.len(), 5);
        assert!(read.has_live("A") && !read.has_live("B") && !read.has_live("default"));
        assert_eq!((read.expected_from("E"), read.expected_from("A")), (Some("y"), None));
        let shown = shown(Some(&exports)).unwrap();
        assert_eq!(shown.as_object().unwrap().keys().collect::<Vec<_>>(), ["A", "E", "default"]);
        assert_eq!(Exports::read(&Json::Null).unwrap(), None);
        let workers =
            json!({ "default": { "type": "worker" }, "Steps": { "type": "workflow", "name": "w" } });
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
            (json!({ "type": "durable-object", "state": "transferred" }), "no `transferred_to`"),
            (
                json!({ "type": "durable-object", "state": "transferred", "transferred_to": "x", "storage": "sqlite" }),
                "`storage` is not allowed",
            ),
            (
                json!({ "type": "durable-object", "state": "expecting-transfer", "transfer_from": "x" }),
                "`storage`",
            ),
            (
                json!({ "type": "durable-object", "state": "expecting-transfer", "storage": "sqlite" }),
                "no `transfer_from`",
            ),
            (json!({ "type": "workflow" }), "has no `name`"),
            (json!({ "type": "workflow", "name": "-w" }), "start with a letter"),
            (json!({ "type": "workflow", "name": "w", "class_name": "A" }), "`class_name` is not allowed"),
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
