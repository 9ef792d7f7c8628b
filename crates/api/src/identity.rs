//! Who asks: tokens, users, accounts.

use serde_json::{Value as Json, json};
use skep_catalog::Account;

use crate::call::Call;
use crate::reply::{Answer, ok, page, time};

fn shown(account: &Account) -> Json {
    json!({
        "id": account.id,
        "name": account.name,
        "type": "standard",
        "created_on": time(account.created_ms),
        "settings": { "enforce_twofactor": false },
    })
}

pub(crate) async fn verify(call: Call) -> Answer {
    let mut result = json!({ "id": call.token.id, "status": "active" });
    if let Some(expires) = call.token.terms.expires_ms {
        result["expires_on"] = time(expires).into();
    }
    ok(result)
}

/// There are no users: a token speaks for an account. Its name stands in.
pub(crate) async fn user(call: Call) -> Answer {
    let account = call.account()?;
    ok(json!({
        "id": call.token.id,
        "email": format!("{}@{}.localhost", call.token.terms.name.replace(' ', "-"), account.subdomain.unwrap_or(account.id)),
        "first_name": null, "last_name": null, "username": call.token.terms.name,
        "two_factor_authentication_enabled": false, "suspended": false,
    }))
}

pub(crate) async fn accounts(call: Call) -> Answer {
    let (number, per_page) = call.page(20)?;
    page(vec![shown(&call.account()?)], number, per_page)
}

pub(crate) async fn account(call: Call) -> Answer {
    ok(shown(&call.account()?))
}

pub(crate) async fn memberships(call: Call) -> Answer {
    let (number, per_page) = call.page(20)?;
    let account = call.account()?;
    let membership = json!({
        "id": call.token.id, "status": "accepted", "account": shown(&account),
        "roles": ["Administrator"], "permissions": {},
    });
    page(vec![membership], number, per_page)
}
