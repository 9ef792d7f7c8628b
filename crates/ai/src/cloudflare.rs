//! Calls as Cloudflare's REST API takes them, and its answers as the binding does. Pure.
//! <https://developers.cloudflare.com/workers-ai/get-started/rest-api/>

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::error::AiError;

/// The path of a model below the account, with options that the REST API has in the query.
pub(crate) fn run_path(model: &str, query: &[(String, String)]) -> String {
    let path = format!("/ai/run/{model}");
    if query.is_empty() {
        return path;
    }
    let query: String = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{path}?{query}")
}

/// What of the binding's options goes into the query: a request that is answered later.
pub(crate) fn query_of(options: &Json) -> Vec<(String, String)> {
    match options["queueRequest"].as_bool() {
        Some(true) => vec![("queueRequest".to_owned(), "true".to_owned())],
        _ => Vec::new(),
    }
}

/// Inputs beside a body that is a file.
pub(crate) fn inputs_as_query(inputs: &Json) -> Vec<(String, String)> {
    let text = |value: &Json| match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fields = inputs.as_object().into_iter().flatten();
    fields.filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), text(value))).collect()
}

/// `options.gateway` as headers. <https://developers.cloudflare.com/ai-gateway/usage/rest-api/>
pub(crate) fn gateway_headers(gateway: &Json) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (option, header) in [
        ("id", "cf-aig-gateway-id"),
        ("skipCache", "cf-aig-skip-cache"),
        ("cacheTtl", "cf-aig-cache-ttl"),
        ("cacheKey", "cf-aig-cache-key"),
        ("metadata", "cf-aig-metadata"),
        ("collectLog", "cf-aig-collect-log"),
        ("eventId", "cf-aig-event-id"),
        ("requestTimeoutMs", "cf-aig-request-timeout"),
    ] {
        let text = match &gateway[option] {
            Json::Null => continue,
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(HeaderName::from_static(header), value);
        }
    }
    headers
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Failure {
    errors: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    code: u32,
    message: String,
}

/// The result in an answer of the API, which is what the binding gives; an answer without an envelope is one itself.
pub(crate) fn result_of(body: &str) -> &str {
    serde_json::from_str::<Envelope<'_>>(body).ok().and_then(|all| all.result).map_or(body, RawValue::get)
}

/// What an answer that is no success comes to, and what the operator should know of it.
pub(crate) fn failure(status: StatusCode, body: &[u8]) -> (AiError, String) {
    let said =
        serde_json::from_slice::<Failure>(body).ok().and_then(|failure| failure.errors.into_iter().next());
    let known = match &said {
        Some(said) => format!("Cloudflare answers {status}: {} (code {})", said.message, said.code),
        None => format!("Cloudflare answers {status}"),
    };
    let error = match said {
        _ if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) => {
            AiError::failed("Cloudflare does not accept Skep's token for it")
        }
        Some(said) if said.code != 0 => {
            let mut text = said.message.as_str();
            while let Some(rest) = text.strip_prefix("AiError: ") {
                text = rest;
            }
            AiError { status, code: said.code, text: text.to_owned() }
        }
        _ if status == StatusCode::TOO_MANY_REQUESTS => AiError::busy(),
        _ => AiError::failed("Cloudflare's API failed"),
    };
    (error, known)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_envelope_is_taken_off() {
        let all = json!({ "result": { "response": "hi", "n": 1.50 }, "success": true, "errors": [], "messages": [] });
        assert_eq!(result_of(&all.to_string()), r#"{"response":"hi","n":1.5}"#);
        assert_eq!(result_of(r#"{"result": [1.50,  2], "success": true}"#), "[1.50,  2]");
        assert_eq!(result_of(r#"{"id":"x","choices":[]}"#), r#"{"id":"x","choices":[]}"#);
        assert_eq!(result_of("no json"), "no json");
    }

    #[test]
    fn errors_keep_their_code_and_text() {
        let body = json!({ "success": false, "errors": [{ "code": 5007, "message": "AiError: AiError: No such model @cf/x or task" }] });
        let (error, _) = failure(StatusCode::BAD_REQUEST, body.to_string().as_bytes());
        assert_eq!(error, AiError::no_such_model("@cf/x"));
        let body = json!({ "errors": [{ "code": 10000, "message": "Authentication error: token abc" }] });
        let (error, known) = failure(StatusCode::UNAUTHORIZED, body.to_string().as_bytes());
        assert!(!error.text.contains("abc") && known.contains("abc"));
        assert_eq!(failure(StatusCode::BAD_GATEWAY, b"<html>").0.code, 3043);
    }

    #[test]
    fn options_go_where_the_rest_api_has_them() {
        assert_eq!(
            run_path("@cf/m", &query_of(&json!({ "queueRequest": true, "x": 1 }))),
            "/ai/run/@cf/m?queueRequest=true"
        );
        let inputs = inputs_as_query(&json!({ "detect_language": true, "keywords": "a b", "none": null }));
        assert_eq!(run_path("@cf/m", &inputs), "/ai/run/@cf/m?detect_language=true&keywords=a+b");
        let headers = gateway_headers(
            &json!({ "id": "g", "skipCache": true, "metadata": { "a": 1 }, "cacheKey": "\n" }),
        );
        assert_eq!(headers["cf-aig-gateway-id"], "g");
        assert_eq!(headers["cf-aig-skip-cache"], "true");
        assert_eq!(headers["cf-aig-metadata"], "{\"a\":1}");
        assert_eq!(headers.len(), 3);
    }
}
