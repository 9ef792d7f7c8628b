//! Durable Object namespaces.

use super::schema::{count, flag, list, may, must, object, text, whole};
use super::{About, about};
use crate::objects::OBJECTS;

pub fn namespaces() -> About {
    about("List Durable Object namespaces").gives_pages_of(object([
        must("id", text()),
        must("name", text()),
        must("script", text()),
        must("class", text()),
        must("use_sqlite", flag()),
        may("dispatch_namespace", text()),
    ]))
}

pub fn objects() -> About {
    let object_shown = object([must("id", text()), must("hasStoredData", flag())]);
    let (least, most) = (*OBJECTS.start() as u64, *OBJECTS.end() as u64);
    about("List the objects of a Durable Object namespace")
        .query([may("limit", whole(least, most)), may("cursor", text())])
        .gives_part(
            list(object_shown),
            object([must("count", count()), must("per_page", count()), may("cursor", text())]),
        )
}
