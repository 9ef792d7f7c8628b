//! Applications of containers.

use serde_json::Value as Json;

use super::schema::{
    any, at_least, count, fields, list as many, may, must, named, object, one_of, opt, text, text_of, time,
    whole,
};
use super::{About, about};
use crate::containers::{MAX_NAME, MOST_INSTANCES};

/// As the API shows it: what was sent, and more.
pub(super) fn shape() -> Json {
    object([
        must("id", text()),
        must("name", text()),
        must("account_id", text()),
        must("created_at", time()),
        must("updated_at", time()),
        must("version", count()),
        must("instances", count()),
        must("health", health()),
        may("configuration", fields()),
        may("scheduling_policy", text()),
        may("durable_objects", fields()),
    ])
}

fn health() -> Json {
    object([must("instances", fields())])
}

fn configuration() -> Json {
    object([
        opt("image", text()),
        opt("instance_type", text()),
        opt("vcpu", super::schema::number()),
        opt("memory_mib", super::schema::number()),
        opt("disk", object([opt("size_mb", super::schema::number())])),
    ])
}

fn changeable() -> Vec<super::schema::Field> {
    vec![
        opt("max_instances", whole(0, MOST_INSTANCES)),
        opt("instances", count()),
        opt("configuration", configuration()),
        opt("constraints", fields()),
        opt("affinities", fields()),
        opt("scheduling_policy", text()),
        opt("rollout_active_grace_period", count()),
        opt("observability", fields()),
        opt("jobs", any()),
    ]
}

fn paged(about: About) -> About {
    about.query([may("per_page", at_least(1)), may("page_token", text())])
}

fn info() -> Json {
    object([must("per_page", count()), must("next_page_token", text())])
}

fn rollout_shape() -> Json {
    object([
        must("id", text()),
        must("description", text()),
        must("created_at", time()),
        must("status", text()),
        must("steps", many(fields())),
        must("target_configuration", fields()),
        must("target_version", count()),
    ])
}

pub fn me() -> About {
    let limits = object([
        must("vcpu_per_deployment", super::schema::number()),
        must("memory_mib_per_deployment", count()),
        must("disk_mb_per_deployment", count()),
    ]);
    about("Say what an account may have of containers").gives(object([
        must("external_account_id", text()),
        must("limits", limits),
        must("defaults", fields()),
    ]))
}

pub fn list() -> About {
    about("List applications of containers")
        .query([may("name", text()), may("image", text())])
        .gives(many(named("ContainerApplication")))
}

pub fn create() -> About {
    let mut body = changeable();
    body.push(must("name", text_of(1, MAX_NAME)));
    body.push(must("durable_objects", object([must("namespace_id", text())])));
    about("Create an application of containers").takes_json(object(body)).gives(named("ContainerApplication"))
}

pub fn get() -> About {
    about("Get an application of containers").gives(named("ContainerApplication"))
}

pub fn modify() -> About {
    about("Change an application of containers")
        .takes_json(object(changeable()))
        .gives(named("ContainerApplication"))
}

pub fn delete() -> About {
    about("Delete an application of containers").gives(object([must("message", text())]))
}

pub fn rollout() -> About {
    about("Roll out a configuration")
        .takes_json(object([
            must("target_configuration", configuration()),
            opt("strategy", one_of(&["rolling"])),
            opt("description", text()),
            opt("kind", text()),
            opt("step_percentage", super::schema::number()),
            opt("steps", many(fields())),
        ]))
        .gives(rollout_shape())
}

pub fn rollouts() -> About {
    about("List rollouts").gives(many(rollout_shape()))
}

pub fn get_rollout() -> About {
    about("Get a rollout").gives(rollout_shape())
}

pub fn instances() -> About {
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
