//! `observability` of a script's settings. Pure.
//! <https://developers.cloudflare.com/workers/wrangler/configuration/#observability>

use serde_json::Value as Json;

/// What of a script's invocations is kept and traced.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observability {
    /// Its logs, unless they are not kept.
    pub logs: Option<Sampled>,
    /// Its traces; `None` if the settings say nothing of them.
    pub traces: Option<Sampled>,
    /// Whether an invocation is an event of its own, beside what it logged.
    pub invocation_logs: bool,
}

/// A share of invocations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// From 0 to 1.
    pub rate: f64,
}

impl Observability {
    /// What the settings say; those of `logs` and `traces` go before those that are for both.
    pub fn of(settings: Option<&Json>) -> Self {
        let Some(settings) = settings else { return Self::default() };
        let sampled = |part: &Json| {
            let enabled = part["enabled"].as_bool().or(settings["enabled"].as_bool()).unwrap_or(false);
            let rate = part["head_sampling_rate"].as_f64().or(settings["head_sampling_rate"].as_f64());
            let rate = if enabled { rate.unwrap_or(1.0).clamp(0.0, 1.0) } else { 0.0 };
            Sampled { rate }
        };
        let logs = &settings["logs"];
        let kept = logs["persist"].as_bool().unwrap_or(true);
        Self {
            logs: Some(sampled(logs)).filter(|logs| kept && logs.rate > 0.0),
            traces: settings["traces"].is_object().then(|| sampled(&settings["traces"])),
            invocation_logs: logs["invocation_logs"].as_bool().unwrap_or(true),
        }
    }

    /// What is wrong with such settings, or what they ask for and nothing does.
    pub fn fault(settings: &Json) -> Option<String> {
        let parts = [("observability", settings)].into_iter().chain(
            ["logs", "traces"]
                .map(|name| (name, &settings[name]))
                .into_iter()
                .filter(|(_, part)| !part.is_null()),
        );
        for (name, part) in parts {
            let at = |key: &str| match name {
                "observability" => format!("observability.{key}"),
                part => format!("observability.{part}.{key}"),
            };
            if !part.is_object() {
                return Some(format!("{} must be an object", at("").trim_end_matches('.')));
            }
            for key in ["enabled", "persist", "invocation_logs"] {
                if !matches!(part[key], Json::Null | Json::Bool(_)) {
                    return Some(format!("{} must be a boolean", at(key)));
                }
            }
            let rate = &part["head_sampling_rate"];
            if !rate.is_null() && !rate.as_f64().is_some_and(|rate| (0.0..=1.0).contains(&rate)) {
                return Some(format!("{} must be a number from 0 to 1", at("head_sampling_rate")));
            }
            match &part["destinations"] {
                Json::Null => {}
                Json::Array(list) if list.is_empty() => {}
                _ => {
                    return Some(format!(
                        "{} is not supported: `skep serve --otlp-endpoint` exports for all scripts",
                        at("destinations")
                    ));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn logs(settings: Json) -> Option<f64> {
        Observability::of(Some(&settings)).logs.map(|logs| logs.rate)
    }

    #[test]
    fn what_is_said_of_logs_goes_before_what_is_said_of_all() {
        assert_eq!(Observability::of(None).logs, None);
        assert_eq!(logs(json!({ "enabled": true })), Some(1.0));
        assert_eq!(logs(json!({ "enabled": true, "head_sampling_rate": 0.25 })), Some(0.25));
        assert_eq!(logs(json!({ "enabled": true, "head_sampling_rate": 0 })), None);
        assert_eq!(logs(json!({ "head_sampling_rate": 1 })), None);
        assert_eq!(logs(json!({ "enabled": true, "logs": { "enabled": false } })), None);
        assert_eq!(logs(json!({ "enabled": true, "logs": { "persist": false } })), None);
        let logs_only = json!({
            "enabled": false, "head_sampling_rate": 1,
            "logs": { "enabled": true, "head_sampling_rate": 0.5, "invocation_logs": false },
        });
        let read = Observability::of(Some(&logs_only));
        assert_eq!((read.logs.unwrap().rate, read.invocation_logs, read.traces), (0.5, false, None));
    }

    #[test]
    fn traces_are_asked_for_or_forbidden_only_where_they_are_named() {
        let traces = |settings: Json| Observability::of(Some(&settings)).traces.map(|traces| traces.rate);
        assert_eq!(traces(json!({ "enabled": true })), None);
        assert_eq!(traces(json!({ "traces": { "enabled": true, "head_sampling_rate": 0.1 } })), Some(0.1));
        assert_eq!(traces(json!({ "enabled": true, "traces": { "enabled": false } })), Some(0.0));
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (wrong, said) in [
            (json!([]), "observability must be an object"),
            (json!({ "enabled": 1 }), "observability.enabled must be a boolean"),
            (
                json!({ "head_sampling_rate": 2 }),
                "observability.head_sampling_rate must be a number from 0 to 1",
            ),
            (json!({ "logs": true }), "observability.logs must be an object"),
            (
                json!({ "logs": { "invocation_logs": 1 } }),
                "observability.logs.invocation_logs must be a boolean",
            ),
            (
                json!({ "traces": { "head_sampling_rate": "1" } }),
                "observability.traces.head_sampling_rate must",
            ),
            (
                json!({ "logs": { "destinations": ["x"] } }),
                "observability.logs.destinations is not supported",
            ),
        ] {
            let fault = Observability::fault(&wrong).unwrap_or_else(|| panic!("{wrong}"));
            assert!(fault.starts_with(said), "{fault}");
        }
        let right = json!({
            "enabled": true, "head_sampling_rate": 0.5, "logs": { "enabled": true, "destinations": [] },
            "traces": { "enabled": true, "persist": false },
        });
        assert_eq!(Observability::fault(&right), None);
    }
}
