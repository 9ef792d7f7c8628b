//! Deployments.

use super::schema::{self, fields, must, named, null, object, one_of, opt};
use super::{About, about, shapes};

pub fn list() -> About {
    about("List the deployments of a Worker")
        .gives(object([must("deployments", schema::list(named("Deployment")))]))
}

pub fn get() -> About {
    about("Get a deployment").gives(named("Deployment"))
}

pub fn delete() -> About {
    about("Forget a deployment that takes no requests").gives(null())
}

pub fn create() -> About {
    about("Deploy one version, or two by percentage")
        .takes_json(object([
            must("strategy", one_of(&["percentage"])),
            must("versions", shapes::shares()),
            opt("annotations", fields()),
        ]))
        .gives(named("Deployment"))
}
