//! Which events a tail wants. <https://developers.cloudflare.com/workers/observability/logs/real-time-logs/>

use std::cell::LazyCell;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::reply::ApiError;

/// Conditions of a tail, at most: the dashboard and wrangler have seven kinds.
const MOST: usize = 20;
/// Bytes of all conditions of a tail together: they are looked through for each event.
const LONGEST: usize = 16 << 10;

/// One condition; all of a tail's must hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Condition {
    SamplingRate(f64),
    Outcome(Vec<String>),
    Method(Vec<String>),
    Header {
        key: String,
        query: Option<String>,
    },
    ClientIp(Vec<String>),
    Query(String),
    #[serde(rename = "scriptVersion")]
    ScriptVersion(String),
}

/// The conditions of a tail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    conditions: Vec<Condition>,
    /// The address of who asked: `self`.
    own_ip: String,
}

impl Filter {
    pub fn read(filters: &Json, own_ip: String) -> Result<Self, ApiError> {
        let invalid =
            |why: String| ApiError::bad(10026, format!("The filters of the tail are not valid: {why}"));
        let conditions: Vec<Condition> = match filters {
            Json::Null => Vec::new(),
            filters if filters.as_array().is_some_and(|all| all.len() > MOST) => {
                return Err(invalid(format!("there are more than {MOST}")));
            }
            filters if filters.to_string().len() > LONGEST => {
                return Err(invalid(format!("they are longer than {LONGEST} bytes")));
            }
            filters => serde_json::from_value(filters.clone()).map_err(|error| invalid(error.to_string()))?,
        };
        Ok(Self { conditions, own_ip })
    }

    /// Whether the event with this JSON passes; `chance` is from 0 to 1, for the sampling.
    pub fn passes_text(&self, event: &str, chance: f64) -> bool {
        self.conditions.is_empty()
            || serde_json::from_str(event).is_ok_and(|event| self.passes(&event, chance))
    }

    /// The same of the event itself.
    pub fn passes(&self, event: &Json, chance: f64) -> bool {
        let said = LazyCell::new(|| {
            let logs = event["logs"].as_array().into_iter().flatten();
            logs.map(|log| log["message"].to_string()).collect::<Vec<String>>()
        });
        self.conditions.iter().all(|condition| self.holds(condition, event, &said, chance))
    }

    /// `said` are the messages that were logged, as JSON: made once, where anything asks for them.
    fn holds<F: FnOnce() -> Vec<String>>(
        &self,
        condition: &Condition,
        event: &Json,
        said: &LazyCell<Vec<String>, F>,
        chance: f64,
    ) -> bool {
        let request = &event["event"]["request"];
        let text =
            |value: &Json, among: &[String]| value.as_str().is_some_and(|v| among.iter().any(|a| a == v));
        match condition {
            Condition::SamplingRate(rate) => chance < *rate,
            Condition::Outcome(outcomes) => text(&event["outcome"], outcomes),
            Condition::Method(methods) => text(&request["method"], methods),
            Condition::ScriptVersion(id) => event["scriptVersion"]["id"] == id.as_str(),
            Condition::Header { key, query } => {
                let value = request["headers"][key.to_lowercase()].as_str();
                value.is_some_and(|value| query.as_ref().is_none_or(|wanted| value.contains(wanted)))
            }
            Condition::ClientIp(ips) => {
                let ip = request["headers"]["cf-connecting-ip"].as_str();
                ip.is_some_and(|ip| {
                    ips.iter().any(|wanted| wanted == ip || (wanted == "self" && ip == self.own_ip))
                })
            }
            Condition::Query(wanted) => said.iter().any(|message| message.contains(wanted)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn passes(filters: Json, chance: f64) -> bool {
        let event = json!({
            "outcome": "ok", "scriptVersion": { "id": "v" }, "logs": [{ "message": ["found foo", 1] }],
            "event": { "request": { "method": "GET", "headers": { "x-a": "abc", "cf-connecting-ip": "10.0.0.1" } } },
        });
        Filter::read(&filters, "10.0.0.1".into()).unwrap().passes(&event, chance)
    }

    #[test]
    fn all_conditions_must_hold() {
        assert!(passes(Json::Null, 0.9));
        let outcome = Filter::read(&json!([{ "outcome": ["ok"] }]), String::new()).unwrap();
        assert!(
            outcome.passes_text(r#"{"outcome":"ok"}"#, 0.9)
                && !outcome.passes_text(r#"{"outcome":"no"}"#, 0.9)
        );
        let all = json!([
            { "sampling_rate": 0.5 }, { "outcome": ["exception", "ok"] }, { "method": ["GET"] },
            { "header": { "key": "X-A", "query": "b" } }, { "client_ip": ["self"] }, { "query": "foo" },
            { "scriptVersion": "v" },
        ]);
        assert!(passes(all.clone(), 0.4));
        assert!(!passes(all, 0.6));
    }

    #[test]
    fn each_condition_refuses() {
        for filter in [
            json!({ "outcome": ["exception"] }),
            json!({ "method": ["POST"] }),
            json!({ "header": { "key": "x-b" } }),
            json!({ "header": { "key": "x-a", "query": "z" } }),
            json!({ "client_ip": ["10.0.0.2"] }),
            json!({ "query": "bar" }),
            json!({ "scriptVersion": "w" }),
        ] {
            assert!(!passes(json!([filter]), 0.0), "{filter}");
        }
        assert!(Filter::read(&json!([{ "colour": 1 }]), String::new()).is_err());
    }

    #[test]
    fn conditions_have_bounds() {
        let read = |filters: &Json| {
            Filter::read(filters, String::new()).map(drop).map_err(|e| e.errors[0].1.clone())
        };
        assert_eq!(read(&vec![json!({ "query": "" }); MOST].into()), Ok(()));
        assert!(
            read(&vec![json!({ "query": "" }); MOST + 1].into())
                .unwrap_err()
                .ends_with("there are more than 20")
        );
        let long = json!([{ "client_ip": vec!["10.0.0.1"; 2000] }]);
        assert!(read(&long).unwrap_err().ends_with("they are longer than 16384 bytes"));
    }
}
