//! JSON Schemas, written short; and whether a document is what one says.

use serde_json::{Map, Value as Json, json};

/// A field of an object, a parameter of a query.
pub(crate) struct Field {
    pub name: &'static str,
    pub required: bool,
    pub schema: Json,
}

/// A field that is there.
pub(crate) fn must(name: &'static str, schema: Json) -> Field {
    Field { name, required: true, schema }
}

/// A field that may be left out.
pub(crate) fn may(name: &'static str, schema: Json) -> Field {
    Field { name, required: false, schema }
}

/// A field that may be left out or null.
pub(crate) fn opt(name: &'static str, schema: Json) -> Field {
    may(name, or_null(schema))
}

pub(crate) fn object(fields: impl IntoIterator<Item = Field>) -> Json {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for field in fields {
        if field.required {
            required.push(field.name);
        }
        properties.insert(field.name.to_owned(), field.schema);
    }
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// An object of any keys.
pub(crate) fn map(values: Json) -> Json {
    json!({ "type": "object", "additionalProperties": values })
}

pub(crate) fn list(items: Json) -> Json {
    json!({ "type": "array", "items": items })
}

pub(crate) fn text() -> Json {
    json!({ "type": "string" })
}

/// A text of so many characters.
pub(crate) fn text_of(least: usize, most: usize) -> Json {
    json!({ "type": "string", "minLength": least, "maxLength": most })
}

pub(crate) fn pattern(pattern: &str) -> Json {
    json!({ "type": "string", "pattern": pattern })
}

pub(crate) fn one_of(values: &[&str]) -> Json {
    json!({ "type": "string", "enum": values })
}

pub(crate) fn time() -> Json {
    json!({ "type": "string", "format": "date-time" })
}

pub(crate) fn flag() -> Json {
    json!({ "type": "boolean" })
}

pub(crate) fn number() -> Json {
    json!({ "type": "number" })
}

/// A whole number of these bounds.
pub(crate) fn whole(least: u64, most: u64) -> Json {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

/// A whole number without an end.
pub(crate) fn at_least(least: u64) -> Json {
    json!({ "type": "integer", "minimum": least })
}

/// A whole number from 0.
pub(crate) fn count() -> Json {
    at_least(0)
}

pub(crate) fn null() -> Json {
    json!({ "type": "null" })
}

/// Anything.
pub(crate) fn any() -> Json {
    json!({})
}

/// Any object.
pub(crate) fn fields() -> Json {
    json!({ "type": "object" })
}

pub(crate) fn either(schemas: impl IntoIterator<Item = Json>) -> Json {
    json!({ "anyOf": schemas.into_iter().collect::<Vec<_>>() })
}

pub(crate) fn or_null(schema: Json) -> Json {
    either([schema, null()])
}

/// A schema of the document's `components`.
pub(crate) fn named(name: &str) -> Json {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// What of `value` is not as `schema` says: where, and what is wrong. Only wrong types, and what is missing below the
/// top: the rest is for whoever knows what it means.
pub(crate) fn fault(schema: &Json, value: &Json) -> Option<(String, String)> {
    if let Some(reference) = schema["$ref"].as_str() {
        return fault(super::shapes::of(reference)?, value);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let faults: Option<Vec<_>> = choices.iter().map(|choice| fault(choice, value)).collect();
        // The one that got furthest says most.
        return faults?.into_iter().reduce(|a, b| if b.0.len() > a.0.len() { b } else { a });
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return parts.iter().find_map(|part| fault(part, value));
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("null") => value.is_null(),
        _ => true,
    };
    if !fits {
        return Some((String::new(), format!("must be {}", expected(schema))));
    }
    match value {
        Json::Object(values) => values.iter().find_map(|(key, inner)| {
            let own = &schema["properties"][key];
            let schema = if own.is_null() { &schema["additionalProperties"] } else { own };
            within(schema, inner).map(|(at, what)| (format!(".{key}{at}"), what))
        }),
        Json::Array(values) => values.iter().enumerate().find_map(|(n, inner)| {
            within(&schema["items"], inner).map(|(at, what)| (format!("[{n}]{at}"), what))
        }),
        _ => None,
    }
}

/// The same below the top, where what is missing has no code of its own.
fn within(schema: &Json, value: &Json) -> Option<(String, String)> {
    if let Some(reference) = schema["$ref"].as_str() {
        return within(super::shapes::of(reference)?, value);
    }
    fault(schema, value).or_else(|| {
        let mut required = schema["required"].as_array()?.iter().filter_map(Json::as_str);
        let missing = required.find(|name| value.get(name).is_none())?;
        Some((format!(".{missing}"), "is missing".into()))
    })
}

fn expected(schema: &Json) -> String {
    match schema["type"].as_str().unwrap_or_default() {
        kind @ ("object" | "array" | "integer") => format!("an {kind}"),
        "null" => "null".into(),
        kind => format!("a {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_with_its_place() {
        let schema = object([
            must("name", text()),
            opt("size", whole(1, 10)),
            may("all", list(object([must("on", flag())]))),
            may("env", map(or_null(object([opt("text", text())])))),
        ]);
        let wrong = |value: Json| fault(&schema, &value).map(|(at, what)| format!("{at} {what}"));
        assert_eq!(wrong(json!({ "name": "n", "size": null, "all": [{ "on": true }], "more": [1] })), None);
        assert_eq!(wrong(json!({ "size": 11 })), None, "bounds, and presence at the top, are for others");
        assert_eq!(wrong(json!([])).unwrap(), " must be an object");
        assert_eq!(wrong(json!({ "name": 1 })).unwrap(), ".name must be a string");
        assert_eq!(wrong(json!({ "size": "1" })).unwrap(), ".size must be an integer");
        assert_eq!(wrong(json!({ "size": 1.5 })).unwrap(), ".size must be an integer");
        assert_eq!(
            wrong(json!({ "all": [{ "on": false }, { "on": 1 }] })).unwrap(),
            ".all[1].on must be a boolean"
        );
        assert_eq!(wrong(json!({ "all": [{}] })).unwrap(), ".all[0].on is missing");
        assert_eq!(wrong(json!({ "all": [[]] })).unwrap(), ".all[0] must be an object");
        assert_eq!(wrong(json!({ "env": { "A": { "text": 1 } } })).unwrap(), ".env.A.text must be a string");
    }
}
