//! Changes of buckets, as messages in queues. <https://developers.cloudflare.com/r2/buckets/event-notifications/>

use std::fmt;
use std::sync::Weak;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use skep_catalog::{CatalogError, Kind};
use skep_queues::Queues;
use skep_r2::{Action, Change, Listen};
use skep_wire::{BoxFuture, full};

use super::tenant::Tenant;

/// Messages of one batch. <https://developers.cloudflare.com/queues/platform/limits/>
const BATCH: usize = 100;

/// Sends what becomes of objects to the queues that their bucket's rules name.
pub struct Notifications(pub Weak<Tenant>);

impl fmt::Debug for Notifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notifications")
    }
}

impl Listen for Notifications {
    fn changed<'a>(&'a self, bucket: &'a str, changes: Vec<Change>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Some(tenant) = self.0.upgrade() else { return };
            match wanted(&tenant, bucket, &changes) {
                Ok(all) => {
                    for wanted in all {
                        send(&tenant.stores.queues, bucket, wanted).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, bucket, "the rules of event notifications cannot be read")
                }
            }
        })
    }
}

/// What is to be said in one queue.
struct Wanted {
    queue: String,
    messages: Vec<Json>,
}

fn wanted(tenant: &Tenant, bucket: &str, changes: &[Change]) -> Result<Vec<Wanted>, CatalogError> {
    let catalog = &tenant.stores.catalog;
    let Some(row) = catalog.resource(Kind::R2, bucket)? else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for target in row.settings["notifications"].as_array().into_iter().flatten() {
        let rules = target["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
        let about = changes.iter().filter(|change| rules.iter().any(|rule| matches(rule, change)));
        let messages: Vec<Json> = about.map(|change| message(&tenant.id, bucket, change)).collect();
        let queue = target["queue_id"].as_str().unwrap_or_default();
        if !messages.is_empty()
            && let Some(queue) = catalog.resource(Kind::Queue, queue)?
        {
            all.push(Wanted { queue: queue.name, messages });
        }
    }
    Ok(all)
}

/// Through the same door as a worker's messages.
async fn send(queues: &Queues, bucket: &str, Wanted { queue, messages }: Wanted) {
    let producer = queues.producer(&queue, None);
    for some in messages.chunks(BATCH) {
        let entry = |said: &Json| json!({ "body": STANDARD.encode(said.to_string()), "contentType": "json" });
        let body = json!({ "messages": some.iter().map(entry).collect::<Vec<_>>() }).to_string();
        let status = match http::Request::post("/batch").body(full(body)) {
            Ok(request) => producer.call(request).await.status(),
            Err(error) => return tracing::warn!(%error, bucket, queue, "an event notification is lost"),
        };
        if !status.is_success() {
            tracing::warn!(%status, bucket, queue, "a queue does not take event notifications");
        }
    }
}

fn name(action: Action) -> &'static str {
    match action {
        Action::Put => "PutObject",
        Action::Copy => "CopyObject",
        Action::CompleteMultipart => "CompleteMultipartUpload",
        Action::Delete => "DeleteObject",
        Action::Expire => "LifecycleDeletion",
    }
}

/// Whether a rule is about a change.
fn matches(rule: &Json, change: &Change) -> bool {
    let text = |key: &str| rule[key].as_str().unwrap_or_default();
    let actions = rule["actions"].as_array().map(Vec::as_slice).unwrap_or_default();
    actions.iter().any(|action| action == name(change.action))
        && change.key.starts_with(text("prefix"))
        && change.key.ends_with(text("suffix"))
}

fn message(account: &str, bucket: &str, change: &Change) -> Json {
    let mut object = json!({ "key": change.key });
    if let Some((size, etag)) = &change.state {
        object["size"] = (*size).into();
        object["eTag"] = etag.as_str().into();
    }
    let at = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(change.at_ms)).to_string();
    json!({
        "account": account, "action": name(change.action), "bucket": bucket, "object": object, "eventTime": at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(action: Action, key: &str) -> Change {
        Change { action, key: key.into(), state: Some((5, "e".into())), at_ms: 1_700_000_000_123 }
    }

    #[test]
    fn a_rule_is_about_some_actions_on_some_keys() {
        let rule = json!({ "actions": ["PutObject"], "prefix": "img/", "suffix": ".png" });
        assert!(matches(&rule, &change(Action::Put, "img/a.png")));
        assert!(!matches(&rule, &change(Action::Delete, "img/a.png")));
        assert!(!matches(&rule, &change(Action::Put, "a.png")));
        assert!(!matches(&rule, &change(Action::Put, "img/a.jpg")));
        assert!(matches(&json!({ "actions": ["PutObject"] }), &change(Action::Put, "any")));
        assert!(!matches(&json!({}), &change(Action::Put, "any")));
    }

    #[test]
    fn a_message_says_what_cloudflare_says() {
        let said = message("acc", "b", &change(Action::CompleteMultipart, "k"));
        let expected = json!({
            "account": "acc", "action": "CompleteMultipartUpload", "bucket": "b",
            "object": { "key": "k", "size": 5, "eTag": "e" }, "eventTime": "2023-11-14T22:13:20.123Z",
        });
        assert_eq!(said, expected);
        let gone = Change { state: None, ..change(Action::Delete, "k") };
        assert_eq!(message("acc", "b", &gone)["object"], json!({ "key": "k" }));
    }
}
