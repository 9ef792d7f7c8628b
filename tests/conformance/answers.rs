//! Asks both and compares.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::PATIENCE;

/// Groups that run at a time. Most of their time is waiting for alarms and delays.
const AT_A_TIME: usize = 6;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    pub group: String,
    pub name: String,
    pub how: How,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// A function of the worker.
    Function,
    /// A request over the network; these headers of the answer are compared.
    Request { method: String, path: String, headers: BTreeMap<String, String>, compared: Vec<String> },
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {}", self.group, self.name)
    }
}

/// What came.
pub struct Outcome {
    pub case: Case,
    pub ours: Value,
    pub theirs: Value,
}

/// What differs, by its place in the answer: ours, theirs.
pub type Differences = BTreeMap<String, [Value; 2]>;

impl Outcome {
    pub fn differences(&self) -> Differences {
        let mut found = Differences::new();
        walk(&self.ours, &self.theirs, String::new(), &mut found);
        found
    }
}

fn walk(ours: &Value, theirs: &Value, at: String, found: &mut Differences) {
    if ours == theirs {
        return;
    }
    let none = Value::from("<absent>");
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (ours, theirs) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
                walk(ours, theirs, format!("{at}/{key}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (ours, theirs)) in a.iter().zip(b).enumerate() {
                walk(ours, theirs, format!("{at}/{index}"), found);
            }
        }
        _ => drop(found.insert(at, [ours.clone(), theirs.clone()])),
    }
}

/// The names of the worker's cases.
pub fn cases(url: &str) -> Vec<Case> {
    let names: Vec<(String, String)> = serde_json::from_value(get(&format!("{url}/cases"))).unwrap();
    names.into_iter().map(|(group, name)| Case { group, name, how: How::Function }).collect()
}

/// Runs every case on both. Cases of a group run one after the other: they share a database, or a queue.
pub fn compare(cases: &[Case], ours: &str, theirs: &str) -> Vec<Outcome> {
    let groups: Vec<&[Case]> = cases.chunk_by(|a, b| a.group == b.group).collect();
    let next = AtomicUsize::new(0);
    let run = || {
        let mut outcomes = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(group) = groups.get(number) else { return outcomes };
            outcomes.push((number, group.iter().map(|case| on_both(case, ours, theirs)).collect::<Vec<_>>()));
        }
    };
    let mut outcomes: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(run)).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().flat_map(|(_, outcomes)| outcomes).collect()
}

fn on_both(case: &Case, ours: &str, theirs: &str) -> Outcome {
    std::thread::scope(|scope| {
        let ours = scope.spawn(|| ask(case, ours));
        Outcome { case: case.clone(), theirs: ask(case, theirs), ours: ours.join().unwrap() }
    })
}

fn ask(case: &Case, url: &str) -> Value {
    match &case.how {
        How::Function => {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("group", &case.group)
                .append_pair("name", &case.name)
                .finish();
            get(&format!("{url}/case?{query}"))
        }
        How::Request { method, path, headers, compared } => {
            request(&format!("{url}{path}"), method, headers, compared)
        }
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

fn get(url: &str) -> Value {
    let mut response = agent().get(url).call().unwrap_or_else(|e| panic!("{url}: {e}"));
    let text = response.body_mut().read_to_string().unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| json!({ "uncaught": text }))
}

fn request(url: &str, method: &str, headers: &BTreeMap<String, String>, compared: &[String]) -> Value {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = agent().run(request.body(()).unwrap()).unwrap_or_else(|e| panic!("{method} {url}: {e}"));
    let (parts, mut body) = response.into_parts();
    let mut answer =
        json!({ "status": parts.status.as_u16(), "body": readable(&body.read_to_vec().unwrap()) });
    for name in compared {
        let values: Vec<_> = parts.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
        answer[name] = if values.is_empty() { Value::Null } else { values.join(", ").into() };
    }
    answer
}

/// Text without a stack, or what kind of bytes it is.
fn readable(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) => text.split("\n    at ").next().unwrap_or_default().to_owned(),
        Err(_) if body.starts_with(&[0x1f, 0x8b]) => "<gzip>".into(),
        Err(_) => format!("<{} bytes>", body.len()),
    }
}
