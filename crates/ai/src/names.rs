//! What the names of Cloudflare's models say of them: which task they do, and how they answer.
//! <https://developers.cloudflare.com/workers-ai/models/>

use serde::Deserialize;

use crate::error::AiError;

/// What a model does, as Cloudflare names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Text after text.
    TextGeneration,
    /// Text to vectors.
    TextEmbeddings,
    /// A picture of what a text says.
    TextToImage,
    /// What a picture shows, as `description`.
    ImageToText,
    /// Speech to text.
    AutomaticSpeechRecognition,
}

impl Task {
    /// As `env.AI.models()` shows it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::TextGeneration => "Text Generation",
            Self::TextEmbeddings => "Text Embeddings",
            Self::TextToImage => "Text-to-Image",
            Self::ImageToText => "Image-to-Text",
            Self::AutomaticSpeechRecognition => "Automatic Speech Recognition",
        }
    }
}

/// How a model that generates text answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Shape {
    /// `{ response, tool_calls, usage }`.
    #[serde(rename = "workers-ai")]
    Native,
    /// `{ choices: [{ message }], usage }`, as OpenAI's API does; so do the newer models.
    #[serde(rename = "openai")]
    OpenAi,
}

/// What is known by a name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Task(Task),
    /// A task that OpenAI's API has no call for.
    Foreign(&'static str),
    Nothing,
}

/// Parts of names and the tasks of all models whose names have them, the first that fits.
const TASKS: &[(&str, Known)] = &[
    ("bge-reranker", Known::Foreign("reranking")),
    ("bge-", Known::Task(Task::TextEmbeddings)),
    ("embedding", Known::Task(Task::TextEmbeddings)),
    ("whisper", Known::Task(Task::AutomaticSpeechRecognition)),
    ("llava", Known::Task(Task::ImageToText)),
    ("uform-gen", Known::Task(Task::ImageToText)),
    ("deepgram/flux", Known::Foreign("speech recognition over a WebSocket")),
    ("deepgram/nova", Known::Foreign("speech recognition in Deepgram's form")),
    ("flux", Known::Task(Task::TextToImage)),
    ("stable-diffusion", Known::Task(Task::TextToImage)),
    ("dreamshaper", Known::Task(Task::TextToImage)),
    ("leonardo/", Known::Task(Task::TextToImage)),
    ("aura-", Known::Foreign("speech of a text")),
    ("melotts", Known::Foreign("speech of a text")),
    ("m2m100", Known::Foreign("translation")),
    ("indictrans", Known::Foreign("translation")),
    ("distilbert", Known::Foreign("text classification")),
    ("bart-large-cnn", Known::Foreign("summarization")),
    ("resnet-50", Known::Foreign("image classification")),
    ("detr-resnet", Known::Foreign("object detection")),
    ("smart-turn", Known::Foreign("voice activity detection")),
];

/// Parts of the names of models that answer as OpenAI's API does.
const OPENAI: &[&str] = &[
    "/gpt-oss-",
    "/qwen3-",
    "zai-org/",
    "moonshotai/",
    "/nemotron-3",
    "/gemma-4",
    "/gemma-sea-lion-v4",
    "/granite-4",
];

/// Parts of the names of models that give a picture as base64 in JSON, and not as its bytes.
const PICTURES_IN_JSON: &[&str] = &["black-forest-labs/", "lucid-origin"];

pub(crate) fn task_of(model: &str) -> Known {
    TASKS.iter().find(|(part, _)| model.contains(part)).map_or(Known::Nothing, |(_, known)| *known)
}

pub(crate) fn shape_of(model: &str) -> Shape {
    match OPENAI.iter().any(|part| model.contains(part)) {
        true => Shape::OpenAi,
        false => Shape::Native,
    }
}

pub(crate) fn pictures_in_json(model: &str) -> bool {
    PICTURES_IN_JSON.iter().any(|part| model.contains(part))
}

/// Whether its picture is a JPEG and not a PNG.
pub(crate) fn pictures_are_jpeg(model: &str) -> bool {
    model.contains("leonardo/")
}

/// The longest name that is looked at; Cloudflare's have up to 60 characters.
const LONGEST: usize = 256;

/// A model's name, which becomes part of a URL that is called with the operator's key: no more than a name may be in it.
pub(crate) fn check(model: &str) -> Result<(), AiError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b':' | b'+');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain);
    match model.len() <= LONGEST && model.split('/').all(part) {
        true => Ok(()),
        false => Err(AiError::bad_name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_task() {
        for (model, expected) in [
            ("@cf/baai/bge-m3", Known::Task(Task::TextEmbeddings)),
            ("@cf/baai/bge-reranker-base", Known::Foreign("reranking")),
            ("@cf/google/embeddinggemma-300m", Known::Task(Task::TextEmbeddings)),
            ("@cf/black-forest-labs/flux-1-schnell", Known::Task(Task::TextToImage)),
            ("@cf/deepgram/flux", Known::Foreign("speech recognition over a WebSocket")),
            ("@cf/openai/whisper-large-v3-turbo", Known::Task(Task::AutomaticSpeechRecognition)),
            ("@cf/meta/m2m100-1.2b", Known::Foreign("translation")),
            ("@cf/meta/llama-3.1-8b-instruct", Known::Nothing),
        ] {
            assert_eq!(task_of(model), expected, "{model}");
        }
        assert_eq!(shape_of("@cf/qwen/qwen3-30b-a3b-fp8"), Shape::OpenAi);
        assert_eq!(shape_of("@cf/qwen/qwen2.5-coder-32b-instruct"), Shape::Native);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for good in ["@cf/meta/llama-3.1-8b-instruct", "qwen3:8b", "@hf/thebloke/x-awq", "openai/gpt-5.5"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/",
            "a//b",
            "a/../b",
            "..",
            "a/.",
            "a?b",
            "a#b",
            "a%2e%2e/b",
            "a b",
            "ä",
            "a\\b",
            "a/",
            "a\n",
        ] {
            assert_eq!(check(bad), Err(AiError::bad_name()), "{bad}");
        }
        assert!(check(&"a".repeat(LONGEST + 1)).is_err());
    }
}
