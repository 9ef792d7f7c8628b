//! Dispatch namespaces. What is about a script in one is as for an ordinary script.

use super::schema::{self, count, flag, may, must, named, null, object, opt, pattern, text, whole};
use super::{About, about, assets, scripts, secrets, settings};
use crate::dispatch::{DELETE_LIMIT, NAME_LIMIT};

fn name() -> serde_json::Value {
    pattern(&format!("^[A-Za-z0-9_-]{{1,{NAME_LIMIT}}}$"))
}

pub fn list() -> About {
    about("List dispatch namespaces").gives_pages_of(named("DispatchNamespace"))
}

pub fn create() -> About {
    about("Create a dispatch namespace")
        .takes_json(object([must("name", name()), opt("trusted_workers", flag())]))
        .gives(named("DispatchNamespace"))
}

pub fn get() -> About {
    about("Get a dispatch namespace").gives(named("DispatchNamespace"))
}

pub fn update() -> About {
    about("Rename a dispatch namespace, or trust its Workers")
        .takes_json(object([opt("name", name()), opt("trusted_workers", flag())]))
        .gives(named("DispatchNamespace"))
}

pub fn delete() -> About {
    about("Delete a dispatch namespace with all Workers in it").gives(null())
}

pub fn list_scripts() -> About {
    about("List the Workers in a dispatch namespace")
        .query([may("tags", text())])
        .gives(schema::list(named("DispatchScript")))
}

pub fn delete_scripts() -> About {
    about("Delete the Workers with these tags: `tags=a:yes,b:no`")
        .query([must("tags", text()), may("limit", whole(1, DELETE_LIMIT as u64))])
        .gives(object([
            must("deleted_count", count()),
            must("deleted", schema::list(object([must("id", text())]))),
            must("has_more", flag()),
        ]))
}

pub fn get_script() -> About {
    about("Get a Worker in a dispatch namespace").gives(named("DispatchScript"))
}

pub fn bindings() -> About {
    about("List the bindings of a Worker in a dispatch namespace").gives(schema::list(named("Binding")))
}

pub fn tags() -> About {
    about("List the tags of a Worker in a dispatch namespace").gives(schema::list(text()))
}

pub fn put_tags() -> About {
    about("Replace the tags of a Worker in a dispatch namespace")
        .takes_json(schema::list(text()))
        .gives(schema::list(text()))
}

pub fn put_tag() -> About {
    about("Add a tag to a Worker in a dispatch namespace").gives(null())
}

pub fn delete_tag() -> About {
    about("Remove a tag from a Worker in a dispatch namespace").gives(null())
}

pub use assets::session as assets_session;
pub use scripts::{delete as delete_script, put, put_content, source as content};
pub use secrets::{
    bulk as bulk_secrets, delete as delete_secret, get as get_secret, list as list_secrets, put as put_secret,
};
pub use settings::{get as get_settings, patch as patch_settings};
