//! Calls of Workers AI as calls of OpenAI's API, and the answers back. Pure.
//! <https://platform.openai.com/docs/api-reference>

mod answer;
mod chat;
mod compatible;
mod embeddings;
mod failure;
mod messages;
mod pictures;
mod responses;
mod speech;
mod stream;

use bytes::Bytes;
use serde_json::Value as Json;

use crate::error::AiError;
use crate::fields::Fields;
use crate::models::Target;
use crate::names::{Known, Shape, Task};

pub(crate) use answer::Reply;
pub use compatible::Endpoint;
pub(crate) use failure::failure;
pub(crate) use stream::Translator;

/// A call of the upstream.
#[derive(Debug, PartialEq)]
pub(crate) struct Call {
    /// Below the upstream's address.
    pub path: &'static str,
    pub content_type: String,
    pub body: Bytes,
    /// What its answer is to become.
    pub answer: Answer,
}

/// What an answer of the upstream becomes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Text {
        shape: Shape,
        json: bool,
    },
    TextStream {
        shape: Shape,
    },
    /// As it is, with the model's name of Cloudflare.
    Responses,
    ResponsesStream,
    Completion,
    Description,
    Embeddings {
        texts: usize,
    },
    /// As they are, with the model's name of Cloudflare.
    Vectors,
    Picture {
        in_json: bool,
        jpeg: bool,
    },
    Speech,
}

impl Answer {
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::TextStream { .. } | Self::ResponsesStream)
    }
}

impl Call {
    fn json(path: &'static str, body: &Json, answer: Answer) -> Self {
        Self { path, content_type: "application/json".into(), body: body.to_string().into(), answer }
    }
}

/// The call that `fields`, the inputs of a model, come to.
pub(crate) fn plan(target: &Target, fields: &Fields<'_>) -> Result<Call, AiError> {
    if fields.has("lora") {
        return Err(AiError::no_lora(&target.name));
    }
    match task(target, fields)? {
        Task::TextGeneration if target.name.contains("/gpt-oss-") && fields.has("input") => {
            responses::call(target, fields)
        }
        Task::TextGeneration => chat::call(target, fields),
        Task::ImageToText => chat::describe(target, fields),
        Task::TextEmbeddings => embeddings::call(target, fields),
        Task::TextToImage => pictures::call(target, fields),
        Task::AutomaticSpeechRecognition => {
            let audio = fields.file("audio")?;
            let audio = audio.ok_or_else(|| AiError::bad_input("required properties at '/' are 'audio'"))?;
            speech::call(target, fields, &audio, None)
        }
    }
}

/// The call that a body which is a file comes to; `fields` are the other inputs.
pub(crate) fn plan_file(
    target: &Target,
    fields: &Fields<'_>,
    file: &[u8],
    content_type: &str,
) -> Result<Call, AiError> {
    match task(target, fields) {
        Ok(Task::AutomaticSpeechRecognition) => speech::call(target, fields, file, Some(content_type)),
        Ok(_) => Err(AiError::bad_input("this model takes no stream as an input")),
        Err(error) => Err(error),
    }
}

/// What the model does: by its name, or else by what it is given.
fn task(target: &Target, fields: &Fields<'_>) -> Result<Task, AiError> {
    match target.task {
        Known::Task(task) => Ok(task),
        Known::Foreign(task) => Err(AiError::untranslated(&target.name, task)),
        Known::Nothing if fields.has("messages") || fields.has("prompt") || fields.has("input") => {
            Ok(Task::TextGeneration)
        }
        Known::Nothing if fields.has("audio") => Ok(Task::AutomaticSpeechRecognition),
        Known::Nothing if fields.has("text") && fields.names().count() == 1 => Ok(Task::TextEmbeddings),
        Known::Nothing => Ok(Task::TextGeneration),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use serde_json::value::RawValue;

    use super::*;
    use crate::models::Models;

    pub fn target(name: &str) -> Target {
        Models::default().find(name).unwrap()
    }

    /// The call that `inputs` come to.
    pub fn planned(name: &str, inputs: &Json) -> Result<Call, AiError> {
        let raw: Box<RawValue> = serde_json::from_str(&inputs.to_string()).unwrap();
        plan(&target(name), &Fields::read(&raw)?)
    }

    /// Its body.
    pub fn body(name: &str, inputs: &Json) -> Json {
        serde_json::from_slice(&planned(name, inputs).unwrap().body).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::testing::planned;
    use super::*;

    #[test]
    fn a_model_does_what_its_name_or_its_inputs_say() {
        for (model, inputs, path) in [
            ("@cf/meta/llama-3.1-8b-instruct", json!({ "prompt": "hi" }), "/chat/completions"),
            ("@cf/baai/bge-m3", json!({ "text": "hi" }), "/embeddings"),
            ("nomic-embed-text", json!({ "text": ["hi"] }), "/embeddings"),
            ("@cf/black-forest-labs/flux-1-schnell", json!({ "prompt": "hi" }), "/images/generations"),
            ("@cf/openai/whisper", json!({ "audio": [1] }), "/audio/transcriptions"),
            ("@cf/openai/gpt-oss-120b", json!({ "input": "hi" }), "/responses"),
            ("@cf/openai/gpt-oss-120b", json!({ "messages": [] }), "/chat/completions"),
            ("@cf/llava-hf/llava-1.5-7b-hf", json!({ "prompt": "hi", "image": [1] }), "/chat/completions"),
        ] {
            assert_eq!(planned(model, &inputs).unwrap().path, path, "{model}");
        }
    }

    #[test]
    fn what_cannot_be_asked_for_is_said() {
        let text = |model: &str, inputs: Json| planned(model, &inputs).unwrap_err().text;
        let translate = text("@cf/meta/m2m100-1.2b", json!({ "text": "a", "target_lang": "de" }));
        assert!(
            translate.starts_with("No such model @cf/meta/m2m100-1.2b or task: Skep cannot"),
            "{translate}"
        );
        assert!(translate.contains("translation"), "{translate}");
        assert_eq!(
            text("@cf/meta/llama-3.1-8b-instruct", json!({})),
            "Error: oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', required properties at '/' \
             are 'messages'"
        );
        assert_eq!(planned("m", &json!({ "prompt": "a", "lora": "x" })).unwrap_err().code, 5005);
        assert_eq!(planned("@cf/openai/whisper", &json!({})).unwrap_err().code, 5006);
    }
}
