//! API tokens.

use super::schema::{self, count, flag, may, must, named, object, one_of, text, time};
use super::{About, about};

pub fn groups() -> About {
    let group = object([must("id", text()), must("name", text()), must("scopes", schema::list(text()))]);
    about("List permission groups")
        .query([may("name", text()), may("scope", text())])
        .gives(schema::list(group))
}

pub fn list() -> About {
    about("List tokens")
        .query([may("direction", one_of(&crate::call::DIRECTIONS))])
        .gives_pages_of(named("Token"))
}

pub fn create() -> About {
    let made = serde_json::json!({ "allOf": [named("Token"), object([must("value", text())])] });
    about("Create a token").takes_json(named("TokenTerms")).gives(made)
}

pub fn get() -> About {
    about("Get a token").gives(named("Token"))
}

pub fn update() -> About {
    about("Replace the terms of a token").takes_json(named("TokenTerms")).gives(named("Token"))
}

pub fn delete() -> About {
    about("Revoke a token").gives(object([must("id", text())]))
}

pub fn roll() -> About {
    about("Give a token another secret").gives(text())
}

pub fn audit() -> About {
    let entry = object([
        must("id", text()),
        must("when", time()),
        must("action", object([must("type", text()), must("result", flag())])),
        must("actor", object([must("type", text()), must("id", text())])),
        must("owner", object([must("id", text())])),
        must("interface", text()),
        must("metadata", object([must("status", count())])),
    ]);
    about("List what was changed, the newest first").paged().gives(schema::list(entry))
}
