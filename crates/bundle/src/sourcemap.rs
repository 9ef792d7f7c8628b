//! Stack traces in terms of the sources, by source maps of version 3 (ECMA-426).

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

/// The source map is not one.
#[derive(Debug, thiserror::Error)]
#[error("not a source map of version 3: {0}")]
pub struct SourceMapError(String);

#[derive(Deserialize)]
struct Json {
    version: u32,
    #[serde(default, rename = "sourceRoot")]
    root: Option<String>,
    sources: Vec<Option<String>>,
    mappings: String,
}

/// One mapped place; lines and columns are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    column: i64,
    /// Source, line, column.
    origin: Option<(usize, i64, i64)>,
}

/// Finds where generated code came from.
#[derive(Clone, Debug)]
pub struct SourceMapper {
    sources: Vec<String>,
    /// Per generated line, by column.
    lines: Vec<Vec<Segment>>,
}

impl SourceMapper {
    /// Reads a source map.
    pub fn new(json: &[u8]) -> Result<Self, SourceMapError> {
        let json: Json = serde_json::from_slice(json).map_err(|error| SourceMapError(error.to_string()))?;
        if json.version != 3 {
            return Err(SourceMapError(format!("version {}", json.version)));
        }
        let root = json.root.unwrap_or_default();
        let sources =
            json.sources.into_iter().map(|source| resolve(&root, &source.unwrap_or_default())).collect();
        let lines = decode(&json.mappings).ok_or_else(|| SourceMapError("mappings".into()))?;
        Ok(Self { sources, lines })
    }

    /// The source, line and column (both from 1) of a place in the generated code (both from 1).
    pub fn lookup(&self, line: u32, column: u32) -> Option<(&str, u32, u32)> {
        let segments = self.lines.get(line.checked_sub(1)? as usize)?;
        let column = i64::from(column.checked_sub(1)?);
        let at = segments.partition_point(|segment| segment.column <= column).checked_sub(1)?;
        let (source, line, column) = segments.get(at)?.origin?;
        let one_more = |n: i64| u32::try_from(n.checked_add(1)?).ok();
        Some((self.sources.get(source)?, one_more(line)?, one_more(column)?))
    }

    /// The stack trace with every `file:line:column` that is mapped replaced by where it came from.
    pub fn map_stack(&self, stack: &str) -> String {
        let mut mapped = String::with_capacity(stack.len());
        for line in stack.split_inclusive('\n') {
            match self.map_frame(line) {
                Some(line) => mapped.push_str(&line),
                None => mapped.push_str(line),
            }
        }
        mapped
    }

    fn map_frame(&self, line: &str) -> Option<String> {
        let frame = line.trim_start().strip_prefix("at ")?;
        let indent = &line[..line.len() - line.trim_start().len()];
        let body = frame.trim_end();
        let end = &frame[body.len()..];
        let (before, place, after) = match body.strip_suffix(')').and_then(|body| body.rsplit_once('(')) {
            Some((before, place)) => (format!("{before}("), place, ")"),
            None => match body.strip_prefix("async ") {
                Some(place) => ("async ".to_owned(), place, ""),
                None => (String::new(), body, ""),
            },
        };
        let (rest, column) = place.rsplit_once(':')?;
        let (_, row) = rest.rsplit_once(':')?;
        let (source, row, column) = self.lookup(row.parse().ok()?, column.parse().ok()?)?;
        Some(format!("{indent}at {before}{source}:{row}:{column}{after}{end}"))
    }
}

fn resolve(root: &str, source: &str) -> String {
    if root.is_empty() || source.contains("://") {
        return source.to_owned();
    }
    let mut path = PathBuf::new();
    for part in Path::new(root).join(source).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.to_string_lossy().into_owned()
}

fn decode(mappings: &str) -> Option<Vec<Vec<Segment>>> {
    let (mut source, mut line, mut column) = (0i64, 0i64, 0i64);
    let mut lines = Vec::new();
    for text in mappings.split(';') {
        let mut generated = 0i64;
        let mut segments = Vec::new();
        for text in text.split(',').filter(|text| !text.is_empty()) {
            let fields = numbers(text)?;
            generated = generated.checked_add(*fields.first()?)?;
            let origin = match fields.as_slice() {
                [_] => None,
                [_, by_source, by_line, by_column] | [_, by_source, by_line, by_column, _] => {
                    source = source.checked_add(*by_source)?;
                    line = line.checked_add(*by_line)?;
                    column = column.checked_add(*by_column)?;
                    Some((usize::try_from(source).ok()?, line, column))
                }
                _ => return None,
            };
            segments.push(Segment { column: generated, origin });
        }
        segments.sort_by_key(|segment| segment.column);
        lines.push(segments);
    }
    Some(lines)
}

/// Base64 digits of five bits each, lowest first; the sixth bit says that more follow, the lowest is the sign.
fn numbers(text: &str) -> Option<Vec<i64>> {
    let (mut numbers, mut value, mut shift) = (Vec::with_capacity(5), 0i64, 0u32);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        if shift > 30 {
            return None;
        }
        value |= i64::from(digit & 31) << shift;
        if digit & 32 != 0 {
            shift += 5;
            continue;
        }
        numbers.push(if value & 1 == 1 { -(value >> 1) } else { value >> 1 });
        (value, shift) = (0, 0);
    }
    (shift == 0).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_mapped_and_everything_else_is_kept() {
        let json =
            br#"{"version":3,"sourceRoot":"/p/.out","sources":["../src/a.ts"],"mappings":";AAEE,IAAI"}"#;
        let mapper = SourceMapper::new(json).unwrap();
        let stack = "Error: at home\n    at f (index.js:2:1)\n    at index.js:2:7\n    at g (native)\n    at index.js:9:9";
        let expected = "Error: at home\n    at f (/p/src/a.ts:3:3)\n    at /p/src/a.ts:3:7\n    at g (native)\n    at index.js:9:9";
        assert_eq!(mapper.map_stack(stack), expected);
    }

    fn vlq(number: i64) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut rest = if number < 0 { (-number) << 1 | 1 } else { number << 1 };
        let mut text = String::new();
        loop {
            let more = rest >> 5 != 0;
            text.push(DIGITS[(rest & 31 | if more { 32 } else { 0 }) as usize] as char);
            rest >>= 5;
            if !more {
                return text;
            }
        }
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(list in prop::collection::vec(-(1i64 << 31)..1 << 31, 1..6)) {
            let text: String = list.iter().map(|number| vlq(*number)).collect();
            prop_assert_eq!(numbers(&text), Some(list));
        }

        #[test]
        fn no_mappings_and_no_stack_panic(mappings in "[A-Za-z0-9+/,;]{0,40}", stack in ".{0,60}") {
            let json = serde_json::json!({ "version": 3, "sources": ["a"], "mappings": mappings }).to_string();
            if let Ok(mapper) = SourceMapper::new(json.as_bytes()) {
                mapper.map_stack(&stack);
                mapper.map_stack(&format!("at ({stack}:1:1)"));
            }
        }
    }
}
