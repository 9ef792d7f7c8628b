//! The form of every answer: `{success, errors, messages, result, result_info}`.

use http::StatusCode;
use serde_json::Value as Json;

use crate::error::{ApiErrorKind, ApiMessage};

/// An answer that says yes.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// HTTP's status.
    pub status: StatusCode,
    /// What was asked for.
    pub result: Json,
    /// Where a list goes on.
    pub info: Json,
}

/// The most of an answer that is quoted.
const EXCERPT: usize = 300;

/// Reads an answer. Like wrangler it goes by `success`, not by the status; a status that is an error is one, too.
pub(crate) fn read(status: StatusCode, body: &[u8], ray: Option<String>) -> Result<Envelope, ApiErrorKind> {
    if body.is_empty() && status.is_success() {
        return Ok(Envelope { status, result: Json::Null, info: Json::Null });
    }
    match serde_json::from_slice::<Json>(body) {
        Ok(json) if json["success"] == true && status.is_success() => {
            Ok(Envelope { status, result: json["result"].clone(), info: json["result_info"].clone() })
        }
        _ => Err(refusal(status, body, ray)),
    }
}

/// Reads an answer that does not say yes.
pub(crate) fn refusal(status: StatusCode, body: &[u8], ray: Option<String>) -> ApiErrorKind {
    let json = match serde_json::from_slice::<Json>(body) {
        Ok(json) if json.is_object() => json,
        _ => return ApiErrorKind::Malformed { status, excerpt: excerpt(body) },
    };
    let mut errors = messages(&json["errors"]);
    if errors.is_empty() {
        match json["error"].as_str() {
            Some(text) => errors.push(ApiMessage {
                code: json["code"].as_u64().unwrap_or(0),
                message: text.to_owned(),
                documentation: None,
                causes: Vec::new(),
            }),
            None if json.get("success").is_none() => {
                return ApiErrorKind::Malformed { status, excerpt: excerpt(body) };
            }
            None => {}
        }
    }
    ApiErrorKind::Refused { status, errors, ray }
}

fn messages(list: &Json) -> Vec<ApiMessage> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let message = |error: &Json| ApiMessage {
        code: error["code"].as_u64().unwrap_or(0),
        message: text(&error["message"]).or_else(|| text(error)).unwrap_or_else(|| error.to_string()),
        documentation: text(&error["documentation_url"]),
        causes: messages(&error["error_chain"]),
    };
    list.as_array().map(|list| list.iter().map(message).collect()).unwrap_or_default()
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..EXCERPT.min(body.len())).unwrap_or_default());
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if body.is_empty() { "it is empty".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn success_and_status_have_to_agree() {
        let yes =
            br#"{"success":true,"errors":[],"messages":[],"result":{"id":"x"},"result_info":{"page":1}}"#;
        let read_yes = read(StatusCode::OK, yes, None).unwrap();
        assert_eq!((&read_yes.result["id"], &read_yes.info["page"]), (&"x".into(), &1.into()));
        assert!(matches!(read(StatusCode::BAD_GATEWAY, yes, None), Err(ApiErrorKind::Refused { .. })));
        let no = br#"{"success":false,"errors":[{"code":10021,"message":"bad","error_chain":[{"code":1,"message":"why"}]}]}"#;
        let Err(ApiErrorKind::Refused { errors, .. }) = read(StatusCode::OK, no, None) else { panic!() };
        assert_eq!((errors[0].code, errors[0].message.as_str()), (10021, "bad"));
        assert_eq!(errors[0].causes[0].message, "why");
    }

    #[test]
    fn other_shapes_are_told_by_how_they_begin() {
        let page = read(StatusCode::BAD_GATEWAY, b"<html>\n  Bad gateway", None);
        assert!(
            matches!(page, Err(ApiErrorKind::Malformed { excerpt, .. }) if excerpt == "<html> Bad gateway")
        );
        let short = read(StatusCode::FORBIDDEN, br#"{"code":7,"error":"no"}"#, None);
        assert!(matches!(short, Err(ApiErrorKind::Refused { errors, .. }) if errors[0].message == "no"));
        assert!(read(StatusCode::NO_CONTENT, b"", None).unwrap().result.is_null());
    }

    proptest! {
        #[test]
        fn any_body_is_read(status in 200u16..600, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(StatusCode::from_u16(status).unwrap(), &body, None);
        }
    }
}
