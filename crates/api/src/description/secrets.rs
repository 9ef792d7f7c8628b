//! Secrets.

use super::schema::{self, map, may, must, named, null, object, one_of, opt, or_null, text, whole};
use super::{About, about};

fn written() -> serde_json::Value {
    object([must("name", text()), opt("text", text()), opt("type", one_of(&["secret_text"]))])
}

pub fn list() -> About {
    about("List the secrets of a Worker").gives(schema::list(named("Secret")))
}

pub fn get() -> About {
    about("Get a secret without its value").gives(named("Secret"))
}

pub fn put() -> About {
    about("Set a secret").takes_json(written()).gives(named("Secret"))
}

pub fn delete() -> About {
    about("Delete a secret").gives(null())
}

pub fn bulk() -> About {
    about("Set and delete secrets")
        .takes_json(object([must("secrets", map(or_null(written())))]))
        .gives(map(named("Secret")))
}

pub fn patch_latest() -> About {
    let secret = object([opt("text", text()), opt("type", one_of(&["secret_text"]))]);
    about("Make the next version, with other secrets")
        .query([may("deploy", schema::flag())])
        .takes_json(object([must("env", map(or_null(secret))), opt("annotations", schema::fields())]))
        .gives(object([must("id", text()), must("number", whole(1, u64::from(u32::MAX)))]))
}
