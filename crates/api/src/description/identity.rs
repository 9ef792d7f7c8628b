//! Who asks.

use super::schema::{fields, flag, list, may, must, named, null, object, one_of, text, time};
use super::{About, about};

pub fn verify() -> About {
    about("Verify the token").gives(object([
        must("id", text()),
        must("status", one_of(&["active"])),
        may("expires_on", time()),
    ]))
}

pub fn user() -> About {
    about("Get the user that the token stands for").gives(object([
        must("id", text()),
        must("email", text()),
        must("first_name", null()),
        must("last_name", null()),
        must("username", text()),
        must("two_factor_authentication_enabled", flag()),
        must("suspended", flag()),
    ]))
}

pub fn accounts() -> About {
    about("List accounts").gives_pages_of(named("Account"))
}

pub fn account() -> About {
    about("Get an account").gives(named("Account"))
}

pub fn memberships() -> About {
    about("List memberships").gives_pages_of(object([
        must("id", text()),
        must("status", one_of(&["accepted"])),
        must("account", named("Account")),
        must("roles", list(text())),
        must("permissions", fields()),
    ]))
}
