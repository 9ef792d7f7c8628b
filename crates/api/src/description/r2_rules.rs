//! The rules of a bucket.

use serde_json::Value as Json;

use super::r2::place;
use super::schema::{at_least, either, fields, flag, list, must, object, one_of, opt, text, time};
use super::{About, about};

fn rules(rule: Json) -> Json {
    object([opt("rules", list(rule))])
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

pub fn locks() -> About {
    read("Show the lock rules of a bucket", lock())
}

pub fn put_locks() -> About {
    write("Replace the lock rules of a bucket", lock())
}
