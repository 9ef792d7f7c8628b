//! A conversation as Workers AI has it, made one that OpenAI's API takes: calls of tools have ids there, and their
//! results name them.

use serde_json::{Map, Value as Json, json};

use crate::error::AiError;
use crate::fields::{Fields, data_url, kind_of};

/// The conversation of a call: its `messages`, or its `prompt` as the only one.
pub(crate) fn messages(fields: &Fields<'_>) -> Result<Vec<Json>, AiError> {
    let mut messages = match fields.json("messages")? {
        Some(Json::Array(given)) => conversation(given)?,
        Some(other) => return Err(AiError::mismatch("messages", "array", kind_of(&other))),
        None => vec![json!({ "role": "user", "content": prompt(fields)? })],
    };
    if fields.has("image") {
        let image = fields.file("image")?.unwrap_or_default();
        show(&mut messages, &data_url(&image));
    }
    Ok(messages)
}

pub(crate) fn prompt(fields: &Fields<'_>) -> Result<String, AiError> {
    fields.text("prompt")?.ok_or_else(|| {
        AiError::bad_input(
            "oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', required properties at '/' are \
             'messages'",
        )
    })
}

/// A call of a tool that has no result yet.
struct Open {
    id: String,
    name: String,
}

fn conversation(given: Vec<Json>) -> Result<Vec<Json>, AiError> {
    let mut messages = Vec::with_capacity(given.len());
    let mut open: Vec<Open> = Vec::new();
    let mut given = given.into_iter().enumerate().peekable();
    while let Some((n, message)) = given.next() {
        let Json::Object(mut message) = message else {
            return Err(AiError::mismatch(&format!("messages/{n}"), "object", kind_of(&message)));
        };
        let Some(role) = message.get("role").and_then(Json::as_str).map(str::to_owned) else {
            return Err(AiError::bad_input(format!("required properties at '/messages/{n}' are 'role'")));
        };
        match role.as_str() {
            "assistant" => {
                let result_follows = given
                    .peek()
                    .is_some_and(|(_, next)| next["role"] == "tool" && next.get("tool_call_id").is_none());
                if result_follows && message.get("tool_calls").is_none() {
                    read_calls(&mut message);
                }
                open = calls(&mut message, n)?;
            }
            "tool" => answer(&mut message, &mut open),
            _ => {}
        }
        let content = message.entry("content").or_insert(Json::Null);
        if content.is_null() && !message.contains_key("tool_calls") {
            message.insert("content".into(), "".into());
        }
        messages.push(message.into());
    }
    Ok(messages)
}

/// `@cloudflare/ai-utils` and others say a call of a tool as the JSON text of it.
fn read_calls(message: &mut Map<String, Json>) {
    let said = message.get("content").and_then(Json::as_str).and_then(|text| serde_json::from_str(text).ok());
    let calls = match said {
        Some(Json::Array(calls)) => calls,
        Some(call) => vec![call],
        None => return,
    };
    if !calls.is_empty()
        && calls.iter().all(|call| call["name"].is_string() && call.get("arguments").is_some())
    {
        message.insert("tool_calls".into(), calls.into());
        message.insert("content".into(), Json::Null);
    }
}

/// Brings a message's calls of tools into OpenAI's form.
fn calls(message: &mut Map<String, Json>, n: usize) -> Result<Vec<Open>, AiError> {
    let calls = match message.get_mut("tool_calls") {
        Some(Json::Array(calls)) if !calls.is_empty() => calls,
        _ => {
            message.remove("tool_calls");
            return Ok(Vec::new());
        }
    };
    let mut open = Vec::with_capacity(calls.len());
    for (k, call) in calls.iter_mut().enumerate() {
        let function = if call["function"].is_object() { &call["function"] } else { &*call };
        let Some(name) = function["name"].as_str().map(str::to_owned) else {
            return Err(AiError::bad_input(format!(
                "required properties at '/messages/{n}/tool_calls/{k}' are 'name'"
            )));
        };
        let arguments = match &function["arguments"] {
            Json::String(text) => text.clone(),
            Json::Null => "{}".to_owned(),
            other => other.to_string(),
        };
        let id = call["id"].as_str().filter(|id| !id.is_empty());
        let id = id.map_or_else(|| format!("call_{n}_{k}"), str::to_owned);
        *call = json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
        open.push(Open { id, name });
    }
    Ok(open)
}

/// Says which call a tool's result is of: the first open one of its name, or else the first.
fn answer(message: &mut Map<String, Json>, open: &mut Vec<Open>) {
    let known = message.get("tool_call_id").and_then(Json::as_str);
    let name = message.get("name").and_then(Json::as_str);
    let found = match known {
        Some(id) => open.iter().position(|call| call.id == id),
        None => {
            open.iter().position(|call| Some(call.name.as_str()) == name).or((!open.is_empty()).then_some(0))
        }
    };
    if let Some(found) = found {
        message.insert("tool_call_id".into(), open.remove(found).id.into());
    }
}

/// Shows a picture with the last thing that the user says.
fn show(messages: &mut Vec<Json>, url: &str) {
    let picture = json!({ "type": "image_url", "image_url": { "url": url } });
    let last = messages.iter_mut().rev().find(|message| message["role"] == "user");
    match last.map(|message| &mut message["content"]) {
        Some(Json::Array(parts)) => parts.push(picture),
        Some(content) => {
            let text = content.as_str().unwrap_or_default().to_owned();
            *content = json!([{ "type": "text", "text": text }, picture]);
        }
        None => messages.push(json!({ "role": "user", "content": [picture] })),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{body, planned};
    use super::*;

    fn sent(messages: Json) -> Json {
        body("m", &json!({ "messages": messages }))["messages"].clone()
    }

    #[test]
    fn calls_of_tools_get_ids_that_their_results_name() {
        let call = |id: &str, name: &str, arguments: &str| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
        let messages = sent(json!([
            { "role": "user", "content": "2+2, and the time" },
            { "role": "assistant", "content": "", "tool_calls": [
                { "name": "add", "arguments": { "a": 2 } }, { "name": "now", "arguments": "{}" },
            ] },
            { "role": "tool", "name": "now", "content": "12:00" },
            { "role": "tool", "name": "add", "content": "4" },
        ]));
        assert_eq!(
            messages[1]["tool_calls"],
            json!([call("call_1_0", "add", "{\"a\":2}"), call("call_1_1", "now", "{}")])
        );
        assert_eq!([&messages[2]["tool_call_id"], &messages[3]["tool_call_id"]], ["call_1_1", "call_1_0"]);

        let with_ids = json!([
            { "role": "assistant", "content": null, "tool_calls": [call("x", "add", "{}")] },
            { "role": "tool", "tool_call_id": "x", "content": "4" },
        ]);
        assert_eq!(sent(with_ids.clone()), with_ids);

        let as_text = sent(json!([
            { "role": "assistant", "content": "{\"name\":\"add\",\"arguments\":{\"a\":1}}" },
            { "role": "tool", "name": "add", "content": "4" },
        ]));
        assert_eq!(as_text[0]["tool_calls"], json!([call("call_0_0", "add", "{\"a\":1}")]));
        assert_eq!(as_text[1]["tool_call_id"], "call_0_0");
    }

    #[test]
    fn text_that_looks_like_a_call_stays_text_where_no_result_follows() {
        let messages = json!([{ "role": "assistant", "content": "{\"name\":\"add\",\"arguments\":{}}" }]);
        assert_eq!(sent(messages.clone()), messages);
        assert_eq!(
            sent(json!([{ "role": "user", "content": null }])),
            json!([{ "role": "user", "content": "" }])
        );
    }

    #[test]
    fn a_picture_comes_with_the_last_question() {
        let one = body("m", &json!({ "prompt": "what?", "image": [0x89, 80, 78, 71] }))["messages"].clone();
        let url = "data:image/png;base64,iVBORw==";
        let picture = json!({ "type": "image_url", "image_url": { "url": url } });
        assert_eq!(
            one,
            json!([{ "role": "user", "content": [{ "type": "text", "text": "what?" }, picture] }])
        );
    }

    #[test]
    fn what_is_no_conversation_is_refused() {
        for (messages, text) in [
            (json!("hi"), "Error: Type mismatch of '/messages', 'array' not in 'string'"),
            (json!([1]), "Error: Type mismatch of '/messages/0', 'object' not in 'number'"),
            (json!([{ "content": "x" }]), "Error: required properties at '/messages/0' are 'role'"),
            (
                json!([{ "role": "assistant", "tool_calls": [{}] }]),
                "Error: required properties at '/messages/0/tool_calls/0' are 'name'",
            ),
        ] {
            assert_eq!(planned("m", &json!({ "messages": messages })).unwrap_err().text, text);
        }
    }

    proptest! {
        #[test]
        fn any_list_is_translated_or_refused(
            roles in prop::collection::vec(prop_oneof!["user", "tool", "assistant", "system"], 0..6),
            calls in prop::collection::vec(prop::option::of("[a-c]"), 0..3),
            content in prop::option::of(".{0,8}"),
        ) {
            let calls: Vec<Json> = calls.iter().map(|name| json!({ "name": name })).collect();
            let messages: Vec<Json> = roles
                .iter()
                .map(|role| json!({ "role": role, "content": content, "tool_calls": calls, "name": "a" }))
                .collect();
            if let Ok(call) = planned("m", &json!({ "messages": messages })) {
                let body: Json = serde_json::from_slice(&call.body).unwrap();
                let sent = body["messages"].as_array().unwrap();
                prop_assert_eq!(sent.len(), messages.len());
                // A result names a call that is there.
                for message in sent.iter().filter(|message| message["tool_call_id"].is_string()) {
                    let ids = sent.iter().filter_map(|m| m["tool_calls"].as_array()).flatten();
                    prop_assert!(ids.into_iter().any(|call| call["id"] == message["tool_call_id"]));
                }
            }
        }
    }
}
