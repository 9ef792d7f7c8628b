//! KV.

use skep_kv::{MAX_BULK_GET_KEYS, MAX_BULK_WRITE_KEYS, MAX_LIST_KEYS};

use super::schema::{
    self, any, at_least, count, fields, flag, map, may, must, named, object, one_of, opt, text, text_of,
    whole,
};
use super::{About, BYTES, FORM, about};
use crate::call::DIRECTIONS;
use crate::kv::{MAX_TITLE, ORDERS};

fn title() -> serde_json::Value {
    object([must("title", text_of(1, MAX_TITLE))])
}

fn counted() -> serde_json::Value {
    object([must("successful_key_count", count()), must("unsuccessful_keys", schema::list(text()))])
}

fn some_keys(most: usize) -> serde_json::Value {
    serde_json::json!({ "type": "array", "items": text(), "maxItems": most })
}

pub fn list() -> About {
    about("List KV namespaces")
        .query([may("order", one_of(&ORDERS)), may("direction", one_of(&DIRECTIONS))])
        .gives_pages_of(named("Namespace"))
}

pub fn create() -> About {
    about("Create a KV namespace").takes_json(title()).gives(named("Namespace"))
}

pub fn get() -> About {
    about("Get a KV namespace").gives(named("Namespace"))
}

pub fn rename() -> About {
    about("Rename a KV namespace").takes_json(title()).gives(named("Namespace"))
}

pub fn delete() -> About {
    about("Delete a KV namespace with all that is in it").gives(fields())
}

pub fn keys() -> About {
    let key = object([must("name", text()), may("expiration", count()), may("metadata", any())]);
    about("List the keys of a KV namespace")
        .query([may("prefix", text()), may("cursor", text()), may("limit", whole(1, MAX_LIST_KEYS as u64))])
        .gives_part(schema::list(key), object([must("count", count()), must("cursor", text())]))
}

pub fn value() -> About {
    about("Read a value").gives_raw(BYTES)
}

pub fn value_metadata() -> About {
    about("Read the metadata of a value").gives(any())
}

pub fn put() -> About {
    about("Write a value, in a form with metadata")
        .query([may("expiration", count()), may("expiration_ttl", at_least(skep_kv::MIN_TTL_SECS))])
        .may_take(BYTES, any())
        .takes(FORM, object([must("value", text()), may("metadata", any())]))
        .gives(fields())
}

pub fn delete_value() -> About {
    about("Delete a value").gives(fields())
}

pub fn put_bulk() -> About {
    let pair = object([
        must("key", text()),
        must("value", text()),
        may("base64", flag()),
        opt("expiration", count()),
        opt("expiration_ttl", count()),
        may("metadata", any()),
    ]);
    let pairs = serde_json::json!({ "type": "array", "items": pair, "maxItems": MAX_BULK_WRITE_KEYS });
    about("Write many values").takes_json(pairs).gives(counted())
}

pub fn delete_bulk() -> About {
    about("Delete many values").takes_json(some_keys(MAX_BULK_WRITE_KEYS)).gives(counted())
}

pub fn get_bulk() -> About {
    about("Read many values")
        .takes_json(object([
            must("keys", some_keys(MAX_BULK_GET_KEYS)),
            opt("type", one_of(&["text", "json"])),
            may("withMetadata", flag()),
        ]))
        .gives(object([must("values", map(any()))]))
}
