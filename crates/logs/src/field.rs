//! Fields of events by their names: `$metadata.requestId`, `$workers.event.request.path`, `user.id`. Pure.

use serde_json::Value as Json;

/// Deeper is not looked at, nor more fields of one event than this.
const MAX_DEPTH: usize = 12;
const MAX_FIELDS: usize = 1000;

/// The value of the field `key`. What the script itself logged has no prefix.
pub(crate) fn get<'a>(event: &'a Json, key: &str) -> Option<&'a Json> {
    match key {
        "timestamp" | "dataset" => event.get(key),
        _ if key.starts_with("$metadata.") || key.starts_with("$workers.") => below(event, key),
        _ => below(&event["source"], key),
    }
}

/// A name may hold dots itself: `{"a.b": 1}`.
fn below<'a>(value: &'a Json, key: &str) -> Option<&'a Json> {
    let child = |name: &str| match value {
        Json::Object(fields) => fields.get(name),
        Json::Array(items) => name.parse::<usize>().ok().and_then(|n| items.get(n)),
        _ => None,
    };
    if let Some(found) = child(key) {
        return Some(found);
    }
    key.match_indices('.').find_map(|(dot, _)| below(child(&key[..dot])?, &key[dot + 1..]))
}

/// All fields of an event that are no objects or lists, by name.
pub(crate) fn each<'a>(event: &'a Json, mut visit: impl FnMut(&str, &'a Json)) {
    let mut left = MAX_FIELDS;
    let mut name = String::new();
    for key in ["timestamp", "dataset"] {
        if let Some(value) = event.get(key) {
            visit(key, value);
        }
    }
    for prefix in ["$metadata", "$workers"] {
        name.push_str(prefix);
        walk(&event[prefix], &mut name, 0, &mut left, &mut visit);
        name.clear();
    }
    walk(&event["source"], &mut name, 0, &mut left, &mut visit);
}

fn walk<'a>(
    value: &'a Json,
    name: &mut String,
    depth: usize,
    left: &mut usize,
    visit: &mut impl FnMut(&str, &'a Json),
) {
    if depth > MAX_DEPTH || *left == 0 {
        return;
    }
    let mut step = |part: &str, inner: &'a Json, left: &mut usize| {
        let before = name.len();
        if before > 0 {
            name.push('.');
        }
        name.push_str(part);
        walk(inner, name, depth + 1, left, visit);
        name.truncate(before);
    };
    match value {
        Json::Object(fields) => fields.iter().for_each(|(key, inner)| step(key, inner, left)),
        Json::Array(items) => {
            items.iter().enumerate().for_each(|(n, inner)| step(&n.to_string(), inner, left))
        }
        Json::Null => {}
        value => {
            *left -= 1;
            visit(name, value);
        }
    }
}

/// What a value is called in filters; objects, lists and null have no name.
pub(crate) fn kind(value: &Json) -> Option<&'static str> {
    match value {
        Json::String(_) => Some("string"),
        Json::Number(_) => Some("number"),
        Json::Bool(_) => Some("boolean"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_found_by_the_name_that_it_is_listed_under() {
        let event = json!({
            "timestamp": 7, "dataset": "d",
            "$metadata": { "id": "x" },
            "$workers": { "event": { "request": { "headers": { "user-agent": "curl" } } } },
            "source": { "user": { "id": 1 }, "a.b": { "c.d": true }, "list": ["x", { "y": "z" }], "none": null, "": "e" },
        });
        let mut seen = Vec::new();
        each(&event, |name, value| {
            assert_eq!(get(&event, name), Some(value), "{name}");
            seen.push(name.to_owned());
        });
        let expected = [
            "timestamp",
            "dataset",
            "$metadata.id",
            "$workers.event.request.headers.user-agent",
            "user.id",
            "a.b.c.d",
            "list.0",
            "list.1.y",
            "",
        ];
        assert_eq!(seen, expected);
        for missing in ["id", "$metadata.none", "user.id.more", "list.2", "user"] {
            assert!(get(&event, missing).is_none_or(Json::is_object), "{missing}");
        }
    }
}
