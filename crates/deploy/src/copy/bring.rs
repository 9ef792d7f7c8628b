//! Workers of one account into another: read as projects, and deployed like any other one.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use http::Method;
use serde_json::{Map, Value as Json, json};
use skep_config::WorkerConfig;

use super::config::{self, Ids};
use super::source::{self, Account, Worker};
use super::{Copy, Mark, Wanted, text};
use crate::client::Client;
use crate::deploy::{Deploy, DeployOptions, Reporter};
use crate::plan::Planned;
use crate::project::Project;
use crate::remote::script_path;

/// A Worker that is to be brought over.
struct Guest {
    /// `worker/NAME` or `dispatch/NAMESPACE/NAME`.
    label: String,
    namespace: Option<String>,
    worker: Worker,
    config: Map<String, Json>,
}

/// Brings all that are wanted. One that is refused does not keep the others from coming.
pub(super) async fn workers(
    copy: &mut Copy<'_>,
    wanted: &Wanted,
    print: &impl Fn(&str),
) -> Result<(), String> {
    let open = open(copy, wanted, print).await.map_err(text)?;
    if open.is_empty() {
        return Ok(());
    }
    let account = Account::read(copy.from).await?;
    copy.notes.extend(account.notes.iter().cloned());
    let mut guests = Vec::new();
    for (label, namespace, name) in open {
        let read = source::worker(copy.from, &account, namespace.as_deref(), &name).await;
        let worker = read.map_err(|error| format!("{label}: {error}"))?;
        let (config, notes) = config::config(&worker.settings, &account.names, Ids::AreNames);
        copy.notes.extend(notes.iter().chain(&worker.notes).map(|note| format!("{label}: {note}")));
        match worker.code {
            // What cannot be read, or what there is nothing of: the notes say so.
            None => print(&format!("{label}: has no code to bring")),
            Some(_) => guests.push(Guest { label, namespace, worker, config }),
        }
    }
    let mut there: BTreeSet<String> = source::workers(copy.to).await.map_err(text)?.into_iter().collect();
    let coming: BTreeSet<String> = guests
        .iter()
        .filter(|own| own.namespace.is_none())
        .map(|own| own.worker.settings.name.clone())
        .collect();
    let (mut later, mut failed) = (Vec::new(), Vec::new());
    for guest in in_order(guests) {
        // Those that are still to come are bound once they are there.
        let missing: Vec<String> = config::needs(&guest.config)
            .into_iter()
            .filter(|name| coming.contains(name) && !there.contains(name))
            .collect();
        let first = config::without(&guest.config, &missing);
        match bring(copy.to, &guest, first).await {
            Err(error) => failed.push(format!("{}: {error}", guest.label)),
            Ok(()) => {
                if guest.namespace.is_none() {
                    there.insert(guest.worker.settings.name.clone());
                }
                match missing.is_empty() {
                    true => done(copy, &guest, print)?,
                    false => later.push(guest),
                }
            }
        }
    }
    for guest in later {
        match bring(copy.to, &guest, guest.config.clone()).await {
            Err(error) => failed.push(format!("{}: {error}", guest.label)),
            Ok(()) => done(copy, &guest, print)?,
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("\n")),
    }
}

/// Those that are wanted and not there yet: label, dispatch namespace, name.
async fn open(
    copy: &Copy<'_>,
    wanted: &Wanted,
    print: &impl Fn(&str),
) -> Result<Vec<(String, Option<String>, String)>, crate::ApiError> {
    let mut all = Vec::new();
    if wanted.has_any("worker") {
        let names = source::workers(copy.from).await?;
        all.extend(names.into_iter().map(|name| (format!("worker/{name}"), None, name)));
    }
    if wanted.has_any("dispatch") {
        for namespace in source::namespaces(copy.from).await? {
            let names = source::dispatched(copy.from, &namespace).await?;
            let label = |name: &str| format!("dispatch/{namespace}/{name}");
            all.extend(names.into_iter().map(|name| (label(&name), Some(namespace.clone()), name)));
        }
    }
    all.retain(|(label, ..)| wanted.has(label) && !copy.is_done(label, print));
    Ok(all)
}

/// Each after those that it names, as far as that goes: some name each other.
fn in_order(mut guests: Vec<Guest>) -> Vec<Guest> {
    let mut ordered = Vec::new();
    while !guests.is_empty() {
        let waits = |guest: &Guest| {
            config::needs(&guest.config).iter().any(|name| {
                guests.iter().any(|other| other.namespace.is_none() && other.worker.settings.name == *name)
            })
        };
        let at = guests.iter().position(|guest| !waits(guest)).unwrap_or(0);
        ordered.push(guests.remove(at));
    }
    ordered
}

fn done(copy: &mut Copy<'_>, guest: &Guest, print: &impl Fn(&str)) -> Result<(), String> {
    copy.keep(&guest.label, Mark { cursor: None, copied: 1, done: true })?;
    let secrets = &guest.worker.settings.secrets;
    if !secrets.is_empty() {
        let name = &guest.worker.settings.name;
        copy.notes.push(match &guest.namespace {
            None => format!(
                "{}: its secrets cannot be read; set {} with `wrangler secret put NAME --name {name}`",
                guest.label,
                secrets.join(", ")
            ),
            Some(_) => {
                format!("{}: its secrets cannot be read; set {} anew", guest.label, secrets.join(", "))
            }
        });
    }
    print(&format!("{}: is there", guest.label));
    Ok(())
}

async fn bring(to: &Client, guest: &Guest, config: Map<String, Json>) -> Result<(), String> {
    let project = project(&guest.worker, config);
    let options = DeployOptions { dispatch_namespace: guest.namespace.clone(), ..DeployOptions::default() };
    let deploy = Deploy::prepare(to, &project, options, "here").await?;
    let outcome = deploy.run(&Silent, &AtomicBool::new(false)).await;
    outcome.map_err(|failure| match failure.failed {
        Some((step, error)) => format!("{step}: {error}"),
        None => "it was stopped".to_owned(),
    })?;
    tags(to, guest).await
}

/// Tags are no part of a configuration.
async fn tags(to: &Client, guest: &Guest) -> Result<(), String> {
    if guest.worker.tags.is_empty() {
        return Ok(());
    }
    let path = script_path(guest.namespace.as_deref(), &guest.worker.settings.name);
    let tags = json!(guest.worker.tags);
    let call = match guest.namespace {
        Some(_) => to.call(Method::PUT, format!("{path}/tags")).json(&tags),
        None => to.call(Method::PATCH, format!("{path}/script-settings")).json(&json!({ "tags": tags })),
    };
    call.repeatable().send().await.map(drop).map_err(text)
}

fn project(worker: &Worker, config: Map<String, Json>) -> Project {
    let text = |key: &str| config.get(key).and_then(Json::as_str).map(str::to_owned);
    let flags = config.get("compatibility_flags").and_then(Json::as_array).into_iter().flatten();
    let typed = WorkerConfig {
        name: worker.settings.name.clone(),
        compatibility_date: text("compatibility_date"),
        compatibility_flags: flags.filter_map(|flag| flag.as_str().map(str::to_owned)).collect(),
        ..WorkerConfig::default()
    };
    let mut code = worker.code.clone();
    if let Some(code) = &mut code {
        // That the code has its classes was seen where it comes from.
        let classes = ["durable_objects", "workflows"].iter().filter_map(|key| match config.get(*key)? {
            Json::Array(list) => Some(list),
            own => own["bindings"].as_array(),
        });
        let names = classes.flatten().filter_map(|own| own["class_name"].as_str().map(str::to_owned));
        code.exports = names.collect();
    }
    Project::plain(typed, config.into(), code)
}

/// Hears nothing: each Worker is one line.
struct Silent;

impl Reporter for Silent {
    fn begins(&self, _: &Planned) {}
    fn progress(&self, _: u64, _: u64) {}
    fn done(&self, _: &Planned, _: &str) {}
    fn note(&self, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(name: &str, needs: &[&str]) -> Guest {
        let services: Vec<Json> =
            needs.iter().map(|name| json!({ "binding": "X", "service": name })).collect();
        let config = json!({ "name": name, "services": services });
        let settings = config::Settings { name: name.into(), ..Default::default() };
        let worker = Worker { settings, code: None, tags: Vec::new(), notes: Vec::new() };
        Guest { label: name.into(), namespace: None, worker, config: config.as_object().unwrap().clone() }
    }

    #[test]
    fn workers_come_after_those_that_they_name() {
        let guests = vec![
            guest("a", &["b", "far"]),
            guest("b", &["c"]),
            guest("c", &[]),
            guest("x", &["y"]),
            guest("y", &["x"]),
        ];
        let names: Vec<String> = in_order(guests).into_iter().map(|own| own.label).collect();
        assert_eq!(names, ["c", "b", "a", "x", "y"]);
    }
}
