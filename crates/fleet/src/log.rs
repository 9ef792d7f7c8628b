//! What cells say.

use std::sync::Arc;

use serde::Deserialize;

use crate::limits::Exceeded;

/// One thing that a cell said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellLog {
    /// The script.
    pub script: String,
    /// Who said it, and what.
    pub event: LogEvent,
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// `console.*`: level (`debug`, `info`, `log`, `warn`, `error`) and the formatted text.
    Console {
        /// The method's name.
        level: String,
        /// The text.
        message: String,
    },
    /// An exception that left the application's `fetch`.
    Exception {
        /// `TypeError` and so on; empty if something else than an `Error` was thrown.
        name: String,
        /// The message.
        message: String,
        /// The stack as V8 writes it, first line included; empty if there is none.
        stack: String,
    },
    /// The engine itself.
    Engine {
        /// `error`, `warning`, `info`.
        level: String,
        /// The text.
        message: String,
    },
    /// A cell was ended because it used too much; what was in it is lost.
    Exceeded(Exceeded),
    /// The fleet: starts, crashes.
    Fleet {
        /// The text.
        message: String,
    },
}

/// Where logs go; called from several tasks.
pub type LogSink = Arc<dyn Fn(CellLog) + Send + Sync>;

const EXCEPTION: &str = "\u{1}skep-exception:";

/// What the engine says of V8 flags that keep it from using code that it has compiled ahead: we chose them, and applications cannot change it.
const NOT_COMPILED_AHEAD: &str = "bootstrap compile cache failed its compatibility check";

/// What the engine says when loaded code is let go by its own isolate, which is how it is let go (`shims/loading.js`).
const LET_GO: &str = "failed: script terminated for unknown reasons";

#[derive(Deserialize)]
struct Line {
    level: String,
    message: String,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Exception {
    name: String,
    message: String,
    stack: Option<String>,
}

/// Reads one line of the engine's structured log.
pub(crate) fn parse(line: &str) -> Option<LogEvent> {
    if line.trim().is_empty() {
        return None;
    }
    let Ok(Line { level, message, source }) = serde_json::from_str(line) else {
        return Some(LogEvent::Engine { level: "info".into(), message: line.to_owned() });
    };
    if let Some(exception) = message.strip_prefix(EXCEPTION)
        && let Ok(Exception { name, message, stack }) = serde_json::from_str(exception)
    {
        return Some(LogEvent::Exception { name, message, stack: stack.unwrap_or_default() });
    }
    if source.is_some() && [NOT_COMPILED_AHEAD, LET_GO].iter().any(|ours| message.contains(ours)) {
        return None;
    }
    Some(match source {
        None => LogEvent::Console { level, message },
        Some(_) => LogEvent::Engine { level, message },
    })
}

/// Whether the engine says that V8 gave up for want of memory. What applications say never comes in this form: only
/// the engine's own lines name their source.
pub(crate) fn is_out_of_memory(event: &LogEvent) -> bool {
    matches!(event, LogEvent::Engine { level, message } if level == "fatal" && message.contains("heap out of memory"))
}

/// The reason why an engine did not start, out of its own words. Where the script itself failed, what the
/// engine says about the rest (missing classes, sockets without a target) is only a consequence.
pub(crate) fn start_failure(lines: &[LogEvent]) -> String {
    let engine = lines.iter().filter_map(|event| match event {
        LogEvent::Engine { message, .. } => Some(message.as_str()),
        _ => None,
    });
    let of_script = engine.clone().filter_map(|m| m.strip_prefix("service user: "));
    let thrown: Vec<&str> = of_script.clone().filter(|m| m.starts_with("Uncaught ")).collect();
    let reasons: Vec<&str> = match (thrown.is_empty(), of_script.clone().next()) {
        (false, _) => thrown,
        (true, Some(_)) => of_script.collect(),
        (true, None) => engine.collect(),
    };
    match reasons.is_empty() {
        true => "the engine ended without saying why".to_owned(),
        false => reasons.join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_lines_engine_lines_and_exceptions_are_told_apart() {
        let console = r#"{"timestamp":1,"level":"log","message":"{ a: 1 } x"}"#;
        assert_eq!(
            parse(console),
            Some(LogEvent::Console { level: "log".into(), message: "{ a: 1 } x".into() })
        );
        let engine =
            r#"{"timestamp":"1","level":"error","source":"a.rs:1","message":"no","context_depth":0}"#;
        assert_eq!(parse(engine), Some(LogEvent::Engine { level: "error".into(), message: "no".into() }));
        let thrown = r#"{"timestamp":1,"level":"error","message":"\u0001skep-exception:{\"name\":\"E\",\"message\":\"m\",\"stack\":\"s\"}"}"#;
        let expected = LogEvent::Exception { name: "E".into(), message: "m".into(), stack: "s".into() };
        assert_eq!(parse(thrown), Some(expected));
        assert_eq!(parse("  "), None);
        let ours = format!(
            r#"{{"timestamp":"1","level":"warning","source":"b.c++:1","message":"x {NOT_COMPILED_AHEAD}; y"}}"#
        );
        assert_eq!(parse(&ours), None);
        let said = format!(r#"{{"timestamp":1,"level":"log","message":"{NOT_COMPILED_AHEAD}"}}"#);
        assert!(parse(&said).is_some(), "what applications say is theirs");

        let fatal = r#"{"timestamp":"1","level":"fatal","source":"v8.c++:1","message":"V8 fatal error; message = : allocation failed: JavaScript heap out of memory"}"#;
        assert!(parse(fatal).is_some_and(|event| is_out_of_memory(&event)));
        let said = r#"{"timestamp":1,"level":"fatal","message":"JavaScript heap out of memory"}"#;
        assert!(!parse(said).is_some_and(|event| is_out_of_memory(&event)));
    }

    #[test]
    fn a_failed_start_is_explained_by_the_script_not_by_its_consequences() {
        let said = |message: &str| LogEvent::Engine { level: "error".into(), message: message.into() };
        let lines =
            [said("service user: Uncaught Error: top\n  at index.js:1:7"), said("Socket \"http\" refers to")];
        assert_eq!(start_failure(&lines), "Uncaught Error: top\n  at index.js:1:7");
        assert_eq!(start_failure(&lines[1..]), "Socket \"http\" refers to");
    }
}
