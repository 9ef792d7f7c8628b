//! Where a bucket is public.

use serde_json::Value as Json;

use super::r2::place;
use super::schema::{flag, may, must, object, one_of, opt, text};
use super::{About, about};
use crate::r2_domains::MIN_TLS;

fn here(summary: &'static str) -> About {
    about(summary).headers([place()])
}

fn shown_managed() -> Json {
    object([must("bucketId", text()), must("domain", text()), must("enabled", flag())])
}

fn shown() -> Json {
    let status = object([must("ownership", text()), must("ssl", text())]);
    object([
        must("domain", text()),
        must("enabled", flag()),
        must("minTLS", one_of(&MIN_TLS)),
        must("zoneId", text()),
        may("zoneName", text()),
        must("status", status),
    ])
}

pub fn managed() -> About {
    here("Show the managed domain of a bucket").gives(shown_managed())
}

pub fn put_managed() -> About {
    here("Make a bucket public at its managed domain, or not")
        .takes_json(object([must("enabled", flag())]))
        .gives(shown_managed())
}

pub fn list() -> About {
    here("List the custom domains of a bucket").gives(object([must("domains", super::schema::list(shown()))]))
}

pub fn get() -> About {
    here("Get a custom domain of a bucket").gives(shown())
}

pub fn add() -> About {
    here("Make a bucket public at a custom domain")
        .takes_json(object([
            must("domain", text()),
            must("zoneId", text()),
            opt("enabled", flag()),
            opt("minTLS", one_of(&MIN_TLS)),
            opt("ciphers", list_of_texts()),
        ]))
        .gives(shown())
}

pub fn update() -> About {
    here("Change a custom domain of a bucket")
        .takes_json(object([
            opt("enabled", flag()),
            opt("minTLS", one_of(&MIN_TLS)),
            opt("ciphers", list_of_texts()),
        ]))
        .gives(shown())
}

pub fn remove() -> About {
    here("Remove a custom domain of a bucket").gives(object([must("domain", text())]))
}

fn list_of_texts() -> Json {
    super::schema::list(text())
}
