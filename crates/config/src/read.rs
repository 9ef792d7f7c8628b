//! Typed access to a tree, collecting what does not fit.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::node::{Node, Value};

/// Reads values and remembers all errors.
pub(crate) struct Reader<'a> {
    pub source: &'a Source,
    pub dir: &'a Path,
    /// See [`crate::LoadOptions::deploying`].
    pub deploying: bool,
    pub problems: RefCell<Vec<Diagnostic>>,
}

/// One object and where it stands.
#[derive(Clone)]
pub(crate) struct Table<'a> {
    reader: &'a Reader<'a>,
    /// `kv_namespaces[0]`, for error texts.
    path: String,
    node: &'a Node,
}

impl<'a> Reader<'a> {
    pub fn root(&'a self, node: &'a Node) -> Table<'a> {
        Table { reader: self, path: String::new(), node }
    }

    pub fn error(&self, node: &Node, message: impl Into<String>, help: impl Into<String>) {
        self.problems.borrow_mut().push(self.source.error(node.span.clone(), message).help(help));
    }
}

impl<'a> Table<'a> {
    /// The folder that relative paths start from.
    pub fn dir(&self) -> &'a Path {
        self.reader.dir
    }

    /// See [`crate::LoadOptions::deploying`].
    pub fn deploying(&self) -> bool {
        self.reader.deploying
    }

    pub fn node(&self) -> &'a Node {
        self.node
    }

    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.node.get(key).filter(|node| node.value != Value::Null)
    }

    pub fn error(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        self.reader.error(self.get(key).unwrap_or(self.node), message, help);
    }

    /// Says once that `node` means nothing here.
    pub fn note(&self, node: &Node, message: impl Into<String>, help: &str) {
        let note = self.reader.source.at(Severity::Note, node.span.clone(), message);
        self.reader.problems.borrow_mut().push(note.help(help));
    }

    /// Warns of `node`.
    pub fn warn(&self, node: &Node, message: impl Into<String>, help: &str) {
        let warning = self.reader.source.at(Severity::Warning, node.span.clone(), message);
        self.reader.problems.borrow_mut().push(warning.help(help));
    }

    /// The key's full name, for error texts.
    pub fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn expected<T>(&self, key: &str, node: &Node, what: &str) -> Option<T> {
        let message = format!("\"{}\" should be {what}, but it is {}", self.name(key), node.kind());
        self.reader.error(node, message, format!("expected {what}"));
        None
    }

    fn typed<T>(&self, key: &str, what: &str, take: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let node = self.get(key)?;
        take(&node.value).or_else(|| self.expected(key, node, what))
    }

    pub fn string(&self, key: &str) -> Option<String> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.clone()),
            _ => None,
        })
    }

    /// A string that has to be there and not to be empty.
    pub fn required(&self, key: &str) -> String {
        match self.get(key) {
            None => {
                let message = format!("\"{}\" is missing", self.name(key));
                self.reader.error(self.node, message, "expected a string");
                String::new()
            }
            Some(node) => {
                let text = self.string(key).unwrap_or_default();
                if text.is_empty() && matches!(node.value, Value::String(_)) {
                    self.reader.error(node, format!("\"{}\" is empty", self.name(key)), "expected a name");
                }
                text
            }
        }
    }

    pub fn bool(&self, key: &str) -> Option<bool> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// A whole number within the bounds.
    pub fn integer(&self, key: &str, least: u32, most: u32) -> Option<u32> {
        let what = format!("a whole number from {least} to {most}");
        self.typed(key, &what, |value| match value {
            Value::Number(n) => {
                n.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (least..=most).contains(n))
            }
            _ => None,
        })
    }

    /// A number of seconds above 0.
    pub fn seconds(&self, key: &str) -> Option<f64> {
        self.typed(key, "a number of seconds above 0", |value| match value {
            Value::Number(n) => n.as_f64().filter(|n| *n > 0.0 && n.is_finite()),
            _ => None,
        })
    }

    pub fn strings(&self, key: &str) -> Vec<String> {
        let list = self.typed(key, "a list of strings", |value| match value {
            Value::Array(nodes) => nodes
                .iter()
                .map(|node| match &node.value {
                    Value::String(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        });
        list.unwrap_or_default()
    }

    /// A string that is one of `allowed`.
    pub fn one_of(&self, key: &str, allowed: &[&str]) -> Option<String> {
        let text = self.string(key)?;
        if allowed.contains(&text.as_str()) {
            return Some(text);
        }
        let list = allowed.iter().map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(", ");
        self.error(key, format!("\"{}\" is \"{text}\"", self.name(key)), format!("expected one of {list}"));
        None
    }

    pub fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.reader.dir.join(self.string(key)?))
    }

    pub fn json(&self, key: &str) -> Option<serde_json::Value> {
        self.get(key).map(Node::to_json)
    }

    pub fn table(&self, key: &str) -> Option<Table<'a>> {
        let node = self.get(key)?;
        match node.value {
            Value::Object(_) => Some(Table { reader: self.reader, path: self.name(key), node }),
            _ => self.expected(key, node, "an object"),
        }
    }

    pub fn tables(&self, key: &str) -> Vec<Table<'a>> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let Value::Array(items) = &node.value else {
            self.expected::<()>(key, node, "a list of objects");
            return Vec::new();
        };
        let tables = items.iter().enumerate().filter_map(|(n, node)| {
            let path = format!("{}[{n}]", self.name(key));
            match node.value {
                Value::Object(_) => Some(Table { reader: self.reader, path, node }),
                _ => {
                    let message = format!("\"{path}\" should be an object, but it is {}", node.kind());
                    self.reader.error(node, message, "expected an object");
                    None
                }
            }
        });
        tables.collect()
    }

    pub fn string_map(&self, key: &str) -> BTreeMap<String, String> {
        let Some(table) = self.table(key) else { return BTreeMap::new() };
        let pairs = table.node.entries().iter();
        pairs.filter_map(|entry| Some((entry.key.clone(), table.string(&entry.key)?))).collect()
    }

    pub fn path_map(&self, key: &str) -> BTreeMap<String, PathBuf> {
        self.string_map(key).into_iter().map(|(name, path)| (name, self.reader.dir.join(path))).collect()
    }
}
