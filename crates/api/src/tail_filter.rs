//! Which events a tail wants. <https://developers.cloudflare.com/workers/observability/logs/real-time-logs/>

use serde::Deserialize;
use serde_json::Value as Json;

use crate::reply::ApiError;

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
        let conditions = match filters {
            Json::Null => Vec::new(),
            filters => serde_json::from_value(filters.clone()).map_err(|error| {
                ApiError::bad(10026, format!("The filters of the tail are not valid: {error}"))
            })?,
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
        self.conditions.iter().all(|condition| self.holds(condition, event, chance))
    }

    fn holds(&self, condition: &Condition, event: &Json, chance: f64) -> bool {
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
            Condition::Query(wanted) => {
                let logs = event["logs"].as_array().into_iter().flatten();
                let said =
                    logs.map(|log| &log["message"]).filter(|message| message.to_string().contains(wanted));
                said.count() > 0
            }
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
}
