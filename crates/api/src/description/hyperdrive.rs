//! Hyperdrive.

use serde_json::{Value as Json, json};

use super::schema::{
    Field, at_least, count, fields, flag, may, must, named, object, one_of, opt, text_of, whole,
};
use super::{About, about};
use crate::hyperdrive::{LEAST_CONNECTIONS, MOST_CONNECTIONS, SCHEMES, SSL_MODES};

fn caching() -> Json {
    object([opt("disabled", flag()), opt("max_age", count()), opt("stale_while_revalidate", count())])
}

fn mtls() -> Json {
    object([
        opt("sslmode", one_of(&SSL_MODES)),
        opt("ca_certificate_id", null()),
        opt("mtls_certificate_id", null()),
    ])
}

/// What only Cloudflare's network leads to has to be left out.
fn null() -> Json {
    json!({ "type": ["string", "null"], "maxLength": 0 })
}

fn limit() -> Json {
    whole(LEAST_CONNECTIONS, MOST_CONNECTIONS)
}

fn origin(field: fn(&'static str, Json) -> Field) -> Json {
    let some = || text_of(1, 512);
    object([
        field("scheme", one_of(&SCHEMES)),
        field("host", some()),
        opt("port", whole(1, 65535)),
        field("database", some()),
        field("user", some()),
        field("password", some()),
        opt("access_client_id", null()),
        opt("access_client_secret", null()),
        opt("service_id", null()),
    ])
}

fn whole_config() -> Json {
    object([
        must("name", text_of(1, 128)),
        must("origin", origin(must)),
        opt("caching", caching()),
        opt("mtls", mtls()),
        opt("origin_connection_limit", limit()),
        may("id", super::schema::pattern("^[0-9a-f]{32}$")),
    ])
}

/// As the API shows it.
pub(super) fn shape() -> Json {
    let text = super::schema::text;
    let origin = object([
        must("scheme", one_of(&SCHEMES)),
        must("host", text()),
        must("port", at_least(1)),
        must("database", text()),
        must("user", text()),
    ]);
    object([
        must("id", text()),
        must("name", text()),
        must("origin", origin),
        must(
            "caching",
            object([
                must("disabled", flag()),
                may("max_age", count()),
                may("stale_while_revalidate", count()),
            ]),
        ),
        may("mtls", fields()),
        must("origin_connection_limit", count()),
        must("created_on", super::schema::time()),
        must("modified_on", super::schema::time()),
    ])
}

pub fn list() -> About {
    about("List Hyperdrive configurations").gives_pages_of(named("Hyperdrive"))
}

pub fn create() -> About {
    about("Create a Hyperdrive configuration, after a try to connect")
        .takes_json(whole_config())
        .gives(named("Hyperdrive"))
}

pub fn get() -> About {
    about("Get a Hyperdrive configuration").gives(named("Hyperdrive"))
}

pub fn update() -> About {
    about("Replace a Hyperdrive configuration").takes_json(whole_config()).gives(named("Hyperdrive"))
}

pub fn patch() -> About {
    let all = object([
        opt("name", text_of(1, 128)),
        opt("origin", origin(opt)),
        opt("caching", caching()),
        opt("mtls", mtls()),
        opt("origin_connection_limit", limit()),
    ]);
    about("Change a Hyperdrive configuration").takes_json(all).gives(named("Hyperdrive"))
}

pub fn delete() -> About {
    about("Delete a Hyperdrive configuration").gives(super::schema::null())
}
