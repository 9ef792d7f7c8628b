//! The inputs of a call, read no further than needed: a JSON value in memory is many times as large as its text, and
//! lists of bytes are as long as an audio file.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::error::AiError;

/// Fields that the inputs may have; no model has a tenth of it.
const MOST_FIELDS: usize = 256;
/// Values, keys and list entries that all fields may have together, those of files left out.
const MOST_VALUES: usize = 100_000;
/// Fields that hold a file, as a list of bytes or as base64.
const FILES: [&str; 3] = ["audio", "image", "mask"];

/// Padding or none.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An object whose values have not been read yet.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads the inputs of a model.
    pub fn read(inputs: &'a RawValue) -> Result<Self, AiError> {
        if !inputs.get().starts_with('{') {
            return Err(AiError::mismatch("", "object", kind(inputs)));
        }
        let fields: Self = serde_json::from_str(inputs.get()).map_err(AiError::bad_input)?;
        let weight: usize = fields
            .0
            .iter()
            .filter(|(name, _)| !FILES.contains(&name.as_str()))
            .map(|(_, value)| weight(value.get()))
            .sum();
        if weight > MOST_VALUES { Err(AiError::too_large()) } else { Ok(fields) }
    }

    /// A field that is there and not null.
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().rev().find(|(own, _)| own == name)?.1;
        (found.get() != "null").then_some(found)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A field of any type but a file.
    pub fn json(&self, name: &str) -> Result<Option<Json>, AiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map(Some).map_err(AiError::bad_input)
    }

    pub fn text(&self, name: &str) -> Result<Option<String>, AiError> {
        match self.json(name)? {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(other) => Err(AiError::mismatch(name, "string", kind_of(&other))),
        }
    }

    pub fn flag(&self, name: &str) -> Result<bool, AiError> {
        match self.json(name)? {
            None => Ok(false),
            Some(Json::Bool(flag)) => Ok(flag),
            Some(other) => Err(AiError::mismatch(name, "boolean", kind_of(&other))),
        }
    }

    /// A file: a list of bytes, base64, or a `data:` URL.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>, AiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let wrong = || AiError::bad_base64(kind(value));
        match value.get().as_bytes().first() {
            Some(b'[') => serde_json::from_str(value.get()).map(Some).map_err(|_| wrong()),
            Some(b'"') => {
                let text: String = serde_json::from_str(value.get()).map_err(|_| wrong())?;
                let base64 = match text.strip_prefix("data:") {
                    Some(url) => url.split_once(";base64,").ok_or_else(wrong)?.1,
                    None => &text,
                };
                BASE64.decode(base64.trim()).map(Some).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }

    /// The names of all fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<String, &'de RawValue>()? {
                    if fields.len() == MOST_FIELDS {
                        return Err(A::Error::custom(format!(
                            "there are more than {MOST_FIELDS} properties"
                        )));
                    }
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// About how many values a JSON text has: what separates them, outside of strings.
fn weight(json: &str) -> usize {
    let (mut in_string, mut escaped, mut count) = (false, false, 1);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// A type's name, as Cloudflare's errors have it.
pub(crate) fn kind_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

/// A file as a `data:` URL.
pub(crate) fn data_url(file: &[u8]) -> String {
    let kind = match file {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        _ => "image/jpeg",
    };
    format!("data:{kind};base64,{}", STANDARD.encode(file))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with<T>(json: &str, check: impl FnOnce(Result<Fields<'_>, AiError>) -> T) -> T {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        check(Fields::read(&raw))
    }

    #[test]
    fn files_are_lists_of_bytes_base64_or_data_urls() {
        for (json, expected) in [
            (r#"{"audio":[1,2,255]}"#, Some(vec![1, 2, 255])),
            (r#"{"audio":"AQL/"}"#, Some(vec![1, 2, 255])),
            (r#"{"audio":"AQ"}"#, Some(vec![1])),
            (r#"{"audio":"data:audio/wav;base64,AQI="}"#, Some(vec![1, 2])),
            (r#"{"audio":null}"#, None),
        ] {
            with(json, |fields| assert_eq!(fields.unwrap().file("audio").unwrap(), expected, "{json}"));
        }
        for wrong in [r#"{"audio":[1,256]}"#, r#"{"audio":"%"}"#, r#"{"audio":{}}"#, r#"{"audio":[[]]}"#] {
            with(wrong, |fields| {
                assert_eq!(fields.unwrap().file("audio").unwrap_err().code, 5004, "{wrong}")
            });
        }
    }

    #[test]
    fn inputs_with_too_many_values_are_refused_before_they_are_read() {
        let many = format!(r#"{{"messages":[{}0]}}"#, "0,".repeat(MOST_VALUES));
        with(&many, |fields| assert_eq!(fields.unwrap_err(), AiError::too_large()));
        let text = format!(r#"{{"prompt":"{}"}}"#, "[,{:".repeat(MOST_VALUES));
        with(&text, |fields| assert!(fields.is_ok()));
        let file = format!(r#"{{"audio":[{}0]}}"#, "0,".repeat(MOST_VALUES));
        with(&file, |fields| {
            assert_eq!(fields.unwrap().file("audio").unwrap().unwrap().len(), MOST_VALUES + 1)
        });
        let keys: Vec<String> = (0..=MOST_FIELDS).map(|n| format!("\"k{n}\":0")).collect();
        with(&format!("{{{}}}", keys.join(",")), |fields| assert_eq!(fields.unwrap_err().code, 5006));
        with("[]", |fields| {
            assert_eq!(fields.unwrap_err().text, "Error: Type mismatch of '/', 'object' not in 'array'");
        });
    }

    proptest! {
        #[test]
        fn a_file_comes_back_from_either_form(bytes: Vec<u8>) {
            let list = serde_json::json!({ "image": bytes }).to_string();
            with(&list, |fields| assert_eq!(fields.unwrap().file("image").unwrap().unwrap(), bytes));
            let url = serde_json::json!({ "image": data_url(&bytes) }).to_string();
            with(&url, |fields| assert_eq!(fields.unwrap().file("image").unwrap().unwrap(), bytes));
        }

        #[test]
        fn weight_is_at_least_the_number_of_values(values in prop::collection::vec(any::<Option<String>>(), 0..20)) {
            prop_assert!(weight(&serde_json::json!(values).to_string()) > values.len());
        }
    }
}
