//! Texts to vectors.

use serde_json::{Map, Value as Json, json};

use super::{Answer, Call};
use crate::error::AiError;
use crate::fields::{Fields, kind_of};
use crate::models::Target;

/// Texts of one call: Cloudflare's bound. <https://developers.cloudflare.com/workers-ai/models/bge-base-en-v1.5/>
const MOST_TEXTS: usize = 100;

pub(super) fn call(target: &Target, fields: &Fields<'_>) -> Result<Call, AiError> {
    let texts = texts(fields, "text")?;
    let answer = Answer::Embeddings { texts: texts.len() };
    Ok(Call::json("/embeddings", &json!({ "model": target.upstream, "input": texts }), answer))
}

/// A call that is in OpenAI's words, and its answer as well.
pub(super) fn in_openais_words(target: &Target, fields: &Fields<'_>) -> Result<Call, AiError> {
    let mut body = Map::new();
    body.insert("model".into(), target.upstream.clone().into());
    body.insert("input".into(), texts(fields, "input")?.into());
    for name in ["encoding_format", "dimensions"] {
        body.extend(fields.json(name)?.map(|value| (name.to_owned(), value)));
    }
    Ok(Call::json("/embeddings", &body.into(), Answer::Vectors))
}

/// One text or several, in the field `name`.
fn texts(fields: &Fields<'_>, name: &str) -> Result<Vec<String>, AiError> {
    let texts = match fields.json(name)? {
        None => return Err(AiError::bad_input(format!("required properties at '/' are '{name}'"))),
        Some(Json::String(text)) => vec![text],
        Some(Json::Array(texts)) => {
            let text = |(n, text)| match text {
                Json::String(text) => Ok(text),
                other => Err(AiError::mismatch(&format!("{name}/{n}"), "string", kind_of(&other))),
            };
            texts.into_iter().enumerate().map(text).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(AiError::mismatch(name, "string,array", kind_of(&other))),
    };
    if texts.is_empty() || texts.len() > MOST_TEXTS {
        let text = format!("Length of '/{name}' must be from 1 to {MOST_TEXTS}");
        return Err(AiError::bad_input(text));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{body, planned};
    use super::*;

    #[test]
    fn one_text_or_several_are_a_list() {
        let sent = |text: Json| body("@cf/baai/bge-m3", &json!({ "text": text }))["input"].clone();
        assert_eq!(sent(json!("a")), json!(["a"]));
        assert_eq!(sent(json!(["a", "b"])), json!(["a", "b"]));
        for wrong in [json!([]), json!([1]), json!({}), json!(vec!["a"; MOST_TEXTS + 1])] {
            assert_eq!(planned("@cf/baai/bge-m3", &json!({ "text": wrong })).unwrap_err().code, 5006);
        }
        assert!(planned("@cf/baai/bge-m3", &json!({ "query": "a", "contexts": [] })).is_err());
    }
}
