//! Which model of the upstream stands for which of Cloudflare's: the file of `--ai-models`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::AiError;
use crate::names::{self, Known, Shape, Task};

/// Tokens that an answer has at most where nobody says: Cloudflare's default.
const MAX_TOKENS: u32 = 256;

/// One model of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The upstream's name; where there is none, Cloudflare's.
    pub model: Option<String>,
    /// What it does, where its name does not say so.
    pub task: Option<Task>,
    /// How it answers, where its name does not say so.
    pub format: Option<Shape>,
    /// Tokens of an answer where the call says nothing.
    pub max_tokens: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Nothing(()),
    Name(String),
    Whole(Entry),
}

/// The file: names, or beginnings of names that end in `*`; nothing stands for a model that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Models(BTreeMap<String, Option<Entry>>);

/// A model as it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As the application names it.
    pub name: String,
    /// As the upstream does.
    pub upstream: String,
    /// What is known of its task.
    pub task: Known,
    pub shape: Shape,
    pub max_tokens: u32,
}

impl Models {
    /// Reads the file: a JSON object.
    pub fn parse(text: &str) -> Result<Self, String> {
        let written: BTreeMap<String, Written> = serde_json::from_str(text).map_err(|error| match error.is_data() {
            true => format!(
                "{error}: expected names of models with the upstream's name, with null, or with an object of \"model\", \
                 \"task\", \"format\" and \"max_tokens\""
            ),
            false => error.to_string(),
        })?;
        let entry = |written| match written {
            Written::Nothing(()) => None,
            Written::Name(model) => Some(Entry { model: Some(model), ..Entry::default() }),
            Written::Whole(entry) => Some(entry),
        };
        Ok(Self(written.into_iter().map(|(name, written)| (name, entry(written))).collect()))
    }

    /// The model that a call names.
    pub(crate) fn find(&self, name: &str) -> Result<Target, AiError> {
        names::check(name)?;
        let entry = match self.entry(name) {
            Some(None) => return Err(AiError::no_such_model(name)),
            Some(Some(entry)) => entry.clone(),
            None => Entry::default(),
        };
        Ok(Target {
            name: name.to_owned(),
            upstream: entry.model.unwrap_or_else(|| name.to_owned()),
            task: entry.task.map_or_else(|| names::task_of(name), Known::Task),
            shape: entry.format.unwrap_or_else(|| names::shape_of(name)),
            max_tokens: entry.max_tokens.unwrap_or(MAX_TOKENS),
        })
    }

    /// Names of models, without beginnings of names, and those that are not there.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> {
        let there = self.0.iter().filter(|(name, entry)| entry.is_some() && !name.ends_with('*'));
        there.map(|(name, _)| name.as_str())
    }

    /// By the name itself, or by the longest beginning of it.
    fn entry(&self, name: &str) -> Option<&Option<Entry>> {
        let begins = |(pattern, entry)| {
            let pattern: &String = pattern;
            let begin = pattern.strip_suffix('*')?;
            name.starts_with(begin).then_some((begin.len(), entry))
        };
        let longest = || self.0.iter().filter_map(begins).max_by_key(|(length, _)| *length);
        self.0.get(name).or_else(|| longest().map(|(_, entry)| entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "@cf/meta/llama-3.1-8b-instruct": "llama3.1:8b",
        "@cf/meta/*": { "model": "llama3.3", "max_tokens": 1000 },
        "@cf/meta/llama-2*": null,
        "mine": { "task": "text-embeddings", "format": "openai" },
        "*": "qwen3:8b"
    }"#;

    #[test]
    fn the_longest_name_that_fits_says_the_model() {
        let models = Models::parse(FILE).unwrap();
        let upstream = |name: &str| models.find(name).map(|target| target.upstream);
        assert_eq!(upstream("@cf/meta/llama-3.1-8b-instruct").unwrap(), "llama3.1:8b");
        assert_eq!(upstream("@cf/meta/llama-4-scout").unwrap(), "llama3.3");
        assert_eq!(upstream("@cf/meta/llama-2-7b"), Err(AiError::no_such_model("@cf/meta/llama-2-7b")));
        assert_eq!(upstream("anything").unwrap(), "qwen3:8b");
        assert_eq!(upstream("mine").unwrap(), "mine");
        assert_eq!(models.find("@cf/meta/llama-4-scout").unwrap().max_tokens, 1000);
        let mine = models.find("mine").unwrap();
        assert_eq!((mine.task, mine.shape), (Known::Task(Task::TextEmbeddings), Shape::OpenAi));
        assert_eq!(models.named().collect::<Vec<_>>(), ["@cf/meta/llama-3.1-8b-instruct", "mine"]);
        assert_eq!(Models::default().find("llama3").unwrap().upstream, "llama3");
    }

    #[test]
    fn a_file_that_says_something_else_is_refused() {
        for wrong in ["", "[]", r#"{"a":1}"#, r#"{"a":{"modle":"b"}}"#, r#"{"a":{"task":"cooking"}}"#] {
            assert!(Models::parse(wrong).is_err(), "{wrong}");
        }
    }
}
