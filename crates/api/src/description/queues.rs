//! Queues.

use serde_json::Value as Json;

use super::schema::{count, flag, may, must, named, null, object, opt, pattern, text, time, whole};
use super::{About, about};
use crate::queues::SETTINGS;

fn settings() -> Json {
    let numbers = SETTINGS
        .map(|(key, allowed)| opt(key, whole(u64::from(*allowed.start()), u64::from(*allowed.end()))));
    object(numbers.into_iter().chain([opt("delivery_paused", flag())]))
}

fn name() -> Json {
    pattern("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
}

pub fn list() -> About {
    about("List queues").query([may("name", text())]).gives_pages_of(named("Queue"))
}

pub fn create() -> About {
    about("Create a queue")
        .takes_json(object([must("queue_name", name()), opt("settings", settings())]))
        .gives(named("Queue"))
}

pub fn get() -> About {
    about("Get a queue").gives(named("Queue"))
}

pub fn update() -> About {
    about("Change the settings of a queue")
        .takes_json(object([opt("queue_name", name()), opt("settings", settings())]))
        .gives(named("Queue"))
}

pub fn delete() -> About {
    about("Delete a queue with its messages").gives(null())
}

pub fn purge() -> About {
    let sure = serde_json::json!({ "type": "boolean", "const": true });
    about("Delete all messages of a queue")
        .takes_json(object([must("delete_messages_permanently", sure)]))
        .gives(named("Queue"))
}

pub fn purge_status() -> About {
    about("Say whether a queue is purged")
        .gives(object([must("completed", flag()), must("started_at", time())]))
}

/// How much there is.
pub(super) fn backlog() -> Json {
    let names = ["backlog_count", "backlog_bytes", "oldest_message_timestamp_ms"];
    object(names.map(|name| must(name, count())))
}

pub fn metrics() -> About {
    about("Count the messages of a queue").gives(backlog())
}
