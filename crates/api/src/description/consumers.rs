//! Consumers of queues.

use serde_json::Value as Json;

use super::schema::{self, named, null, object, one_of, opt, text, whole};
use super::{About, about};
use crate::consumers::SETTINGS;

fn wanted() -> Json {
    object([
        opt("type", one_of(&["worker", "http_pull"])),
        opt("script_name", text()),
        opt("script", text()),
        opt("dead_letter_queue", text()),
        opt("settings", object(SETTINGS.map(|(name, least, most)| opt(name, whole(least, most))))),
    ])
}

pub fn list() -> About {
    about("List the consumers of a queue").gives(schema::list(named("Consumer")))
}

pub fn add() -> About {
    about("Add a consumer to a queue").takes_json(wanted()).gives(named("Consumer"))
}

pub fn get() -> About {
    about("Get a consumer").gives(named("Consumer"))
}

pub fn update() -> About {
    about("Replace a consumer").takes_json(wanted()).gives(named("Consumer"))
}

pub fn delete() -> About {
    about("Remove a consumer").gives(null())
}
