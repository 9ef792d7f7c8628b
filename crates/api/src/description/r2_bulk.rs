//! Many objects at once.

use super::r2::place;
use super::schema::{count, either, fields, list, may, must, object, text};
use super::{About, JSON, about};

pub fn delete() -> About {
    let deleted = list(object([must("key", text())]));
    about("Delete the objects of a list, or all with a prefix")
        .headers([place()])
        .query([may("prefix", text())])
        .may_take(JSON, list(text()))
        .gives(either([deleted, fields()]))
}

pub fn metrics() -> About {
    let names = ["objects", "payloadSize", "metadataSize"];
    let class = || object([must("published", object(names.map(|name| must(name, count()))))]);
    about("Say how much all buckets hold")
        .headers([place()])
        .gives(object([must("standard", class()), must("infrequentAccess", class())]))
}
