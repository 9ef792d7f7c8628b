//! Documents with anything in them: they are read or refused, and nothing panics.

#[path = "../../../tests/shared/odd_json.rs"]
mod odd_json;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::exports::Exports;
use crate::tail_filter::Filter;
use crate::{flags, limits, migrations, observability, upload};

/// An upload's metadata with everything that is read without the catalog.
fn metadata() -> Json {
    json!({
        "migrations": { "old_tag": "v1", "new_tag": "v3", "steps": [
            { "new_sqlite_classes": ["A"], "renamed_classes": [{ "from": "B", "to": "C" }] },
            { "deleted_classes": ["D"], "transferred_classes": [{ "from": "E", "from_script": "s", "to": "F" }] } ] },
        "exports": { "A": { "type": "durable-object", "storage": "sqlite" },
            "B": { "type": "durable-object", "state": "renamed", "renamed_to": "A" },
            "C": { "type": "durable-object", "state": "deleted" }, "default": { "type": "worker", "cache": {} } },
        "limits": { "cpu_ms": 50, "subrequests": 10 },
        "observability": { "enabled": true, "head_sampling_rate": 0.5, "logs": { "enabled": true }, "traces": { "destinations": [] } },
        "annotations": { "workers/message": "m", "workers/tag": "t" },
        "compatibility_flags": ["nodejs_compat"],
    })
}

fn filters() -> Json {
    json!([
        { "sampling_rate": 0.5 }, { "outcome": ["ok"] }, { "method": ["GET"] }, { "client_ip": ["self"] }, { "query": "foo" },
        { "header": { "key": "X-A", "query": "b" } }, { "scriptVersion": "v" },
    ])
}

fn event() -> Json {
    json!({
        "outcome": "ok", "scriptVersion": { "id": "v" }, "logs": [{ "message": ["foo", 1] }],
        "event": { "request": { "method": "GET", "headers": { "x-a": "abc", "cf-connecting-ip": "10.0.0.1" } } },
    })
}

proptest! {
    #[test]
    fn any_value_may_stand_anywhere_in_metadata(changes in odd_json::changes()) {
        let metadata = odd_json::with(metadata(), changes);
        let _ = migrations::read(&metadata["migrations"]);
        let _ = Exports::read(&metadata["exports"]);
        let _ = limits::check(&metadata["limits"]);
        let _ = observability::check(metadata.get("observability"));
        let _ = upload::annotations(&metadata["annotations"]);
        if let Ok(own) = serde_json::from_value::<Vec<String>>(metadata["compatibility_flags"].clone()) {
            let _ = flags::check(&own);
        }
    }

    #[test]
    fn any_filter_takes_any_event_or_not(
        changes in odd_json::changes(), odd in odd_json::changes(), chance in 0.0f64..1.0,
    ) {
        if let Ok(filter) = Filter::read(&odd_json::with(filters(), changes), "10.0.0.1".into()) {
            filter.passes(&odd_json::with(event(), odd), chance);
        }
    }
}
