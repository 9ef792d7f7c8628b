//! Routes, custom domains, schedules, zones.

use super::schema::{flag, list, may, must, named, object, opt, text, time};
use super::{About, about};

fn wanted_route() -> serde_json::Value {
    object([must("pattern", text()), opt("zone_name", text()), opt("zone_id", text())])
}

fn zone_route() -> serde_json::Value {
    object([must("pattern", text()), opt("script", text())])
}

fn id() -> serde_json::Value {
    object([must("id", text())])
}

pub fn zones() -> About {
    let account = object([must("id", text()), must("name", text())]);
    about("List zones: the names that lead here").query([may("name", text())]).gives_pages_of(object([
        must("id", text()),
        must("name", text()),
        must("status", text()),
        must("paused", flag()),
        must("type", text()),
        must("account", account),
        must("created_on", time()),
        must("modified_on", time()),
    ]))
}

pub fn set_routes() -> About {
    about("Replace the routes of a Worker").takes_json(list(wanted_route())).gives(list(named("Route")))
}

pub fn zone_routes() -> About {
    about("List the routes of a zone").gives(list(named("Route")))
}

pub fn add_zone_route() -> About {
    about("Add a route").takes_json(zone_route()).gives(named("Route"))
}

pub fn put_zone_route() -> About {
    about("Replace a route").takes_json(zone_route()).gives(named("Route"))
}

pub fn get_zone_route() -> About {
    about("Get a route").gives(named("Route"))
}

pub fn delete_zone_route() -> About {
    about("Delete a route").gives(id())
}

pub fn changeset() -> About {
    about("Say what setting the domains of a Worker would change").takes_json(list(named("Origin"))).gives(
        object(
            ["added", "removed", "updated", "conflicting"]
                .map(|name| must(name, list(super::schema::fields()))),
        ),
    )
}

pub fn set_domains() -> About {
    about("Replace the domains of a Worker")
        .takes_json(object([must("origins", list(named("Origin"))), may("override_existing_origin", flag())]))
        .gives(list(named("Domain")))
}

pub fn domains() -> About {
    about("List domains")
        .query([may("hostname", text()), may("service", text())])
        .gives(list(named("Domain")))
}

pub fn domain() -> About {
    about("Get a domain").gives(named("Domain"))
}

pub fn put_domain() -> About {
    let asked = serde_json::json!({ "allOf": [named("Origin"), object([must("service", text())])] });
    about("Attach a domain to a Worker").takes_json(asked).gives(named("Domain"))
}

pub fn delete_domain() -> About {
    about("Detach a domain").gives(id())
}

fn shown_schedules() -> serde_json::Value {
    let one = object([must("cron", text()), must("created_on", time()), must("modified_on", time())]);
    object([must("schedules", list(one))])
}

pub fn schedules() -> About {
    about("List the cron triggers of a Worker").gives(shown_schedules())
}

pub fn set_schedules() -> About {
    about("Replace the cron triggers of a Worker")
        .takes_json(list(object([must("cron", text())])))
        .gives(shown_schedules())
}
