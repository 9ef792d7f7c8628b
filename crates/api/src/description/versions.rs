//! Versions.

use super::schema::{self, must, named, object};
use super::{About, FORM, about, scripts};

pub fn list() -> About {
    about("List the versions of a Worker")
        .paged()
        .gives_part(object([must("items", schema::list(named("Version")))]), named("PageInfo"))
}

pub fn get() -> About {
    about("Get a version").gives(named("Version"))
}

pub fn create() -> About {
    about("Upload a version without deploying it").takes(FORM, scripts::upload()).gives(named("Version"))
}
