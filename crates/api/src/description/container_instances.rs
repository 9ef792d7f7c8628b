//! What runs of applications of containers.

use serde_json::Value as Json;

use super::containers::health;
use super::schema::{at_least, count, fields, list as many, may, must, object, text, time};
use super::{About, about};

fn paged(about: About) -> About {
    about.query([may("per_page", at_least(1)), may("page_token", text())])
}

fn info() -> Json {
    object([must("per_page", count()), must("next_page_token", text())])
}

pub fn list() -> About {
    let instance = object([must("id", text()), must("created_at", time()), must("status", fields())]);
    paged(about("List the instances of an application"))
        .gives_part(object([must("instances", many(instance))]), info())
}

pub fn dash_list() -> About {
    let application = object([
        must("id", text()),
        must("name", text()),
        must("created_at", time()),
        must("updated_at", time()),
        must("version", count()),
        must("instances", count()),
        must("image", text()),
        must("health", health()),
    ]);
    paged(about("List applications in short")).gives_part(many(application), info())
}

pub fn dash_instances() -> About {
    let result = object([must("instances", many(fields())), must("durable_objects", many(fields()))]);
    paged(about("List the instances of an application with their objects")).gives_part(result, info())
}
