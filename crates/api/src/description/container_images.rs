//! Images of containers.

use skep_registry::MOST_MINUTES;

use super::schema::{fields, list as many, may, must, object, one_of, text};
use super::{About, about};

pub fn list() -> About {
    about("List image registries beside the node's own").gives(many(fields()))
}

pub fn add() -> About {
    about("Add an image registry").refused()
}

pub fn remove() -> About {
    about("Remove an image registry").refused()
}

pub fn credentials() -> About {
    let minutes = serde_json::json!({ "type": "number", "minimum": 1, "maximum": MOST_MINUTES });
    let permissions =
        serde_json::json!({ "type": "array", "items": one_of(&["push", "pull"]), "minItems": 1 });
    about("Get credentials for the node's image registry")
        .takes_json(object([must("expiration_minutes", minutes), must("permissions", permissions)]))
        .gives(object([
            must("account_id", text()),
            must("registry_host", text()),
            must("username", text()),
            must("password", text()),
        ]))
}

pub fn prepare() -> About {
    about("Say whether an image can run")
        .takes_json(object([must("image", text())]))
        .gives(object([must("status", one_of(&["ready", "error"])), may("reason", text())]))
}
