//! What a version's bindings ask of other scripts, and what a queue's consumer asks of the queue.

use serde_json::Value as Json;
use skep_fleet::Exposed;
use skep_queues::{ConsumerSettings, QueueSettings};

use crate::dispatch::Outbound;

/// Says of which script and class the objects are that a class of a script stands for.
pub type Home<'a> = &'a dyn Fn(&str, &str) -> Option<(String, String)>;

/// Whom a version calls: the script, and what of it. `script` is the version's own script, `name` what the fleet
/// calls the version, `home` says where a class of a script is by now.
pub fn links_of(script: &str, name: &str, bindings: &[Json], home: Home<'_>) -> Vec<(String, Exposed)> {
    bindings.iter().filter_map(|binding| link_of(script, name, binding, home)).collect()
}

fn link_of(script: &str, name: &str, binding: &Json, home: Home<'_>) -> Option<(String, Exposed)> {
    if binding["type"] == "dispatch_namespace" {
        let outbound = Outbound::of(binding).filter(|outbound| outbound.worker != name)?;
        return Some((outbound.worker, Exposed::Outbound));
    }
    let text = |key: &str| binding[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let target = match binding["type"].as_str()? {
        "service" => text("service")?,
        _ => text("script_name").unwrap_or_else(|| script.to_owned()),
    };
    if binding["type"] == "durable_object_namespace" {
        let class = text("class_name")?;
        let (target, class) = home(&target, &class).unwrap_or((target, class));
        return (target != name).then_some((target, Exposed::Objects { class }));
    }
    if target == name {
        return None;
    }
    let exposed = match binding["type"].as_str()? {
        "service" => Exposed::Entrypoint {
            entrypoint: text("entrypoint"),
            props: Some(&binding["props"]).filter(|props| !props.is_null()).map(Json::to_string),
        },
        "workflow" => Exposed::Workflow { name: text("workflow_name")? },
        _ => return None,
    };
    Some((target, exposed))
}

/// The settings of a queue as the API keeps them; what is not said is Cloudflare's default.
pub fn queue_settings(settings: &Json) -> QueueSettings {
    let default = QueueSettings::default();
    let number = |key: &str| settings[key].as_u64().and_then(|n| u32::try_from(n).ok());
    QueueSettings {
        delivery_delay_secs: number("delivery_delay").unwrap_or(default.delivery_delay_secs),
        retention_secs: number("message_retention_period").unwrap_or(default.retention_secs),
    }
}

/// The settings of a consumer as the API keeps them; what is not said is Cloudflare's default.
/// <https://developers.cloudflare.com/queues/configuration/configure-queues/#consumer-worker-configuration>
pub fn consumer_settings(consumer: &Json) -> ConsumerSettings {
    let default = ConsumerSettings::default();
    let settings = &consumer["settings"];
    let number = |key: &str| settings[key].as_u64().and_then(|n| u32::try_from(n).ok());
    ConsumerSettings {
        max_batch_size: number("batch_size").unwrap_or(default.max_batch_size),
        max_batch_timeout_s: number("max_wait_time_ms")
            .map_or(default.max_batch_timeout_s, |ms| ms.div_ceil(1000)),
        max_retries: number("max_retries").unwrap_or(default.max_retries),
        retry_delay: number("retry_delay"),
        dead_letter_queue: consumer["dead_letter_queue"]
            .as_str()
            .filter(|q| !q.is_empty())
            .map(str::to_owned),
        max_concurrency: number("max_concurrency"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn links_lead_to_other_scripts_only() {
        let bindings = [
            json!({ "type": "service", "name": "A", "service": "b", "entrypoint": "Admin", "props": { "x": 1 } }),
            json!({ "type": "service", "name": "B", "service": "a" }),
            json!({ "type": "durable_object_namespace", "name": "C", "class_name": "Room" }),
            json!({ "type": "durable_object_namespace", "name": "D", "class_name": "Room", "script_name": "c" }),
            json!({ "type": "plain_text", "name": "E", "text": "x" }),
        ];
        let main = links_of("a", "a", &bindings, &|_, _| None);
        let admin = Exposed::Entrypoint { entrypoint: Some("Admin".into()), props: Some("{\"x\":1}".into()) };
        let room = Exposed::Objects { class: "Room".into() };
        assert_eq!(main, [("b".into(), admin), ("c".into(), room.clone())]);
        let moved = |script: &str, _: &str| (script == "c").then(|| ("d".to_owned(), "Hall".to_owned()));
        let hall = ("d".to_owned(), Exposed::Objects { class: "Hall".into() });
        assert!(links_of("a", "a", &bindings, &moved).contains(&hall), "a class is called where it is now");
        let other = links_of("a", "a@1", &bindings, &|_, _| None);
        assert!(other.contains(&("a".into(), room)), "another version finds its objects in the main one");
    }
}
