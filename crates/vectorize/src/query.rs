//! A question for the nearest vectors, and its answer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::error::VectorizeError;
use crate::filter::Filter;
use crate::limits::{DEFAULT_TOP_K, MAX_TOP_K, MAX_TOP_K_FULL};
use crate::vector::check_namespace;

/// How much metadata an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    None,
    Indexed,
    All,
}

/// What vectors are compared with.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Vector(Vec<f32>),
    Id(String),
}

/// A question for the nearest vectors.
#[derive(Clone, Debug)]
pub struct Query {
    pub(crate) target: Target,
    pub(crate) top_k: usize,
    pub(crate) values: bool,
    pub(crate) metadata: Level,
    pub(crate) namespace: Option<String>,
    pub(crate) filter: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    vector: Option<Vec<f32>>,
    vector_id: Option<String>,
    top_k: Option<u64>,
    return_values: Option<bool>,
    return_metadata: Option<Json>,
    namespace: Option<String>,
    filter: Option<Json>,
}

impl Query {
    /// Reads the body of a request, of a script as well as over HTTP.
    pub fn parse(body: &[u8]) -> Result<Self, VectorizeError> {
        let invalid = |why: &str| VectorizeError::Json(why.to_owned());
        let asked: Asked = serde_json::from_slice(body).map_err(|error| invalid(&error.to_string()))?;
        let metadata = match &asked.return_metadata {
            None => Level::None,
            Some(level) => match level.as_str() {
                Some("none") => Level::None,
                Some("indexed") => Level::Indexed,
                Some("all") => Level::All,
                _ => return Err(invalid("returnMetadata: expected value")),
            },
        };
        let target = match (asked.vector, asked.vector_id) {
            (Some(vector), None) if vector.iter().all(|value| value.is_finite()) => Target::Vector(vector),
            (Some(_), None) => return Err(invalid("vector: expected 32 bit numbers")),
            (None, Some(id)) => Target::Id(id),
            _ => return Err(invalid("expected either vector or vectorId")),
        };
        check_namespace(asked.namespace.as_deref())?;
        let values = asked.return_values.unwrap_or_default();
        Ok(Self {
            target,
            top_k: top_k(asked.top_k, values || metadata == Level::All)?,
            values,
            metadata,
            namespace: asked.namespace.filter(|name| !name.is_empty()),
            filter: asked.filter.as_ref().map(Filter::parse).transpose()?,
        })
    }
}

fn top_k(asked: Option<u64>, full: bool) -> Result<usize, VectorizeError> {
    let Some(asked) = asked else { return Ok(DEFAULT_TOP_K) };
    match usize::try_from(asked) {
        Ok(0) => Err(VectorizeError::Json("topK: expected a number from 1 on".into())),
        Ok(k) if full && k > MAX_TOP_K_FULL => Err(VectorizeError::TopKFull(asked)),
        Ok(k) if k <= MAX_TOP_K => Ok(k),
        _ => Err(VectorizeError::TopK(asked)),
    }
}

/// A vector that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Match {
    /// The vector's.
    pub id: String,
    /// By the index's metric.
    pub score: f64,
    /// The vector's numbers, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "values")]
    pub values: Option<Vec<f32>>,
    /// As much metadata as was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Json>>,
    /// The vector's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

fn values<S: serde::Serializer>(values: &Option<Vec<f32>>, serializer: S) -> Result<S::Ok, S::Error> {
    match values {
        Some(values) => crate::vector::widened(values, serializer),
        None => serializer.serialize_none(),
    }
}

/// The vectors that were found, the nearest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Matches {
    /// How many there are.
    pub count: usize,
    /// Themselves.
    pub matches: Vec<Match>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Json) -> Result<Query, String> {
        let error = |e: VectorizeError| format!("{} {e}", e.code().unwrap_or_default());
        Query::parse(body.to_string().as_bytes()).map_err(error)
    }

    #[test]
    fn what_is_not_said_is_cloudflares_default() {
        let query = read(json!({ "vector": [1, 2] })).unwrap();
        assert_eq!((query.top_k, query.values, query.metadata), (5, false, Level::None));
        assert!(query.namespace.is_none() && query.filter.is_none());
    }

    #[test]
    fn limits_of_top_k_depend_on_what_is_returned() {
        for (top_k, values, metadata, said) in [
            (100, false, "none", ""),
            (100, false, "indexed", ""),
            (101, false, "none", "40025 max top K is 100, but got 101"),
            (50, true, "all", ""),
            (
                51,
                true,
                "none",
                "40025 with returnValues=true or returnMetadata=all, max top K is 50, but got 51;",
            ),
            (51, false, "all", "40025 with returnValues=true"),
            (0, false, "none", "40026 "),
        ] {
            let body =
                json!({ "vector": [1], "topK": top_k, "returnValues": values, "returnMetadata": metadata });
            let got = read(body.clone()).err().unwrap_or_default();
            assert!(if said.is_empty() { got.is_empty() } else { got.starts_with(said) }, "{body}: {got}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (body, said) in [
            (json!([]), "40026 Failed to parse the request body as JSON: "),
            (json!({}), "40026 "),
            (json!({ "vector": [1], "vectorId": "a" }), "40026 "),
            (json!({ "vector": [1e39] }), "40026 "),
            (json!({ "vector": [1], "topK": 1.5 }), "40026 "),
            (
                json!({ "vector": [1], "returnMetadata": false }),
                "40026 Failed to parse the request body as JSON: returnMetadata: expected value",
            ),
            (json!({ "vector": [1], "namespace": "n".repeat(65) }), "40009 "),
            (json!({ "vector": [1], "filter": {} }), "40026 "),
        ] {
            let got = read(body.clone()).unwrap_err();
            assert!(got.starts_with(said), "{body}: {got}");
        }
    }
}
