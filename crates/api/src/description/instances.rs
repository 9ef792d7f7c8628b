//! Instances of Workflows.

use serde_json::Value as Json;

use super::schema::{
    self, any, at_least, count, either, fields, flag, may, must, named, null, object, one_of, opt, or_null,
    text, text_of, time, whole,
};
use super::{About, JSON, about};
use crate::call::DIRECTIONS;
use crate::instances::{CHANGES, MAX_BATCH, MAX_LIST, STATUSES, STEPS, UNENDED};

fn shown() -> Json {
    let times =
        ["created_on", "modified_on", "started_on", "ended_on"].map(|name| may(name, or_null(time())));
    object(times.into_iter().chain([
        must("id", text()),
        must("status", one_of(STATUSES)),
        must("trigger_source", text()),
        must("version_id", or_null(text())),
        must("workflow_id", text()),
    ]))
}

fn wanted() -> Json {
    let retention = || either([count(), text()]);
    let kept = object([opt("success_retention", retention()), opt("error_retention", retention())]);
    object([opt("instance_id", text()), may("params", any()), opt("instance_retention", kept)])
}

/// A batch of them.
fn some(items: Json) -> Json {
    serde_json::json!({ "type": "array", "items": items, "minItems": 1, "maxItems": MAX_BATCH })
}

fn ended() -> Json {
    object([must("status", text())])
}

pub fn list() -> About {
    about("List the instances of a Workflow")
        .query([
            may("page", at_least(1)),
            may("per_page", whole(1, MAX_LIST)),
            may("cursor", text()),
            may("status", one_of(STATUSES)),
            may("direction", one_of(&DIRECTIONS)),
            may("date_start", time()),
            may("date_end", time()),
        ])
        .gives_part(schema::list(shown()), named("PageInfo"))
}

pub fn create() -> About {
    about("Start an instance").may_take(JSON, or_null(wanted())).gives(shown())
}

pub fn create_batch() -> About {
    about("Start instances").takes_json(some(wanted())).gives(schema::list(shown()))
}

pub fn describe() -> About {
    about("Get an instance with its steps")
        .query([may("simple", flag()), may("order", one_of(&DIRECTIONS))])
        .gives(fields())
}

pub fn step() -> About {
    about("Get the output of a step")
        .query([
            must("name", text_of(1, 1024)),
            may("type", one_of(&["step", "waitForEvent"])),
            may("attempt", count()),
        ])
        .gives(any())
}

pub fn change() -> About {
    let from = object([must("name", text()), opt("count", count()), opt("type", one_of(&STEPS))]);
    about("Pause, resume, end an instance, or start it again")
        .takes_json(object([must("status", one_of(&CHANGES)), may("rollback", flag()), opt("from", from)]))
        .gives(object([must("status", text()), must("timestamp", time())]))
}

pub fn send_event() -> About {
    about("Send an event to an instance").may_take(JSON, any()).gives(null())
}

pub fn delete() -> About {
    about("Delete an instance").gives(object([must("instanceId", text()), must("timestamp", time())]))
}

pub fn delete_batch() -> About {
    about("Delete instances").takes_json(object([must("instances", some(text()))])).gives(fields())
}

pub fn terminate_batch() -> About {
    about("End instances").takes_json(some(text())).gives(ended())
}

pub fn terminate_all() -> About {
    about("End all instances that have not ended").query([may("status", one_of(&UNENDED))]).gives(ended())
}

pub fn terminating() -> About {
    about("Say whether instances are being ended").gives(ended())
}
