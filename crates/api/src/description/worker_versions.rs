//! Versions of Workers as objects.

use serde_json::Value as Json;

use super::schema::{fields, list, may, must, named, null, object, one_of, opt, text, time, whole};
use super::{About, about};

fn module() -> Json {
    object([must("name", text()), must("content_type", text()), must("content_base64", text())])
}

fn asked() -> Json {
    object([
        opt("main_module", text()),
        opt("modules", list(module())),
        opt("bindings", list(named("Binding"))),
        opt("compatibility_date", text()),
        opt("compatibility_flags", list(text())),
        opt("annotations", fields()),
        opt("assets", object([opt("jwt", text()), opt("config", fields())])),
        opt("limits", fields()),
        opt("migrations", fields()),
        opt("exports", fields()),
        opt("placement", fields()),
        opt("usage_model", text()),
        opt("containers", list(fields())),
    ])
}

fn shown() -> Json {
    object([
        must("id", text()),
        must("number", whole(1, u64::from(u32::MAX))),
        must("created_on", time()),
        must("urls", list(text())),
        must("source", text()),
        must("annotations", fields()),
        must("bindings", list(named("Binding"))),
        must("compatibility_flags", list(text())),
        must("limits", fields()),
        must("usage_model", text()),
        may("main_module", text()),
        may("modules", list(module())),
    ])
}

pub fn versions() -> About {
    about("List the versions of a Worker, newest first").gives_pages_of(shown())
}

pub fn create() -> About {
    about("Make a version of a Worker from a document with its modules")
        .query([may("deploy", one_of(&["true", "false"]))])
        .takes_json(asked())
        .gives(shown())
}

pub fn get() -> About {
    about("Get a version of a Worker, by its id, the beginning of that, or as latest")
        .query([may("include", one_of(&["modules"]))])
        .gives(shown())
}

pub fn delete() -> About {
    about("Delete a version that takes no requests").gives(null())
}
