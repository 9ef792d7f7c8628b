//! Messages into the body of a request.

use prost::Message;

use super::queue::ByResource;
use crate::proto;
use crate::span::Attribute;

/// Who says it.
pub(super) fn scope() -> proto::Scope {
    proto::Scope { name: "skep".into(), version: env!("CARGO_PKG_VERSION").into() }
}

pub(super) fn pack_spans(all: ByResource<proto::Span>, common: &[Attribute]) -> Vec<u8> {
    let resources = all.into_iter().map(|(resource, spans)| proto::ResourceSpans {
        resource: Some(resource.encoded(common)),
        scopes: vec![proto::ScopeSpans { scope: Some(scope()), spans }],
    });
    proto::Traces { resources: resources.collect() }.encode_to_vec()
}

pub(super) fn pack_logs(all: ByResource<proto::LogRecord>, common: &[Attribute]) -> Vec<u8> {
    let resources = all.into_iter().map(|(resource, records)| proto::ResourceLogs {
        resource: Some(resource.encoded(common)),
        scopes: vec![proto::ScopeLogs { scope: Some(scope()), records }],
    });
    proto::Logs { resources: resources.collect() }.encode_to_vec()
}
