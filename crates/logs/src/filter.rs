//! Which events a question is about. Pure.

use regex::{Regex, RegexBuilder};
use serde_json::Value as Json;

use crate::field::{each, get, kind};
use crate::query::BadQuery;

/// Groups of filters within groups: so deep at most.
pub const MAX_DEPTH: usize = 4;
/// Filters of a question, those in groups included.
const MAX_FILTERS: usize = 100;
/// Values that a field may be among.
const MAX_VALUES: usize = 1000;
/// What a compiled regular expression may take.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// What a field may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Includes,
    NotIncludes,
    StartsWith,
    EndsWith,
    Regex,
    Exists,
    IsNull,
    In,
    NotIn,
    Eq,
    Neq,
    Gt,
    Gte,
    Lt,
    Lte,
}

/// The names of all operations, those from before included.
pub const OPERATIONS: [&str; 30] = [
    "includes",
    "not_includes",
    "starts_with",
    "ends_with",
    "regex",
    "exists",
    "is_null",
    "in",
    "not_in",
    "eq",
    "neq",
    "gt",
    "gte",
    "lt",
    "lte",
    "=",
    "!=",
    ">",
    ">=",
    "<",
    "<=",
    "INCLUDES",
    "DOES_NOT_INCLUDE",
    "MATCH_REGEX",
    "EXISTS",
    "DOES_NOT_EXIST",
    "IN",
    "NOT_IN",
    "STARTS_WITH",
    "ENDS_WITH",
];

impl Operation {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "includes" | "INCLUDES" => Self::Includes,
            "not_includes" | "DOES_NOT_INCLUDE" => Self::NotIncludes,
            "starts_with" | "STARTS_WITH" => Self::StartsWith,
            "ends_with" | "ENDS_WITH" => Self::EndsWith,
            "regex" | "MATCH_REGEX" => Self::Regex,
            "exists" | "EXISTS" => Self::Exists,
            "is_null" | "DOES_NOT_EXIST" => Self::IsNull,
            "in" | "IN" => Self::In,
            "not_in" | "NOT_IN" => Self::NotIn,
            "eq" | "=" => Self::Eq,
            "neq" | "!=" => Self::Neq,
            "gt" | ">" => Self::Gt,
            "gte" | ">=" => Self::Gte,
            "lt" | "<" => Self::Lt,
            "lte" | "<=" => Self::Lte,
            _ => return None,
        })
    }
}

/// Conditions and how they are put together.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Whether one is enough.
    any: bool,
    conditions: Vec<Condition>,
}

/// One condition.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Several, put together in their own way.
    Group(Filters),
    /// A field and what it has to be.
    Field(FieldTest),
}

/// What a field has to be.
#[derive(Clone, Debug)]
pub struct FieldTest {
    key: String,
    operation: Operation,
    /// `string`, `number` or `boolean`; other values do not count.
    kind: &'static str,
    values: Vec<Json>,
    regex: Option<Regex>,
}

/// A text that some field of an event must hold.
#[derive(Clone, Debug)]
pub struct Needle(Regex);

impl Needle {
    /// What `{ value, isRegex, matchCase }` says.
    pub fn read(needle: &Json) -> Result<Self, BadQuery> {
        let value = &needle["value"];
        let text = match value {
            Json::String(text) => text.clone(),
            Json::Number(_) | Json::Bool(_) => value.to_string(),
            _ => return Err(BadQuery("needle.value must be a string, a number or a boolean".into())),
        };
        let flag = |key: &str| match &needle[key] {
            Json::Null => Ok(false),
            Json::Bool(flag) => Ok(*flag),
            _ => Err(BadQuery(format!("needle.{key} must be a boolean"))),
        };
        let text = if flag("isRegex")? { text } else { regex::escape(&text) };
        compile(&text, flag("matchCase")?).map(Self).map_err(|why| BadQuery(format!("needle.value: {why}")))
    }

    /// Whether `text` holds it.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    fn finds(&self, event: &Json) -> bool {
        let mut found = false;
        each(event, |_, value| {
            found = found
                || match value {
                    Json::String(text) => self.is_in(text),
                    other => self.is_in(&other.to_string()),
                };
        });
        found
    }
}

fn compile(text: &str, match_case: bool) -> Result<Regex, String> {
    let built = RegexBuilder::new(text)
        .case_insensitive(!match_case)
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .build();
    built.map_err(|error| error.to_string().lines().last().unwrap_or("not a regular expression").to_owned())
}

impl Filters {
    /// What `filters` and `filterCombination` say.
    pub fn read(filters: &Json, combination: &Json) -> Result<Self, BadQuery> {
        Self::within(filters, combination, 0, &mut 0)
    }

    fn within(filters: &Json, combination: &Json, depth: usize, count: &mut usize) -> Result<Self, BadQuery> {
        let any = match combination {
            Json::Null => false,
            Json::String(text) if text == "and" || text == "AND" => false,
            Json::String(text) if text == "or" || text == "OR" => true,
            _ => return Err(BadQuery("filterCombination must be and, or".into())),
        };
        if depth > MAX_DEPTH {
            return Err(BadQuery(format!("filters are nested more than {MAX_DEPTH} deep")));
        }
        let list = match filters {
            Json::Null => return Ok(Self { any, conditions: Vec::new() }),
            Json::Array(list) => list,
            _ => return Err(BadQuery("filters must be an array".into())),
        };
        *count += list.len();
        if *count > MAX_FILTERS {
            return Err(BadQuery(format!("there are more than {MAX_FILTERS} filters")));
        }
        let conditions = list.iter().map(|filter| match filter["kind"].as_str() {
            Some("group") => {
                if filter["filters"].is_null() || filter["filterCombination"].is_null() {
                    return Err(BadQuery("a group of filters needs filters and filterCombination".into()));
                }
                Self::within(&filter["filters"], &filter["filterCombination"], depth + 1, count)
                    .map(Condition::Group)
            }
            Some("filter") => FieldTest::read(filter).map(Condition::Field),
            None if filter["kind"].is_null() => FieldTest::read(filter).map(Condition::Field),
            _ => Err(BadQuery("the kind of a filter must be group or filter".into())),
        });
        Ok(Self { any, conditions: conditions.collect::<Result<_, _>>()? })
    }

    /// Whether they hold for an event.
    pub fn hold(&self, event: &Json, needle: Option<&Needle>) -> bool {
        self.holds(event) && needle.is_none_or(|needle| needle.finds(event))
    }

    fn holds(&self, event: &Json) -> bool {
        let one = |condition: &Condition| match condition {
            Condition::Group(group) => group.holds(event),
            Condition::Field(test) => test.holds(event),
        };
        match self.any && !self.conditions.is_empty() {
            true => self.conditions.iter().any(one),
            false => self.conditions.iter().all(one),
        }
    }

    /// The one script that all events must be of, if the filters say so.
    pub(crate) fn script(&self) -> Option<&str> {
        if self.any && self.conditions.len() > 1 {
            return None;
        }
        self.conditions.iter().find_map(|condition| match condition {
            Condition::Field(test)
                if matches!(test.key.as_str(), "$metadata.service" | "$workers.scriptName")
                    && test.operation == Operation::Eq =>
            {
                test.values.first()?.as_str()
            }
            _ => None,
        })
    }

    /// Whether everything passes.
    pub(crate) fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }
}

/// The kind of values that `text` names.
pub(crate) fn kind_named(text: &Json, at: &str) -> Result<&'static str, BadQuery> {
    let kinds = ["string", "number", "boolean"];
    let found = kinds.into_iter().find(|kind| text == *kind);
    found.ok_or_else(|| BadQuery(format!("{at} must be string, number or boolean")))
}

impl FieldTest {
    fn read(filter: &Json) -> Result<Self, BadQuery> {
        let key =
            filter["key"].as_str().ok_or_else(|| BadQuery("the key of a filter must be a string".into()))?;
        let name = filter["operation"].as_str().unwrap_or_default();
        let operation = Operation::named(name).ok_or_else(|| {
            BadQuery(format!("the operation of the filter {key:?} must be one of {}", OPERATIONS.join(", ")))
        })?;
        let kind = kind_named(&filter["type"], &format!("the type of the filter {key:?}"))?;
        let value = &filter["value"];
        let needs = !matches!(operation, Operation::Exists | Operation::IsNull);
        if !matches!(value, Json::Null | Json::String(_) | Json::Number(_) | Json::Bool(_))
            || needs && value.is_null()
        {
            return Err(BadQuery(format!(
                "the value of the filter {key:?} must be a string, a number or a boolean"
            )));
        }
        let values = match (operation, value) {
            (Operation::In | Operation::NotIn, Json::String(list)) => {
                let list = list.split(',').take(MAX_VALUES + 1);
                list.map(|item| of_kind(&Json::from(item.trim()), kind)).collect::<Vec<_>>()
            }
            _ => vec![of_kind(value, kind)],
        };
        if values.len() > MAX_VALUES {
            return Err(BadQuery(format!("the filter {key:?} has more than {MAX_VALUES} values")));
        }
        let regex = match (operation, value) {
            (Operation::Regex, Json::String(text)) => Some(
                compile(text, true)
                    .map_err(|why| BadQuery(format!("the value of the filter {key:?}: {why}")))?,
            ),
            (Operation::Regex, _) => {
                return Err(BadQuery(format!("the value of the filter {key:?} must be a string")));
            }
            _ => None,
        };
        Ok(Self { key: key.to_owned(), operation, kind, values, regex })
    }

    fn holds(&self, event: &Json) -> bool {
        let found = get(event, &self.key).filter(|value| !value.is_null());
        match self.operation {
            Operation::Exists => return found.is_some(),
            Operation::IsNull => return found.is_none(),
            _ => {}
        }
        let value = found.filter(|value| kind(value) == Some(self.kind));
        let Some(value) = value else {
            // What is not there is not what it must not be.
            return matches!(self.operation, Operation::Neq | Operation::NotIn | Operation::NotIncludes);
        };
        let wanted = self.values.first().unwrap_or(&Json::Null);
        let texts = || value.as_str().zip(wanted.as_str());
        let order = || match (value, wanted) {
            (Json::Number(a), Json::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
            (Json::String(a), Json::String(b)) => Some(a.cmp(b)),
            (Json::Bool(a), Json::Bool(b)) => Some(a.cmp(b)),
            _ => None,
        };
        let same = |wanted: &Json| match (value, wanted) {
            (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
            (a, b) => a == b,
        };
        match self.operation {
            Operation::Includes => texts().is_some_and(|(value, wanted)| value.contains(wanted)),
            Operation::NotIncludes => !texts().is_some_and(|(value, wanted)| value.contains(wanted)),
            Operation::StartsWith => texts().is_some_and(|(value, wanted)| value.starts_with(wanted)),
            Operation::EndsWith => texts().is_some_and(|(value, wanted)| value.ends_with(wanted)),
            Operation::Regex => {
                value.as_str().zip(self.regex.as_ref()).is_some_and(|(text, regex)| regex.is_match(text))
            }
            Operation::In | Operation::Eq => self.values.iter().any(same),
            Operation::NotIn | Operation::Neq => !self.values.iter().any(same),
            Operation::Gt => order().is_some_and(std::cmp::Ordering::is_gt),
            Operation::Gte => order().is_some_and(std::cmp::Ordering::is_ge),
            Operation::Lt => order().is_some_and(std::cmp::Ordering::is_lt),
            Operation::Lte => order().is_some_and(std::cmp::Ordering::is_le),
            Operation::Exists | Operation::IsNull => true,
        }
    }
}

/// A value as one of `kind`, if it can be read as such: `"500"` as a number is 500.
fn of_kind(value: &Json, kind: &str) -> Json {
    match (kind, value) {
        ("number", Json::String(text)) => text.parse::<f64>().map_or_else(|_| value.clone(), Json::from),
        ("boolean", Json::String(text)) => text.parse::<bool>().map_or_else(|_| value.clone(), Json::from),
        ("string", Json::Number(_) | Json::Bool(_)) => value.to_string().into(),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Json {
        json!({
            "timestamp": 5, "dataset": "cloudflare-workers", "source": { "user": "Ann", "count": 7, "ok": true },
            "$metadata": { "service": "s", "statusCode": 500 }, "$workers": { "outcome": "exception" },
        })
    }

    fn holds(key: &str, operation: &str, kind: &str, value: Json) -> bool {
        let filter = json!([{ "key": key, "operation": operation, "type": kind, "value": value }]);
        Filters::read(&filter, &Json::Null).unwrap().hold(&event(), None)
    }

    #[test]
    fn each_operation_tells_what_fits_from_what_does_not() {
        for (key, operation, kind, fits, other) in [
            ("user", "includes", "string", json!("nn"), json!("Nn")),
            ("user", "not_includes", "string", json!("x"), json!("A")),
            ("user", "starts_with", "string", json!("A"), json!("n")),
            ("user", "ENDS_WITH", "string", json!("n"), json!("A")),
            ("user", "regex", "string", json!("^A.n$"), json!("^a")),
            ("user", "in", "string", json!("Bob, Ann"), json!("Bob,Eve")),
            ("user", "not_in", "string", json!("Bob"), json!("Ann")),
            ("$metadata.statusCode", "eq", "number", json!(500), json!(501)),
            ("$metadata.statusCode", "=", "number", json!("500"), json!("x")),
            ("$metadata.statusCode", "neq", "number", json!(200), json!(500.0)),
            ("count", "gt", "number", json!(6), json!(7)),
            ("count", ">=", "number", json!(7), json!(8)),
            ("count", "lt", "number", json!(8), json!(7)),
            ("count", "<=", "number", json!(7), json!(6)),
            ("ok", "eq", "boolean", json!(true), json!(false)),
            ("count", "IN", "number", json!("1,7"), json!("1,2")),
        ] {
            assert!(holds(key, operation, kind, fits), "{key} {operation}");
            assert!(!holds(key, operation, kind, other), "{key} {operation}");
        }
        assert!(
            holds("user", "exists", "string", Json::Null) && !holds("nobody", "exists", "string", Json::Null)
        );
        assert!(
            holds("nobody", "is_null", "string", Json::Null)
                && !holds("user", "DOES_NOT_EXIST", "string", Json::Null)
        );
        assert!(holds("nobody", "neq", "string", json!("x")) && !holds("nobody", "eq", "string", json!("x")));
        assert!(!holds("count", "eq", "string", json!("7")), "another type is another field");
        for name in OPERATIONS {
            assert!(Operation::named(name).is_some(), "{name}");
        }
    }

    #[test]
    fn groups_are_put_together_by_their_own_rule() {
        let is = |key: &str, value: &str| json!({ "key": key, "operation": "eq", "type": "string", "value": value });
        let read = |filters: Json, how: &str| Filters::read(&filters, &json!(how)).unwrap();
        let (right, wrong) = (is("user", "Ann"), is("user", "Bob"));
        assert!(read(json!([right, wrong]), "or").hold(&event(), None));
        assert!(!read(json!([right, wrong]), "AND").hold(&event(), None));
        let group = json!({ "kind": "group", "filterCombination": "or", "filters": [wrong, right] });
        assert!(read(json!([group, right]), "and").hold(&event(), None));
        assert!(read(json!([]), "or").hold(&event(), None), "no filter lets everything pass");
        assert_eq!(read(json!([right, is("$metadata.service", "s")]), "and").script(), Some("s"));
        assert_eq!(read(json!([right, is("$metadata.service", "s")]), "or").script(), None);
    }

    #[test]
    fn what_is_wrong_with_a_filter_is_said() {
        let mut deep = json!([]);
        for _ in 0..=MAX_DEPTH {
            deep = json!([{ "kind": "group", "filterCombination": "and", "filters": deep }]);
        }
        for (wrong, said) in [
            (json!([{ "operation": "eq", "type": "string", "value": "x" }]), "key"),
            (json!([{ "key": "k", "operation": "like", "type": "string", "value": "x" }]), "operation"),
            (json!([{ "key": "k", "operation": "eq", "type": "text", "value": "x" }]), "type"),
            (json!([{ "key": "k", "operation": "eq", "type": "string" }]), "value"),
            (json!([{ "key": "k", "operation": "eq", "type": "string", "value": [] }]), "value"),
            (json!([{ "key": "k", "operation": "regex", "type": "string", "value": "(" }]), "value"),
            (
                json!([{ "key": "k", "operation": "regex", "type": "string", "value": "(a{1000}){1000}" }]),
                "value",
            ),
            (json!([{ "kind": "group", "filters": [] }]), "filterCombination"),
            (deep, "deep"),
            (json!(vec![json!({ "key": "k", "operation": "exists", "type": "string" }); 101]), "100"),
        ] {
            let error = Filters::read(&wrong, &Json::Null).unwrap_err().to_string();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_needle_is_looked_for_in_all_fields() {
        let finds = |needle: Json| Filters::default().hold(&event(), Some(&Needle::read(&needle).unwrap()));
        assert!(
            finds(json!({ "value": "EXCEPT" })) && !finds(json!({ "value": "EXCEPT", "matchCase": true }))
        );
        assert!(finds(json!({ "value": "^A.n$", "isRegex": true })) && !finds(json!({ "value": "^A.n$" })));
        assert!(finds(json!({ "value": 500 })) && !finds(json!({ "value": "statusCode" })));
        assert!(
            Needle::read(&json!({})).is_err()
                && Needle::read(&json!({ "value": "(", "isRegex": true })).is_err()
        );
    }
}
