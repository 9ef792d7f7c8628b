//! Static assets.

use http::StatusCode;
use serde_json::Value as Json;

use super::schema::{list, map, must, null, object, pattern, text, whole};
use super::{About, BYTES, FORM, JSON, about, envelope};
use crate::assets::MAX_FILE;

pub fn session() -> About {
    let file = object([must("hash", pattern("^[0-9a-fA-F]{32}$")), must("size", whole(0, MAX_FILE))]);
    about("Start an upload of assets: says which are not there yet")
        .takes_json(object([must("manifest", map(file))]))
        .gives(object([must("jwt", text()), must("buckets", list(list(text())))]))
}

/// More to come, or all is there.
fn received(about: About) -> About {
    let jwt = |schema: Json| Some((JSON, envelope(object([must("jwt", schema)]), None)));
    about.answers(StatusCode::ACCEPTED, jwt(null())).answers(StatusCode::CREATED, jwt(text())).session()
}

pub fn upload() -> About {
    received(about("Upload assets: parts named by their hashes, in base64").takes(FORM, map(text())))
}

pub fn upload_one() -> About {
    received(about("Upload one asset as it is").takes(BYTES, super::schema::any()))
}
