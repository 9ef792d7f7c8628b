//! Text generation: chat completions, and plain completions for `raw`.

use serde_json::{Map, Value as Json, json};

use super::messages::{messages, prompt};
use super::{Answer, Call};
use crate::error::AiError;
use crate::fields::{Fields, kind_of};
use crate::models::Target;
use crate::names::Shape;

/// What means the same to both, or is passed to servers that know it: `top_k`, `min_p` and `repetition_penalty` are not
/// OpenAI's, but vLLM's. Nothing else of a call is passed on: fields of one server's own may do more than generate text.
const SAME: &[&str] = &[
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "stop",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning_effort",
    "chat_template_kwargs",
];

pub(super) fn call(target: &Target, fields: &Fields<'_>) -> Result<Call, AiError> {
    if fields.flag("raw")? && !fields.has("messages") {
        return completion(target, fields);
    }
    let mut body = common(target, fields)?;
    body.insert("messages".into(), messages(fields)?.into());
    if let Some(tools) = fields.json("tools")? {
        let tools = tools_of(tools)?;
        // An empty list is an error to some servers.
        if !tools.is_empty() {
            body.insert("tools".into(), tools.into());
        }
    }
    if fields.has("functions") {
        return Err(AiError::bad_input("'functions' is not supported: give them as 'tools'"));
    }
    let format = response_format(fields)?;
    let json = format.as_ref().is_some_and(|format| format["type"] != "text");
    body.extend(format.map(|format| ("response_format".to_owned(), format)));
    let shape = target.shape;
    let answer = match fields.flag("stream")? {
        true => {
            body.insert("stream".into(), true.into());
            body.insert("stream_options".into(), json!({ "include_usage": true }));
            Answer::TextStream { shape }
        }
        false => Answer::Text { shape, json: json && shape == Shape::Native },
    };
    Ok(Call::json("/chat/completions", &body.into(), answer))
}

/// What a picture shows, said in `description`.
pub(super) fn describe(target: &Target, fields: &Fields<'_>) -> Result<Call, AiError> {
    if !fields.has("image") {
        return Err(AiError::bad_input("required properties at '/' are 'image'"));
    }
    let mut body = common(target, fields)?;
    let asked = fields.has("messages") || fields.has("prompt");
    let messages = match asked {
        true => messages(fields)?,
        false => {
            let url = crate::fields::data_url(&fields.file("image")?.unwrap_or_default());
            json!([{ "role": "user", "content": [
                { "type": "text", "text": "Generate a caption for this image" },
                { "type": "image_url", "image_url": { "url": url } },
            ] }])
            .as_array()
            .cloned()
            .unwrap_or_default()
        }
    };
    body.insert("messages".into(), messages.into());
    Ok(Call::json("/chat/completions", &body.into(), Answer::Description))
}

/// A prompt that is not put into the model's template.
fn completion(target: &Target, fields: &Fields<'_>) -> Result<Call, AiError> {
    let mut body = common(target, fields)?;
    body.insert("prompt".into(), prompt(fields)?.into());
    if fields.flag("stream")? {
        body.insert("stream".into(), true.into());
        body.insert("stream_options".into(), json!({ "include_usage": true }));
        return Ok(Call::json("/completions", &body.into(), Answer::TextStream { shape: Shape::Native }));
    }
    Ok(Call::json("/completions", &body.into(), Answer::Completion))
}

fn common(target: &Target, fields: &Fields<'_>) -> Result<Map<String, Json>, AiError> {
    let mut body = Map::new();
    body.insert("model".into(), target.upstream.clone().into());
    for name in SAME {
        body.extend(fields.json(name)?.map(|value| ((*name).to_owned(), value)));
    }
    let tokens = match fields.json("max_tokens")? {
        Some(given) => Some(given),
        None => fields.json("max_completion_tokens")?,
    };
    match tokens {
        None => body.insert("max_tokens".into(), target.max_tokens.into()),
        Some(number) if number.is_number() => body.insert("max_tokens".into(), number),
        Some(other) => return Err(AiError::mismatch("max_tokens", "integer", kind_of(&other))),
    };
    Ok(body)
}

/// Tools in OpenAI's form, where `function` may be left out.
fn tools_of(tools: Json) -> Result<Vec<Json>, AiError> {
    let Json::Array(tools) = tools else { return Err(AiError::mismatch("tools", "array", kind_of(&tools))) };
    let tool = |(n, tool): (usize, Json)| {
        let function = if tool["function"].is_object() { &tool["function"] } else { &tool };
        if !function["name"].is_string() {
            return Err(AiError::bad_input(format!("required properties at '/tools/{n}' are 'name'")));
        }
        let mut own = Map::new();
        for key in ["name", "description", "parameters", "strict"] {
            let value = &function[key];
            own.extend((!value.is_null()).then(|| (key.to_owned(), value.clone())));
        }
        Ok(json!({ "type": "function", "function": own }))
    };
    tools.into_iter().enumerate().map(tool).collect()
}

/// Workers AI has the bare schema where OpenAI's API has one with a name.
fn response_format(fields: &Fields<'_>) -> Result<Option<Json>, AiError> {
    let mut format = match (fields.json("response_format")?, fields.json("guided_json")?) {
        (Some(format), _) => format,
        (None, Some(schema)) => json!({ "type": "json_schema", "json_schema": schema }),
        (None, None) => return Ok(None),
    };
    if format["type"] == "json_schema" {
        let schema = format["json_schema"].take();
        let wrapped = match &schema {
            Json::Object(given) if given.get("schema").is_some_and(Json::is_object) => {
                let mut given = given.clone();
                given.entry("name").or_insert_with(|| "response".into());
                given.into()
            }
            Json::Object(_) => json!({ "name": "response", "schema": schema }),
            other => return Err(AiError::mismatch("response_format/json_schema", "object", kind_of(other))),
        };
        format["json_schema"] = wrapped;
    }
    Ok(Some(format))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{body, planned};
    use super::*;

    #[test]
    fn a_prompt_is_a_conversation_with_cloudflares_defaults() {
        let sent = body("@cf/meta/llama-3.1-8b-instruct", &json!({ "prompt": "hi" }));
        let expected = json!({
            "model": "@cf/meta/llama-3.1-8b-instruct", "max_tokens": 256, "messages": [{ "role": "user", "content": "hi" }],
        });
        assert_eq!(sent, expected);
    }

    #[test]
    fn no_field_passes_that_only_one_server_knows() {
        let inputs = json!({
            "prompt": "hi", "model": "secret-model", "keep_alive": -1, "store": true, "n": 1000, "temperature": 0.5, "top_k": 3,
            "max_tokens": 5, "stream": false, "extra_body": {},
        });
        let sent = body("m", &inputs);
        let keys: Vec<&String> = sent.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["model", "temperature", "top_k", "max_tokens", "messages"]);
        assert_eq!((&sent["model"], &sent["max_tokens"]), (&json!("m"), &json!(5)));
    }

    #[test]
    fn tools_and_schemas_come_in_openais_form() {
        let parameters = json!({ "type": "object", "properties": {} });
        let sent = body(
            "m",
            &json!({
                "prompt": "hi",
                "tools": [
                    { "name": "a", "description": "d", "parameters": parameters },
                    { "type": "function", "function": { "name": "b", "parameters": parameters } },
                ],
                "tool_choice": "auto",
                "response_format": { "type": "json_schema", "json_schema": { "type": "object" } },
            }),
        );
        let function = |function: Json| json!({ "type": "function", "function": function });
        let tools = [
            function(json!({ "name": "a", "description": "d", "parameters": parameters })),
            function(json!({ "name": "b", "parameters": parameters })),
        ];
        assert_eq!(sent["tools"], json!(tools));
        assert_eq!(sent["tool_choice"], "auto");
        let schema = json!({ "name": "response", "schema": { "type": "object" } });
        assert_eq!(sent["response_format"], json!({ "type": "json_schema", "json_schema": schema }));
        let named =
            json!({ "prompt": "x", "response_format": { "type": "json_schema", "json_schema": schema } });
        assert_eq!(body("m", &named)["response_format"]["json_schema"], schema);
        assert_eq!(body("m", &json!({ "prompt": "x", "tools": [] })).get("tools"), None);
    }

    #[test]
    fn streams_are_asked_for_with_their_usage() {
        let call = planned("m", &json!({ "prompt": "x", "stream": true })).unwrap();
        assert_eq!(call.answer, Answer::TextStream { shape: Shape::Native });
        let sent: Json = serde_json::from_slice(&call.body).unwrap();
        assert_eq!((&sent["stream"], &sent["stream_options"]["include_usage"]), (&json!(true), &json!(true)));
        let raw = planned("m", &json!({ "prompt": "x", "raw": true })).unwrap();
        assert_eq!((raw.path, raw.answer), ("/completions", Answer::Completion));
    }

    #[test]
    fn wrong_types_are_named_as_cloudflare_does() {
        for (inputs, text) in [
            (json!({ "prompt": {} }), "Type mismatch of '/prompt', 'string' not in 'object'"),
            (
                json!({ "prompt": "", "stream": "yes" }),
                "Type mismatch of '/stream', 'boolean' not in 'string'",
            ),
            (
                json!({ "prompt": "", "max_tokens": "1" }),
                "Type mismatch of '/max_tokens', 'integer' not in 'string'",
            ),
            (json!({ "prompt": "", "tools": {} }), "Type mismatch of '/tools', 'array' not in 'object'"),
            (json!({ "prompt": "", "tools": [{}] }), "required properties at '/tools/0' are 'name'"),
        ] {
            assert_eq!(planned("m", &inputs).unwrap_err().text, format!("Error: {text}"));
        }
    }
}
