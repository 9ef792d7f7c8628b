//! Workers as objects of their own: made before their first version, changed without one.
//! <https://developers.cloudflare.com/api/resources/workers/subresources/beta/subresources/workers/>

use serde_json::{Value as Json, json};
use skep_catalog::Script;

use crate::call::Call;
use crate::reply::{Answer, ApiError, ok};
use crate::workers::{find, shown};
use crate::{upload, uploaded};

/// Takes over what `asked` names. `whole`: what it does not name becomes what a new Worker has.
fn change(script: &mut Script, asked: &Json, whole: bool) {
    let Script { settings, workers_dev, previews, .. } = script;
    let given = |key: &str| asked.get(key).cloned().or_else(|| whole.then_some(Json::Null));
    if let Some(logpush) = given("logpush") {
        settings.logpush = logpush.as_bool().unwrap_or(false);
    }
    if let Some(observability) = given("observability") {
        settings.observability = Some(observability).filter(|o| !o.is_null());
    }
    if let Some(tags) = given("tags") {
        settings.tags = serde_json::from_value(tags).unwrap_or_default();
    }
    if let Some(consumers) = given("tail_consumers") {
        let consumers = consumers.as_array().cloned().unwrap_or_default();
        settings.tail_consumers = consumers.iter().map(|one| json!({ "service": one["name"] })).collect();
    }
    if let Some(subdomain) = given("subdomain") {
        let said = |key: &str| subdomain.get(key).map(|value| value.as_bool().unwrap_or(false));
        *workers_dev = said("enabled").or(if whole { Some(false) } else { *workers_dev });
        *previews = said("previews_enabled").or(if whole { None } else { *previews });
    }
}

fn check_same_name(asked: &Json, name: &str) -> Result<(), ApiError> {
    match asked["name"].as_str() {
        Some(new) if new != name => {
            Err(ApiError::bad(10026, format!("Skep does not rename Workers: this one is \"{name}\".")))
        }
        _ => Ok(()),
    }
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let asked: Json = call.json().await?;
    let name = asked["name"].as_str().unwrap_or_default().to_owned();
    uploaded::check_name(&name)?;
    crate::observability::check(asked.get("observability"))?;
    crate::settings::check_lists(&asked)?;
    let tenant = call.tenant()?;
    let made = tenant.catalog().create_script(&name, call.now_ms(), {
        let asked = asked.clone();
        move |script| change(script, &asked, true)
    });
    let script = made.await?;
    ok(shown(&call, &call.account()?, &script)?)
}

async fn update(mut call: Call, whole: bool) -> Answer {
    let asked: Json = call.json().await?;
    let script = find(&call)?;
    check_same_name(&asked, &script.name)?;
    crate::observability::check(asked.get("observability"))?;
    crate::settings::check_lists(&asked)?;
    let now = call.now_ms();
    let tenant = call.tenant()?;
    let changed = tenant.catalog().update(&script.name, move |script| {
        change(script, &asked, whole);
        script.modified_ms = now;
    });
    let changed = changed.await?;
    let heard =
        |script: &Script| (script.settings.observability.clone(), script.settings.tail_consumers.clone());
    if heard(&changed) != heard(&script) {
        let applied = call.api.platform.settings_changed(&call.token.account, &changed.name).await;
        applied.map_err(|text| ApiError::bad(10021, text))?;
    }
    upload::apply(&call, &changed.name).await?;
    ok(shown(&call, &call.account()?, &changed)?)
}

/// All of it anew.
pub(crate) async fn put(call: Call) -> Answer {
    update(call, true).await
}

/// What is named.
pub(crate) async fn patch(call: Call) -> Answer {
    update(call, false).await
}

#[cfg(test)]
mod tests {
    use skep_catalog::Settings;

    use super::*;

    #[test]
    fn a_part_changes_what_it_names_and_the_whole_everything() {
        let mut script = Script {
            tag: "t".into(),
            name: "n".into(),
            created_ms: 0,
            modified_ms: 0,
            settings: Settings::default(),
            workers_dev: None,
            previews: None,
        };
        let all = json!({
            "logpush": true, "tags": ["a"], "observability": { "enabled": true },
            "tail_consumers": [{ "name": "log" }], "subdomain": { "enabled": true, "previews_enabled": false },
        });
        change(&mut script, &all, true);
        assert_eq!(
            (script.settings.logpush, script.workers_dev, script.previews),
            (true, Some(true), Some(false))
        );
        assert_eq!(script.settings.tail_consumers, [json!({ "service": "log" })]);
        let before = script.clone();
        change(&mut script, &json!({}), false);
        assert_eq!(script, before);
        change(&mut script, &json!({ "tags": ["b"], "subdomain": { "enabled": false } }), false);
        assert_eq!(
            (script.settings.tags.as_slice(), script.workers_dev),
            (["b".to_owned()].as_slice(), Some(false))
        );
        assert!(script.settings.logpush && script.previews == Some(false));
        change(&mut script, &json!({}), true);
        assert_eq!(
            (&script.settings, script.workers_dev, script.previews),
            (&Settings::default(), Some(false), None)
        );
    }
}
