//! Messages of queues.

use serde_json::Value as Json;
use skep_queues::{MAX_DELAY_SECS, MAX_PULL, MAX_VISIBILITY_MS};

use super::queues::backlog;
use super::schema::{Field, any, count, fields, list, map, may, must, object, one_of, opt, text, whole};
use super::{About, JSON, about};

fn delay() -> Field {
    opt("delay_seconds", whole(0, u64::from(MAX_DELAY_SECS)))
}

fn wanted() -> Json {
    object([must("body", any()), opt("content_type", one_of(&["text", "json", "bytes"])), delay()])
}

fn metrics() -> Field {
    must("metadata", object([must("metrics", backlog())]))
}

pub fn send() -> About {
    about("Send a message").takes_json(wanted()).gives(object([metrics()]))
}

pub fn send_batch() -> About {
    about("Send messages")
        .takes_json(object([must("messages", list(wanted())), delay()]))
        .gives(object([metrics()]))
}

/// Messages, each known by `name`.
fn messages(name: &'static str) -> Field {
    let message = object([
        must("body", text()),
        must("id", text()),
        must("timestamp_ms", count()),
        must("attempts", count()),
        must("metadata", fields()),
        must(name, text()),
    ]);
    must("messages", list(message))
}

/// How many.
fn size() -> Field {
    opt("batch_size", whole(1, u64::from(MAX_PULL)))
}

fn visibility() -> Field {
    opt("visibility_timeout_ms", whole(0, MAX_VISIBILITY_MS))
}

pub fn pull() -> About {
    about("Lease messages").may_take(JSON, object([size(), visibility()])).gives(object([
        messages("lease_id"),
        must("message_backlog_count", count()),
        metrics(),
    ]))
}

pub fn peek() -> About {
    about("Look at messages, to purge them").may_take(JSON, object([size()])).gives(object([messages("ref")]))
}

pub fn preview() -> About {
    about("Look at messages, to acknowledge them")
        .may_take(JSON, object([size()]))
        .gives(object([messages("lease_id")]))
}

pub fn purge() -> About {
    about("Remove messages that were peeked at")
        .takes_json(object([must("refs", list(object([must("ref", text())])))]))
        .gives(object([must("errors", list(any())), must("warnings", map(text()))]))
}

fn acknowledged(about: About) -> About {
    let leased = || list(object([must("lease_id", text()), delay()]));
    about.takes_json(object([may("acks", leased()), may("retries", leased())]))
}

/// What is said of leases that did not hold.
fn warnings() -> Field {
    must("warnings", map(text()))
}

pub fn ack() -> About {
    acknowledged(about("Acknowledge messages, or give them back")).gives(object([
        must("ackCount", count()),
        must("retryCount", count()),
        warnings(),
    ]))
}

pub fn ack_previewed() -> About {
    acknowledged(about("Remove messages that were previewed")).gives(object([warnings()]))
}

pub fn extend() -> About {
    let leased = list(object([must("lease_id", text())]));
    about("Make leases last longer")
        .takes_json(object([must("extend", leased), visibility()]))
        .gives(object([must("extendCount", count()), warnings()]))
}
