//! Answers of the upstream that come in pieces, as Workers AI streams them.

use serde_json::{Value as Json, json};

use super::Answer;
use super::answer::{renamed, usage};
use crate::models::Target;
use crate::names::Shape;
use crate::sse::{Event, Parser};

const DONE: &str = "[DONE]";

/// Translates one stream.
pub(crate) struct Translator {
    target: Target,
    kind: Kind,
    parser: Parser,
    /// The model has said why it ended.
    ended: bool,
    done: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `data: {"response":"…"}`.
    Native,
    /// Chunks of a chat completion.
    OpenAi,
    /// Events of the Responses API.
    Responses,
}

impl Translator {
    pub fn new(target: Target, answer: &Answer) -> Self {
        let kind = match answer {
            Answer::ResponsesStream | Answer::Responses => Kind::Responses,
            Answer::TextStream { shape: Shape::OpenAi } => Kind::OpenAi,
            _ => Kind::Native,
        };
        Self { target, kind, parser: Parser::default(), ended: false, done: false }
    }

    /// Nothing comes after this.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What a piece becomes. The error is for the operator; the stream ends with it.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<u8>, String> {
        let events = self.parser.feed(piece).map_err(|e| e.to_string())?;
        self.translate(events)
    }

    /// What comes after the last piece. A stream that just stops was cut off.
    pub fn finish(&mut self) -> Result<Vec<u8>, String> {
        let last = self.parser.finish().map_err(|e| e.to_string())?;
        let mut out = self.translate(last)?;
        if !self.done {
            if !self.ended {
                return Err("the models' server ended its answer too early".to_owned());
            }
            self.end(&mut out);
        }
        Ok(out)
    }

    fn translate(&mut self, events: impl IntoIterator<Item = Event>) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        for event in events {
            if self.done {
                break;
            }
            if event.data == DONE {
                self.end(&mut out);
                break;
            }
            let given: Json = serde_json::from_str(&event.data)
                .map_err(|_| "the models' server sends an event that is no JSON".to_owned())?;
            if given.get("error").is_some_and(|error| !error.is_null()) && self.kind != Kind::Responses {
                return Err(format!("the models' server fails within its answer: {}", given["error"]));
            }
            match self.kind {
                Kind::Native => self.native(&given).iter().for_each(|said| write(&mut out, "", said)),
                Kind::OpenAi => {
                    self.ended |= given["choices"][0]["finish_reason"].is_string();
                    write(&mut out, "", &renamed(given, &self.target));
                }
                Kind::Responses => {
                    let kind = given["type"].as_str().unwrap_or_default();
                    self.ended |=
                        ["response.completed", "response.incomplete", "response.failed"].contains(&kind);
                    write(&mut out, &event.name, &renamed(given, &self.target));
                }
            }
        }
        Ok(out)
    }

    /// What a chunk says, in Workers AI's own form.
    fn native(&mut self, given: &Json) -> Vec<Json> {
        let choice = &given["choices"][0];
        self.ended |= choice["finish_reason"].is_string();
        let mut said = Vec::new();
        // `text` is of a plain completion.
        let text = choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str());
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            said.push(json!({ "response": text }));
        }
        if let Some(calls) = choice["delta"]["tool_calls"].as_array().filter(|calls| !calls.is_empty()) {
            said.push(json!({ "response": "", "tool_calls": calls }));
        }
        if given["usage"].is_object() {
            said.push(json!({ "response": "", "usage": usage(&given["usage"]) }));
        }
        said
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.done = true;
        if self.kind != Kind::Responses {
            Event { name: String::new(), data: DONE.into() }.write(out);
        }
    }
}

fn write(out: &mut Vec<u8>, name: &str, said: &Json) {
    Event { name: name.to_owned(), data: said.to_string() }.write(out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::target;
    use super::*;

    const NATIVE: Answer = Answer::TextStream { shape: Shape::Native };

    fn chunk(delta: Json) -> String {
        let chunk = json!({ "id": "c", "model": "qwen3:8b", "choices": [{ "index": 0, "delta": delta }] });
        format!("data: {chunk}\n\n")
    }

    fn run(answer: &Answer, text: &str, cut: usize) -> Result<String, String> {
        let mut translator = Translator::new(target("@cf/m"), answer);
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(cut) {
            out.extend(translator.feed(piece)?);
        }
        out.extend(translator.finish()?);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn pieces_of_text_then_the_usage_then_the_end() {
        let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n";
        let text = [
            &chunk(json!({ "role": "assistant", "content": "" })),
            &chunk(json!({ "content": "Hel" })),
            ": keep-alive\n\n",
            &chunk(json!({ "content": "lo" })),
            usage,
            "data: [DONE]\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"after\"}}]}\n\n",
        ];
        let expected = "data: {\"response\":\"Hel\"}\n\ndata: {\"response\":\"lo\"}\n\ndata: {\"response\":\"\",\"usage\":{\
            \"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\ndata: [DONE]\n\n";
        assert_eq!(run(&NATIVE, &text.concat(), 7).unwrap(), expected);
    }

    #[test]
    fn a_stream_that_ends_without_saying_so_was_cut_off() {
        let cut = run(&NATIVE, &chunk(json!({ "content": "Hel" })), 99);
        assert_eq!(cut.unwrap_err(), "the models' server ended its answer too early");
        let ended = format!(
            "{}data: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n",
            chunk(json!({ "content": "x" }))
        );
        assert_eq!(run(&NATIVE, &ended, 99).unwrap(), "data: {\"response\":\"x\"}\n\ndata: [DONE]\n\n");
        let failed = run(&NATIVE, "data: {\"error\":{\"message\":\"out of memory\"}}\n\n", 99);
        assert!(failed.unwrap_err().contains("out of memory"));
        assert!(run(&NATIVE, "<html>\n\n", 99).is_err());
        assert!(run(&NATIVE, "data: <html>\n\n", 99).is_err());
    }

    #[test]
    fn calls_of_tools_come_as_they_do() {
        let call = json!([{ "index": 0, "id": "x", "type": "function", "function": { "name": "add", "arguments": "" } }]);
        let text = format!("{}data: [DONE]\n\n", chunk(json!({ "tool_calls": call })));
        let expected = format!("data: {{\"response\":\"\",\"tool_calls\":{call}}}\n\ndata: [DONE]\n\n");
        assert_eq!(run(&NATIVE, &text, 5).unwrap(), expected);
    }

    #[test]
    fn other_streams_pass_under_cloudflares_name() {
        let openai = Answer::TextStream { shape: Shape::OpenAi };
        let text = format!("{}data: [DONE]\n\n", chunk(json!({ "content": "x" })));
        assert_eq!(run(&openai, &text, 3).unwrap(), text.replace("qwen3:8b", "@cf/m"));
        let events = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"q\"}}\n\n\
            event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"q\"}}\n\n";
        assert_eq!(run(&Answer::ResponsesStream, events, 9).unwrap(), events.replace("\"q\"", "\"@cf/m\""));
    }

    proptest! {
        #[test]
        fn any_text_comes_through_however_it_is_cut(texts in prop::collection::vec(".{0,12}", 0..10), cut in 1..40_usize) {
            let chunks: String = texts.iter().map(|text| chunk(json!({ "content": text }))).collect();
            let out = run(&NATIVE, &format!("{chunks}data: [DONE]\n\n"), cut).unwrap();
            let mut parser = Parser::default();
            let events = parser.feed(out.as_bytes()).unwrap();
            let said: String = events
                .iter()
                .filter(|event| event.data != DONE)
                .map(|event| serde_json::from_str::<Json>(&event.data).unwrap()["response"].as_str().unwrap().to_owned())
                .collect();
            prop_assert_eq!(said, texts.concat());
        }

        #[test]
        fn any_bytes_are_translated_or_refused(bytes: Vec<u8>, cut in 1..9_usize) {
            let mut translator = Translator::new(target("m"), &NATIVE);
            for piece in bytes.chunks(cut) {
                if translator.feed(piece).is_err() {
                    return Ok(());
                }
            }
            let _ = translator.finish();
        }
    }
}
