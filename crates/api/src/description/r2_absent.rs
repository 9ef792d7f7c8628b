//! What buckets have on Cloudflare and not here.

use super::r2::place;
use super::schema::{any, fields, flag, list, must, object, text};
use super::{About, about};

fn here(summary: &'static str) -> About {
    about(summary).headers([place()])
}

pub fn none() -> About {
    here("Say that a bucket has none of these")
        .gives(object(["rules", "domains"].map(|name| must(name, list(any())))))
}

pub fn disabled() -> About {
    here("Say that a bucket does not have this").gives(object([must("enabled", flag())]))
}

pub fn remove() -> About {
    here("Remove rules: there are none").gives(fields())
}

pub fn managed_domain() -> About {
    here("Say that a bucket has no public address").gives(object([
        must("bucketId", text()),
        must("domain", text()),
        must("enabled", flag()),
    ]))
}

pub fn no_domain() -> About {
    here("Refused: a bucket has no custom domains")
}

pub fn refused() -> About {
    here("Refused: Skep does not have it").refused()
}
