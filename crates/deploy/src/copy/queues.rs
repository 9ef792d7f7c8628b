//! Queues: their settings and those who pull from them. Workers bring their consumers themselves, and messages cannot be
//! read without being taken away.

use http::Method;
use serde_json::{Value as Json, json};

use super::kv::made;
use super::{Copy, Mark, Wanted, source, text};
use crate::resources::{Kind, encode};

pub(super) async fn copy(copy: &mut Copy<'_>, wanted: &Wanted, print: &impl Fn(&str)) -> Result<(), String> {
    for queue in source::queues(copy.from).await.map_err(text)? {
        let own = queue["queue_name"].as_str().unwrap_or_default();
        let name = format!("queue/{own}");
        if !wanted.has(&name) || copy.is_done(&name, print) {
            continue;
        }
        one(copy, own, &queue).await.map_err(|error| format!("{name}: {error}"))?;
        copy.keep(&name, Mark { cursor: None, copied: 1, done: true })?;
        copy.notes.push(format!("{name}: messages that wait in it stay where they are"));
        print(&format!("{name}: is there"));
    }
    Ok(())
}

async fn one(copy: &Copy<'_>, own: &str, queue: &Json) -> Result<(), String> {
    let id = made(copy.to, Kind::Queue, own, None).await?;
    let path = format!("{{account}}/queues/{}", encode(&id));
    let mut settings = queue["settings"].clone();
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|_, value| !value.is_null());
        if !settings.is_empty() {
            let body = json!({ "settings": settings });
            copy.to.call(Method::PATCH, &path).json(&body).repeatable().send().await.map_err(text)?;
        }
    }
    let is_pull = |consumer: &&Json| consumer["type"] == "http_pull";
    let Some(pull) = queue["consumers"].as_array().into_iter().flatten().find(is_pull) else { return Ok(()) };
    let there = copy.to.get(format!("{path}/consumers")).await.map_err(text)?.result;
    if there.as_array().into_iter().flatten().any(|consumer| is_pull(&consumer)) {
        return Ok(());
    }
    let mut settings = pull["settings"].clone();
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|_, value| !value.is_null());
    }
    let mut body = json!({ "type": "http_pull", "settings": settings });
    if pull["dead_letter_queue"].as_str().is_some_and(|name| !name.is_empty()) {
        body["dead_letter_queue"] = pull["dead_letter_queue"].clone();
    }
    copy.to.call(Method::POST, format!("{path}/consumers")).json(&body).send().await.map(drop).map_err(text)
}
