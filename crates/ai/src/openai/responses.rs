//! The Responses API, which Workers AI has in OpenAI's own form for `@cf/openai/gpt-oss-*`.

use serde_json::{Map, Value as Json};

use super::{Answer, Call};
use crate::error::AiError;
use crate::fields::Fields;
use crate::models::Target;

/// What is passed on. What names something that the upstream keeps is not: that is the same for all scripts.
const SAME: &[&str] = &[
    "input",
    "instructions",
    "reasoning",
    "max_output_tokens",
    "temperature",
    "top_p",
    "text",
    "tool_choice",
    "parallel_tool_calls",
    "truncation",
];

pub(super) fn call(target: &Target, fields: &Fields<'_>) -> Result<Call, AiError> {
    let mut body = Map::new();
    body.insert("model".into(), target.upstream.clone().into());
    for name in SAME {
        body.extend(fields.json(name)?.map(|value| ((*name).to_owned(), value)));
    }
    if let Some(tools) = fields.json("tools")? {
        // The others run at the upstream, with what it may reach.
        let functions = tools.as_array().is_some_and(|all| all.iter().all(|tool| tool["type"] == "function"));
        if !functions {
            return Err(AiError::bad_input(
                "Type mismatch of '/tools', only tools of type 'function' are supported",
            ));
        }
        body.insert("tools".into(), tools);
    }
    let stream = fields.flag("stream")?;
    if stream {
        body.insert("stream".into(), Json::Bool(true));
    }
    let answer = if stream { Answer::ResponsesStream } else { Answer::Responses };
    Ok(Call::json("/responses", &body.into(), answer))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{body, planned};

    const MODEL: &str = "@cf/openai/gpt-oss-20b";

    #[test]
    fn what_the_upstream_keeps_is_out_of_reach() {
        let inputs = json!({ "input": "hi", "previous_response_id": "r", "store": true, "conversation": "c", "prompt": { "id": "p" } });
        assert_eq!(body(MODEL, &inputs), json!({ "model": MODEL, "input": "hi" }));
        let tool = |kind: &str| json!({ "input": "hi", "tools": [{ "type": kind, "name": "f" }] });
        assert!(planned(MODEL, &tool("function")).is_ok());
        assert_eq!(planned(MODEL, &tool("mcp")).unwrap_err().code, 5006);
    }
}
