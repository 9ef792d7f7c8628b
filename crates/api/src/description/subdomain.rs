//! Addresses.

use http::StatusCode;

use super::schema::{flag, must, object, opt, pattern, text};
use super::{About, about};

fn name() -> serde_json::Value {
    object([must("subdomain", text())])
}

fn switches() -> serde_json::Value {
    object([must("enabled", flag()), must("previews_enabled", flag())])
}

pub fn account() -> About {
    about("Get the subdomain of the account").gives(name())
}

pub fn set_account() -> About {
    let label = pattern("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$");
    about("Set the subdomain of the account").takes_json(object([must("subdomain", label)])).gives(name())
}

pub fn delete_account() -> About {
    about("Delete the subdomain of the account").answers(StatusCode::NO_CONTENT, None)
}

pub fn is_free() -> About {
    about("Say by its error whether a subdomain is free: 10032 if it is, 10031 if not")
}

pub fn get() -> About {
    about("Get whether a Worker has an address of its own").gives(switches())
}

pub fn set() -> About {
    about("Say whether a Worker has an address of its own")
        .takes_json(object([must("enabled", flag()), opt("previews_enabled", flag())]))
        .gives(switches())
}

pub fn delete() -> About {
    about("Take the address from a Worker").gives(switches())
}
