//! Rollouts of a new configuration to an application of containers.

use http::StatusCode;
use serde_json::{Value as Json, json};

use crate::call::Call;
use crate::containers::{change, invalid, reconfigure, refusal, row};
use crate::reply::{Answer, ok, time};

/// Those that are remembered.
const ROLLOUTS: usize = 20;

/// Rolls out a new configuration. Here there is one step: who starts from now on gets it, and what runs is replaced.
pub(crate) async fn create(mut call: Call) -> Answer {
    let asked: Json = call.json().await?;
    let target = asked["target_configuration"].clone();
    if !target.is_object() {
        return Err(invalid("target_configuration", "is missing"));
    }
    if !asked["strategy"].is_null() && asked["strategy"] != "rolling" {
        return Err(invalid("strategy", "must be \"rolling\""));
    }
    let (now, id) = (call.now_ms(), uuid::Uuid::new_v4().to_string());
    let changed = change(&call, move |settings| {
        let before = settings["body"]["configuration"].clone();
        reconfigure(&mut settings["body"]["configuration"], &target);
        let version = settings["version"].as_u64().unwrap_or(1);
        settings["version"] = (version + 1).into();
        let text = |key: &str, default: &str| asked[key].as_str().unwrap_or(default).to_owned();
        let done = json!({
            "id": id, "description": text("description", ""), "created_at": time(now), "last_updated_at": time(now),
            "started_at": time(now), "kind": text("kind", "full_auto"), "strategy": "rolling",
            "current_version": version + 1, "target_version": version + 1, "current_configuration": before,
            "target_configuration": target, "status": "completed",
            "health": { "instances": { "healthy": 0, "failed": 0, "starting": 0, "scheduling": 0 } },
            "steps": [{ "id": 1, "status": "completed", "step_size": { "percentage": 100 },
                "description": "All at once", "started_at": time(now), "completed_at": time(now) }],
            "progress": { "total_steps": 1, "current_step": 1, "updated_instances": 0, "total_instances": 0 },
        });
        if !settings["rollouts"].is_array() {
            settings["rollouts"] = json!([]);
        }
        if let Some(all) = settings["rollouts"].as_array_mut() {
            all.insert(0, done);
            all.truncate(ROLLOUTS);
        }
        Ok(())
    });
    ok(changed.await?.settings["rollouts"][0].clone())
}

pub(crate) async fn list(call: Call) -> Answer {
    ok(row(&call)?.settings["rollouts"].as_array().cloned().unwrap_or_default().into())
}

pub(crate) async fn get(call: Call) -> Answer {
    let row = row(&call)?;
    let all = row.settings["rollouts"].as_array();
    let found = all.into_iter().flatten().find(|own| own["id"] == call.param(1)).cloned();
    ok(found.ok_or_else(|| {
        let mut error = refusal("ROLLOUT_NOT_FOUND", &json!({ "rollout_id": call.param(1) }));
        error.status = StatusCode::NOT_FOUND;
        error
    })?)
}
