//! What a call comes to that fails, as the engine's code for the binding reads it: the application gets an error of the
//! name `AiError` and the message `<code>: <text>`. Codes, statuses and texts are Cloudflare's.
//! <https://developers.cloudflare.com/workers-ai/platform/errors/>

use http::StatusCode;
use serde_json::json;
use skep_wire::Response;

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AiError {
    /// The HTTP status, which an application sees with `returnRawResponse`.
    pub status: StatusCode,
    /// Cloudflare's internal code.
    pub code: u32,
    /// For the application.
    pub text: String,
}

impl AiError {
    fn new(status: StatusCode, code: u32, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into() }
    }

    /// The upstream does not know the model, or it does not do what it is asked for.
    pub(crate) fn no_such_model(model: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 5007, format!("No such model {model} or task"))
    }

    /// A task that a server with OpenAI's API has no call for.
    pub(crate) fn untranslated(model: &str, task: &str) -> Self {
        let mut error = Self::no_such_model(model);
        error.text.push_str(&format!(
            ": Skep cannot ask a server with OpenAI's API for {task}; with `--ai cloudflare` the model runs at Cloudflare"
        ));
        error
    }

    /// No name that a model could have.
    pub(crate) fn bad_name() -> Self {
        Self::new(StatusCode::NOT_FOUND, 3042, "The model name is invalid")
    }

    /// Inputs that the model's schema does not allow.
    pub(crate) fn bad_input(text: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 5006, format!("Error: {text}"))
    }

    /// A field of the wrong type.
    pub(crate) fn mismatch(field: &str, expected: &str, found: &str) -> Self {
        Self::bad_input(format!("Type mismatch of '/{field}', '{expected}' not in '{found}'"))
    }

    /// What should be base64 and is not.
    pub(crate) fn bad_base64(kind: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 5004, format!("Invalid data type for base64 input: {kind}"))
    }

    pub(crate) fn no_lora(model: &str) -> Self {
        let text = format!("The model {model} does not support LoRa inference");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, 5005, text)
    }

    pub(crate) fn incomplete(what: &str) -> Self {
        let text = format!("Request is missing headers or body: {what}");
        Self::new(StatusCode::BAD_REQUEST, 3003, text)
    }

    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, 3006, "Request is too large")
    }

    pub(crate) fn timed_out() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, 3007, "Request timeout")
    }

    /// Too much at once, here or at the upstream.
    pub(crate) fn busy() -> Self {
        let text = "Capacity temporarily exceeded, please try again.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, 3040, text)
    }

    /// The model's answer is no JSON although it was asked for.
    pub(crate) fn no_json() -> Self {
        Self::new(StatusCode::BAD_REQUEST, 5024, "JSON Mode couldn't be met")
    }

    /// Nobody has said where models run.
    pub(crate) fn no_upstream() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            3023,
            "Service unavailable for account: Skep runs no models itself. Start it with `--ai URL`, the address of a server \
             with OpenAI's API such as http://127.0.0.1:11434 (Ollama), or with `--ai cloudflare`",
        )
    }

    /// Something that is there at Cloudflare and not here.
    pub(crate) fn absent(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            3023,
            format!("Service unavailable for account: Skep does not have {what}"),
        )
    }

    /// The upstream failed. `why` is for the application: no address, no key, no text of the upstream's.
    pub(crate) fn failed(why: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 3043, format!("Internal server error: {why}"))
    }

    /// As an answer to `run`.
    pub(crate) fn of_run(&self) -> Response {
        let body = json!({
            "internalCode": self.code, "name": "AiError", "description": self.text,
            "message": format!("AiError: {}", self.text),
        });
        skep_wire::json(self.status, &body)
    }

    /// An answer to `run` that was an error.
    pub(crate) fn of_answer(status: StatusCode, body: &[u8]) -> Self {
        let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let code = said["internalCode"].as_u64().and_then(|code| u32::try_from(code).ok());
        match (code, said["description"].as_str()) {
            (Some(code), Some(text)) => Self::new(status, code, text),
            _ => Self::failed("the answer is not understood"),
        }
    }

    /// As an answer to `run` over the REST API.
    pub(crate) fn of_rest(&self) -> Response {
        let errors = json!([{ "message": format!("AiError: {}", self.text), "code": self.code }]);
        let body = json!({ "errors": errors, "success": false, "result": {}, "messages": [] });
        skep_wire::json(self.status, &body)
    }

    /// As an answer to the other methods, which read Cloudflare's envelope.
    pub(crate) fn in_envelope(&self) -> Response {
        let errors = json!([{ "code": self.code, "message": self.text }]);
        let body = json!({ "success": false, "errors": errors, "messages": [], "result": null });
        skep_wire::json(self.status, &body)
    }
}
