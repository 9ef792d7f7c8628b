//! R2.

use serde_json::Value as Json;
use skep_r2::MAX_LIST;

use super::schema::{
    self, Field, any, count, fields, flag, may, must, named, object, one_of, opt, pattern, text, whole,
};
use super::{About, BYTES, about};
use crate::call::{DIRECTIONS, MAX_PAGE};
use crate::r2::{JURISDICTION, STORAGE_CLASS};
use crate::r2_buckets::LOCATIONS;

pub(crate) fn class() -> Json {
    one_of(&["Standard", "InfrequentAccess"])
}

pub(super) fn place() -> Field {
    may(JURISDICTION, one_of(&["default", ""]))
}

pub fn list() -> About {
    about("List buckets")
        .headers([place()])
        .query([
            may("name_contains", text()),
            may("start_after", text()),
            may("cursor", text()),
            may("direction", one_of(&DIRECTIONS)),
            may("per_page", whole(1, MAX_PAGE)),
        ])
        .gives_part(
            object([must("buckets", schema::list(named("Bucket")))]),
            object([must("cursor", text()), must("per_page", count())]),
        )
}

pub fn create() -> About {
    about("Create a bucket")
        .headers([place()])
        .takes_json(object([
            must("name", pattern("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$")),
            opt("storageClass", class()),
            opt("locationHint", one_of(&LOCATIONS)),
        ]))
        .gives(named("Bucket"))
}

pub fn get() -> About {
    about("Get a bucket").headers([place()]).gives(named("Bucket"))
}

pub fn patch() -> About {
    about("Change the storage class of a bucket")
        .headers([place(), may(STORAGE_CLASS, class())])
        .gives(named("Bucket"))
}

pub fn delete() -> About {
    about("Delete an empty bucket").headers([place()]).gives(fields())
}

pub fn list_objects() -> About {
    let info = object([
        must("cursor", text()),
        must("is_truncated", flag()),
        must("delimited", schema::list(text())),
        must("per_page", count()),
    ]);
    about("List the objects of a bucket")
        .headers([place()])
        .query([
            may("prefix", text()),
            may("delimiter", text()),
            may("start_after", text()),
            may("cursor", text()),
            may("per_page", whole(1, u64::from(MAX_LIST))),
        ])
        .gives_part(schema::list(named("Object")), info)
}

pub fn get_object() -> About {
    about("Read an object").headers([place()]).gives_raw("*/*")
}

pub fn put_object() -> About {
    about("Write an object")
        .headers([place(), may(STORAGE_CLASS, class())])
        .may_take(BYTES, any())
        .gives(named("Object"))
}

pub fn delete_object() -> About {
    about("Delete an object").headers([place()]).gives(object([must("key", text())]))
}
