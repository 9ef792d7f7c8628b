//! The rules of a bucket.

use serde_json::Value as Json;

use super::r2::place;
use super::schema::{
    at_least, count, either, fields, flag, list, may, must, object, one_of, opt, text, time, whole,
};
use super::{About, about};

fn rules(rule: Json) -> Json {
    object([must("rules", list(rule))])
}

fn read(summary: &'static str, rule: Json) -> About {
    about(summary).headers([place()]).gives(object([must("rules", list(rule))]))
}

fn write(summary: &'static str, rule: Json) -> About {
    about(summary).headers([place()]).takes_json(rules(rule)).gives(fields())
}

fn lock() -> Json {
    let condition = either([
        object([must("type", one_of(&["Age"])), must("maxAgeSeconds", at_least(1))]),
        object([must("type", one_of(&["Date"])), must("date", time())]),
        object([must("type", one_of(&["Indefinite"]))]),
    ]);
    object([must("id", text()), must("enabled", flag()), opt("prefix", text()), must("condition", condition)])
}

/// A rule of lifecycles. With `by_date`, its condition may be a date.
fn when(by_date: bool) -> Json {
    let age = object([must("type", one_of(&["Age"])), must("maxAge", count())]);
    let date = object([must("type", one_of(&["Date"])), must("date", time())]);
    if by_date { either([age, date]) } else { age }
}

fn lifecycle_rule() -> Json {
    let class = must("storageClass", one_of(&["InfrequentAccess"]));
    object([
        must("id", text()),
        must("enabled", flag()),
        may("conditions", object([opt("prefix", text())])),
        opt("abortMultipartUploadsTransition", object([must("condition", when(false))])),
        opt("deleteObjectsTransition", object([must("condition", when(true))])),
        opt("storageClassTransitions", list(object([must("condition", when(true)), class]))),
    ])
}

fn cors_rule() -> Json {
    let methods = list(one_of(&["GET", "PUT", "POST", "DELETE", "HEAD"]));
    let allowed =
        object([must("methods", methods), must("origins", list(text())), opt("headers", list(text()))]);
    object([
        opt("id", text()),
        must("allowed", allowed),
        opt("exposeHeaders", list(text())),
        opt("maxAgeSeconds", whole(0, 86_400)),
    ])
}

pub fn cors() -> About {
    read("Show the CORS rules of a bucket", cors_rule())
}

pub fn put_cors() -> About {
    write("Replace the CORS rules of a bucket", cors_rule())
}

pub fn delete_cors() -> About {
    about("Remove the CORS rules of a bucket").headers([place()]).gives(fields())
}

pub fn locks() -> About {
    read("Show the lock rules of a bucket", lock())
}

pub fn put_locks() -> About {
    write("Replace the lock rules of a bucket", lock())
}

pub fn lifecycle() -> About {
    read("Show the lifecycle rules of a bucket", lifecycle_rule())
}

pub fn put_lifecycle() -> About {
    write("Replace the lifecycle rules of a bucket", lifecycle_rule())
}
