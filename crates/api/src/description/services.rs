//! The older view of scripts.

use super::schema::{fields, flag, list, must, named, object, text};
use super::{About, about};

pub fn get() -> About {
    let environment = object([must("environment", text()), must("script", named("Script"))]);
    about("Get a Worker as a service")
        .gives(object([must("id", text()), must("default_environment", environment)]))
}

pub fn references() -> About {
    let services = object([
        must("incoming", list(fields())),
        must("outgoing", list(fields())),
        must("pages_function", flag()),
    ]);
    about("List who is bound to a Worker").gives(object([
        must("services", services),
        must("durable_objects", list(fields())),
        must("dispatch_outbounds", list(fields())),
    ]))
}

pub fn tails_by_consumer() -> About {
    let producer = object([must("service", text()), must("environment", text())]);
    about("List whose events a Worker gets").gives(list(object([must("producer", producer)])))
}

pub use super::scripts::{put_content, source as content};
pub use super::settings::{get as settings, patch_script as patch_settings};
