//! Questions as the telemetry API puts them, checked. Pure.
//! <https://developers.cloudflare.com/api/resources/workers/subresources/observability/subresources/telemetry/>

use serde_json::Value as Json;

use crate::DATASET;
use crate::calculate::Calculation;
use crate::filter::{Filters, Needle, kind_named};

/// The views that there are.
pub const VIEWS: [&str; 3] = ["events", "invocations", "calculations"];
/// Events or invocations of an answer at most.
pub const MAX_ROWS: u64 = 2000;
/// Groups of calculations in an answer at most.
pub const MAX_GROUPS: u64 = 2000;
/// Buckets of a series at most.
pub const MAX_BUCKETS: u64 = 1500;
/// Keys or values of a list at most.
pub const MAX_KEYS: u64 = 10_000;
/// What is left out stands for so many.
const ROWS: u64 = 100;
const GROUPS: u64 = 10;
const BUCKETS: u64 = 60;
const KEYS: u64 = 1000;
/// Calculations, groupings and conditions on groups of a question at most, each.
const MAX_PARTS: usize = 20;
/// Numbers in all series of an answer at most.
const MAX_POINTS: usize = 200_000;

/// Why a question is refused: for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadQuery(pub String);

pub(crate) fn bad<T>(text: impl Into<String>) -> Result<T, BadQuery> {
    Err(BadQuery(text.into()))
}

/// From when to when, in milliseconds since 1970; the end is not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeframe {
    /// The first moment.
    pub from: u64,
    /// The first moment after it.
    pub to: u64,
}

impl Timeframe {
    fn read(timeframe: &Json) -> Result<Self, BadQuery> {
        let moment = |key: &str| {
            let at = timeframe[key].as_u64().or_else(|| timeframe[key].as_f64().and_then(whole));
            let at = at.filter(|at| *at <= LATEST_MS);
            at.ok_or_else(|| BadQuery(format!("timeframe.{key} must be a moment in milliseconds since 1970")))
        };
        let frame = Self { from: moment("from")?, to: moment("to")? };
        if frame.from >= frame.to { bad("timeframe.from must be before timeframe.to") } else { Ok(frame) }
    }

    pub(crate) fn length(self) -> u64 {
        self.to - self.from
    }

    /// As long, just before.
    pub(crate) fn previous(self) -> Self {
        Self { from: self.from.saturating_sub(self.length()), to: self.from }
    }
}

/// The year 2248: what fits in the keys of events.
const LATEST_MS: u64 = (1 << 43) - 1;

fn whole(number: f64) -> Option<u64> {
    (number >= 0.0 && number.fract() == 0.0 && number < 1e15).then_some(number as u64)
}

/// What is wanted of what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Events,
    Invocations,
    Calculations,
}

/// A condition on a group, after its calculations.
#[derive(Clone, Debug)]
pub struct Having {
    pub(crate) key: String,
    pub(crate) operation: String,
    pub(crate) value: f64,
}

/// By which calculation groups are ordered.
#[derive(Clone, Debug)]
pub struct OrderBy {
    pub(crate) value: String,
    pub(crate) ascending: bool,
}

/// A question about events.
#[derive(Clone, Debug)]
pub struct Query {
    pub(crate) timeframe: Timeframe,
    pub(crate) view: View,
    pub(crate) filters: Filters,
    pub(crate) needle: Option<Needle>,
    /// Whether it is about any events that there are.
    pub(crate) concerned: bool,
    pub(crate) limit: usize,
    /// The event after which to go on, by `$metadata.id`.
    pub(crate) offset: Option<u64>,
    pub(crate) backwards: bool,
    pub(crate) offset_by: usize,
    pub(crate) series: bool,
    pub(crate) aggregates: bool,
    pub(crate) compare: bool,
    pub(crate) buckets: usize,
    pub(crate) calculations: Vec<Calculation>,
    pub(crate) group_by: Vec<(String, &'static str)>,
    pub(crate) havings: Vec<Having>,
    pub(crate) order_by: Option<OrderBy>,
    pub(crate) groups: usize,
}

impl Query {
    /// What the body of a request asks.
    pub fn read(body: &Json) -> Result<Self, BadQuery> {
        let view = match text(body, "view")?.unwrap_or("events") {
            "events" => View::Events,
            "invocations" => View::Invocations,
            "calculations" => View::Calculations,
            other => {
                return bad(format!("the view {other:?} is not supported: there are {}", VIEWS.join(", ")));
            }
        };
        let parameters = &body["parameters"];
        if parameters.is_null() {
            return bad("parameters are missing: queries cannot be saved here");
        }
        if !parameters.is_object() {
            return bad("parameters must be an object");
        }
        let timeframe = Timeframe::read(&body["timeframe"])?;
        let chart = text(body, "chartType")?.unwrap_or("timeseries_and_aggregate");
        if !["timeseries_and_aggregate", "timeseries", "aggregate"].contains(&chart) {
            return bad(format!("the chartType {chart:?} is not supported"));
        }
        let ignored = flag(body, "ignoreSeries")?;
        let series = match view {
            View::Calculations => !ignored && chart != "aggregate",
            _ => flag(body, "chart")? && !ignored,
        };
        let calculations = many(parameters, "calculations", Calculation::read)?;
        let group_by = many(parameters, "groupBys", |group| {
            let key = group["value"]
                .as_str()
                .ok_or_else(|| BadQuery("the value of a groupBy must be a string".into()))?;
            Ok((key.to_owned(), kind_named(&group["type"], "the type of a groupBy")?))
        })?;
        if view == View::Calculations && calculations.is_empty() {
            return bad("the view \"calculations\" needs parameters.calculations");
        }
        let limit = number(body, "limit", 1, MAX_ROWS)?;
        let own_limit = number(parameters, "limit", 1, MAX_GROUPS)?;
        let groups = own_limit.or(limit).unwrap_or(GROUPS);
        let buckets = number(body, "granularity", 1, MAX_BUCKETS)?.unwrap_or(BUCKETS).min(timeframe.length());
        let shown = if group_by.is_empty() { 1 } else { groups as usize };
        if series && shown * (buckets as usize) * calculations.len() > MAX_POINTS {
            return bad(format!(
                "the series would have more than {MAX_POINTS} points: ask for fewer groups or a lower granularity"
            ));
        }
        let offset = match text(body, "offset")?.filter(|offset| !offset.is_empty()) {
            None => None,
            Some(id) => Some(
                crate::store::key_of(id)
                    .ok_or_else(|| BadQuery("offset must be the $metadata.id of an event".into()))?,
            ),
        };
        let backwards = match text(body, "offsetDirection")?.unwrap_or("next") {
            "next" => false,
            "prev" => true,
            _ => return bad("offsetDirection must be next or prev"),
        };
        Ok(Self {
            timeframe,
            view,
            filters: Filters::read(&parameters["filters"], &parameters["filterCombination"])?,
            needle: needle(parameters, "needle")?,
            concerned: concerned(parameters)?,
            limit: limit.or(own_limit).unwrap_or(ROWS) as usize,
            offset,
            backwards,
            offset_by: number(body, "offsetBy", 0, u64::from(u32::MAX))?.unwrap_or(0) as usize,
            series,
            aggregates: chart != "timeseries",
            compare: flag(body, "compare")?,
            buckets: buckets as usize,
            calculations,
            group_by,
            havings: many(parameters, "havings", having)?,
            order_by: order_by(&parameters["orderBy"])?,
            groups: groups as usize,
        })
    }

    /// From when to when.
    pub fn timeframe(&self) -> Timeframe {
        self.timeframe
    }

    /// The number of a series' buckets.
    pub fn granularity(&self) -> usize {
        self.buckets
    }
}

/// Which fields there are.
#[derive(Clone, Debug)]
pub struct KeysQuery {
    pub(crate) timeframe: Timeframe,
    pub(crate) filters: Filters,
    pub(crate) needle: Option<Needle>,
    pub(crate) key_needle: Option<Needle>,
    pub(crate) concerned: bool,
    pub(crate) limit: usize,
}

impl KeysQuery {
    /// What the body of a request asks.
    pub fn read(body: &Json) -> Result<Self, BadQuery> {
        let from = number(body, "from", 0, LATEST_MS)?.unwrap_or(0);
        let to = number(body, "to", 0, LATEST_MS)?.unwrap_or(LATEST_MS);
        if from >= to {
            return bad("from must be before to");
        }
        Ok(Self {
            timeframe: Timeframe { from, to },
            filters: Filters::read(&body["filters"], &Json::Null)?,
            needle: needle(body, "needle")?,
            key_needle: needle(body, "keyNeedle")?,
            concerned: concerned(body)?,
            limit: number(body, "limit", 1, MAX_KEYS)?.unwrap_or(KEYS) as usize,
        })
    }
}

/// Which values a field has.
#[derive(Clone, Debug)]
pub struct ValuesQuery {
    pub(crate) timeframe: Timeframe,
    pub(crate) filters: Filters,
    pub(crate) needle: Option<Needle>,
    pub(crate) key: String,
    pub(crate) kind: &'static str,
    pub(crate) concerned: bool,
    pub(crate) limit: usize,
}

impl ValuesQuery {
    /// What the body of a request asks.
    pub fn read(body: &Json) -> Result<Self, BadQuery> {
        if !body["datasets"].is_array() {
            return bad("datasets must be an array");
        }
        Ok(Self {
            timeframe: Timeframe::read(&body["timeframe"])?,
            filters: Filters::read(&body["filters"], &Json::Null)?,
            needle: needle(body, "needle")?,
            key: text(body, "key")?.ok_or_else(|| BadQuery("key must be a string".into()))?.to_owned(),
            kind: kind_named(&body["type"], "type")?,
            concerned: concerned(body)?,
            limit: number(body, "limit", 1, MAX_KEYS)?.unwrap_or(ROWS) as usize,
        })
    }
}

fn needle(from: &Json, key: &str) -> Result<Option<Needle>, BadQuery> {
    match &from[key] {
        Json::Null => Ok(None),
        needle => Needle::read(needle).map(Some),
    }
}

/// Whether the datasets that are named, if any are, are those that there are.
fn concerned(from: &Json) -> Result<bool, BadQuery> {
    match &from["datasets"] {
        Json::Null => Ok(true),
        Json::Array(list) if list.iter().all(Json::is_string) => {
            Ok(list.is_empty() || list.iter().any(|dataset| dataset == DATASET))
        }
        _ => bad("datasets must be an array of strings"),
    }
}

fn text<'a>(from: &'a Json, key: &str) -> Result<Option<&'a str>, BadQuery> {
    match &from[key] {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(text)),
        _ => bad(format!("{key} must be a string")),
    }
}

fn flag(from: &Json, key: &str) -> Result<bool, BadQuery> {
    match &from[key] {
        Json::Null => Ok(false),
        Json::Bool(flag) => Ok(*flag),
        _ => bad(format!("{key} must be a boolean")),
    }
}

fn number(from: &Json, key: &str, least: u64, most: u64) -> Result<Option<u64>, BadQuery> {
    let value = &from[key];
    if value.is_null() {
        return Ok(None);
    }
    let found =
        value.as_u64().or_else(|| value.as_f64().and_then(whole)).filter(|n| (least..=most).contains(n));
    found.map(Some).ok_or_else(|| BadQuery(format!("{key} must be a whole number from {least} to {most}")))
}

fn many<T>(from: &Json, key: &str, read: impl Fn(&Json) -> Result<T, BadQuery>) -> Result<Vec<T>, BadQuery> {
    match &from[key] {
        Json::Null => Ok(Vec::new()),
        Json::Array(list) if list.len() <= MAX_PARTS => list.iter().map(read).collect(),
        Json::Array(_) => bad(format!("there are more than {MAX_PARTS} {key}")),
        _ => bad(format!("{key} must be an array")),
    }
}

fn having(having: &Json) -> Result<Having, BadQuery> {
    let operation = having["operation"].as_str().unwrap_or_default();
    let (Some(key), Some(value)) = (having["key"].as_str(), having["value"].as_f64()) else {
        return bad("a having needs a key and a number as value");
    };
    if !["eq", "neq", "gt", "gte", "lt", "lte"].contains(&operation) {
        return bad("the operation of a having must be eq, neq, gt, gte, lt or lte");
    }
    Ok(Having { key: key.to_owned(), operation: operation.to_owned(), value })
}

fn order_by(order: &Json) -> Result<Option<OrderBy>, BadQuery> {
    if order.is_null() {
        return Ok(None);
    }
    let value = order["value"].as_str().ok_or_else(|| BadQuery("orderBy.value must be a string".into()))?;
    let ascending = match &order["order"] {
        Json::Null => false,
        Json::String(text) if text == "desc" => false,
        Json::String(text) if text == "asc" => true,
        _ => return bad("orderBy.order must be asc or desc"),
    };
    Ok(Some(OrderBy { value: value.to_owned(), ascending }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(change: impl FnOnce(&mut Json)) -> String {
        let mut body = json!({ "queryId": "q", "timeframe": { "from": 1, "to": 2 }, "parameters": {} });
        change(&mut body);
        Query::read(&body).unwrap_err().0
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (key, value, said) in [
            ("view", json!("traces"), "\"traces\" is not supported"),
            ("view", json!("calculations"), "parameters.calculations"),
            ("chartType", json!("distribution"), "\"distribution\" is not supported"),
            ("parameters", Json::Null, "cannot be saved"),
            ("timeframe", json!({ "from": 2, "to": 2 }), "before"),
            ("timeframe", json!({ "from": 0.5, "to": 2 }), "timeframe.from"),
            ("timeframe", json!({ "from": 0, "to": 1e18 }), "timeframe.to"),
            ("limit", json!(0), "limit must be"),
            ("limit", json!(2001), "limit must be"),
            ("offset", json!("nothing"), "offset must be"),
            ("offsetDirection", json!("up"), "offsetDirection"),
            ("granularity", json!(1501), "granularity"),
            ("parameters", json!({ "datasets": [1] }), "datasets"),
            ("parameters", json!({ "orderBy": {} }), "orderBy.value"),
            ("parameters", json!({ "havings": [{ "key": "k", "operation": "in", "value": 1 }] }), "having"),
            ("parameters", json!({ "groupBys": [{ "value": "k" }] }), "groupBy"),
        ] {
            let error = refused(|body| body[key] = value.clone());
            assert!(error.contains(said), "{key} {value}: {error}");
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let body = json!({ "timeframe": { "from": 0, "to": 1000 }, "parameters": { "datasets": ["other"] } });
        let query = Query::read(&body).unwrap();
        assert_eq!((query.view, query.limit, query.groups, query.buckets), (View::Events, 100, 10, 60));
        assert!(!query.concerned && !query.series && query.aggregates && !query.backwards);
        assert_eq!(query.timeframe.previous(), Timeframe { from: 0, to: 0 });
        assert!(KeysQuery::read(&json!({})).unwrap().concerned);
        assert!(ValuesQuery::read(&json!({ "datasets": [], "key": "k", "type": "text" })).is_err());
    }
}
