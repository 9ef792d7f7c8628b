//! Applications of containers.

use serde_json::Value as Json;

use super::schema::{
    any, count, fields, list as many, may, must, named, object, opt, text, text_of, time, whole,
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

pub(super) fn health() -> Json {
    object([must("instances", fields())])
}

pub(super) fn configuration() -> Json {
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
