//! Workflows.

use super::schema::{self, fields, flag, may, must, named, object, text, time};
use super::{About, about};

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
            may("schedules", schema::list(fields())),
        ]))
        .gives(named("Workflow"))
}

pub fn delete() -> About {
    about("Delete a Workflow").gives(object([must("status", text()), must("success", flag())]))
}

fn version() -> serde_json::Value {
    let texts = ["id", "workflow_id", "class_name", "language"].map(|name| must(name, text()));
    let times = ["created_on", "modified_on"].map(|name| must(name, time()));
    object(texts.into_iter().chain(times).chain([must("has_dag", flag())]))
}

pub fn versions() -> About {
    about("List the versions of a Workflow").gives_pages_of(version())
}

pub fn get_version() -> About {
    about("Get a version of a Workflow").gives(version())
}
