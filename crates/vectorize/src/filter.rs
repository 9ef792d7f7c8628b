//! Filters on metadata. <https://developers.cloudflare.com/vectorize/reference/metadata-filtering/>
//!
//! A filter sees of metadata what is indexed: texts, numbers and booleans at the properties that have a metadata index of their
//! type, texts to their first 64 bytes. To it, everything else is not there.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::error::VectorizeError;
use crate::limits::{INDEXED_BYTES, MAX_FILTER_BYTES, MAX_KEY_CHARS};

/// What values a metadata index is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PropertyKind {
    /// Texts.
    String,
    /// Numbers.
    Number,
    /// `true` and `false`.
    Boolean,
}

impl PropertyKind {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// The kind with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::String, Self::Number, Self::Boolean].into_iter().find(|kind| kind.name() == name)
    }
}

/// A metadata index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Property {
    /// Where the values are; dots lead into objects.
    pub property_name: String,
    /// What they are.
    pub index_type: PropertyKind,
}

/// What of the metadata is indexed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Indexed {
    /// All that can be: in an index that nobody has made, nobody can have made metadata indexes.
    All,
    /// These properties.
    Properties(Vec<Property>),
}

impl Indexed {
    /// The value of a property, if it is indexed.
    fn value<'a>(&self, metadata: &'a Map<String, Json>, name: &str) -> Option<Scalar<'a>> {
        let found = Scalar::of(at(metadata, name)?)?;
        match self {
            Self::All => Some(found),
            Self::Properties(all) => {
                let property = all.iter().find(|property| property.property_name == name)?;
                (found.kind() == Some(property.index_type)).then_some(found)
            }
        }
    }

    /// The part of the metadata that is indexed, as it is.
    pub fn part(&self, metadata: &Map<String, Json>) -> Map<String, Json> {
        match self {
            Self::All => shortened(metadata),
            Self::Properties(all) => {
                let mut part = Map::new();
                for property in all {
                    if let Some(value) = self.value(metadata, &property.property_name) {
                        put(&mut part, &property.property_name, value.to_json());
                    }
                }
                part
            }
        }
    }
}

fn at<'a>(metadata: &'a Map<String, Json>, name: &str) -> Option<&'a Json> {
    let mut steps = name.split('.');
    let first = metadata.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(step))
}

fn put(part: &mut Map<String, Json>, name: &str, value: Json) {
    match name.split_once('.') {
        None => {
            part.insert(name.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = part.entry(first).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn shortened(metadata: &Map<String, Json>) -> Map<String, Json> {
    let short = |value: &Json| match value {
        Json::Object(inner) => Some(Json::Object(shortened(inner))),
        other => Scalar::of(other).map(|value| value.to_json()),
    };
    metadata.iter().filter_map(|(key, value)| Some((key.clone(), short(value)?))).collect()
}

/// What is compared; `Null` stands for what is not there.
#[derive(Clone, Debug, PartialEq)]
enum Scalar<'a> {
    Null,
    Boolean(bool),
    Number(f64),
    Text(std::borrow::Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    fn of(value: &'a Json) -> Option<Self> {
        match value {
            Json::Bool(value) => Some(Self::Boolean(*value)),
            Json::Number(number) => Some(Self::Number(number.as_f64()?)),
            Json::String(text) => Some(Self::Text(truncated(text).into())),
            Json::Null | Json::Array(_) | Json::Object(_) => None,
        }
    }

    fn kind(&self) -> Option<PropertyKind> {
        match self {
            Self::Null => None,
            Self::Boolean(_) => Some(PropertyKind::Boolean),
            Self::Number(_) => Some(PropertyKind::Number),
            Self::Text(_) => Some(PropertyKind::String),
        }
    }

    fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Boolean(value) => (*value).into(),
            Self::Number(value) => match *value as i64 {
                whole if whole as f64 == *value && whole.unsigned_abs() < 1 << 53 => whole.into(),
                _ => (*value).into(),
            },
            Self::Text(text) => text.as_ref().into(),
        }
    }

    /// How it compares to another of its kind.
    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.partial_cmp(b),
            (Self::Text(a), Self::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            (Self::Boolean(a), Self::Boolean(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    fn owned(self) -> Scalar<'static> {
        match self {
            Self::Null => Scalar::Null,
            Self::Boolean(value) => Scalar::Boolean(value),
            Self::Number(value) => Scalar::Number(value),
            Self::Text(text) => Scalar::Text(text.into_owned().into()),
        }
    }
}

/// As much of a text as is indexed.
fn truncated(text: &str) -> &str {
    &text[..text.floor_char_boundary(INDEXED_BYTES)]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Eq,
    Ne,
    In,
    Nin,
    Lt,
    Lte,
    Gt,
    Gte,
}

impl Operator {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "$eq" => Self::Eq,
            "$ne" => Self::Ne,
            "$in" => Self::In,
            "$nin" => Self::Nin,
            "$lt" => Self::Lt,
            "$lte" => Self::Lte,
            "$gt" => Self::Gt,
            "$gte" => Self::Gte,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug)]
struct Clause {
    property: String,
    operator: Operator,
    /// One value, but for `$in` and `$nin`.
    values: Vec<Scalar<'static>>,
}

/// A filter: all its clauses have to hold.
#[derive(Clone, Debug)]
pub(crate) struct Filter(Vec<Clause>);

impl Filter {
    pub fn parse(filter: &Json) -> Result<Self, VectorizeError> {
        let invalid = |why: String| VectorizeError::Json(format!("filter: {why}"));
        let Some(clauses) = filter.as_object().filter(|clauses| !clauses.is_empty()) else {
            return Err(invalid("expected an object that is not empty".into()));
        };
        let bytes = filter.to_string().len();
        if bytes >= MAX_FILTER_BYTES {
            return Err(invalid(format!(
                "its compact JSON representation must be less than {MAX_FILTER_BYTES} bytes, got {bytes} bytes"
            )));
        }
        let mut all = Vec::new();
        for (property, condition) in clauses {
            let empty = property.split('.').any(str::is_empty);
            if empty || property.contains(['"', '|']) || property.starts_with('$') {
                return Err(invalid(format!(
                    "the key \"{property}\" must not be empty, contain '\"' or '|', or start with '$'"
                )));
            }
            if property.chars().count() > MAX_KEY_CHARS {
                return Err(invalid(format!("a key has at most {MAX_KEY_CHARS} characters")));
            }
            let Some(operations) = condition.as_object() else {
                let values = vec![scalar(condition).ok_or_else(|| invalid(not_a_value(property)))?];
                all.push(Clause { property: property.clone(), operator: Operator::Eq, values });
                continue;
            };
            if operations.is_empty() {
                return Err(invalid(format!("the condition of \"{property}\" is empty")));
            }
            for (name, operand) in operations {
                let operator = Operator::parse(name)
                    .ok_or_else(|| invalid(format!("\"{name}\" of \"{property}\" is no operator")))?;
                let values: Option<Vec<_>> = match (operator, operand) {
                    (Operator::In | Operator::Nin, Json::Array(list)) => list.iter().map(scalar).collect(),
                    (Operator::In | Operator::Nin, _) => None,
                    (Operator::Eq | Operator::Ne, one) => scalar(one).map(|one| vec![one]),
                    (_, one) => scalar(one).filter(|one| *one != Scalar::Null).map(|one| vec![one]),
                };
                let values = values.ok_or_else(|| invalid(not_a_value(property)))?;
                all.push(Clause { property: property.clone(), operator, values });
            }
        }
        Ok(Self(all))
    }

    /// Whether the metadata is asked for.
    pub fn holds(&self, metadata: &Map<String, Json>, indexed: &Indexed) -> bool {
        self.0.iter().all(|clause| clause.holds(metadata, indexed))
    }

    /// Whether it asks for a property that is not indexed: then it finds nothing, as on Cloudflare.
    pub fn is_vain(&self, indexed: &Indexed) -> bool {
        match indexed {
            Indexed::All => false,
            Indexed::Properties(all) => {
                let named = |clause: &Clause| all.iter().any(|p| p.property_name == clause.property);
                !self.0.iter().all(named)
            }
        }
    }
}

impl Clause {
    fn holds(&self, metadata: &Map<String, Json>, indexed: &Indexed) -> bool {
        let value = indexed.value(metadata, &self.property).unwrap_or(Scalar::Null);
        let ordered = |wanted: &[Ordering]| {
            let order = self.values.first().and_then(|other| value.order(other));
            order.is_some_and(|order| wanted.contains(&order))
        };
        match self.operator {
            Operator::Eq | Operator::In => self.values.contains(&value),
            Operator::Ne | Operator::Nin => !self.values.contains(&value),
            Operator::Lt => ordered(&[Ordering::Less]),
            Operator::Lte => ordered(&[Ordering::Less, Ordering::Equal]),
            Operator::Gt => ordered(&[Ordering::Greater]),
            Operator::Gte => ordered(&[Ordering::Greater, Ordering::Equal]),
        }
    }
}

fn not_a_value(property: &str) -> String {
    format!(
        "\"{property}\" is compared with a string, number, boolean or null; $in and $nin with a list of those"
    )
}

fn scalar(value: &Json) -> Option<Scalar<'static>> {
    match value {
        Json::Null => Some(Scalar::Null),
        other => Scalar::of(other).map(Scalar::owned),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn properties(list: &[(&str, PropertyKind)]) -> Indexed {
        let property = |(name, kind): &(&str, PropertyKind)| Property {
            property_name: (*name).into(),
            index_type: *kind,
        };
        Indexed::Properties(list.iter().map(property).collect())
    }

    fn holds(filter: Json, metadata: Json) -> bool {
        let indexed = properties(&[
            ("s", PropertyKind::String),
            ("n", PropertyKind::Number),
            ("b", PropertyKind::Boolean),
            ("deep.n", PropertyKind::Number),
        ]);
        Filter::parse(&filter).unwrap().holds(metadata.as_object().unwrap(), &indexed)
    }

    #[test]
    fn operators_are_those_of_the_documentation() {
        let metadata = || json!({ "s": "netflix", "n": 7, "b": true, "deep": { "n": 1.5 }, "other": "x" });
        for (filter, expected) in [
            (json!({ "s": "netflix" }), true),
            (json!({ "s": { "$eq": "hbo" } }), false),
            (json!({ "s": { "$ne": "hbo" } }), true),
            (json!({ "s": { "$in": ["hbo", "netflix"] } }), true),
            (json!({ "s": { "$in": [] } }), false),
            (json!({ "s": { "$nin": ["hbo", "netflix"] } }), false),
            (json!({ "n": { "$gte": 7, "$lt": 8 } }), true),
            (json!({ "n": { "$gt": 7 } }), false),
            (json!({ "n": { "$lte": 6.5 } }), false),
            (json!({ "n": 7.0 }), true),
            (json!({ "s": { "$gt": "hulu", "$lt": "z" } }), true),
            (json!({ "b": true, "deep.n": 1.5 }), true),
            (json!({ "b": { "$ne": true } }), false),
            (json!({ "n": "7" }), false),
            (json!({ "n": { "$lt": "8" } }), false),
            (json!({ "deep": { "$ne": 1 } }), true),
            (json!({ "missing": null }), true),
            (json!({ "s": null }), false),
            (json!({ "s": { "$ne": null } }), true),
        ] {
            assert_eq!(holds(filter.clone(), metadata()), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_not_indexed_is_not_there() {
        assert!(!holds(json!({ "s": 5 }), json!({ "s": 5 })), "the index is for texts");
        assert!(holds(json!({ "s": { "$ne": "a" } }), json!({})));
        let filter = Filter::parse(&json!({ "s": "a", "other": "x" })).unwrap();
        assert!(filter.is_vain(&properties(&[("s", PropertyKind::String)])));
        assert!(
            !filter.is_vain(&properties(&[("s", PropertyKind::String), ("other", PropertyKind::String)]))
        );
        assert!(!filter.is_vain(&Indexed::All));
    }

    #[test]
    fn of_texts_the_first_64_bytes_count_whole_characters_of_them() {
        let long = format!("{}é!", "a".repeat(63));
        let metadata = json!({ "s": long });
        assert!(holds(json!({ "s": "a".repeat(63) }), metadata.clone()));
        assert!(holds(json!({ "s": long }), metadata.clone()), "a filter's text is taken in the same way");
        let part = properties(&[("s", PropertyKind::String)]).part(metadata.as_object().unwrap());
        assert_eq!(part["s"], "a".repeat(63));
    }

    #[test]
    fn the_indexed_part_keeps_its_places() {
        let indexed = properties(&[
            ("deep.n", PropertyKind::Number),
            ("deep.s", PropertyKind::String),
            ("n", PropertyKind::Number),
        ]);
        let metadata = json!({ "deep": { "n": 2, "s": "x", "more": 1 }, "n": "no number", "z": 1 });
        let metadata = metadata.as_object().unwrap();
        assert_eq!(Json::from(indexed.part(metadata)), json!({ "deep": { "n": 2, "s": "x" } }));
        let all = json!({ "deep": { "n": 2, "s": "x", "more": 1 }, "n": "no number", "z": 1 });
        assert_eq!(Json::from(Indexed::All.part(metadata)), all);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for bad in [
            json!({}),
            json!([]),
            json!("a"),
            json!({ "": 1 }),
            json!({ "a..b": 1 }),
            json!({ "$a": 1 }),
            json!({ "a\"b": 1 }),
            json!({ "a": [1] }),
            json!({ "a": {} }),
            json!({ "a": { "$regex": "x" } }),
            json!({ "a": { "b": 1 } }),
            json!({ "a": { "$in": 1 } }),
            json!({ "a": { "$in": [[1]] } }),
            json!({ "a": { "$lt": null } }),
            json!({ "a".repeat(513): 1 }),
            json!({ "a": "x".repeat(2040) }),
        ] {
            assert!(Filter::parse(&bad).is_err(), "{bad}");
        }
        assert!(Filter::parse(&json!({ "a": "x".repeat(2039) })).is_ok());
    }

    /// The same said in another way.
    fn naive(operator: &str, operand: &Json, value: Option<&Json>) -> bool {
        let numbers = || Some((value?.as_f64()?, operand.as_f64()?));
        match operator {
            "$eq" => value.unwrap_or(&Json::Null) == operand,
            "$ne" => value.unwrap_or(&Json::Null) != operand,
            "$in" => operand.as_array().unwrap().contains(value.unwrap_or(&Json::Null)),
            "$nin" => !operand.as_array().unwrap().contains(value.unwrap_or(&Json::Null)),
            "$lt" => numbers().is_some_and(|(a, b)| a < b),
            "$lte" => numbers().is_some_and(|(a, b)| a <= b),
            "$gt" => numbers().is_some_and(|(a, b)| a > b),
            "$gte" => numbers().is_some_and(|(a, b)| a >= b),
            _ => unreachable!(),
        }
    }

    proptest::proptest! {
        #[test]
        fn clauses_hold_as_the_naive_ones_do(
            value in proptest::option::of(0..4i64),
            clauses in proptest::collection::vec((0..8usize, 0..4i64, 0..4i64), 1..4),
        ) {
            let names = ["$eq", "$ne", "$lt", "$lte", "$gt", "$gte", "$in", "$nin"];
            let operands: Vec<(&str, Json)> = clauses
                .iter()
                .map(|&(n, a, b)| (names[n], if n < 6 { json!(a) } else { json!([a, b]) }))
                .collect();
            let filter: Map<String, Json> = operands.iter().map(|(n, o)| ((*n).to_owned(), o.clone())).collect();
            let metadata = value.map_or_else(|| json!({}), |value| json!({ "n": value }));
            let expected = filter.iter().all(|(name, operand)| naive(name, operand, metadata.get("n")));
            proptest::prop_assert_eq!(holds(json!({ "n": filter }), metadata), expected);
        }
    }
}
