//! Workers as objects of their own.

use serde_json::Value as Json;

use super::schema::{Field, flag, list, may, must, named, object, opt, text};
use super::{About, about};

fn settings() -> Vec<Field> {
    let subdomain = object([opt("enabled", flag()), opt("previews_enabled", flag())]);
    vec![
        opt("logpush", flag()),
        opt("observability", super::schema::fields()),
        opt("tags", list(text())),
        opt("tail_consumers", list(object([must("name", text())]))),
        opt("subdomain", subdomain),
    ]
}

fn with_name(name: Field) -> Json {
    object(settings().into_iter().chain([name]))
}

pub fn create() -> About {
    about("Make a Worker without a version")
        .takes_json(with_name(must("name", text())))
        .gives(named("Worker"))
}

pub fn put() -> About {
    about("Set all settings of a Worker").takes_json(with_name(may("name", text()))).gives(named("Worker"))
}

pub fn patch() -> About {
    about("Change settings of a Worker").takes_json(with_name(may("name", text()))).gives(named("Worker"))
}
