//! What a token may do: permission groups, and which one an operation needs.
//! <https://developers.cloudflare.com/fundamentals/api/reference/permissions/>

use http::Method;

use crate::router::Operation;

/// What a permission group is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    Scripts,
    Tails,
    Observability,
    Routes,
    Kv,
    R2,
    /// Objects of R2 by the S3 API, in all buckets or some.
    R2Items,
    D1,
    Queues,
    Hyperdrive,
    SecretsStore,
    Vectorize,
    Ai,
    /// What was written to Analytics Engine.
    Analytics,
    Containers,
    Tokens,
    Account,
}

/// A permission group.
#[derive(Debug)]
pub(crate) struct Group {
    /// As on Cloudflare, so that scripts that name it work.
    pub id: &'static str,
    pub name: &'static str,
    pub area: Area,
    /// Whether it allows changes; one that does allows reading too.
    pub write: bool,
    /// What kind of resource it is given on.
    pub scope: &'static str,
}

const ACCOUNT: &str = "com.cloudflare.api.account";
pub(crate) const BUCKET: &str = "com.cloudflare.edge.r2.bucket";
const ZONE: &str = "com.cloudflare.api.account.zone";
/// What the first token of an account has: everything.
pub(crate) const ALL: &str = "*";

const fn group(id: &'static str, name: &'static str, area: Area, write: bool, scope: &'static str) -> Group {
    Group { id, name, area, write, scope }
}

/// All groups.
pub(crate) const GROUPS: &[Group] = &[
    group("e086da7e2179491d91ee5f35b3ca210a", "Workers Scripts Write", Area::Scripts, true, ACCOUNT),
    group("1a71c399035b4950a1bd1466bbe4f420", "Workers Scripts Read", Area::Scripts, false, ACCOUNT),
    group("05880cd1bdc24d8bae0be2136972816b", "Workers Tail Read", Area::Tails, false, ACCOUNT),
    group(
        "82c075da3f4647a2a03becd0fe240f8a",
        "Workers Observability Write",
        Area::Observability,
        true,
        ACCOUNT,
    ),
    group(
        "66c1ed49f4ed46098b75696a6d4ee3c9",
        "Workers Observability Read",
        Area::Observability,
        false,
        ACCOUNT,
    ),
    group("28f4b596e7d643029c524985477ae49a", "Workers Routes Write", Area::Routes, true, ZONE),
    group("2072033d694d415a936eaeb94e6405b8", "Workers Routes Read", Area::Routes, false, ZONE),
    group("f7f0eda5697f475c90846e879bab8666", "Workers KV Storage Write", Area::Kv, true, ACCOUNT),
    group("8b47d2786a534c08a1f94ee8f9f599ef", "Workers KV Storage Read", Area::Kv, false, ACCOUNT),
    group("bf7481a1826f439697cb59a20b22293e", "Workers R2 Storage Write", Area::R2, true, ACCOUNT),
    group("b4992e1108244f5d8bfbd5744320c2e1", "Workers R2 Storage Read", Area::R2, false, ACCOUNT),
    group(
        "2efd5506f9c8494dacb1fa10a3e7d5b6",
        "Workers R2 Storage Bucket Item Write",
        Area::R2Items,
        true,
        BUCKET,
    ),
    group(
        "6a018a9f2fc74eb6b293b0c548f38b39",
        "Workers R2 Storage Bucket Item Read",
        Area::R2Items,
        false,
        BUCKET,
    ),
    group("09b2857d1c31407795e75e3fed8617a1", "D1 Write", Area::D1, true, ACCOUNT),
    group("192192df92ee43ac90f2aeeffce67e35", "D1 Read", Area::D1, false, ACCOUNT),
    group("366f57075ffc42689627bcf8242a1b6d", "Queues Write", Area::Queues, true, ACCOUNT),
    group("84a7755d54c646ca87cd50682a34bf7c", "Queues Read", Area::Queues, false, ACCOUNT),
    group("721b2f51fba74871bd361de65aeb7e03", "Hyperdrive Write", Area::Hyperdrive, true, ACCOUNT),
    group("4d62ccf834df44808bc9283d65c4e4e9", "Hyperdrive Read", Area::Hyperdrive, false, ACCOUNT),
    group("adc8fa2bc6124928a8b3314dc63a1235", "Secrets Store Write", Area::SecretsStore, true, ACCOUNT),
    group("5e33b7d77788455c9fdf18cbd38ee5a0", "Secrets Store Read", Area::SecretsStore, false, ACCOUNT),
    group("64156ba5be47441096c83c7fc17c488b", "Vectorize Write", Area::Vectorize, true, ACCOUNT),
    group("1799edaae5db489294430e20d9b519e0", "Vectorize Read", Area::Vectorize, false, ACCOUNT),
    group("bacc64e0f6c34fc0883a1223f938a104", "Workers AI Write", Area::Ai, true, ACCOUNT),
    group("a92d2450e05d4e7bb7d0a64968f83d11", "Workers AI Read", Area::Ai, false, ACCOUNT),
    group("b89a480218d04ceb98b4fe57ca29dc1f", "Account Analytics Read", Area::Analytics, false, ACCOUNT),
    group("bdbcd690c763475a985e8641dddc09f7", "Workers Containers Write", Area::Containers, true, ACCOUNT),
    group("5bc3f8b21c554832afc660159ab75fa4", "Account API Tokens Write", Area::Tokens, true, ACCOUNT),
    group("eb56a6953c034b9d97dd838155666f06", "Account API Tokens Read", Area::Tokens, false, ACCOUNT),
    group("1af1fa2adc104452b74a9a3364202f20", "Account Settings Write", Area::Account, true, ACCOUNT),
    group("c1fde68c7bcc44588cbb6ddbc16d6480", "Account Settings Read", Area::Account, false, ACCOUNT),
];

/// What an operation needs; `None` where any token will do.
pub(crate) fn need(operation: &Operation) -> Option<(Area, bool)> {
    let changes = changes(operation);
    if let Some(rest) = operation.path.strip_prefix("/user/tokens") {
        return (rest != "/verify").then_some((Area::Tokens, changes));
    }
    if let Some(rest) = operation.path.strip_prefix("/zones/") {
        return rest.contains("/workers/").then_some((Area::Routes, changes));
    }
    let path = operation.path.strip_prefix("/accounts/:account/")?;
    let area = match path.split('/').next().unwrap_or_default() {
        "tokens" if path == "tokens/verify" => return None,
        "tokens" => Area::Tokens,
        "storage" => Area::Kv,
        "r2" | "event_notifications" => Area::R2,
        "d1" => Area::D1,
        "queues" => Area::Queues,
        "hyperdrive" => Area::Hyperdrive,
        "secrets_store" => Area::SecretsStore,
        "vectorize" => Area::Vectorize,
        "ai" => Area::Ai,
        "analytics_engine" => Area::Analytics,
        "containers" => Area::Containers,
        "audit_logs" => Area::Account,
        "workers" if path.starts_with("workers/observability/") => Area::Observability,
        "workers" if path.contains("/tails") => return Some((Area::Tails, false)),
        "workers" if path == "workers/subdomain" && changes => Area::Account,
        _ => Area::Scripts,
    };
    Some((area, changes))
}

/// Questions that are no GETs.
const QUESTIONS: [&str; 15] = [
    "/analytics_engine/sql",
    // A model is asked.
    "/ai/run/*model",
    "/ai/v1/chat/completions",
    "/ai/v1/embeddings",
    "/ai/v1/responses",
    "/image-preparations",
    "/indexes/:index/query",
    "/get_by_ids",
    "/bulk/get",
    "/export",
    "/messages/peek",
    "/messages/preview",
    "/telemetry/query",
    "/telemetry/keys",
    "/telemetry/values",
];

/// Whether an operation may change something.
pub(crate) fn changes(operation: &Operation) -> bool {
    let asks = QUESTIONS.iter().any(|end| operation.path.ends_with(end));
    !matches!(operation.method, Method::GET | Method::HEAD) && !asks
}

/// Whether a token with `permissions`, ids of groups or [`ALL`], may do what needs `need`.
pub(crate) fn allows(permissions: &[String], need: Option<(Area, bool)>) -> bool {
    let Some((area, write)) = need else { return true };
    permissions.iter().any(|id| {
        let group = GROUPS.iter().find(|group| group.id == id);
        // Who deploys a script may set its routes and listen to it.
        let covers = |group: &Group| {
            group.area == area
                || group.area == Area::Scripts && group.write && matches!(area, Area::Routes | Area::Tails)
        };
        id == ALL || group.is_some_and(|group| covers(group) && (group.write || !write))
    })
}

/// The first of the permissions `wanted` that is not among `own`.
pub(crate) fn missing<'a>(own: &[String], wanted: &'a [String]) -> Option<&'a String> {
    let has = |id: &String| own.contains(id) || own.iter().any(|own| own == ALL);
    wanted.iter().find(|id| !has(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::OPERATIONS;

    fn id(name: &str) -> String {
        GROUPS.iter().find(|group| group.name == name).unwrap().id.to_owned()
    }

    fn may(names: &[&str], method: Method, path: &str) -> bool {
        let operation = OPERATIONS.iter().find(|o| o.method == method && o.path == path).expect(path);
        allows(&names.iter().map(|name| id(name)).collect::<Vec<_>>(), need(operation))
    }

    #[test]
    fn a_group_allows_its_area_and_reading_only_reading() {
        let values = "/accounts/:account/storage/kv/namespaces/:namespace/values/:key";
        assert!(may(&["Workers KV Storage Write"], Method::PUT, values));
        assert!(may(&["Workers KV Storage Read"], Method::GET, values));
        assert!(!may(&["Workers KV Storage Read"], Method::PUT, values));
        assert!(!may(&["D1 Write", "Workers Scripts Write"], Method::GET, values));
        assert!(!may(&[], Method::GET, values));
        let script = "/accounts/:account/workers/scripts/:script";
        assert!(may(&["Workers Scripts Write"], Method::PUT, script));
        assert!(!may(&["Workers Scripts Read", "Account API Tokens Write"], Method::PUT, script));
        assert!(may(&[], Method::GET, "/user/tokens/verify"));
        assert!(!may(&["Account API Tokens Read"], Method::POST, "/user/tokens"));
        let query = "/accounts/:account/workers/observability/telemetry/query";
        assert!(may(&["Workers Observability Read"], Method::POST, query));
        assert!(may(&["Workers Observability Write"], Method::POST, query));
        assert!(!may(&["Workers Scripts Write"], Method::POST, query));
        assert!(may(
            &["Workers Tail Read"],
            Method::POST,
            "/accounts/:account/workers/scripts/:script/tails"
        ));
    }

    #[test]
    fn everything_that_changes_something_needs_a_permission() {
        for operation in OPERATIONS.iter().filter(|o| !o.open && o.method != Method::GET) {
            assert!(!allows(&[], need(operation)), "{} {}", operation.method, operation.path);
            assert!(allows(&[ALL.to_owned()], need(operation)));
        }
        assert!(GROUPS.iter().all(|g| GROUPS.iter().filter(|other| other.id == g.id).count() == 1));
    }
}
