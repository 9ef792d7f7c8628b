//! Event notifications of buckets.

use serde_json::Value as Json;

use super::r2::place;
use super::schema::{fields, list, may, must, object, one_of, opt, text, time};
use super::{About, about};
use crate::notifications::ACTIONS;

fn here(summary: &'static str) -> About {
    about(summary).headers([place()])
}

fn actions() -> Json {
    list(one_of(&ACTIONS))
}

fn queue() -> Json {
    let texts = ["prefix", "suffix", "description"].map(|name| may(name, text()));
    let rule = [must("ruleId", text()), must("createdAt", time()), must("actions", actions())]
        .into_iter()
        .chain(texts);
    object([must("queueId", text()), must("queueName", text()), must("rules", list(object(rule)))])
}

pub fn list_all() -> About {
    here("List event notification rules")
        .gives(object([must("bucketName", text()), must("queues", list(queue()))]))
}

pub fn get() -> About {
    here("Get the event notification rules of a queue").gives(queue())
}

pub fn put() -> About {
    let texts = ["prefix", "suffix", "description"].map(|name| opt(name, text()));
    let rule = [must("actions", actions())].into_iter().chain(texts);
    here("Add event notification rules")
        .takes_json(object([must("rules", list(object(rule)))]))
        .gives(fields())
}

pub fn delete() -> About {
    here("Remove event notification rules")
        .may_take("application/json", object([opt("ruleIds", list(text()))]))
        .gives(fields())
}
