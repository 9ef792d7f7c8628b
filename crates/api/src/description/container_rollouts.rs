//! Rollouts of applications of containers.

use serde_json::Value as Json;

use super::containers::configuration;
use super::schema::{count, fields, list as many, must, object, one_of, opt, text, time};
use super::{About, about};

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

pub fn create() -> About {
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

pub fn list() -> About {
    about("List rollouts").gives(many(rollout_shape()))
}

pub fn get() -> About {
    about("Get a rollout").gives(rollout_shape())
}
