//! Errors of the upstream as Workers AI's.

use http::StatusCode;
use serde_json::Value as Json;

use crate::error::AiError;
use crate::models::Target;

/// The longest text of an upstream that is passed on.
const LONGEST: usize = 1000;

/// What an answer that is no success comes to, and what the operator should know of it. Only what is said of the inputs
/// is passed on: a text about a key has the key in it.
pub(crate) fn failure(target: &Target, status: StatusCode, body: &[u8]) -> (AiError, String) {
    let said = text(body);
    let known = format!("the models' server answers {status} for \"{}\": {said}", target.upstream);
    let error = match status {
        StatusCode::NOT_FOUND => AiError::no_such_model(&target.name),
        _ if is_about_model(body) => AiError::no_such_model(&target.name),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => AiError::bad_input(said),
        StatusCode::PAYLOAD_TOO_LARGE => AiError::too_large(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => AiError::busy(),
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => AiError::timed_out(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            AiError::failed("the models' server does not accept Skep's key for it")
        }
        _ => AiError::failed("the models' server failed"),
    };
    (error, known)
}

fn is_about_model(body: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<Json>(body) else { return false };
    let error = &body["error"];
    error["code"] == "model_not_found" || error["param"] == "model"
}

/// What an error says: `{ error: { message } }`, `{ error }`, `{ message }`, `{ detail }`, or the text itself.
fn text(body: &[u8]) -> String {
    let parsed: Json = serde_json::from_slice(body).unwrap_or_default();
    let places = [&parsed["error"]["message"], &parsed["error"], &parsed["message"], &parsed["detail"]];
    let said = match places.into_iter().find_map(Json::as_str) {
        Some(said) => said.to_owned(),
        None if parsed.is_null() => String::from_utf8_lossy(body).into_owned(),
        None => parsed.to_string(),
    };
    said.trim().chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::target;
    use super::*;

    fn failed(status: u16, body: &Json) -> AiError {
        failure(&target("@cf/m"), StatusCode::from_u16(status).unwrap(), body.to_string().as_bytes()).0
    }

    #[test]
    fn errors_have_cloudflares_codes() {
        let said = |message: &str| json!({ "error": { "message": message, "type": "x" } });
        assert_eq!(failed(404, &said("model 'm' not found")), AiError::no_such_model("@cf/m"));
        assert_eq!(failed(400, &json!({ "error": { "code": "model_not_found" } })).code, 5007);
        assert_eq!(failed(400, &said("context is full")), AiError::bad_input("context is full"));
        assert_eq!(failed(422, &json!({ "detail": "no" })), AiError::bad_input("no"));
        assert_eq!(failed(400, &json!({ "error": "plain" })), AiError::bad_input("plain"));
        for (status, code) in [(429, 3040), (503, 3040), (413, 3006), (504, 3007), (500, 3043), (302, 3043)] {
            assert_eq!(failed(status, &said("")).code, code, "{status}");
        }
    }

    #[test]
    fn what_is_said_of_the_key_is_for_the_operator() {
        let body = json!({ "error": { "message": "Incorrect API key provided: sk-secret" } }).to_string();
        let (error, known) = failure(&target("m"), StatusCode::UNAUTHORIZED, body.as_bytes());
        assert!(!error.text.contains("sk-secret"));
        assert!(known.contains("sk-secret"));
    }
}
