//! What cells say, as a developer reads it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use skep_bundle::SourceMapper;
use skep_fleet::{CellLog, LogEvent};

use crate::terminal::{Style, paint, printable, say};

/// Prints what cells say, with their names and with stacks that point into the sources.
#[derive(Default)]
pub struct Output {
    scripts: Mutex<HashMap<String, Script>>,
}

#[derive(Default)]
struct Script {
    sources: Option<Arc<SourceMapper>>,
    /// The engine reports an exception again, without its stack, after we have.
    reported: Option<String>,
}

impl Output {
    /// The source map of the code that `script` runs from now on.
    pub fn set_sources(&self, script: &str, sources: Option<Arc<SourceMapper>>) {
        self.scripts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(script.to_owned())
            .or_default()
            .sources = sources;
    }

    /// Prints one thing that a cell said.
    pub fn print(&self, log: &CellLog) {
        if let Some(text) = self.format(&log.script, &log.event) {
            let name = paint(Style::Dim, &format!("[{}]", log.script));
            say(&format!("{name} {text}"));
        }
    }

    /// `text`, with its stack positions in the sources.
    pub fn map(&self, script: &str, text: &str) -> String {
        let scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        match scripts.get(script).and_then(|s| s.sources.as_ref()) {
            Some(sources) => sources.map_stack(text),
            None => text.to_owned(),
        }
    }

    fn format(&self, script: &str, event: &LogEvent) -> Option<String> {
        Some(match event {
            LogEvent::Console { level, message } => {
                let text = printable(&without_shims(&self.map(script, message)));
                match level.as_str() {
                    "error" => paint(Style::Red, &text),
                    "warn" => paint(Style::Yellow, &text),
                    "debug" => paint(Style::Dim, &text),
                    _ => text,
                }
            }
            LogEvent::Exception { name, message, stack } => {
                self.remember(script, Some(message.clone()));
                let text =
                    if stack.is_empty() { format!("{name}: {message}") } else { self.map(script, stack) };
                paint(Style::Red, &format!("✘ Uncaught {}", printable(&without_shims(&text))))
            }
            LogEvent::Engine { level, message } => {
                let text = engine_text(message)?;
                if self.remember(script, None).is_some_and(|known| text.ends_with(&known)) {
                    return None;
                }
                let text = printable(&self.map(script, text));
                paint(if level == "error" { Style::Red } else { Style::Dim }, &text)
            }
            LogEvent::Exceeded(exceeded) => paint(Style::Red, &format!("✘ {}", exceeded.message())),
            LogEvent::Fleet { message } => paint(Style::Yellow, message),
        })
    }

    fn remember(&self, script: &str, exception: Option<String>) -> Option<String> {
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut scripts.entry(script.to_owned()).or_default().reported, exception)
    }
}

/// The part of an engine message that means something to an application's developer, if any.
fn engine_text(message: &str) -> Option<&str> {
    // What an isolate threw, with where in the engine's own code it came out.
    if let Some((_, thrown)) =
        message.split_once("failed: remote.jsg.").or(message.split_once("failed: jsg."))
    {
        return Some(thrown);
    }
    let of_script = message.strip_prefix("service user: ").unwrap_or(message);
    (!message.contains("worker_do_not_log")).then_some(of_script)
}

/// A text without those lines of a stack in it that are of our own entry module.
fn without_shims(text: &str) -> String {
    let is_ours = |line: &&str| {
        let is_in = |module: &str| line.contains(module);
        line.trim_start().starts_with("at ") && (is_in("skep-entry.js:") || is_in("skep-sendfile.js:"))
    };
    text.lines().filter(|line| !is_ours(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_shown_once_and_without_our_own_lines() {
        let output = Output::default();
        let exception = LogEvent::Exception {
            name: "TypeError".into(),
            message: "x".into(),
            stack: "TypeError: x\n    at index.js:1:1\n    at call (skep-entry.js:2:2)".into(),
        };
        let text = output.format("s", &exception).unwrap();
        assert!(text.contains("index.js:1:1") && !text.contains("skep-entry"), "{text}");
        let again = LogEvent::Engine {
            level: "error".into(),
            message: "Uncaught exception: a.h:1: failed: remote.jsg.TypeError: x".into(),
        };
        assert_eq!(output.format("s", &again), None);
        assert_eq!(output.format("s", &again).as_deref(), Some("TypeError: x"));
        let printed = LogEvent::Console {
            level: "log".into(),
            message: "Error: y\n    at index.js:1:1\n    at async Object.fetch (skep-entry.js:2:2)\n    at x.js:1:1".into(),
        };
        let text = output.format("s", &printed).unwrap();
        assert_eq!(text, "Error: y\n    at index.js:1:1\n    at x.js:1:1");
    }
}
