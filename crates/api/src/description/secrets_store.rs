//! The Secrets Store.

use serde_json::Value as Json;

use super::schema::{
    count, either, list as many, may, must, named, null, object, one_of, opt, pattern, text, text_of, time,
};
use super::{About, about};
use crate::call::DIRECTIONS;
use crate::secrets_store::{MAX_NAME, MAX_VALUE, ORDERS, SCOPES};

/// As the API shows it.
pub(super) fn store() -> Json {
    object([
        must("id", text()),
        must("name", text()),
        must("account_id", text()),
        must("created", time()),
        must("modified", time()),
    ])
}

/// As the API shows it: without its value.
pub(super) fn secret() -> Json {
    object([
        must("id", text()),
        must("store_id", text()),
        must("name", text()),
        must("comment", text()),
        must("scopes", scopes()),
        must("status", one_of(&["active"])),
        must("created", time()),
        must("modified", time()),
    ])
}

fn scopes() -> Json {
    many(one_of(&SCOPES))
}

fn name() -> Json {
    pattern(&format!("^[A-Za-z0-9_-]{{1,{MAX_NAME}}}$"))
}

fn value() -> Json {
    text_of(1, MAX_VALUE)
}

fn new_store() -> Json {
    object([must("name", text_of(1, MAX_NAME))])
}

pub fn quota() -> About {
    let secrets = object([must("quota", count()), must("usage", count())]);
    about("Count the secrets of the Secrets Store").gives(object([must("secrets", secrets)]))
}

fn in_order(about: About) -> About {
    about.query([may("order", one_of(&ORDERS)), may("direction", one_of(&DIRECTIONS))])
}

pub fn list_stores() -> About {
    in_order(about("List the stores of secrets").gives_pages_of(named("SecretsStore")))
}

pub fn create_store() -> About {
    about("Create a store of secrets")
        .takes_json(either([new_store(), many(new_store())]))
        .gives(either([named("SecretsStore"), many(named("SecretsStore"))]))
}

pub fn get_store() -> About {
    about("Get a store of secrets").gives(named("SecretsStore"))
}

pub fn delete_store() -> About {
    about("Delete a store of secrets").query([may("force", one_of(&["true", "false"]))]).gives(null())
}

pub fn list() -> About {
    let pages = about("List the secrets of a store").gives_pages_of(named("StoredSecret"));
    in_order(pages).query([may("search", text())])
}

pub fn create() -> About {
    let new = object([
        must("name", name()),
        must("value", value()),
        must("scopes", scopes()),
        opt("comment", text()),
    ]);
    about("Create secrets in a store").takes_json(many(new)).gives(many(named("StoredSecret")))
}

pub fn delete_many() -> About {
    about("Delete secrets of a store")
        .takes_json(many(object([must("id", text())])))
        .gives(many(named("StoredSecret")))
}

pub fn get() -> About {
    about("Get a secret of a store, without its value").gives(named("StoredSecret"))
}

pub fn patch() -> About {
    let changed = object([opt("value", value()), opt("scopes", scopes()), opt("comment", text())]);
    about("Change a secret of a store").takes_json(changed).gives(named("StoredSecret"))
}

pub fn delete() -> About {
    about("Delete a secret of a store").gives(named("StoredSecret"))
}

pub fn duplicate() -> About {
    let copy = object([must("name", name()), must("scopes", scopes()), opt("comment", text())]);
    about("Keep a secret's value under another name").takes_json(copy).gives(named("StoredSecret"))
}
