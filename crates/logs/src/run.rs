//! Answers to questions: reads events, keeps those that fit, puts them into the telemetry API's form.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;

use serde_json::{Map, Value as Json, json};
use skep_store::StoreError;

use crate::DATASET;
use crate::calculate::Tally;
use crate::field::{each, get, kind};
use crate::filter::{Filters, Needle};
use crate::query::{Having, KeysQuery, Query, Timeframe, ValuesQuery, View};
use crate::store::{LogStore, Read, Which, id_of};

/// An answer has no more bytes of events than this: the next page has the rest.
const MAX_ANSWER: usize = 16 << 20;
/// Groups that are told apart while they are counted; others are left out.
const MAX_COUNTED: usize = 20_000;

/// What was read for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Events.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Scanned {
    fn add(&mut self, read: Read) {
        self.rows += read.rows;
        self.bytes += read.bytes;
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// `events`, `invocations`, `calculations` or `compare`, as the API has them.
    pub parts: Map<String, Json>,
    /// What was read.
    pub scanned: Scanned,
}

/// An event that was read.
struct Seen<'a> {
    key: u64,
    at: u64,
    size: usize,
    body: &'a mut Json,
}

impl Seen<'_> {
    fn take(self) -> Json {
        let mut body = self.body.take();
        body["$metadata"]["id"] = id_of(self.key).into();
        body
    }
}

impl LogStore {
    /// Answers a question. Blocking: reads all events of the frame of time.
    pub fn ask(&self, query: &Query) -> Result<Found, StoreError> {
        let mut found = Found { parts: Map::new(), scanned: Scanned::default() };
        match query.view {
            View::Events => self.events(query, &mut found)?,
            View::Invocations => self.invocations(query, &mut found)?,
            View::Calculations => {
                let own = self.calculations(query, query.timeframe, &mut found.scanned)?;
                found.parts.insert("calculations".into(), own);
                if query.compare {
                    let before = self.calculations(query, query.timeframe.previous(), &mut found.scanned)?;
                    found.parts.insert("compare".into(), before);
                }
            }
        }
        Ok(found)
    }

    /// Shows the events that fit, the newest first.
    fn matching(
        &self,
        frame: Timeframe,
        (filters, needle, concerned): (&Filters, Option<&Needle>, bool),
        scanned: &mut Scanned,
        mut visit: impl FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if !concerned {
            return Ok(());
        }
        let which = filters.script().map_or(Which::All, Which::Script);
        let everything = filters.is_empty() && needle.is_none();
        let read = self.scan(frame, &which, |key, text| {
            // What is kept was written by us; a row that is not JSON is none of ours.
            let Ok(mut body) = serde_json::from_str::<Json>(text) else { return ControlFlow::Continue(()) };
            if !everything {
                body["$metadata"]["id"] = id_of(key).into();
                if !filters.hold(&body, needle) {
                    return ControlFlow::Continue(());
                }
            }
            visit(Seen { key, at: key >> 20, size: text.len(), body: &mut body })
        })?;
        scanned.add(read);
        Ok(())
    }

    fn events(&self, query: &Query, found: &mut Found) -> Result<(), StoreError> {
        let (mut kept, mut bytes, mut count) = (VecDeque::new(), 0, 0u64);
        let mut whole = true;
        let mut series = Series::new(query);
        let asked = (&query.filters, query.needle.as_ref(), query.concerned);
        self.matching(query.timeframe, asked, &mut found.scanned, |event| {
            count += 1;
            if let Some(series) = &mut series {
                series.note(&event);
            }
            let fits = match (query.offset, query.backwards) {
                (None, _) => true,
                (Some(offset), false) => event.key < offset,
                (Some(offset), true) => event.key > offset,
            };
            let from_the_end = query.backwards && query.offset.is_some();
            if fits && (from_the_end || kept.len() < query.limit && bytes + event.size <= MAX_ANSWER) {
                bytes += event.size;
                kept.push_back((event.size, event.take()));
                // Of those before the offset the last ones are next to it.
                while from_the_end && (kept.len() > query.limit || bytes > MAX_ANSWER && kept.len() > 1) {
                    bytes -= kept.pop_front().map_or(0, |(size, _)| size);
                }
            } else if fits && series.is_none() && !query.aggregates {
                whole = false;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        let events: Vec<Json> = kept.into_iter().map(|(_, event)| event).collect();
        let mut fields = BTreeSet::new();
        for event in &events {
            each(event, |key, value| {
                if let Some(kind) = kind(value) {
                    fields.insert((key.to_owned(), kind));
                }
            });
        }
        let fields: Vec<Json> =
            fields.into_iter().map(|(key, kind)| json!({ "key": key, "type": kind })).collect();
        let mut answer = json!({ "events": events, "fields": fields });
        if whole {
            answer["count"] = count.into();
        }
        if let Some(series) = series {
            answer["series"] = series.finish();
        }
        found.parts.insert("events".into(), answer);
        Ok(())
    }

    /// All events of the invocations of which one fits.
    fn invocations(&self, query: &Query, found: &mut Found) -> Result<(), StoreError> {
        let (mut order, mut known) = (Vec::new(), HashSet::new());
        let asked = (&query.filters, query.needle.as_ref(), query.concerned);
        self.matching(query.timeframe, asked, &mut found.scanned, |event| {
            let request = event.body["$metadata"]["requestId"].as_str().unwrap_or_default();
            if query.offset.is_none_or(|offset| event.key < offset) && known.insert(request.to_owned()) {
                order.push(request.to_owned());
            }
            if order.len() < query.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let (mut invocations, mut bytes) = (Map::new(), 0);
        for request in order {
            let mut events = Vec::new();
            let read = self.scan(query.timeframe, &Which::Request(&request), |key, text| {
                if let Ok(mut body) = serde_json::from_str::<Json>(text) {
                    bytes += text.len();
                    events.push(Seen { key, at: 0, size: 0, body: &mut body }.take());
                }
                ControlFlow::Continue(())
            })?;
            found.scanned.add(read);
            invocations.insert(request, events.into());
            if bytes > MAX_ANSWER {
                break;
            }
        }
        found.parts.insert("invocations".into(), invocations.into());
        Ok(())
    }

    fn calculations(
        &self,
        query: &Query,
        frame: Timeframe,
        scanned: &mut Scanned,
    ) -> Result<Json, StoreError> {
        let mut groups: HashMap<String, Group> = HashMap::new();
        let asked = (&query.filters, query.needle.as_ref(), query.concerned);
        if query.group_by.is_empty() {
            groups.insert(String::new(), Group::new(query, Vec::new()));
        }
        self.matching(frame, asked, scanned, |event| {
            if let Some((name, values)) = group_of(query, event.body) {
                let room = groups.len() < MAX_COUNTED;
                if let Some(group) = groups.get_mut(&name) {
                    group.add(query, event.body);
                } else if room {
                    let mut group = Group::new(query, values);
                    group.add(query, event.body);
                    groups.insert(name, group);
                }
            }
            ControlFlow::Continue(())
        })?;
        let chosen = chosen(query, groups);
        let mut series = Vec::new();
        if query.series && frame.length() > 0 {
            let width = frame.length().div_ceil(query.buckets as u64).max(1);
            let places: HashMap<&str, usize> =
                chosen.iter().enumerate().map(|(n, (name, _, _))| (name.as_str(), n)).collect();
            let mut buckets: BTreeMap<u64, BTreeMap<usize, Bucket>> = BTreeMap::new();
            self.matching(frame, asked, scanned, |event| {
                let place =
                    group_of(query, event.body).and_then(|(name, _)| places.get(name.as_str()).copied());
                if let Some(place) = place {
                    let bucket = buckets.entry((event.at.saturating_sub(frame.from)) / width).or_default();
                    let (tallies, first, last) = bucket.entry(place).or_insert_with(|| {
                        (vec![Tally::default(); query.calculations.len()], event.at, event.at)
                    });
                    (*first, *last) = ((*first).min(event.at), (*last).max(event.at));
                    for (tally, calculation) in tallies.iter_mut().zip(&query.calculations) {
                        tally.add(calculation, event.body);
                    }
                }
                ControlFlow::Continue(())
            })?;
            series = (0..query.calculations.len()).map(|_| Vec::new()).collect();
            for (n, places) in &mut buckets {
                for (c, calculation) in query.calculations.iter().enumerate() {
                    let data: Vec<Json> = places
                        .iter_mut()
                        .filter_map(|(place, (tallies, first, last))| {
                            let tally = &mut tallies[c];
                            let mut point = json!({
                                "value": tally.value(calculation)?, "count": tally.count, "interval": width, "sampleInterval": 1,
                                "firstSeen": time(*first), "lastSeen": time(*last),
                            });
                            point["groups"] = shown_groups(query, &chosen[*place].1);
                            Some(point)
                        })
                        .collect();
                    if !data.is_empty() {
                        series[c].push(json!({ "time": time(frame.from + n * width), "data": data }));
                    }
                }
            }
        }
        let calculations = query.calculations.iter().enumerate().map(|(c, calculation)| {
            let aggregates: Vec<Json> = chosen
                .iter()
                .filter(|_| query.aggregates)
                .filter_map(|(_, values, results)| {
                    let (value, count) = results[c];
                    let mut aggregate = json!({
                        "value": value?, "count": count, "interval": frame.length(), "sampleInterval": 1,
                    });
                    aggregate["groups"] = shown_groups(query, values);
                    Some(aggregate)
                })
                .collect();
            let mut shown = json!({
                "calculation": calculation.name, "aggregates": aggregates,
                "series": series.get_mut(c).map(std::mem::take).unwrap_or_default(),
            });
            if let Some(alias) = &calculation.alias {
                shown["alias"] = alias.clone().into();
            }
            shown
        });
        Ok(calculations.collect::<Vec<_>>().into())
    }

    /// The fields that events have: key, type, and when it was last seen. Blocking.
    pub fn keys(&self, query: &KeysQuery) -> Result<(Vec<Json>, Scanned), StoreError> {
        let (mut found, mut scanned) = (BTreeMap::new(), Scanned::default());
        let asked = (&query.filters, query.needle.as_ref(), query.concerned);
        self.matching(query.timeframe, asked, &mut scanned, |event| {
            each(event.body, |key, value| {
                let Some(kind) = kind(value) else { return };
                let wanted = query.key_needle.as_ref().is_none_or(|needle| needle.is_in(key));
                if wanted && found.len() < MAX_COUNTED {
                    // Newer events come first.
                    found.entry((key.to_owned(), kind)).or_insert(event.at);
                }
            });
            ControlFlow::Continue(())
        })?;
        let keys = found.into_iter().take(query.limit);
        Ok((
            keys.map(|((key, kind), at)| json!({ "key": key, "type": kind, "lastSeenAt": at })).collect(),
            scanned,
        ))
    }

    /// The values of a field, those seen last first. Blocking.
    pub fn values(&self, query: &ValuesQuery) -> Result<(Vec<Json>, Scanned), StoreError> {
        let (mut values, mut known, mut scanned) = (Vec::new(), HashSet::new(), Scanned::default());
        let asked = (&query.filters, query.needle.as_ref(), query.concerned);
        self.matching(query.timeframe, asked, &mut scanned, |event| {
            let value = get(event.body, &query.key).filter(|value| kind(value) == Some(query.kind));
            if let Some(value) = value.filter(|value| known.insert(value.to_string())) {
                values.push(
                    json!({ "dataset": DATASET, "key": query.key, "type": query.kind, "value": value }),
                );
            }
            if values.len() < query.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok((values, scanned))
    }
}

/// The group of an event: what tells it apart, and its values. `None`: a field that is grouped by is missing.
fn group_of(query: &Query, event: &Json) -> Option<(String, Vec<Json>)> {
    let mut name = String::new();
    let mut values = Vec::with_capacity(query.group_by.len());
    for (key, wanted) in &query.group_by {
        let value = get(event, key).filter(|value| kind(value) == Some(*wanted))?;
        name.push_str(&value.to_string());
        name.push('\0');
        values.push(value.clone());
    }
    Some((name, values))
}

fn shown_groups(query: &Query, values: &[Json]) -> Json {
    query.group_by.iter().zip(values).map(|((key, _), value)| json!({ "key": key, "value": value })).collect()
}

/// The tallies of a group in a part of the time, the first and the last moment.
type Bucket = (Vec<Tally>, u64, u64);

struct Group {
    values: Vec<Json>,
    tallies: Vec<Tally>,
}

impl Group {
    fn new(query: &Query, values: Vec<Json>) -> Self {
        Self { values, tallies: vec![Tally::default(); query.calculations.len()] }
    }

    fn add(&mut self, query: &Query, event: &Json) {
        for (tally, calculation) in self.tallies.iter_mut().zip(&query.calculations) {
            tally.add(calculation, event);
        }
    }
}

/// Name and values of a group, value and count of each calculation.
type Chosen = (String, Vec<Json>, Vec<(Option<f64>, u64)>);

/// The groups that are shown, in their order.
fn chosen(query: &Query, groups: HashMap<String, Group>) -> Vec<Chosen> {
    let mut all: Vec<Chosen> = groups
        .into_iter()
        .map(|(name, mut group)| {
            let results = group.tallies.iter_mut().zip(&query.calculations);
            let results =
                results.map(|(tally, calculation)| (tally.value(calculation), tally.count)).collect();
            (name, group.values, results)
        })
        .collect();
    let value = |chosen: &Chosen, name: &str| {
        let n = query.calculations.iter().position(|calculation| calculation.is_called(name))?;
        chosen.2[n].0
    };
    all.retain(|group| query.havings.iter().all(|having| holds(having, value(group, &having.key))));
    let first = query.calculations.first().map(|c| c.alias.clone().unwrap_or_else(|| c.name.clone()));
    let by = query.order_by.as_ref().map(|order| order.value.clone()).or(first).unwrap_or_default();
    let ascending = query.order_by.as_ref().is_some_and(|order| order.ascending);
    all.sort_by(|a, b| {
        let (x, y) = (value(a, &by).unwrap_or(f64::NEG_INFINITY), value(b, &by).unwrap_or(f64::NEG_INFINITY));
        let order = if ascending { x.total_cmp(&y) } else { y.total_cmp(&x) };
        order.then_with(|| a.0.cmp(&b.0))
    });
    all.into_iter().skip(query.offset_by).take(query.groups).collect()
}

fn holds(having: &Having, value: Option<f64>) -> bool {
    let Some(value) = value else { return false };
    match having.operation.as_str() {
        "eq" => value == having.value,
        "neq" => value != having.value,
        "gt" => value > having.value,
        "gte" => value >= having.value,
        "lt" => value < having.value,
        _ => value <= having.value,
    }
}

/// How many events there were when.
struct Series {
    frame: Timeframe,
    width: u64,
    /// Events, errors, the first and the last moment.
    buckets: BTreeMap<u64, (u64, u64, u64, u64)>,
}

impl Series {
    fn new(query: &Query) -> Option<Self> {
        let frame = query.timeframe;
        let width = frame.length().div_ceil(query.buckets as u64).max(1);
        query.series.then(|| Self { frame, width, buckets: BTreeMap::new() })
    }

    fn note(&mut self, event: &Seen<'_>) {
        let n = event.at.saturating_sub(self.frame.from) / self.width;
        let bucket = self.buckets.entry(n).or_insert((0, 0, event.at, event.at));
        bucket.0 += 1;
        bucket.1 += u64::from(!event.body["$metadata"]["error"].is_null());
        (bucket.2, bucket.3) = (bucket.2.min(event.at), bucket.3.max(event.at));
    }

    fn finish(self) -> Json {
        let (from, width) = (self.frame.from, self.width);
        let points = self.buckets.into_iter().map(|(n, (count, errors, first, last))| {
            json!({ "time": time(from + n * width), "data": [{
                "aggregates": { "_count": count, "_interval": width, "_firstSeen": time(first), "_lastSeen": time(last) },
                "count": count, "interval": width, "sampleInterval": 1, "errors": errors,
            }] })
        });
        points.collect::<Vec<_>>().into()
    }
}

/// A moment in milliseconds as RFC 3339 has it.
fn time(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(ms));
    at.map_or_else(String::new, |at| humantime::format_rfc3339_millis(at).to_string())
}
