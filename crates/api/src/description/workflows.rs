//! Workflows.

use super::schema::{self, at_least, flag, may, must, named, object, opt, text, time, whole};
use super::{About, about};
use crate::workflows::MAX_STEPS;

pub fn list() -> About {
    about("List Workflows").query([may("search", text())]).gives_pages_of(named("Workflow"))
}

pub fn get() -> About {
    about("Get a Workflow").gives(named("Workflow"))
}

pub fn put() -> About {
    about("Make a class of a Worker a Workflow")
        .takes_json(object([
            must("script_name", text()),
            must("class_name", text()),
            may("schedules", schema::list(object([must("cron", text())]))),
            opt("limits", object([opt("steps", whole(1, MAX_STEPS))])),
            opt("concurrency", object([opt("limit", at_least(1))])),
            opt("default_retention", retention(duration())),
            opt("jurisdiction", text()),
        ]))
        .gives(named("Workflow"))
}

/// Milliseconds, or words.
fn duration() -> serde_json::Value {
    schema::either([at_least(1), text()])
}

fn retention(time: serde_json::Value) -> serde_json::Value {
    object(["success_retention", "error_retention"].map(|name| opt(name, time.clone())))
}

fn defaults() -> serde_json::Value {
    object([may("default_retention", retention(at_least(1)))])
}

pub fn settings() -> About {
    about("Get what holds for all Workflows").gives(defaults())
}

pub fn change_settings() -> About {
    about("Change what holds for all Workflows")
        .takes_json(object([opt("default_retention", retention(duration()))]))
        .gives(defaults())
}

fn drawing(name: &'static str) -> serde_json::Value {
    let texts = ["id", "workflow_id", "class_name"].map(|name| must(name, text()));
    let times = ["created_on", "modified_on"].map(|name| must(name, time()));
    object(texts.into_iter().chain(times).chain([must(name, schema::null())]))
}

pub fn dag() -> About {
    about("Get the steps of a version of a Workflow").gives(drawing("dag"))
}

pub fn graph() -> About {
    about("Get the graph of a version of a Workflow").gives(drawing("graph"))
}

pub fn delete() -> About {
    about("Delete a Workflow").gives(object([must("status", text()), must("success", flag())]))
}

fn version() -> serde_json::Value {
    let texts = ["id", "workflow_id", "class_name", "language"].map(|name| must(name, text()));
    let times = ["created_on", "modified_on"].map(|name| must(name, time()));
    let more = [
        must("has_dag", flag()),
        may("limits", object([may("steps", at_least(1))])),
        may("default_retention", retention(at_least(1))),
    ];
    object(texts.into_iter().chain(times).chain(more))
}

pub fn versions() -> About {
    about("List the versions of a Workflow").gives_pages_of(version())
}

pub fn get_version() -> About {
    about("Get a version of a Workflow").gives(version())
}
