//! Edits of a `wrangler.jsonc` that keep its comments and its layout.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::Value;

/// One step into a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of an object.
    Key(String),
    /// An element of a list, from 0.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Why a text was not edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is no JSONC.
    #[error("the file cannot be read: {0}")]
    Syntax(String),
    /// A step leads nowhere.
    #[error("there is no {0}")]
    Missing(String),
    /// The path is empty, or ends where nothing can be set.
    #[error("{0} cannot be changed")]
    Fixed(String),
}

enum Place {
    Object(CstObject),
    Array(CstArray),
}

/// Sets the value at `path`; objects on the way are made where they are missing.
pub fn set(text: &str, path: &[Step], value: &Value) -> Result<String, EditError> {
    let (root, parent, last) = open(text, path, true)?;
    let input = input(value);
    match (parent, last) {
        (Place::Object(object), Step::Key(key)) => match object.get(key) {
            Some(property) => property.set_value(input),
            None => drop(object.append(key, input)),
        },
        (Place::Array(array), Step::Index(index)) => {
            let Some(element) = array.elements().into_iter().nth(*index) else { return Err(missing(path)) };
            element.remove();
            array.insert(*index, input);
        }
        _ => return Err(missing(path)),
    }
    Ok(root.to_string())
}

/// Adds `value` at the end of the list at `path`, which is made where it is missing.
pub fn append(text: &str, path: &[Step], value: &Value) -> Result<String, EditError> {
    let (root, parent, last) = open(text, path, true)?;
    let array = match (parent, last) {
        (Place::Object(object), Step::Key(key)) => object.array_value_or_create(key),
        (Place::Array(array), Step::Index(index)) => {
            array.elements().get(*index).and_then(|node| node.as_array())
        }
        _ => None,
    };
    let Some(array) = array else { return Err(EditError::Fixed(show(path))) };
    array.append(input(value));
    Ok(root.to_string())
}

/// Removes what is at `path`; nothing happens where nothing is.
pub fn remove(text: &str, path: &[Step]) -> Result<String, EditError> {
    let (root, parent, last) = match open(text, path, false) {
        Err(EditError::Missing(_)) => return Ok(text.to_owned()),
        opened => opened?,
    };
    match (parent, last) {
        (Place::Object(object), Step::Key(key)) => {
            object.get(key).into_iter().for_each(|property| property.remove())
        }
        (Place::Array(array), Step::Index(index)) => {
            array.elements().into_iter().nth(*index).into_iter().for_each(CstNode::remove);
        }
        _ => {}
    }
    Ok(root.to_string())
}

/// The tree, what holds the last step, and the last step.
fn open<'a>(text: &str, path: &'a [Step], make: bool) -> Result<(CstRootNode, Place, &'a Step), EditError> {
    let root =
        CstRootNode::parse(text, &ParseOptions::default()).map_err(|e| EditError::Syntax(e.to_string()))?;
    let (last, before) = path.split_last().ok_or_else(|| EditError::Fixed("the whole file".into()))?;
    let top = if make { root.object_value_or_create() } else { root.object_value() };
    let mut place = Place::Object(top.ok_or_else(|| EditError::Fixed("the whole file".into()))?);
    for (n, step) in before.iter().enumerate() {
        place = enter(place, step, make).ok_or_else(|| missing(&path[..=n]))?;
    }
    Ok((root, place, last))
}

fn enter(place: Place, step: &Step, make: bool) -> Option<Place> {
    match (place, step) {
        (Place::Object(object), Step::Key(key)) => {
            if let Some(array) = object.array_value(key) {
                return Some(Place::Array(array));
            }
            let inner = if make { object.object_value_or_create(key) } else { object.object_value(key) };
            inner.map(Place::Object)
        }
        (Place::Array(array), Step::Index(index)) => {
            let node = array.elements().into_iter().nth(*index)?;
            node.as_object().map(Place::Object).or_else(|| node.as_array().map(Place::Array))
        }
        _ => None,
    }
}

fn missing(path: &[Step]) -> EditError {
    EditError::Missing(show(path))
}

fn show(path: &[Step]) -> String {
    let steps = path.iter().map(|step| match step {
        Step::Key(key) => format!(".{key}"),
        Step::Index(index) => format!("[{index}]"),
    });
    steps.collect::<String>().trim_start_matches('.').to_owned()
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(values) => CstInputValue::Array(values.iter().map(input).collect()),
        Value::Object(fields) => {
            CstInputValue::Object(fields.iter().map(|(key, value)| (key.clone(), input(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TEXT: &str = "{\n  // the name\n  \"name\": \"a\", /* here */\n  \"kv_namespaces\": [\n    { \"binding\": \"A\" } // first\n  ]\n}\n";

    fn parsed(text: &str) -> Value {
        let source = crate::diagnostic::Source { path: "wrangler.jsonc".into(), text: text.to_owned() };
        crate::node::parse(&source).unwrap().to_json()
    }

    #[test]
    fn comments_and_layout_stay() {
        let edited = set(TEXT, &["name".into()], &json!("b")).unwrap();
        assert_eq!(edited, TEXT.replace("\"a\"", "\"b\""));
        let edited = set(TEXT, &["kv_namespaces".into(), 0.into(), "id".into()], &json!("x")).unwrap();
        assert!(edited.contains("// first") && edited.contains("/* here */"), "{edited}");
        assert_eq!(parsed(&edited)["kv_namespaces"][0]["id"], "x");
        let edited = append(TEXT, &["kv_namespaces".into()], &json!({ "binding": "B" })).unwrap();
        assert_eq!(parsed(&edited)["kv_namespaces"][1]["binding"], "B");
        let edited = append(TEXT, &["triggers".into(), "crons".into()], &json!("* * * * *")).unwrap();
        assert_eq!(parsed(&edited)["triggers"]["crons"], json!(["* * * * *"]));
        let edited = remove(TEXT, &["kv_namespaces".into(), 0.into()]).unwrap();
        assert_eq!(parsed(&edited)["kv_namespaces"], json!([]));
        assert_eq!(remove(TEXT, &["nope".into(), "x".into()]).unwrap(), TEXT);
        assert!(matches!(set("{", &["a".into()], &json!(1)), Err(EditError::Syntax(_))));
    }

    proptest! {
        /// An edit changes the value at its path and no other.
        #[test]
        fn only_what_is_meant_changes(keys in prop::collection::btree_set("[a-e]{1,2}", 1..5), pick in 0usize..5, number in any::<i32>()) {
            let keys: Vec<String> = keys.into_iter().collect();
            let lines: Vec<String> = keys.iter().enumerate().map(|(n, key)| format!("  \"{key}\": {n}, // about {key}\n")).collect();
            let text = format!("{{\n{}}}\n", lines.concat());
            let key = &keys[pick % keys.len()];
            let edited = set(&text, &[key.as_str().into()], &json!(number)).unwrap();
            let mut expected = parsed(&text);
            expected[key] = json!(number);
            prop_assert_eq!(parsed(&edited), expected);
            for key in &keys {
                let comment = format!("// about {}\n", key);
                prop_assert!(edited.contains(&comment));
            }
        }
    }
}
