//! Event notifications of buckets: which changes are messages in which queues.
//! <https://developers.cloudflare.com/api/resources/r2/subresources/buckets/subresources/event_notifications/>

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_catalog::{Kind, Resource};

use crate::aside::listed;
use crate::call::Call;
use crate::r2::{edit, row};
use crate::reply::{Answer, ApiError, ok, time};

/// Rules of a bucket, at most.
const MAX_RULES: usize = 100;
/// What a rule can be about. Nothing copies objects here, so of one nothing ever comes.
pub(crate) const ACTIONS: [&str; 5] =
    ["PutObject", "CopyObject", "DeleteObject", "CompleteMultipartUpload", "LifecycleDeletion"];

/// As they are kept: one entry a queue, `{queue_id, rules}`.
fn kept(row: &Resource) -> Vec<Json> {
    row.settings["notifications"].as_array().cloned().unwrap_or_default()
}

fn rules_of(target: &Json) -> Vec<Json> {
    target["rules"].as_array().cloned().unwrap_or_default()
}

fn queue_of(call: &Call, id: &str) -> Result<Option<Resource>, ApiError> {
    Ok(call.tenant()?.catalog().resource(Kind::Queue, id)?)
}

/// The queue that the address names.
fn queue(call: &Call) -> Result<Resource, ApiError> {
    queue_of(call, call.param(1))?
        .ok_or_else(|| ApiError::not_found(11000, "Queue not found. Verify the queue id."))
}

fn shown(target: &Json, queue: &Resource) -> Json {
    json!({ "queueId": queue.id, "queueName": queue.name, "rules": target["rules"] })
}

/// All rules of a bucket. Those of a queue that is gone went with it.
pub(crate) async fn list_all(call: Call) -> Answer {
    listed(call, list_all_of).await
}

fn list_all_of(call: &Call) -> Answer {
    let row = row(call)?;
    let mut queues = Vec::new();
    for target in kept(&row) {
        if let Some(queue) = queue_of(call, target["queue_id"].as_str().unwrap_or_default())? {
            queues.push(shown(&target, &queue));
        }
    }
    ok(json!({ "bucketName": row.name, "queues": queues }))
}

fn no_rules() -> ApiError {
    ApiError::not_found(11015, "No event notification config found")
}

pub(crate) async fn get(call: Call) -> Answer {
    let (row, queue) = (row(&call)?, queue(&call)?);
    let target = kept(&row).into_iter().find(|target| target["queue_id"] == queue.id.as_str());
    ok(shown(&target.ok_or_else(no_rules)?, &queue))
}

#[derive(Deserialize)]
struct Put {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    actions: Vec<String>,
    prefix: Option<String>,
    suffix: Option<String>,
    description: Option<String>,
}

impl Rule {
    fn read(self, now_ms: i64) -> Result<Json, ApiError> {
        let known = |action: &String| ACTIONS.contains(&action.as_str());
        if self.actions.is_empty() || !self.actions.iter().all(known) {
            return Err(ApiError::bad(10001, format!("'actions' must be some of {}", ACTIONS.join(", "))));
        }
        let actions: BTreeSet<String> = self.actions.into_iter().collect();
        let mut rule = json!({
            "ruleId": uuid::Uuid::new_v4().to_string(), "createdAt": time(now_ms), "actions": actions,
        });
        let texts = [("prefix", self.prefix), ("suffix", self.suffix), ("description", self.description)];
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
            rule[name] = text.into();
        }
        Ok(rule)
    }
}

/// Adds rules: those that are there stay.
pub(crate) async fn put(mut call: Call) -> Answer {
    let Put { rules } = call.json().await?;
    row(&call)?;
    let queue = queue(&call)?;
    if rules.is_empty() {
        return Err(ApiError::bad(10001, "'rules' must have at least one rule"));
    }
    let now = call.now_ms();
    let new = rules.into_iter().map(|rule| rule.read(now)).collect::<Result<Vec<_>, _>>()?;
    edit(&call, move |row| add(row, &queue.id, new)).await?;
    ok(json!({}))
}

fn add(row: &mut Resource, queue: &str, new: Vec<Json>) -> Result<(), ApiError> {
    let mut all = kept(row);
    let rules = match all.iter().position(|target| target["queue_id"] == queue) {
        Some(at) => {
            let mut rules = rules_of(&all.remove(at));
            rules.extend(new);
            rules
        }
        None => new,
    };
    all.push(json!({ "queue_id": queue, "rules": rules }));
    if all.iter().map(|target| rules_of(target).len()).sum::<usize>() > MAX_RULES {
        return Err(ApiError::bad(
            10001,
            format!("A bucket has at most {MAX_RULES} event notification rules"),
        ));
    }
    row.settings["notifications"] = all.into();
    Ok(())
}

#[derive(Deserialize)]
struct Delete {
    #[serde(rename = "ruleIds")]
    rule_ids: Option<Vec<String>>,
}

/// Removes the rules that the body names, or all of the queue's.
pub(crate) async fn delete(mut call: Call) -> Answer {
    let asked: Option<Delete> = serde_json::from_value(call.any_json().await?)
        .map_err(|error| ApiError::bad(10040, format!("Could not parse the request body: {error}")))?;
    let rule_ids = asked.and_then(|asked| asked.rule_ids);
    row(&call)?;
    let queue = queue(&call)?;
    edit(&call, move |row| remove(row, &queue.id, rule_ids)).await?;
    ok(json!({}))
}

fn remove(row: &mut Resource, queue: &str, rule_ids: Option<Vec<String>>) -> Result<(), ApiError> {
    let mut all = kept(row);
    let at = all.iter().position(|target| target["queue_id"] == queue).ok_or_else(no_rules)?;
    let mut rules = rules_of(&all.remove(at));
    match rule_ids.filter(|ids| !ids.is_empty()) {
        None => rules.clear(),
        Some(ids) => {
            let known = |id: &String| rules.iter().any(|rule| rule["ruleId"] == id.as_str());
            if let Some(unknown) = ids.iter().find(|id| !known(id)) {
                let text = format!("There is no event notification rule \"{unknown}\" for this queue.");
                return Err(ApiError::not_found(11015, text));
            }
            rules.retain(|rule| !ids.iter().any(|id| rule["ruleId"] == id.as_str()));
        }
    }
    if !rules.is_empty() {
        all.push(json!({ "queue_id": queue, "rules": rules }));
    }
    row.settings["notifications"] = all.into();
    Ok(())
}
