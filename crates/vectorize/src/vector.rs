//! Vectors as they are sent: a JSON object a line.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::error::VectorizeError;
use crate::limits::{MAX_ID_BYTES, MAX_METADATA_BYTES, MAX_NAMESPACE_BYTES};

/// One vector.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Vector {
    /// Unique in its index.
    pub id: String,
    /// Its namespace, if it is in one; not empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its numbers, finite.
    #[serde(serialize_with = "widened")]
    pub values: Vec<f32>,
    /// Its metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Json>>,
}

/// Cloudflare shows the numbers that 32 bits hold, with the digits of 64.
#[allow(clippy::ptr_arg, reason = "serde asks for it")]
pub(crate) fn widened<S: serde::Serializer>(values: &Vec<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(|&value| f64::from(value)))
}

#[derive(Deserialize)]
struct Line {
    id: String,
    namespace: Option<String>,
    values: Vec<f32>,
    metadata: Option<Map<String, Json>>,
}

/// What is done with a line that is no vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparsable {
    /// All is refused.
    Error,
    /// It is left out.
    Discard,
}

/// The vectors of a request, of which there may be `max`. `operation` is for the texts of errors. Blank lines do not count.
pub fn parse_lines(
    text: &[u8],
    operation: &'static str,
    max: usize,
    unparsable: Unparsable,
) -> Result<Vec<Vector>, VectorizeError> {
    let lines = || text.split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    // Before anything is read: what is too much costs nothing.
    let got = lines().count();
    if got > max {
        return Err(VectorizeError::TooManyVectors { max, got });
    }
    let mut vectors = Vec::with_capacity(got);
    for (line, text) in lines() {
        match (parse(text), unparsable) {
            (Some(vector), _) => vectors.push(checked(vector)?),
            (None, Unparsable::Discard) => {}
            (None, Unparsable::Error) => return Err(VectorizeError::Line { operation, line }),
        }
    }
    Ok(vectors)
}

fn parse(text: &[u8]) -> Option<Vector> {
    let Line { id, namespace, values, metadata } = serde_json::from_slice(text).ok()?;
    let sound = !id.is_empty() && values.iter().all(|value| value.is_finite());
    let keys = metadata.iter().flat_map(Map::keys).all(|key| is_key(key));
    let namespace = namespace.filter(|name| !name.is_empty());
    (sound && keys).then_some(Vector { id, namespace, values, metadata })
}

/// Whether metadata may have the key. <https://developers.cloudflare.com/vectorize/best-practices/insert-vectors/#metadata>
fn is_key(key: &str) -> bool {
    !key.is_empty() && !key.contains(['"', '.']) && !key.starts_with('$')
}

fn checked(vector: Vector) -> Result<Vector, VectorizeError> {
    if vector.id.len() > MAX_ID_BYTES {
        return Err(VectorizeError::IdTooLong(vector.id.len()));
    }
    check_namespace(vector.namespace.as_deref())?;
    let got = vector.metadata.as_ref().map_or(0, |metadata| Json::from(metadata.clone()).to_string().len());
    if got > MAX_METADATA_BYTES {
        return Err(VectorizeError::MetadataTooLong { id: vector.id, got });
    }
    Ok(vector)
}

pub(crate) fn check_namespace(namespace: Option<&str>) -> Result<(), VectorizeError> {
    match namespace.map_or(0, str::len) {
        length if length > MAX_NAMESPACE_BYTES => Err(VectorizeError::NamespaceTooLong(length)),
        _ => Ok(()),
    }
}

/// One vector for each id: the first, or the last.
pub(crate) fn distinct(vectors: Vec<Vector>, last: bool) -> Vec<Vector> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(vectors.len());
    let mut kept: Vec<Vector> = Vec::with_capacity(vectors.len());
    for vector in vectors {
        match places.get(&vector.id) {
            Some(&place) if last => kept[place] = vector,
            Some(_) => {}
            None => {
                places.insert(vector.id.clone(), kept.len());
                kept.push(vector);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Vec<Vector>, String> {
        parse_lines(text.as_bytes(), "insert", 3, Unparsable::Error).map_err(|e| e.to_string())
    }

    #[test]
    fn lines_are_vectors() {
        let text = "{\"id\":\"a\",\"values\":[1,-2.5e1],\"namespace\":\"n\",\"metadata\":{\"k\":{\"deep\":true}}}\r\n\n  \n\
                    {\"values\":[],\"id\":\"b\",\"namespace\":\"\",\"metadata\":null,\"more\":1}";
        let vectors = read(text).unwrap();
        let shown = json!([
            { "id": "a", "namespace": "n", "values": [1.0, -25.0], "metadata": { "k": { "deep": true } } },
            { "id": "b", "values": [] },
        ]);
        assert_eq!(serde_json::to_value(vectors).unwrap(), shown);
    }

    #[test]
    fn what_is_no_vector_is_named_by_its_line_or_left_out() {
        let good = "{\"id\":\"a\",\"values\":[1]}";
        for bad in [
            "{}",
            "[]",
            "{\"id\":1,\"values\":[1]}",
            "{\"id\":\"\",\"values\":[1]}",
            "{\"id\":\"a\",\"values\":[null]}",
            "{\"id\":\"a\",\"values\":[1e39]}",
            "{\"id\":\"a\",\"values\":[1],\"metadata\":[]}",
            "{\"id\":\"a\",\"values\":[1],\"metadata\":{\"\":1}}",
            "{\"id\":\"a\",\"values\":[1],\"metadata\":{\"a.b\":1}}",
            "{\"id\":\"a\",\"values\":[1],\"metadata\":{\"$a\":1}}",
            "{\"id\":\"\\ud835\",\"values\":[1]}",
        ] {
            let text = format!("{good}\n{bad}");
            let expected = "failed to parse insert vectors request in ndjson format: line Some(1) was not expected format";
            assert_eq!(read(&text).unwrap_err(), expected, "{bad}");
            let kept = parse_lines(text.as_bytes(), "insert", 3, Unparsable::Discard).unwrap();
            assert_eq!(kept.len(), 1);
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let line = |id: usize, namespace: usize, metadata: usize| {
            let metadata = json!({ "k": "m".repeat(metadata) });
            json!({ "id": "i".repeat(id), "namespace": "n".repeat(namespace), "values": [1], "metadata": metadata }).to_string()
        };
        let around = "{\"k\":\"\"}".len();
        assert!(read(&line(64, 64, 10_240 - around)).is_ok());
        assert_eq!(read(&line(65, 0, 0)).unwrap_err(), "id too long; max is 64 bytes, got 65 bytes");
        assert!(read(&line(1, 65, 0)).unwrap_err().starts_with("namespace too long"));
        let said = read(&line(1, 0, 10_241 - around)).unwrap_err();
        assert!(said.contains("must not exceed 10240 bytes, got 10241 bytes"), "{said}");
        let four = [line(1, 0, 0), line(2, 0, 0), line(3, 0, 0), line(4, 0, 0)].join("\n");
        assert_eq!(read(&four).unwrap_err(), "too many vectors in payload; max count is 3, got 4");
    }

    #[test]
    fn of_one_id_the_first_or_the_last_counts() {
        let vectors = read(
            "{\"id\":\"a\",\"values\":[1]}\n{\"id\":\"b\",\"values\":[2]}\n{\"id\":\"a\",\"values\":[3]}",
        )
        .unwrap();
        let values = |last| distinct(vectors.clone(), last).iter().map(|v| v.values[0]).collect::<Vec<_>>();
        assert_eq!((values(false), values(true)), (vec![1.0, 2.0], vec![3.0, 2.0]));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_vectors_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse_lines(&bytes, "insert", 1000, Unparsable::Error);
        }

        /// Pieces of good lines in any order, cut anywhere.
        #[test]
        fn what_is_taken_is_within_bounds(pieces in proptest::collection::vec(
            "(\\{\"id\":\"[a-z\u{e9}]{0,70}\",|\"values\":\\[(-?[0-9]{1,3}(e[0-9]{1,2})?,){0,4}1\\]|,\"metadata\":\\{\"k\":[0-9tn]{0,3}\\}|\\}\n?|\n)", 0..12,
        )) {
            let text = pieces.concat();
            if let Ok(vectors) = parse_lines(text.as_bytes(), "upsert", 1000, Unparsable::Discard) {
                for vector in vectors {
                    proptest::prop_assert!((1..=64).contains(&vector.id.len()));
                    proptest::prop_assert!(vector.values.iter().all(|v| v.is_finite()));
                }
            }
        }
    }
}
