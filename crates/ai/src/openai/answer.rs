//! Whole answers of the upstream as Workers AI gives them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::Answer;
use crate::error::AiError;
use crate::models::Target;
use crate::names::Shape;

/// An answer to an application.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    Json(Json),
    File { content: Bytes, content_type: &'static str },
}

impl Answer {
    /// What `body`, an upstream's success, becomes.
    pub fn whole(&self, target: &Target, body: &[u8]) -> Result<Reply, AiError> {
        let strange = || AiError::failed("the models' server gives an answer that is not OpenAI's");
        let mut given: Json = serde_json::from_slice(body).map_err(|_| strange())?;
        let message = &given["choices"][0]["message"];
        Ok(Reply::Json(match self {
            Self::Text { shape: Shape::Native, json } => {
                native(message, &given["usage"], *json).ok_or_else(strange)??
            }
            Self::Text { shape: Shape::OpenAi, .. } if message.is_object() => renamed(given, target),
            Self::Responses if given["output"].is_array() => renamed(given, target),
            Self::Vectors if given["data"].is_array() => renamed(given, target),
            Self::Completion => {
                let text = given["choices"][0]["text"].as_str().ok_or_else(strange)?;
                json!({ "response": text, "usage": usage(&given["usage"]) })
            }
            Self::Description => json!({ "description": message["content"].as_str().ok_or_else(strange)? }),
            Self::Embeddings { texts } => embeddings(&mut given, *texts).ok_or_else(strange)?,
            Self::Picture { in_json, jpeg } => {
                let Some(image) = given["data"][0]["b64_json"].as_str() else {
                    return Err(AiError::failed("the models' server gives no picture as base64"));
                };
                if *in_json {
                    json!({ "image": image })
                } else {
                    let content = STANDARD.decode(image).map_err(|_| strange())?.into();
                    return Ok(Reply::File {
                        content,
                        content_type: if *jpeg { "image/jpeg" } else { "image/png" },
                    });
                }
            }
            Self::Speech => {
                let text = given["text"].as_str().ok_or_else(strange)?;
                json!({ "text": text, "word_count": text.split_whitespace().count() })
            }
            Self::Text { .. }
            | Self::Responses
            | Self::Vectors
            | Self::TextStream { .. }
            | Self::ResponsesStream => {
                return Err(strange());
            }
        }))
    }
}

/// A message as `{ response, tool_calls, usage }`; with `json`, the text is to be JSON, and is given as what it says.
fn native(message: &Json, counted: &Json, json: bool) -> Option<Result<Json, AiError>> {
    let message = message.as_object()?;
    let text = message.get("content").and_then(Json::as_str).unwrap_or_default();
    let called = message.get("tool_calls").and_then(Json::as_array).filter(|calls| !calls.is_empty());
    let response = match json && called.is_none() {
        true => match serde_json::from_str::<Json>(text) {
            Ok(said) => said,
            Err(_) => return Some(Err(AiError::no_json())),
        },
        false => text.into(),
    };
    let mut answer = json!({ "response": response });
    if let Some(calls) = called {
        answer["tool_calls"] = calls.iter().map(tool_call).collect();
    }
    answer["usage"] = usage(counted);
    Some(Ok(answer))
}

/// `{ name, arguments }` with the arguments themselves and not their text.
fn tool_call(call: &Json) -> Json {
    let arguments = &call["function"]["arguments"];
    let read = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
    let mut flat =
        json!({ "name": call["function"]["name"], "arguments": read.unwrap_or_else(|| arguments.clone()) });
    if call["id"].is_string() {
        flat["id"] = call["id"].clone();
    }
    flat
}

/// The tokens that were counted.
pub(super) fn usage(given: &Json) -> Json {
    let count = |key: &str| given[key].as_u64().unwrap_or(0);
    let (prompt, completion) = (count("prompt_tokens"), count("completion_tokens"));
    let total = given["total_tokens"].as_u64().unwrap_or(prompt + completion);
    json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total })
}

/// Under Cloudflare's name: an application does not know the upstream's.
pub(super) fn renamed(mut given: Json, target: &Target) -> Json {
    for holder in ["", "/response"] {
        if let Some(model) = given.pointer_mut(holder).and_then(|holder| holder.get_mut("model")) {
            *model = target.name.clone().into();
        }
    }
    given
}

fn embeddings(given: &mut Json, texts: usize) -> Option<Json> {
    let mut data: Vec<(u64, Json)> = given["data"]
        .as_array_mut()?
        .iter_mut()
        .enumerate()
        .map(|(n, one)| (one["index"].as_u64().unwrap_or(n as u64), one["embedding"].take()))
        .collect();
    data.sort_by_key(|(index, _)| *index);
    let length = data.first()?.1.as_array()?.len();
    let right = |(n, (index, vector)): (usize, &(u64, Json))| {
        *index == n as u64 && vector.as_array().is_some_and(|vector| vector.len() == length)
    };
    if data.len() != texts || !data.iter().enumerate().all(right) {
        return None;
    }
    let data: Vec<Json> = data.into_iter().map(|(_, vector)| vector).collect();
    Some(json!({ "shape": [texts, length], "data": data }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::target;
    use super::*;

    fn whole(answer: &Answer, given: &Json) -> Result<Reply, AiError> {
        answer.whole(&target("@cf/m"), given.to_string().as_bytes())
    }

    fn reply(answer: &Answer, given: Json) -> Json {
        match whole(answer, &given).unwrap() {
            Reply::Json(json) => json,
            Reply::File { .. } => panic!("a file"),
        }
    }

    const NATIVE: Answer = Answer::Text { shape: Shape::Native, json: false };
    const USAGE: &str = r#"{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"details":{}}"#;

    fn completion(message: Json) -> Json {
        let usage: Json = serde_json::from_str(USAGE).unwrap();
        json!({ "id": "c", "model": "qwen3:8b", "choices": [{ "index": 0, "message": message }], "usage": usage })
    }

    #[test]
    fn text_is_the_response_and_calls_have_read_arguments() {
        let usage = json!({ "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 });
        let said = reply(&NATIVE, completion(json!({ "role": "assistant", "content": "hello" })));
        assert_eq!(said, json!({ "response": "hello", "usage": usage }));
        let call =
            json!({ "id": "x", "type": "function", "function": { "name": "add", "arguments": "{\"a\":1}" } });
        let said = reply(&NATIVE, completion(json!({ "content": null, "tool_calls": [call] })));
        let calls = json!([{ "name": "add", "arguments": { "a": 1 }, "id": "x" }]);
        assert_eq!(said, json!({ "response": "", "tool_calls": calls, "usage": usage }));
    }

    #[test]
    fn json_is_read_or_could_not_be_met() {
        let json = Answer::Text { shape: Shape::Native, json: true };
        let said = reply(&json, completion(json!({ "content": "{\"name\":\"India\"}" })));
        assert_eq!(said["response"], json!({ "name": "India" }));
        let failed = whole(&json, &completion(json!({ "content": "Sure! {" })));
        assert_eq!(failed, Err(AiError::no_json()));
    }

    #[test]
    fn newer_models_answer_as_openai_does_under_their_own_name() {
        let answer = Answer::Text { shape: Shape::OpenAi, json: false };
        let said = reply(&answer, completion(json!({ "content": "hello", "reasoning_content": "hm" })));
        assert_eq!(
            (&said["model"], &said["choices"][0]["message"]["content"]),
            (&json!("@cf/m"), &json!("hello"))
        );
        let said = reply(&Answer::Responses, json!({ "model": "x", "output": [] }));
        assert_eq!(said, json!({ "model": "@cf/m", "output": [] }));
        let said = reply(&Answer::Vectors, json!({ "model": "x", "data": [{ "embedding": "AAAA" }] }));
        assert_eq!(said, json!({ "model": "@cf/m", "data": [{ "embedding": "AAAA" }] }));
    }

    #[test]
    fn vectors_are_in_the_order_of_the_texts() {
        let answer = Answer::Embeddings { texts: 2 };
        let one = |index: u64, vector: Json| json!({ "index": index, "embedding": vector });
        let given = json!({ "data": [one(1, json!([0.5, 1])), one(0, json!([2, 3]))] });
        assert_eq!(reply(&answer, given), json!({ "shape": [2, 2], "data": [[2, 3], [0.5, 1]] }));
        for wrong in [
            json!({ "data": [one(0, json!([1]))] }),
            json!({ "data": [one(0, json!([1])), one(1, json!([1, 2]))] }),
            json!({ "data": [one(0, json!([1])), one(5, json!([1]))] }),
            json!({ "data": [one(0, json!("AAAA")), one(1, json!("AAAA"))] }),
            json!({}),
        ] {
            assert_eq!(whole(&answer, &wrong).unwrap_err().code, 3043);
        }
    }

    #[test]
    fn pictures_and_speech_come_in_each_models_form() {
        let given = json!({ "data": [{ "b64_json": "AQI=" }] });
        let in_json = Answer::Picture { in_json: true, jpeg: false };
        assert_eq!(reply(&in_json, given.clone()), json!({ "image": "AQI=" }));
        let file = Reply::File { content: Bytes::from_static(&[1, 2]), content_type: "image/png" };
        assert_eq!(whole(&Answer::Picture { in_json: false, jpeg: false }, &given).unwrap(), file);
        // A URL would be fetched by whom the upstream names.
        let url = json!({ "data": [{ "url": "http://169.254.169.254/" }] });
        assert_eq!(whole(&in_json, &url).unwrap_err().code, 3043);
        let said = reply(&Answer::Speech, json!({ "text": "two words" }));
        assert_eq!(said, json!({ "text": "two words", "word_count": 2 }));
    }

    #[test]
    fn what_is_not_openais_is_an_error() {
        for answer in [
            NATIVE,
            Answer::Completion,
            Answer::Speech,
            Answer::Description,
            Answer::Responses,
            Answer::Vectors,
        ] {
            for wrong in [json!({}), json!([]), json!(null), json!({ "choices": [] })] {
                assert_eq!(whole(&answer, &wrong).unwrap_err().code, 3043, "{answer:?} {wrong}");
            }
            assert!(answer.whole(&target("m"), b"<html>").is_err());
        }
    }
}
