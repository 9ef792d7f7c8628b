//! Vectorize.

use serde_json::Value as Json;
use skep_vectorize::{DIMENSIONS, MAX_LIST, MAX_NAME_BYTES};

use super::schema::{
    any, count, either, fields, list as many, may, must, named, null, number, object, one_of, opt, or_null,
    pattern, text, text_of, time, whole,
};
use super::{About, FORM, about};
use crate::vectorize::{PRESETS, UNPARSABLE};

const LINES: &str = "application/x-ndjson";

/// As the API shows it.
pub(super) fn shape() -> Json {
    object([
        must("name", text()),
        must("description", text()),
        must("config", config()),
        must("created_on", time()),
        must("modified_on", time()),
    ])
}

fn config() -> Json {
    let (least, most) = (*DIMENSIONS.start() as u64, *DIMENSIONS.end() as u64);
    object([
        must("dimensions", whole(least, most)),
        must("metric", one_of(&["cosine", "euclidean", "dot-product"])),
    ])
}

fn vector() -> Json {
    object([
        must("id", text()),
        must("values", many(number())),
        may("metadata", fields()),
        may("namespace", text()),
    ])
}

fn mutation(about: About) -> About {
    about.gives(object([must("mutationId", text())]))
}

fn ids() -> Json {
    object([must("ids", many(text()))])
}

fn kind() -> Json {
    one_of(&["string", "number", "boolean"])
}

pub fn list() -> About {
    about("List Vectorize indexes").gives(many(named("VectorizeIndex")))
}

pub fn create() -> About {
    let presets = PRESETS.map(|(name, ..)| name);
    let config = either([config(), object([must("preset", one_of(&presets))])]);
    about("Create a Vectorize index")
        .takes_json(object([
            must("name", pattern(&format!("^[A-Za-z0-9_-]{{1,{MAX_NAME_BYTES}}}$"))),
            opt("description", text()),
            must("config", config),
        ]))
        .gives(named("VectorizeIndex"))
}

pub fn get() -> About {
    about("Get a Vectorize index").gives(named("VectorizeIndex"))
}

pub fn delete() -> About {
    about("Delete a Vectorize index with all that is in it").gives(null())
}

pub fn info() -> About {
    about("Count the vectors of an index").gives(object([
        must("dimensions", count()),
        must("vectorCount", count()),
        must("processedUpToDatetime", time()),
        must("processedUpToMutation", text()),
    ]))
}

fn taking_vectors(summary: &'static str) -> About {
    let about = about(summary).query([may("unparsable-behavior", one_of(&UNPARSABLE))]);
    mutation(about.takes(LINES, text()).takes(FORM, object([must("vectors", text())])))
}

pub fn insert() -> About {
    taking_vectors("Insert vectors whose ids are new")
}

pub fn upsert() -> About {
    taking_vectors("Insert vectors, or replace those that have their ids")
}

pub fn query() -> About {
    let found = object([
        must("id", text()),
        must("score", number()),
        may("values", many(number())),
        may("metadata", fields()),
        may("namespace", text()),
    ]);
    about("Find the nearest vectors")
        .takes_json(object([
            opt("vector", many(number())),
            opt("vectorId", text()),
            opt("topK", number()),
            opt("returnValues", super::schema::flag()),
            opt("returnMetadata", any()),
            opt("namespace", text()),
            opt("filter", any()),
        ]))
        .gives(object([must("count", count()), must("matches", many(found))]))
}

pub fn get_by_ids() -> About {
    about("Get vectors").takes_json(ids()).gives(many(vector()))
}

pub fn delete_by_ids() -> About {
    mutation(about("Delete vectors").takes_json(ids()))
}

pub fn list_vectors() -> About {
    about("List the ids of vectors")
        .query([may("count", whole(1, MAX_LIST as u64)), may("cursor", text())])
        .gives(object([
            must("count", count()),
            must("totalCount", count()),
            must("isTruncated", super::schema::flag()),
            must("nextCursor", or_null(text())),
            must("cursorExpirationTimestamp", null()),
            must("vectors", many(object([must("id", text())]))),
        ]))
}

pub fn create_metadata_index() -> About {
    let asked = object([must("propertyName", text_of(1, 512)), must("indexType", kind())]);
    mutation(about("Create a metadata index").takes_json(asked))
}

pub fn list_metadata_indexes() -> About {
    let index = object([must("propertyName", text()), must("indexType", kind())]);
    about("List metadata indexes").gives(object([must("metadataIndexes", many(index))]))
}

pub fn delete_metadata_index() -> About {
    mutation(about("Delete a metadata index").takes_json(object([must("propertyName", text())])))
}
