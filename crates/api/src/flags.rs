//! Compatibility flags that are not for deployed code.

use crate::reply::ApiError;

/// Flags that the engine marks as experimental, as of the pinned one: they may change what a script may do, and
/// on Cloudflare no deployed script has them.
const EXPERIMENTAL: &[&str] = &[
    "allow_insecure_inefficient_logged_eval",
    "auto_grpc_convert",
    "cache_reload_enabled",
    "connect_pass_through",
    "d1_binding_jsrpc",
    "durable_object_get_existing",
    "durable_object_rename",
    "enable_abortsignal_rpc",
    "enable_ctx_version_metadata",
    "enable_d1_with_sessions_api",
    "enable_nodejs_inspector_local_dev",
    "enable_version_api",
    "enable_web_file_system",
    "experimental",
    "expose_draining_reader",
    "increase_websocket_message_size",
    "js_rpc",
    "kv_direct_binding",
    "memory_cache_delete",
    "precise_timers",
    "python_workers_20260817",
    "python_workers_development",
    "python_workers_durable_objects",
    "replica_routing",
    "rtti_api",
    "service_binding_extra_handlers",
    "spec_compliant_property_attributes",
    "streaming_tail_worker",
    "streams_no_default_auto_allocate_chunk_size",
    "tail_worker_user_spans",
    "typescript_implemented_streams",
    "typescript_strip_types",
    "unsafe_module",
    "unsupported_process_actual_platform",
    "wasm_memory_discard",
    "webgpu",
    "workflows_bindings_rpc",
    "workflows_step_rollback",
];

/// Refuses experimental flags by name; others are the engine's to judge.
pub(crate) fn check(flags: &[String]) -> Result<(), ApiError> {
    match flags.iter().find(|flag| EXPERIMENTAL.contains(&flag.as_str())) {
        None => Ok(()),
        Some(flag) => Err(ApiError::bad(
            10021,
            format!(
                "The compatibility flag {flag} is experimental and cannot yet be used in deployed Workers."
            ),
        )),
    }
}
