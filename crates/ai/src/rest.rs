//! Models for whoever asks over the REST API: the inputs are the body, the answer is in Cloudflare's envelope.
//! <https://developers.cloudflare.com/api/resources/ai/methods/run/>

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use skep_wire::{Request, Response, full, read_all};

use crate::error::AiError;
use crate::fields::Fields;
use crate::names;
use crate::openai::Endpoint;
use crate::server::{AiBinding, Given, MOST_ANSWER, Planned, name};
use crate::upstream::Upstream;

const JSON: &str = "application/json";
/// What a client says that was told nothing of the body: curl, also where Cloudflare's examples give it JSON.
const UNSAID: [&str; 2] = ["", "application/x-www-form-urlencoded"];
/// The type of a file of which nothing is said.
const FILE: &str = "application/octet-stream";

impl AiBinding {
    /// Runs `model` with the request's body as its inputs: JSON, or a file with the other inputs in the query. The result is in the
    /// envelope if it is JSON; a stream, a picture and a sound come as they are.
    pub async fn rest_run(&self, model: &str, request: Request) -> Response {
        let mut response = match self.rest_answer(model, request).await {
            Ok(response) => response,
            Err(error) => error.of_rest(),
        };
        name(&mut response);
        response
    }

    /// Answers a call in OpenAI's words, in these, or with an error in the envelope.
    pub async fn rest_openai(&self, endpoint: Endpoint, request: Request) -> Response {
        let mut response = match self.openai_answer(endpoint, request).await {
            Ok(response) => response,
            Err(error) => error.of_rest(),
        };
        name(&mut response);
        response
    }

    async fn openai_answer(&self, endpoint: Endpoint, request: Request) -> Result<Response, AiError> {
        let (upstream, _) = self.ai.upstream()?;
        let entered = self.room.enter()?;
        let (body, held) = self.body(request).await?;
        let inputs: &RawValue = serde_json::from_slice(&body).map_err(AiError::bad_input)?;
        let planned = match upstream {
            Upstream::Cloudflare { .. } => {
                let path = format!("/ai/v1{}", endpoint.path());
                Planned::Passed(upstream.request(Method::POST, &path, JSON, body.clone())?)
            }
            Upstream::OpenAi { models, .. } => {
                let fields = Fields::read(inputs)?;
                let Some(Json::String(model)) = fields.json("model")? else {
                    return Err(AiError::bad_input("required properties at '/' are 'model'"));
                };
                let target = models.find(&model)?;
                let call = endpoint.plan(&target, &fields)?;
                let request = upstream.request(Method::POST, call.path, &call.content_type, call.body)?;
                Planned::Translated { request, target, answer: call.answer }
            }
        };
        drop(body);
        let answer = self.carry_out(planned, (entered, held)).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        // Cloudflare's error, as the engine's code would read it.
        let (head, body) = answer.into_parts();
        let body = read_all(body, MOST_ANSWER).await.map_err(|_| AiError::failed("the answer broke off"))?;
        Err(AiError::of_answer(head.status, &body))
    }

    /// The models that there are, in the envelope; `query` has `search`, `task`, `author`, `page` and `per_page`.
    pub async fn rest_models(&self, query: Option<&str>) -> Response {
        self.models(query).await.unwrap_or_else(|error| error.in_envelope())
    }

    async fn rest_answer(&self, model: &str, request: Request) -> Result<Response, AiError> {
        if !self.ai.is_there() {
            return Err(AiError::no_upstream());
        }
        let said = request.headers().get(CONTENT_TYPE).and_then(|said| said.to_str().ok());
        let said = said.unwrap_or_default().to_owned();
        let others = inputs_of(request.uri().query().unwrap_or_default());
        if others.get("queueRequest").is_some_and(|queue| *queue == true) {
            return Err(AiError::absent("requests that are answered later: `queueRequest`"));
        }
        let entered = self.room.enter()?;
        let (body, held) = self.body(request).await?;
        names::check(model)?;
        let given = match kind(&said, &body) {
            Kind::Json => {
                let inputs: &RawValue = serde_json::from_slice(&body).map_err(AiError::bad_input)?;
                Given::Inputs { inputs, options: Json::Null }
            }
            Kind::File(content_type) => Given::File { content_type, others: others.into() },
        };
        let planned = self.plan(model, &given, &body)?;
        drop(body);
        in_envelope(self.carry_out(planned, (entered, held)).await?).await
    }
}

/// What a body is.
#[derive(Debug, PartialEq)]
enum Kind<'a> {
    Json,
    /// A file of this type.
    File(&'a str),
}

/// By the type that is said, and where none is, by how it begins.
fn kind<'a>(said: &'a str, body: &[u8]) -> Kind<'a> {
    let plain = said.split(';').next().unwrap_or_default().trim();
    let begins = body.iter().find(|byte| !byte.is_ascii_whitespace());
    match UNSAID.iter().any(|none| none.eq_ignore_ascii_case(plain)) {
        true if begins == Some(&b'{') || body.is_empty() => Kind::Json,
        true => Kind::File(FILE),
        false if plain.eq_ignore_ascii_case(JSON) => Kind::Json,
        false => Kind::File(said),
    }
}

/// Inputs beside a file, which are texts in a query: numbers and truth values are what they look like.
fn inputs_of(query: &str) -> Map<String, Json> {
    let value = |text: &str| match serde_json::from_str(text) {
        Ok(value @ (Json::Bool(_) | Json::Number(_))) => value,
        _ => text.into(),
    };
    form_urlencoded::parse(query.as_bytes()).map(|(name, text)| (name.into_owned(), value(&text))).collect()
}

/// The answer that the engine's code would read, as the REST API gives it.
async fn in_envelope(response: Response) -> Result<Response, AiError> {
    let (mut head, body) = response.into_parts();
    let is_json =
        head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(JSON.as_bytes()));
    if !is_json {
        return Ok(Response::from_parts(head, body));
    }
    let body = read_all(body, MOST_ANSWER).await.map_err(|_| AiError::failed("the answer broke off"))?;
    if !head.status.is_success() {
        return Err(AiError::of_answer(head.status, &body));
    }
    let around = [&b"{\"result\":"[..], &body, b",\"success\":true,\"errors\":[],\"messages\":[]}"];
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, full(Bytes::from(around.concat()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_it_is_said_to_be_or_looks_like() {
        assert_eq!(kind("application/json; charset=utf-8", b"x"), Kind::Json);
        assert_eq!(kind("application/x-www-form-urlencoded", b" {\"prompt\":\"x\"}"), Kind::Json);
        assert_eq!(kind("", b""), Kind::Json);
        assert_eq!(kind("application/x-www-form-urlencoded", b"ID3\x04"), Kind::File(FILE));
        assert_eq!(kind("audio/wav", b"{"), Kind::File("audio/wav"));
    }

    #[test]
    fn inputs_of_a_query_are_numbers_and_truth_values_where_they_look_like_it() {
        let expected =
            serde_json::json!({ "language": "en", "vad": true, "n": 1.5, "id": "007", "list": "[1]" });
        assert_eq!(Json::from(inputs_of("language=en&vad=true&n=1.5&id=007&list=[1]")), expected);
    }
}
