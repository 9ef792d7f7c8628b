//! Secrets of the Secrets Store while one develops. A store is an account's; here a secret has the value of the variable
//! of its name, from the files that other secrets come from.

use std::collections::BTreeMap;

use crate::model::StoredSecret;
use crate::read::Table;

pub(crate) fn read(table: &Table<'_>) -> StoredSecret {
    StoredSecret {
        binding: table.required("binding"),
        store_id: table.required("store_id"),
        secret_name: table.required("secret_name"),
        value: None,
    }
}

/// Gives the bindings their values, which then are no variables any more: on Cloudflare such a secret is not on `env` by itself.
/// Returns the names of secrets without a value.
pub(crate) fn fill(bound: &mut [StoredSecret], variables: &mut BTreeMap<String, String>) -> Vec<String> {
    for secret in bound.iter_mut() {
        secret.value = variables.get(&secret.secret_name).cloned();
    }
    for secret in bound.iter() {
        variables.remove(&secret.secret_name);
    }
    bound.iter().filter(|secret| secret.value.is_none()).map(|secret| secret.secret_name.clone()).collect()
}
