//! The API's description in OpenAPI 3.1, made of the router's table and of what [`crate::description`] says.

use std::sync::OnceLock;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value as Json, json};
use skep_wire::{full, reply};

use crate::BASE;
use crate::call::Call;
use crate::description::schema::named;
use crate::description::{JSON, Security, shapes};
use crate::reply::Answer;
use crate::router::{OPERATIONS, Operation};

fn shown(operation: &Operation) -> Json {
    let about = (operation.about)();
    let mut parameters: Vec<Json> = shapes::path_parameters(operation.path).collect();
    parameters.extend(about.parameters);
    let mut responses: Map<String, Json> = Map::new();
    for (status, content) in about.answers {
        let said = json!({ "description": status.canonical_reason().unwrap_or("Good") });
        let response = responses.entry(status.as_str()).or_insert(said);
        if let Some((kind, schema)) = content {
            response["content"][kind] = json!({ "schema": schema });
        }
    }
    for range in ["4XX", "5XX"] {
        responses.insert(range.into(), json!({ "$ref": format!("#/components/responses/{range}") }));
    }
    let mut shown = json!({
        "operationId": operation_id(operation),
        "summary": about.summary,
        "parameters": parameters,
        "responses": responses,
        "security": match about.security {
            Security::Token => json!([{ "api_token": [] }, { "api_key": [] }]),
            Security::Session => json!([{ "assets_session": [] }]),
            Security::None => json!([]),
        },
    });
    if !about.bodies.is_empty() {
        let content: Map<String, Json> = about
            .bodies
            .into_iter()
            .map(|(kind, schema)| (kind.to_owned(), json!({ "schema": schema })))
            .collect();
        shown["requestBody"] = json!({ "required": about.needs_body, "content": content });
    }
    shown
}

/// `get-accounts-account-queues-queue`
fn operation_id(operation: &Operation) -> String {
    let words = operation.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.fold(operation.method.as_str().to_lowercase(), |id, word| id + "-" + word)
}

/// `/accounts/:account` to `/accounts/{account}`.
fn template(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.strip_prefix([':', '*']) {
        Some(name) => format!("{{{name}}}"),
        None => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// The whole description.
fn document() -> Json {
    let mut paths: Map<String, Json> = Map::new();
    for operation in OPERATIONS {
        let shown = shown(operation);
        paths.entry(template(operation.path)).or_insert_with(|| json!({}))
            [operation.method.as_str().to_lowercase()] = shown;
    }
    let failure = |description: &str| json!({ "description": description, "content": { JSON: { "schema": named("Failure") } } });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Skep",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The part of Cloudflare's v4 API that a node of Skep serves.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": BASE }],
        "paths": paths,
        "components": {
            "schemas": shapes::all(),
            "responses": {
                "4XX": failure("What was asked for cannot be; nothing was changed."),
                "5XX": failure("The node has a fault, or no room."),
            },
            "securitySchemes": {
                "api_token": { "type": "http", "scheme": "bearer", "description": "An API token." },
                "api_key": { "type": "apiKey", "in": "header", "name": "X-Auth-Key", "description": "An API token." },
                "assets_session": {
                    "type": "http", "scheme": "bearer", "description": "The `jwt` of an upload session for assets.",
                },
            },
        },
    })
}

/// `/openapi.json`: for anybody, since it says nothing of this node.
pub(crate) async fn get(_call: Call) -> Answer {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().to_string().into());
    let mut response = reply(StatusCode::OK, full(text.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references<'a>(value: &'a Json, found: &mut BTreeSet<&'a str>) {
        match value {
            Json::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Json::as_str));
                fields.values().for_each(|inner| references(inner, found));
            }
            Json::Array(items) => items.iter().for_each(|inner| references(inner, found)),
            _ => {}
        }
    }

    #[test]
    fn every_operation_is_described_once_and_with_an_answer() {
        let document = document();
        let mut ids = BTreeSet::new();
        for operation in OPERATIONS {
            let method = operation.method.as_str().to_lowercase();
            let shown = &document["paths"][template(operation.path)][&method];
            assert!(ids.insert(shown["operationId"].as_str().unwrap()), "{shown}");
            assert!(!shown["summary"].as_str().unwrap().is_empty());
            let open = shown["security"].as_array().unwrap().is_empty();
            let session = shown["security"][0].get("assets_session").is_some();
            assert_eq!(operation.open, open || session, "{} {}", operation.method, operation.path);
            let has_body = shown.get("requestBody").is_some();
            assert!(!has_body || operation.method != "GET", "{}", operation.path);
        }
        let described: usize =
            document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
        assert_eq!(described, OPERATIONS.len());
    }

    #[test]
    fn every_name_leads_somewhere_and_is_used() {
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in &found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(found.contains(format!("#/components/schemas/{name}").as_str()), "{name} is not used");
        }
    }
}
