//! Questions about what scripts logged.

use serde_json::Value as Json;
use skep_logs::{CALCULATIONS, MAX_BUCKETS, MAX_GROUPS, MAX_KEYS, MAX_ROWS, OPERATIONS, VIEWS};

use super::schema::{
    Field, any, at_least, count, either, fields, flag, list, map, may, must, named, number, object, one_of,
    opt, text, whole,
};
use super::{About, JSON, about};

fn kind() -> Json {
    one_of(&["string", "number", "boolean"])
}

fn value() -> Json {
    either([text(), number(), flag()])
}

fn combination() -> Json {
    one_of(&["and", "or", "AND", "OR"])
}

fn needle() -> Json {
    object([must("value", value()), opt("isRegex", flag()), opt("matchCase", flag())])
}

pub(crate) fn filter() -> Json {
    let group = object([
        must("kind", one_of(&["group"])),
        must("filterCombination", combination()),
        must("filters", list(named("TelemetryFilter"))),
    ]);
    let leaf = object([
        must("key", text()),
        must("operation", one_of(&OPERATIONS)),
        must("type", kind()),
        opt("kind", one_of(&["filter"])),
        opt("value", value()),
    ]);
    either([group, leaf])
}

pub(crate) fn event() -> Json {
    object([
        must("dataset", text()),
        must("timestamp", count()),
        must("source", either([text(), fields()])),
        must("$metadata", object([must("id", text())])),
        may("$workers", object([must("scriptName", text()), must("eventType", text())])),
    ])
}

fn datasets() -> Field {
    opt("datasets", list(text()))
}

fn filters() -> Field {
    opt("filters", list(named("TelemetryFilter")))
}

fn timeframe() -> Field {
    must("timeframe", object([must("from", count()), must("to", count())]))
}

fn parameters() -> Json {
    let calculation = object([
        must("operator", one_of(&CALCULATIONS)),
        opt("key", text()),
        opt("keyType", kind()),
        opt("alias", text()),
    ]);
    let having = object([
        must("key", text()),
        must("operation", one_of(&["eq", "neq", "gt", "gte", "lt", "lte"])),
        must("value", number()),
    ]);
    object([
        datasets(),
        filters(),
        opt("filterCombination", combination()),
        opt("needle", needle()),
        opt("calculations", list(calculation)),
        opt("groupBys", list(object([must("type", kind()), must("value", text())]))),
        opt("havings", list(having)),
        opt("orderBy", object([must("value", text()), opt("order", one_of(&["asc", "desc"]))])),
        opt("limit", whole(1, MAX_GROUPS)),
    ])
}

fn calculations() -> Json {
    let group = object([must("key", text()), must("value", value())]);
    let aggregate = || {
        object([
            must("value", number()),
            must("count", count()),
            must("interval", number()),
            must("sampleInterval", number()),
            may("groups", list(group.clone())),
        ])
    };
    list(object([
        must("calculation", text()),
        may("alias", text()),
        must("aggregates", list(aggregate())),
        must("series", list(object([must("time", text()), must("data", list(aggregate()))]))),
    ]))
}

pub fn query() -> About {
    let statistics =
        || object([must("elapsed", number()), must("rows_read", count()), must("bytes_read", count())]);
    let body = object([
        must("queryId", text()),
        timeframe(),
        must("parameters", parameters()),
        opt("view", one_of(&VIEWS)),
        opt("limit", whole(1, MAX_ROWS)),
        opt("offset", text()),
        opt("offsetBy", whole(0, u64::from(u32::MAX))),
        opt("offsetDirection", one_of(&["next", "prev"])),
        opt("chart", flag()),
        opt("chartType", one_of(&["timeseries_and_aggregate", "timeseries", "aggregate"])),
        opt("compare", flag()),
        opt("dry", flag()),
        opt("granularity", whole(1, MAX_BUCKETS)),
        opt("ignoreSeries", flag()),
    ]);
    let run = object([
        must("id", text()),
        must("accountId", text()),
        must("dry", flag()),
        must("granularity", at_least(1)),
        must("query", fields()),
        must("status", one_of(&["STARTED", "COMPLETED"])),
        must("timeframe", fields()),
        must("userId", text()),
        must("statistics", statistics()),
    ]);
    let events = object([
        must("events", list(named("TelemetryEvent"))),
        must("fields", list(object([must("key", text()), must("type", kind())]))),
        may("count", count()),
        may("series", list(fields())),
    ]);
    about("Ask about logs").takes_json(body).gives(object([
        must("run", run),
        must("statistics", statistics()),
        may("events", events),
        may("invocations", map(list(named("TelemetryEvent")))),
        may("calculations", calculations()),
        may("compare", calculations()),
    ]))
}

pub fn keys() -> About {
    let body = object([
        datasets(),
        filters(),
        opt("from", count()),
        opt("to", count()),
        opt("needle", needle()),
        opt("keyNeedle", needle()),
        opt("limit", whole(1, MAX_KEYS)),
    ]);
    let key = object([must("key", text()), must("type", kind()), must("lastSeenAt", count())]);
    about("List the fields of logs").may_take(JSON, body).gives(list(key))
}

pub fn values() -> About {
    let body = object([
        must("datasets", list(text())),
        must("key", text()),
        must("type", kind()),
        timeframe(),
        filters(),
        opt("needle", needle()),
        opt("limit", whole(1, MAX_KEYS)),
    ]);
    let value =
        object([must("dataset", text()), must("key", text()), must("type", kind()), must("value", any())]);
    about("List the values of a field of logs").takes_json(body).gives(list(value))
}
