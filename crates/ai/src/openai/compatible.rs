//! Calls that are in OpenAI's words already, as the REST API takes them below `/ai/v1`, and answers that stay in them.
//! <https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility/>

use serde_json::{Map, Value as Json};

use super::{Answer, Call, chat, embeddings, responses};
use crate::error::AiError;
use crate::fields::Fields;
use crate::models::Target;
use crate::names::Shape;

/// An endpoint of OpenAI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/chat/completions`
    Chat,
    /// `/embeddings`
    Embeddings,
    /// `/responses`
    Responses,
}

impl Endpoint {
    /// Its path below `/v1`.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
        }
    }

    /// The call of the upstream. What is passed on is what is of a call that is not in these words: its lists are those of a model.
    pub(crate) fn plan(self, target: &Target, fields: &Fields<'_>) -> Result<Call, AiError> {
        match self {
            Self::Chat => chat_call(target, fields),
            Self::Embeddings => embeddings::in_openais_words(target, fields),
            Self::Responses => responses::call(target, fields),
        }
    }
}

fn chat_call(target: &Target, fields: &Fields<'_>) -> Result<Call, AiError> {
    if !fields.has("messages") {
        return Err(AiError::bad_input("required properties at '/' are 'messages'"));
    }
    let target = Target { shape: Shape::OpenAi, ..target.clone() };
    let mut call = chat::call(&target, fields)?;
    if matches!(call.answer, Answer::TextStream { .. }) {
        // A chunk without choices, which has the usage, is only for who asked for it.
        let mut body: Map<String, Json> = serde_json::from_slice(&call.body).map_err(AiError::bad_input)?;
        body.remove("stream_options");
        body.extend(fields.json("stream_options")?.map(|options| ("stream_options".to_owned(), options)));
        call.body = Json::from(body).to_string().into();
    }
    Ok(call)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::RawValue;

    use super::super::testing::target;
    use super::*;

    const MODEL: &str = "@cf/meta/llama-3.1-8b-instruct";

    fn planned(endpoint: Endpoint, inputs: &Json) -> Result<Call, AiError> {
        let raw: Box<RawValue> = serde_json::from_str(&inputs.to_string()).unwrap();
        endpoint.plan(&target(MODEL), &Fields::read(&raw)?)
    }

    fn body(endpoint: Endpoint, inputs: &Json) -> Json {
        serde_json::from_slice(&planned(endpoint, inputs).unwrap().body).unwrap()
    }

    #[test]
    fn a_chat_is_asked_in_its_own_words() {
        let messages = json!([{ "role": "user", "content": "hi" }]);
        let plain = json!({ "model": MODEL, "messages": messages, "user": "u", "store": true });
        let expected = json!({ "model": MODEL, "max_tokens": 256, "messages": messages });
        assert_eq!(body(Endpoint::Chat, &plain), expected);
        let streamed = |more: Json| {
            let mut inputs = json!({ "messages": messages, "stream": true });
            inputs.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body(Endpoint::Chat, &inputs)["stream_options"].clone()
        };
        assert_eq!(streamed(json!({})), Json::Null);
        assert_eq!(
            streamed(json!({ "stream_options": { "include_usage": true } })),
            json!({ "include_usage": true })
        );
        assert_eq!(planned(Endpoint::Chat, &json!({ "prompt": "hi" })).unwrap_err().code, 5006);
    }

    #[test]
    fn texts_become_vectors_in_the_form_that_was_asked_for() {
        let asked = json!({ "input": "a", "encoding_format": "base64", "dimensions": 2, "user": "u" });
        let expected =
            json!({ "model": MODEL, "input": ["a"], "encoding_format": "base64", "dimensions": 2 });
        assert_eq!(body(Endpoint::Embeddings, &asked), expected);
        for wrong in [json!({}), json!({ "input": [] }), json!({ "input": [[1, 2]] }), json!({ "text": "a" })]
        {
            assert_eq!(planned(Endpoint::Embeddings, &wrong).unwrap_err().code, 5006, "{wrong}");
        }
    }
}
