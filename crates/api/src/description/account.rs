//! Settings of an account.

use super::schema::{any, flag, list, must, null, object, one_of, opt, or_null, text, whole};
use super::{About, about};
use crate::limits::MOST_CPU_MS;

fn settings() -> serde_json::Value {
    object([must("default_usage_model", text()), must("green_compute", flag())])
}

pub fn get() -> About {
    about("Get the settings of the account").gives(settings())
}

pub fn put() -> About {
    let no = serde_json::json!({ "type": "boolean", "const": false });
    let mut wanted = object([opt("default_usage_model", one_of(&["standard"])), opt("green_compute", no)]);
    wanted["additionalProperties"] = false.into();
    about("Set the settings of the account").takes_json(wanted).gives(settings())
}

fn model() -> serde_json::Value {
    let limits = object([must("cpu_ms", or_null(whole(1, MOST_CPU_MS)))]);
    object([must("usage_model", text()), must("user_limits", limits)])
}

pub fn usage_model() -> About {
    about("Get the usage model of a Worker").gives(model())
}

pub fn put_usage_model() -> About {
    let wanted = object([opt("usage_model", one_of(&["standard"])), opt("user_limits", null())]);
    about("Set the usage model of a Worker: there is one").takes_json(wanted).gives(model())
}

pub fn regions() -> About {
    about("List regions: there are none").gives(object([must("providers", list(any()))]))
}
