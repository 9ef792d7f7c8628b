//! Which operation a request is for.

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use skep_wire::BoxFuture;

use crate::call::Call;
use crate::description::About;
use crate::reply::{Answer, ApiError};
use crate::{
    account, ai, analytics, assets, consumers, container_images, container_instances, container_rollouts,
    containers, d1, d1_time_travel, deployments, description, dispatch, hyperdrive, identity, instances, kv,
    messages, notifications, objects, observability, openapi, queues, r2, r2_absent, r2_bulk, r2_domains,
    r2_rules, routes, scripts, secrets, secrets_store, services, settings, subdomain, tails, tokens,
    vectorize, versions, worker_objects, worker_versions, workers, workflows,
};

type Handler = fn(Call) -> BoxFuture<'static, Answer>;

/// An operation of the API.
pub struct Operation {
    /// The method.
    pub method: Method,
    /// The path below the base; `:name` is one segment, `*name` all that are left.
    pub path: &'static str,
    /// Whether it carries a token of its own kind instead of an API token.
    pub open: bool,
    pub(crate) handler: Handler,
    /// What it takes and gives.
    pub(crate) about: fn() -> About,
}

impl Operation {
    /// Whether it only says that Skep does not have what it is about.
    pub fn is_refused(&self) -> bool {
        (self.about)().refused
    }
}

macro_rules! operations {
    ($($method:ident $path:literal => $area:ident::$name:ident $(, $open:ident)?;)*) => {
        &[$(Operation {
            method: Method::$method,
            path: $path,
            open: operations!(@open $($open)?),
            handler: |call| Box::pin($area::$name(call)),
            about: description::$area::$name,
        }),*]
    };
    (@open) => { false };
    (@open open) => { true };
}

/// All operations.
pub const OPERATIONS: &[Operation] = operations! {
    GET "/user/tokens/verify" => identity::verify;
    GET "/accounts/:account/tokens/verify" => identity::verify;
    GET "/user/tokens/permission_groups" => tokens::groups;
    GET "/accounts/:account/tokens/permission_groups" => tokens::groups;
    GET "/user/tokens" => tokens::list;
    POST "/user/tokens" => tokens::create;
    GET "/user/tokens/:token" => tokens::get;
    PUT "/user/tokens/:token" => tokens::update;
    DELETE "/user/tokens/:token" => tokens::delete;
    PUT "/user/tokens/:token/value" => tokens::roll;
    GET "/accounts/:account/tokens" => tokens::list;
    POST "/accounts/:account/tokens" => tokens::create;
    GET "/accounts/:account/tokens/:token" => tokens::get;
    PUT "/accounts/:account/tokens/:token" => tokens::update;
    DELETE "/accounts/:account/tokens/:token" => tokens::delete;
    PUT "/accounts/:account/tokens/:token/value" => tokens::roll;
    GET "/accounts/:account/audit_logs" => tokens::audit;
    GET "/user" => identity::user;
    GET "/accounts" => identity::accounts;
    GET "/memberships" => identity::memberships;
    GET "/accounts/:account" => identity::account;
    GET "/zones" => routes::zones;

    GET "/accounts/:account/workers/services/:script" => services::get;
    DELETE "/accounts/:account/workers/services/:script" => scripts::delete;
    GET "/accounts/:account/workers/services/:script/environments/:environment/content" => services::content;
    PUT "/accounts/:account/workers/services/:script/environments/:environment/content" => services::put_content;
    GET "/accounts/:account/workers/services/:script/environments/:environment/settings" => services::settings;
    PATCH "/accounts/:account/workers/services/:script/environments/:environment/settings" => services::patch_settings;
    GET "/accounts/:account/workers/account-settings" => account::get;
    PUT "/accounts/:account/workers/account-settings" => account::put;
    GET "/accounts/:account/workers/placement/regions" => account::regions;
    GET "/accounts/:account/workers/scripts-search" => scripts::search;
    GET "/accounts/:account/workers/scripts/:script/usage-model" => account::usage_model;
    PUT "/accounts/:account/workers/scripts/:script/usage-model" => account::put_usage_model;

    GET "/accounts/:account/workers/scripts" => scripts::list;
    GET "/accounts/:account/workers/scripts/:script" => scripts::source;
    PUT "/accounts/:account/workers/scripts/:script" => scripts::put;
    DELETE "/accounts/:account/workers/scripts/:script" => scripts::delete;
    GET "/accounts/:account/workers/scripts/:script/content/v2" => scripts::source;
    PUT "/accounts/:account/workers/scripts/:script/content" => scripts::put_content;
    GET "/accounts/:account/workers/scripts/:script/references" => services::references;
    GET "/accounts/:account/workers/tails/by-consumer/:script" => services::tails_by_consumer;

    GET "/accounts/:account/workers/scripts/:script/settings" => settings::get;
    PATCH "/accounts/:account/workers/scripts/:script/settings" => settings::patch;
    GET "/accounts/:account/workers/scripts/:script/script-settings" => settings::get_script;
    PATCH "/accounts/:account/workers/scripts/:script/script-settings" => settings::patch_script;

    GET "/accounts/:account/workers/scripts/:script/versions" => versions::list;
    POST "/accounts/:account/workers/scripts/:script/versions" => versions::create;
    GET "/accounts/:account/workers/scripts/:script/versions/:version" => versions::get;

    GET "/accounts/:account/workers/scripts/:script/deployments" => deployments::list;
    POST "/accounts/:account/workers/scripts/:script/deployments" => deployments::create;
    GET "/accounts/:account/workers/scripts/:script/deployments/:deployment" => deployments::get;
    DELETE "/accounts/:account/workers/scripts/:script/deployments/:deployment" => deployments::delete;

    GET "/accounts/:account/workers/scripts/:script/secrets" => secrets::list;
    PUT "/accounts/:account/workers/scripts/:script/secrets" => secrets::put;
    GET "/accounts/:account/workers/scripts/:script/secrets/:secret" => secrets::get;
    DELETE "/accounts/:account/workers/scripts/:script/secrets/:secret" => secrets::delete;
    PATCH "/accounts/:account/workers/scripts/:script/secrets-bulk" => secrets::bulk;

    GET "/accounts/:account/workers/subdomain" => subdomain::account;
    PUT "/accounts/:account/workers/subdomain" => subdomain::set_account;
    DELETE "/accounts/:account/workers/subdomain" => subdomain::delete_account;
    GET "/accounts/:account/workers/subdomains/:name" => subdomain::is_free;
    GET "/accounts/:account/workers/scripts/:script/subdomain" => subdomain::get;
    POST "/accounts/:account/workers/scripts/:script/subdomain" => subdomain::set;
    DELETE "/accounts/:account/workers/scripts/:script/subdomain" => subdomain::delete;
    GET "/accounts/:account/workers/workers" => workers::list;
    POST "/accounts/:account/workers/workers" => worker_objects::create;
    PUT "/accounts/:account/workers/workers/:script" => worker_objects::put;
    PATCH "/accounts/:account/workers/workers/:script" => worker_objects::patch;
    GET "/accounts/:account/workers/workers/:script/versions" => worker_versions::versions;
    POST "/accounts/:account/workers/workers/:script/versions" => worker_versions::create;
    GET "/accounts/:account/workers/workers/:script/versions/:version" => worker_versions::get;
    DELETE "/accounts/:account/workers/workers/:script/versions/:version" => worker_versions::delete;
    DELETE "/accounts/:account/workers/workers/:script" => workers::delete;
    GET "/accounts/:account/workers/workers/:script" => workers::get;
    PATCH "/accounts/:account/workers/workers/:script/versions/latest" => secrets::patch_latest;

    GET "/accounts/:account/workers/scripts/:script/schedules" => routes::schedules;
    PUT "/accounts/:account/workers/scripts/:script/schedules" => routes::set_schedules;
    PUT "/accounts/:account/workers/scripts/:script/routes" => routes::set_routes;
    POST "/accounts/:account/workers/scripts/:script/domains/changeset" => routes::changeset;
    PUT "/accounts/:account/workers/scripts/:script/domains/records" => routes::set_domains;
    GET "/accounts/:account/workers/domains/records/:domain" => routes::domain;
    GET "/accounts/:account/workers/domains" => routes::domains;
    PUT "/accounts/:account/workers/domains" => routes::put_domain;
    GET "/accounts/:account/workers/domains/:domain" => routes::domain;
    DELETE "/accounts/:account/workers/domains/:domain" => routes::delete_domain;
    GET "/zones/:zone/workers/routes" => routes::zone_routes;
    POST "/zones/:zone/workers/routes" => routes::add_zone_route;
    GET "/zones/:zone/workers/routes/:route" => routes::get_zone_route;
    PUT "/zones/:zone/workers/routes/:route" => routes::put_zone_route;
    DELETE "/zones/:zone/workers/routes/:route" => routes::delete_zone_route;

    GET "/accounts/:account/workers/scripts/:script/tails" => tails::list;
    POST "/accounts/:account/workers/scripts/:script/tails" => tails::create;
    DELETE "/accounts/:account/workers/scripts/:script/tails/:tail" => tails::delete;
    GET "/tails/:secret" => tails::connect, open;

    GET "/accounts/:account/workers/dispatch/namespaces" => dispatch::list;
    POST "/accounts/:account/workers/dispatch/namespaces" => dispatch::create;
    GET "/accounts/:account/workers/dispatch/namespaces/:namespace" => dispatch::get;
    PUT "/accounts/:account/workers/dispatch/namespaces/:namespace" => dispatch::update;
    PATCH "/accounts/:account/workers/dispatch/namespaces/:namespace" => dispatch::update;
    DELETE "/accounts/:account/workers/dispatch/namespaces/:namespace" => dispatch::delete;
    GET "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts" => dispatch::list_scripts;
    DELETE "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts" => dispatch::delete_scripts;
    GET "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script" => dispatch::get_script;
    PUT "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script" => dispatch::put;
    DELETE "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script" => dispatch::delete_script;
    POST "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/assets-upload-session" => dispatch::assets_session;
    GET "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/bindings" => dispatch::bindings;
    GET "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/content" => dispatch::content;
    PUT "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/content" => dispatch::put_content;
    GET "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/settings" => dispatch::get_settings;
    PATCH "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/settings" => dispatch::patch_settings;
    GET "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/secrets" => dispatch::list_secrets;
    PUT "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/secrets" => dispatch::put_secret;
    PATCH "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/secrets-bulk" => dispatch::bulk_secrets;
    GET "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/secrets/:secret" => dispatch::get_secret;
    DELETE "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/secrets/:secret" => dispatch::delete_secret;
    GET "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/tags" => dispatch::tags;
    PUT "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/tags" => dispatch::put_tags;
    PUT "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/tags/:tag" => dispatch::put_tag;
    DELETE "/accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/tags/:tag" => dispatch::delete_tag;

    GET "/accounts/:account/workers/durable_objects/namespaces" => objects::namespaces;
    GET "/accounts/:account/workers/durable_objects/namespaces/:namespace/objects" => objects::objects;

    GET "/accounts/:account/r2/buckets" => r2::list;
    POST "/accounts/:account/r2/buckets" => r2::create;
    GET "/accounts/:account/r2/buckets/:bucket" => r2::get;
    PATCH "/accounts/:account/r2/buckets/:bucket" => r2::patch;
    DELETE "/accounts/:account/r2/buckets/:bucket" => r2::delete;
    GET "/accounts/:account/r2/buckets/:bucket/objects" => r2::list_objects;
    DELETE "/accounts/:account/r2/buckets/:bucket/objects" => r2_bulk::delete;
    GET "/accounts/:account/r2/buckets/:bucket/objects/*key" => r2::get_object;
    PUT "/accounts/:account/r2/buckets/:bucket/objects/*key" => r2::put_object;
    DELETE "/accounts/:account/r2/buckets/:bucket/objects/*key" => r2::delete_object;
    GET "/accounts/:account/r2/buckets/:bucket/cors" => r2_rules::cors;
    PUT "/accounts/:account/r2/buckets/:bucket/cors" => r2_rules::put_cors;
    GET "/accounts/:account/r2/buckets/:bucket/lifecycle" => r2_rules::lifecycle;
    PUT "/accounts/:account/r2/buckets/:bucket/lifecycle" => r2_rules::put_lifecycle;
    GET "/accounts/:account/r2/buckets/:bucket/lock" => r2_rules::locks;
    PUT "/accounts/:account/r2/buckets/:bucket/lock" => r2_rules::put_locks;
    GET "/accounts/:account/r2/buckets/:bucket/domains/custom" => r2_domains::list;
    POST "/accounts/:account/r2/buckets/:bucket/domains/custom" => r2_domains::add;
    PUT "/accounts/:account/r2/buckets/:bucket/domains/managed" => r2_domains::put_managed;
    GET "/accounts/:account/r2/buckets/:bucket/domains/managed" => r2_domains::managed;
    GET "/accounts/:account/r2/buckets/:bucket/domains/custom/:domain" => r2_domains::get;
    PUT "/accounts/:account/r2/buckets/:bucket/domains/custom/:domain" => r2_domains::update;
    DELETE "/accounts/:account/r2/buckets/:bucket/domains/custom/:domain" => r2_domains::remove;
    DELETE "/accounts/:account/r2/buckets/:bucket/cors" => r2_rules::delete_cors;
    GET "/accounts/:account/r2/buckets/:bucket/sippy" => r2_absent::disabled;
    DELETE "/accounts/:account/r2/buckets/:bucket/sippy" => r2_absent::disabled;
    GET "/accounts/:account/r2/buckets/:bucket/local-uploads" => r2_absent::disabled;
    PUT "/accounts/:account/r2/buckets/:bucket/local-uploads" => r2_absent::refused;
    GET "/accounts/:account/event_notifications/r2/:bucket/configuration" => notifications::list_all;
    GET "/accounts/:account/event_notifications/r2/:bucket/configuration/queues/:queue" => notifications::get;
    PUT "/accounts/:account/event_notifications/r2/:bucket/configuration/queues/:queue" => notifications::put;
    DELETE "/accounts/:account/event_notifications/r2/:bucket/configuration/queues/:queue" => notifications::delete;
    GET "/accounts/:account/r2/metrics" => r2_bulk::metrics;
    PUT "/accounts/:account/r2/buckets/:bucket/sippy" => r2_absent::refused;

    GET "/accounts/:account/queues" => queues::list;
    POST "/accounts/:account/queues" => queues::create;
    GET "/accounts/:account/queues/:queue" => queues::get;
    PUT "/accounts/:account/queues/:queue" => queues::update;
    PATCH "/accounts/:account/queues/:queue" => queues::update;
    DELETE "/accounts/:account/queues/:queue" => queues::delete;
    POST "/accounts/:account/queues/:queue/purge" => queues::purge;
    GET "/accounts/:account/queues/:queue/purge" => queues::purge_status;
    GET "/accounts/:account/queues/:queue/metrics" => queues::metrics;
    GET "/accounts/:account/queues/:queue/consumers" => consumers::list;
    POST "/accounts/:account/queues/:queue/consumers" => consumers::add;
    GET "/accounts/:account/queues/:queue/consumers/:consumer" => consumers::get;
    PUT "/accounts/:account/queues/:queue/consumers/:consumer" => consumers::update;
    DELETE "/accounts/:account/queues/:queue/consumers/:consumer" => consumers::delete;
    POST "/accounts/:account/queues/:queue/messages" => messages::send;
    POST "/accounts/:account/queues/:queue/messages/batch" => messages::send_batch;
    POST "/accounts/:account/queues/:queue/messages/pull" => messages::pull;
    POST "/accounts/:account/queues/:queue/messages/ack" => messages::ack;
    POST "/accounts/:account/queues/:queue/messages/extend" => messages::extend;
    POST "/accounts/:account/queues/:queue/messages/peek" => messages::peek;
    POST "/accounts/:account/queues/:queue/messages/purge" => messages::purge;
    POST "/accounts/:account/queues/:queue/messages/preview" => messages::preview;
    POST "/accounts/:account/queues/:queue/messages/preview/ack" => messages::ack_previewed;

    GET "/accounts/:account/workflows" => workflows::list;
    GET "/accounts/:account/workflows/settings" => workflows::settings;
    PATCH "/accounts/:account/workflows/settings" => workflows::change_settings;
    GET "/accounts/:account/workflows/:workflow" => workflows::get;
    PUT "/accounts/:account/workflows/:workflow" => workflows::put;
    DELETE "/accounts/:account/workflows/:workflow" => workflows::delete;
    GET "/accounts/:account/workflows/:workflow/versions" => workflows::versions;
    GET "/accounts/:account/workflows/:workflow/versions/:version" => workflows::get_version;
    GET "/accounts/:account/workflows/:workflow/versions/:version/dag" => workflows::dag;
    GET "/accounts/:account/workflows/:workflow/versions/:version/graph" => workflows::graph;
    GET "/accounts/:account/workflows/:workflow/instances" => instances::list;
    POST "/accounts/:account/workflows/:workflow/instances" => instances::create;
    POST "/accounts/:account/workflows/:workflow/instances/batch" => instances::create_batch;
    POST "/accounts/:account/workflows/:workflow/instances/batch/delete" => instances::delete_batch;
    POST "/accounts/:account/workflows/:workflow/instances/batch/terminate" => instances::terminate_batch;
    GET "/accounts/:account/workflows/:workflow/instances/terminate" => instances::terminating;
    PUT "/accounts/:account/workflows/:workflow/instances/terminate" => instances::terminate_all;
    GET "/accounts/:account/workflows/:workflow/instances/:instance" => instances::describe;
    DELETE "/accounts/:account/workflows/:workflow/instances/:instance" => instances::delete;
    GET "/accounts/:account/workflows/:workflow/instances/:instance/step" => instances::step;
    PATCH "/accounts/:account/workflows/:workflow/instances/:instance/status" => instances::change;
    POST "/accounts/:account/workflows/:workflow/instances/:instance/events/:type" => instances::send_event;

    GET "/accounts/:account/d1/database" => d1::list;
    POST "/accounts/:account/d1/database" => d1::create;
    GET "/accounts/:account/d1/database/:database" => d1::get;
    PUT "/accounts/:account/d1/database/:database" => d1::update;
    PATCH "/accounts/:account/d1/database/:database" => d1::update;
    DELETE "/accounts/:account/d1/database/:database" => d1::delete;
    POST "/accounts/:account/d1/database/:database/query" => d1::query;
    POST "/accounts/:account/d1/database/:database/raw" => d1::raw;
    POST "/accounts/:account/d1/database/:database/export" => d1::export;
    POST "/accounts/:account/d1/database/:database/import" => d1::import;
    GET "/accounts/:account/d1/database/:database/time_travel/bookmark" => d1_time_travel::bookmark;
    POST "/accounts/:account/d1/database/:database/time_travel/restore" => d1_time_travel::restore;
    GET "/d1/files/:token" => d1::download, open;
    PUT "/d1/files/:token" => d1::upload, open;

    GET "/accounts/:account/hyperdrive/configs" => hyperdrive::list;
    POST "/accounts/:account/hyperdrive/configs" => hyperdrive::create;
    GET "/accounts/:account/hyperdrive/configs/:hyperdrive" => hyperdrive::get;
    PUT "/accounts/:account/hyperdrive/configs/:hyperdrive" => hyperdrive::update;
    PATCH "/accounts/:account/hyperdrive/configs/:hyperdrive" => hyperdrive::patch;
    DELETE "/accounts/:account/hyperdrive/configs/:hyperdrive" => hyperdrive::delete;

    POST "/accounts/:account/analytics_engine/sql" => analytics::sql;
    GET "/accounts/:account/analytics_engine/sql" => analytics::sql_in_url;

    POST "/accounts/:account/ai/run/*model" => ai::run;
    GET "/accounts/:account/ai/models/search" => ai::search;
    POST "/accounts/:account/ai/v1/chat/completions" => ai::chat_completions;
    POST "/accounts/:account/ai/v1/embeddings" => ai::embeddings;
    POST "/accounts/:account/ai/v1/responses" => ai::responses;

    GET "/accounts/:account/vectorize/v2/indexes" => vectorize::list;
    POST "/accounts/:account/vectorize/v2/indexes" => vectorize::create;
    GET "/accounts/:account/vectorize/v2/indexes/:index" => vectorize::get;
    DELETE "/accounts/:account/vectorize/v2/indexes/:index" => vectorize::delete;
    GET "/accounts/:account/vectorize/v2/indexes/:index/info" => vectorize::info;
    POST "/accounts/:account/vectorize/v2/indexes/:index/insert" => vectorize::insert;
    POST "/accounts/:account/vectorize/v2/indexes/:index/upsert" => vectorize::upsert;
    POST "/accounts/:account/vectorize/v2/indexes/:index/query" => vectorize::query;
    POST "/accounts/:account/vectorize/v2/indexes/:index/get_by_ids" => vectorize::get_by_ids;
    POST "/accounts/:account/vectorize/v2/indexes/:index/delete_by_ids" => vectorize::delete_by_ids;
    GET "/accounts/:account/vectorize/v2/indexes/:index/list" => vectorize::list_vectors;
    POST "/accounts/:account/vectorize/v2/indexes/:index/metadata_index/create" => vectorize::create_metadata_index;
    GET "/accounts/:account/vectorize/v2/indexes/:index/metadata_index/list" => vectorize::list_metadata_indexes;
    POST "/accounts/:account/vectorize/v2/indexes/:index/metadata_index/delete" => vectorize::delete_metadata_index;

    GET "/accounts/:account/secrets_store/quota" => secrets_store::quota;
    GET "/accounts/:account/secrets_store/stores" => secrets_store::list_stores;
    POST "/accounts/:account/secrets_store/stores" => secrets_store::create_store;
    GET "/accounts/:account/secrets_store/stores/:store" => secrets_store::get_store;
    DELETE "/accounts/:account/secrets_store/stores/:store" => secrets_store::delete_store;
    GET "/accounts/:account/secrets_store/stores/:store/secrets" => secrets_store::list;
    POST "/accounts/:account/secrets_store/stores/:store/secrets" => secrets_store::create;
    DELETE "/accounts/:account/secrets_store/stores/:store/secrets" => secrets_store::delete_many;
    GET "/accounts/:account/secrets_store/stores/:store/secrets/:stored_secret" => secrets_store::get;
    PATCH "/accounts/:account/secrets_store/stores/:store/secrets/:stored_secret" => secrets_store::patch;
    DELETE "/accounts/:account/secrets_store/stores/:store/secrets/:stored_secret" => secrets_store::delete;
    POST "/accounts/:account/secrets_store/stores/:store/secrets/:stored_secret/duplicate" => secrets_store::duplicate;

    GET "/accounts/:account/containers/me" => containers::me;
    GET "/accounts/:account/containers/applications" => containers::list;
    POST "/accounts/:account/containers/applications" => containers::create;
    GET "/accounts/:account/containers/applications/:application" => containers::get;
    PATCH "/accounts/:account/containers/applications/:application" => containers::modify;
    DELETE "/accounts/:account/containers/applications/:application" => containers::delete;
    GET "/accounts/:account/containers/applications/:application/instances" => container_instances::list;
    GET "/accounts/:account/containers/applications/:application/rollouts" => container_rollouts::list;
    POST "/accounts/:account/containers/applications/:application/rollouts" => container_rollouts::create;
    GET "/accounts/:account/containers/applications/:application/rollouts/:rollout" => container_rollouts::get;
    GET "/accounts/:account/containers/dash/applications" => container_instances::dash_list;
    GET "/accounts/:account/containers/dash/applications/:application/instances" => container_instances::dash_instances;
    GET "/accounts/:account/containers/registries" => container_images::list;
    POST "/accounts/:account/containers/registries" => container_images::add;
    DELETE "/accounts/:account/containers/registries/:registry" => container_images::remove;
    POST "/accounts/:account/containers/registries/:registry/credentials" => container_images::credentials;
    POST "/accounts/:account/containers/image-preparations" => container_images::prepare;

    GET "/accounts/:account/storage/kv/namespaces" => kv::list;
    POST "/accounts/:account/storage/kv/namespaces" => kv::create;
    GET "/accounts/:account/storage/kv/namespaces/:namespace" => kv::get;
    PUT "/accounts/:account/storage/kv/namespaces/:namespace" => kv::rename;
    DELETE "/accounts/:account/storage/kv/namespaces/:namespace" => kv::delete;
    GET "/accounts/:account/storage/kv/namespaces/:namespace/keys" => kv::keys;
    GET "/accounts/:account/storage/kv/namespaces/:namespace/values/:key" => kv::value;
    PUT "/accounts/:account/storage/kv/namespaces/:namespace/values/:key" => kv::put;
    DELETE "/accounts/:account/storage/kv/namespaces/:namespace/values/:key" => kv::delete_value;
    GET "/accounts/:account/storage/kv/namespaces/:namespace/metadata/:key" => kv::value_metadata;
    PUT "/accounts/:account/storage/kv/namespaces/:namespace/bulk" => kv::put_bulk;
    DELETE "/accounts/:account/storage/kv/namespaces/:namespace/bulk" => kv::delete_bulk;
    POST "/accounts/:account/storage/kv/namespaces/:namespace/bulk/delete" => kv::delete_bulk;
    POST "/accounts/:account/storage/kv/namespaces/:namespace/bulk/get" => kv::get_bulk;

    POST "/accounts/:account/workers/scripts/:script/assets-upload-session" => assets::session;
    POST "/accounts/:account/workers/assets/upload" => assets::upload, open;
    POST "/accounts/:account/workers/assets/upload/:hash" => assets::upload_one, open;

    POST "/accounts/:account/workers/observability/telemetry/query" => observability::query;
    POST "/accounts/:account/workers/observability/telemetry/keys" => observability::keys;
    POST "/accounts/:account/workers/observability/telemetry/values" => observability::values;

    GET "/openapi.json" => openapi::get, open;
};

/// An operation with the values of its parameters.
pub(crate) struct Found {
    pub operation: &'static Operation,
    pub params: Vec<String>,
}

/// The operation for `path`, which is not decoded.
pub(crate) fn find(method: &Method, path: &str) -> Result<Found, ApiError> {
    let mut known = Vec::new();
    for operation in OPERATIONS {
        if let Some(params) = matches(operation.path, path) {
            known.push(operation.method.as_str());
            if operation.method == *method {
                return Ok(Found { operation, params });
            }
        }
    }
    Err(match known.is_empty() {
        true => ApiError::no_route(path),
        false => ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            10405,
            format!("Method {method} not available for that URI."),
        )
        .allow(&known.join(", ")),
    })
}

fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    let decode = |segment: &str| percent_decode_str(segment).decode_utf8().ok().map(|s| s.into_owned());
    let mut params = Vec::new();
    let (mut pattern, mut path) = (pattern.strip_prefix('/')?, path.strip_prefix('/')?);
    loop {
        let (wanted, more_wanted) = split(pattern);
        if wanted.starts_with('*') {
            params.push(decode(path)?);
            return (!path.is_empty()).then_some(params);
        }
        let (segment, more) = split(path);
        match wanted.strip_prefix(':') {
            Some(_) if segment.is_empty() => return None,
            Some(_) => params.push(decode(segment)?),
            None if wanted != segment => return None,
            None => {}
        }
        match (more_wanted, more) {
            (None, None | Some("")) => return Some(params),
            (Some(next_wanted), Some(next)) => (pattern, path) = (next_wanted, next),
            _ => return None,
        }
    }
}

fn split(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_after_they_are_told_apart() {
        let pattern = "/accounts/:account/storage/:key";
        let params = matches(pattern, "/accounts/a/storage/x%2Fy%20z").unwrap();
        assert_eq!(params, ["a", "x/y z"]);
        assert_eq!(matches(pattern, "/accounts/a/storage"), None);
        assert_eq!(matches(pattern, "/accounts//storage/b"), None);
        assert_eq!(matches(pattern, "/accounts/a/storage/b/c"), None);
        assert_eq!(matches(pattern, "/accounts/a/storage/b/").unwrap(), ["a", "b"]);
        assert_eq!(matches("/b/:b/objects/*key", "/b/x/objects/a/b%20c").unwrap(), ["x", "a/b c"]);
        assert_eq!(matches("/b/:b/objects/*key", "/b/x/objects/"), None);
    }

    #[test]
    fn a_known_address_with_another_method_is_told_apart_from_an_unknown_one() {
        assert_eq!(find(&Method::POST, "/user").err().unwrap().errors[0].0, 10405);
        assert_eq!(find(&Method::GET, "/nothing").err().unwrap().errors[0].0, 7003);
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_answered(path in ".{0,60}") {
            let _ = find(&Method::GET, &path);
        }
    }
}
