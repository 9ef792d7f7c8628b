//! What is asked of the containers API, in wrangler's form, and whether it has to be asked. Pure.

use serde_json::{Map, Value as Json, json};

use super::config::Container;
use super::sizes;

/// The registry that Cloudflare runs.
pub(crate) const REGISTRY: &str = "registry.cloudflare.com";

/// An image's full name: those without a registry, or without the account in Cloudflare's, are the account's own.
pub(crate) fn full_name(registry: &str, account: &str, image: &str) -> Result<String, String> {
    let (host, rest) = image.split_once('/').unwrap_or(("", image));
    let is_host = host.contains(['.', ':']) || host == "localhost";
    if !is_host {
        return Ok(format!("{registry}/{account}/{image}"));
    }
    if host != registry || rest.starts_with(account) {
        return Ok(image.to_owned());
    }
    let first = rest.split('/').next().unwrap_or_default();
    let is_account = first.len() == 32 && first.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match is_account && rest.contains('/') {
        true => Err(format!(
            "Image \"{image}\" does not belong to your account\nImage appears to belong to account: \"{first}\"\nCurrent account: \"{account}\""
        )),
        false => Ok(format!("{registry}/{account}/{rest}")),
    }
}

/// An image's name without its tag and its digest.
pub(crate) fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// The digest among Docker's `RepoDigests` that this repository knows the image by.
pub(crate) fn digest_of(digests: &str, registry: &str, account: &str, repository: &str) -> Option<String> {
    let list: Vec<String> = serde_json::from_str(digests).ok()?;
    list.iter().find_map(|own| {
        let (name, digest) = own.split_once('@')?;
        let full = full_name(registry, account, name).ok()?;
        (full == repository && is_digest(digest)).then(|| digest.to_owned())
    })
}

/// `sha256:` and so many digits.
pub(crate) fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(kind, digits)| {
        !kind.is_empty() && digits.len() >= 32 && digits.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// The body that makes an application. `before` is the one that is there.
pub(crate) fn create(
    container: &Container,
    image: &str,
    namespace: &str,
    logs: bool,
    before: Option<&Json>,
) -> Json {
    let own = &container.raw;
    let mut configuration = json!({ "image": image });
    match &container.instance_type {
        Some(name) => configuration["instance_type"] = name.clone().into(),
        None => {
            let size = container.size.to_json();
            configuration["disk"] = json!({ "size_mb": size["disk_mb"] });
            configuration["memory_mib"] = size["memory_mib"].clone();
            configuration["vcpu"] = size["vcpu"].clone();
        }
    }
    let logged =
        before.is_some_and(|own| own["configuration"]["observability"]["logs"]["enabled"].is_boolean());
    if logs || logged {
        configuration["observability"] = json!({ "logs": { "enabled": logs } });
    }
    let ssh = if own["ssh"].is_null() { &own["wrangler_ssh"] } else { &own["ssh"] };
    for (key, value) in [
        ("wrangler_ssh", ssh),
        ("authorized_keys", &own["authorized_keys"]),
        ("trusted_user_ca_keys", &own["trusted_user_ca_keys"]),
    ] {
        if !value.is_null() {
            configuration[key] = value.clone();
        }
    }
    let mut body = json!({
        "name": container.name,
        "scheduling_policy": own["scheduling_policy"].as_str().unwrap_or("default"),
        "configuration": configuration,
        "instances": 0,
        "max_instances": container.max_instances,
        "constraints": constraints(&own["constraints"]),
    });
    if !own["affinities"].is_null() {
        body["affinities"] = own["affinities"].clone();
    }
    body["durable_objects"] = json!({ "namespace_id": namespace });
    body["rollout_active_grace_period"] = own["rollout_active_grace_period"].as_u64().unwrap_or(0).into();
    if own["unsafe"].is_object() {
        merge(&mut body, &own["unsafe"]);
    }
    body
}

fn constraints(own: &Json) -> Json {
    let mut constraints = Map::new();
    match (&own["tiers"], own["tier"].as_i64()) {
        (Json::Array(tiers), _) => drop(constraints.insert("tiers".into(), tiers.clone().into())),
        (_, Some(-1)) => {}
        (_, Some(tier)) if tier != 0 => drop(constraints.insert("tiers".into(), json!([tier]))),
        _ => drop(constraints.insert("tiers".into(), json!([1, 2]))),
    }
    let cased = |list: &Json, upper: bool| -> Json {
        let case = |text: &str| if upper { text.to_uppercase() } else { text.to_lowercase() };
        list.as_array().into_iter().flatten().filter_map(|own| own.as_str().map(case)).collect()
    };
    if own["regions"].is_array() {
        constraints.insert("regions".into(), cased(&own["regions"], true));
    }
    if let Some(jurisdiction) = own["jurisdiction"].as_str() {
        constraints.insert("jurisdiction".into(), jurisdiction.to_lowercase().into());
    }
    if own["cities"].is_array() {
        constraints.insert("cities".into(), cased(&own["cities"], false));
    }
    constraints.into()
}

fn merge(target: &mut Json, source: &Json) {
    match (target, source) {
        (Json::Object(target), Json::Object(source)) => {
            for (key, value) in source {
                merge(target.entry(key.clone()).or_insert(Json::Null), value);
            }
        }
        (target, source) => *target = source.clone(),
    }
}

/// The body that changes an application into what `create` says.
pub(crate) fn modify(create: &Json) -> Json {
    let keys = [
        "configuration",
        "max_instances",
        "constraints",
        "affinities",
        "scheduling_policy",
        "rollout_active_grace_period",
    ];
    let pairs = keys.iter().filter(|key| !create[**key].is_null());
    pairs.map(|key| ((*key).to_owned(), create[*key].clone())).collect::<Map<_, _>>().into()
}

/// Whether an application is not as `modify` says. What the server adds of its own does not count.
pub(crate) fn differs(before: &Json, modify: &Json) -> bool {
    let mut before = before.clone();
    let configuration = &mut before["configuration"];
    if modify["configuration"]["instance_type"].is_string()
        && let Some(name) = sizes::inferred(configuration)
    {
        configuration["instance_type"] = name.into();
    }
    let mut wanted = modify.clone();
    // Old names are answered by the new ones.
    let now = match wanted["configuration"]["instance_type"].as_str() {
        Some("dev") => Some("lite"),
        _ => None,
    };
    if let (Some(now), false) = (now, before["configuration"]["instance_type"] == "dev") {
        wanted["configuration"]["instance_type"] = now.into();
    }
    !covers(&before, &wanted)
}

/// Whether all that `wanted` says is in `there`.
fn covers(there: &Json, wanted: &Json) -> bool {
    match (there, wanted) {
        (Json::Object(there), Json::Object(wanted)) => {
            wanted.iter().all(|(key, value)| there.get(key).is_some_and(|own| covers(own, value)))
        }
        (Json::Number(there), Json::Number(wanted)) => there.as_f64() == wanted.as_f64(),
        (there, wanted) => there == wanted,
    }
}

/// The body that brings running instances to what `modify` says; `None` if they are to be left as they are.
pub(crate) fn rollout(container: &Container, modify: &Json) -> Option<Json> {
    let own = &container.raw;
    let kind = own["rollout_kind"].as_str().unwrap_or("full_auto");
    if kind == "none" {
        return None;
    }
    let mut body = json!({
        "description": "Progressive update",
        "strategy": "rolling",
        "target_configuration": modify["configuration"],
    });
    let few = own["max_instances"].as_u64().unwrap_or(0) < 2;
    let steps = match &own["rollout_step_percentage"] {
        Json::Null if few => json!(100),
        Json::Null => json!([10, 100]),
        steps => steps.clone(),
    };
    match steps.as_array() {
        None => body["step_percentage"] = steps,
        Some(list) => {
            let step = |(n, step): (usize, &Json)| {
                let text = format!("Step {} of {} - rollout at {step}% of instances", n + 1, list.len());
                json!({ "step_size": { "percentage": step }, "description": text })
            };
            body["steps"] = list.iter().enumerate().map(step).collect();
        }
    }
    body["kind"] = kind.into();
    Some(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::config::Image;
    use super::*;

    fn container(raw: Json) -> Container {
        let image = Image::Reference("x:1".into());
        let max_instances = raw["max_instances"].as_u64().unwrap_or(20);
        let size = sizes::named("standard-1").unwrap();
        let instance_type = Some("standard-1".into());
        Container {
            name: "cont-mycontainer".into(),
            class: "MyContainer".into(),
            image,
            size,
            instance_type,
            raw,
            max_instances,
        }
    }

    /// Recorded from wrangler 4.164.
    #[test]
    fn an_application_is_made_and_changed_as_wrangler_does_it() {
        let own = container(json!({ "max_instances": 3 }));
        let body = create(&own, "registry.selfhost.test/a/b@sha256:aa", "80cb", false, None);
        let expected = r#"{"name":"cont-mycontainer","scheduling_policy":"default","configuration":{"image":"registry.selfhost.test/a/b@sha256:aa","instance_type":"standard-1"},"instances":0,"max_instances":3,"constraints":{"tiers":[1,2]},"durable_objects":{"namespace_id":"80cb"},"rollout_active_grace_period":0}"#;
        assert_eq!(body.to_string(), expected);
        let change =
            modify(&create(&container(json!({ "max_instances": 9 })), "i", "80cb", false, Some(&body)));
        let expected = r#"{"configuration":{"image":"i","instance_type":"standard-1"},"max_instances":9,"constraints":{"tiers":[1,2]},"scheduling_policy":"default","rollout_active_grace_period":0}"#;
        assert_eq!(change.to_string(), expected);
        let expected = r#"{"description":"Progressive update","strategy":"rolling","target_configuration":{"image":"i","instance_type":"standard-1"},"steps":[{"step_size":{"percentage":10},"description":"Step 1 of 2 - rollout at 10% of instances"},{"step_size":{"percentage":100},"description":"Step 2 of 2 - rollout at 100% of instances"}],"kind":"full_auto"}"#;
        assert_eq!(
            rollout(&container(json!({ "max_instances": 9 })), &change).unwrap().to_string(),
            expected
        );
        assert_eq!(
            rollout(&container(json!({ "max_instances": 1 })), &change).unwrap()["step_percentage"],
            100
        );
        assert_eq!(rollout(&container(json!({ "rollout_kind": "none" })), &change), None);
    }

    #[test]
    fn what_the_server_adds_is_no_difference() {
        let own = container(json!({ "max_instances": 3 }));
        let wanted = modify(&create(&own, "r/b@sha256:aa", "80cb", false, None));
        let mut there = json!({ "id": "x", "version": 4, "health": {}, "max_instances": 3, "scheduling_policy": "default",
            "constraints": { "tiers": [1, 2], "tier": 1 }, "rollout_active_grace_period": 0,
            "configuration": { "image": "r/b@sha256:aa", "vcpu": 0.5, "memory_mib": 4096, "disk": { "size_mb": 8000.0 }, "network": {} } });
        assert!(!differs(&there, &wanted));
        there["configuration"]["image"] = "r/b@sha256:bb".into();
        assert!(differs(&there, &wanted));
        // Logs that were on are switched off.
        there["configuration"]["observability"] = json!({ "logs": { "enabled": true } });
        let off = create(&own, "r/b@sha256:bb", "80cb", false, Some(&there));
        assert_eq!(off["configuration"]["observability"], json!({ "logs": { "enabled": false } }));
    }

    #[test]
    fn images_have_full_names() {
        let account = "0123456789abcdef0123456789abcdef";
        let name = |image: &str| full_name(REGISTRY, account, image);
        assert_eq!(name("app:1").unwrap(), format!("{REGISTRY}/{account}/app:1"));
        assert_eq!(name("team/app:1").unwrap(), format!("{REGISTRY}/{account}/team/app:1"));
        assert_eq!(name("registry.cloudflare.com/app:1").unwrap(), format!("{REGISTRY}/{account}/app:1"));
        let full = format!("{REGISTRY}/{account}/app:1");
        assert_eq!(name(&full).unwrap(), full);
        assert_eq!(name("docker.io/httpd:1").unwrap(), "docker.io/httpd:1");
        assert_eq!(name("localhost:5000/x:1").unwrap(), "localhost:5000/x:1");
        assert!(
            name("registry.cloudflare.com/ffffffffffffffffffffffffffffffff/app:1")
                .unwrap_err()
                .contains("does not belong")
        );
        assert_eq!(repository("localhost:5000/x:1"), "localhost:5000/x");
        assert_eq!(repository("localhost:5000/x"), "localhost:5000/x");
        assert_eq!(repository("a/b:1@sha256:00"), "a/b");
        let digest = format!("sha256:{}", "a".repeat(64));
        let list =
            json!([format!("other/x@{digest}"), format!("{REGISTRY}/{account}/app@{digest}")]).to_string();
        let found = digest_of(&list, REGISTRY, account, &format!("{REGISTRY}/{account}/app"));
        assert_eq!(found, Some(digest));
        assert_eq!(digest_of("[\"x@sha256:zz\"]", REGISTRY, account, "x"), None);
    }

    proptest! {
        #[test]
        fn any_image_has_a_name_or_is_refused(image in "[a-z0-9./:@-]{0,60}") {
            if let Ok(name) = full_name(REGISTRY, "acc", &image) {
                prop_assert!(name.ends_with(image.trim_start_matches("registry.cloudflare.com/")));
                prop_assert!(!repository(&name).contains('@'));
            }
        }
    }
}
