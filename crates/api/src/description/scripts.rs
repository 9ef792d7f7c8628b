//! Scripts.

use super::schema::{self, flag, may, must, named, null, object, one_of, text, time};
use super::{About, FORM, about};
use crate::scripts::ORDERS;

/// The metadata, and the modules under their names.
pub(super) fn upload() -> serde_json::Value {
    object([must("metadata", named("Metadata"))])
}

pub fn list() -> About {
    about("List Workers").gives(schema::list(named("Script")))
}

pub fn search() -> About {
    let texts = ["id", "script_name", "service_name", "environment_name"].map(|name| must(name, text()));
    let times = ["created_on", "modified_on"].map(|name| must(name, time()));
    let shown = object(texts.into_iter().chain(times).chain([must("environment_is_default", flag())]));
    about("Find Workers by a part of their name, or by their id")
        .query([may("name", text()), may("id", text()), may("order_by", one_of(&ORDERS))])
        .gives_pages_of(shown)
}

pub fn source() -> About {
    about("Download the modules of a Worker").gives_raw(FORM).gives_raw("application/javascript")
}

pub fn put() -> About {
    about("Upload a Worker and deploy it").takes(FORM, upload()).gives(named("Script"))
}

pub fn put_content() -> About {
    about("Replace the code of a Worker").takes(FORM, upload()).gives(named("Script"))
}

pub fn delete() -> About {
    about("Delete a Worker").gives(null())
}
