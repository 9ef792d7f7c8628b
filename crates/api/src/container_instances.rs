//! What runs of an application of containers, page by page.

use serde_json::{Value as Json, json};
use skep_catalog::Kind;

use crate::call::Call;
use crate::containers::{ContainerApplication, invalid, now, of_it, row};
use crate::platform::ContainerInstance;
use crate::reply::{Answer, ApiError, time, with_info};

/// Of a page where nothing is said.
const PER_PAGE: usize = 25;

/// A page by `per_page` and `page_token`: the part that it is, and the next token.
fn part<T>(call: &Call, all: Vec<T>) -> Result<(Vec<T>, Json), ApiError> {
    let number =
        |name: &str, default: usize, least: usize| match call.query(name).filter(|text| !text.is_empty()) {
            None => Ok(default),
            Some(text) => {
                let number = text.parse().ok().filter(|number| *number >= least);
                number.ok_or_else(|| invalid(name, format!("must be a number from {least}")))
            }
        };
    let (per_page, start) = (number("per_page", usize::MAX, 1)?, number("page_token", 0, 0)?);
    let per_page = if per_page == usize::MAX { all.len().max(PER_PAGE) } else { per_page };
    let end = start.saturating_add(per_page);
    let next = if end < all.len() { end.to_string() } else { String::new() };
    let part = all.into_iter().skip(start).take(per_page).collect();
    Ok((part, json!({ "per_page": per_page, "next_page_token": next })))
}

/// What `wrangler containers list` shows.
pub(crate) async fn dash_list(call: Call) -> Answer {
    let (page, info) = part(&call, call.tenant()?.catalog().resources(Kind::Container)?)?;
    let mut all = Vec::with_capacity(page.len());
    for row in &page {
        let whole = now(&call, row).await;
        all.push(json!({
            "id": whole["id"], "created_at": whole["created_at"], "updated_at": whole["updated_at"],
            "name": whole["name"], "version": whole["version"], "instances": whole["instances"],
            "image": whole["configuration"]["image"].as_str().unwrap_or_default(), "health": whole["health"],
        }));
    }
    with_info(all.into(), info)
}

/// An application, and a page of what runs of it.
async fn page(call: &Call) -> Result<(ContainerApplication, Vec<ContainerInstance>, Json), ApiError> {
    let row = row(call)?;
    let (page, info) = part(call, of_it(call, &row).await)?;
    Ok((ContainerApplication::of(&row), page, info))
}

/// Where it runs, which here is one place.
const LOCATION: &str = "local";

/// What `wrangler containers instances` shows.
pub(crate) async fn dash_instances(call: Call) -> Answer {
    let (application, page, info) = page(&call).await?;
    let instances = page.iter().map(|own| {
        json!({
            "id": own.id, "created_at": time(own.started_ms), "location": LOCATION, "app_version": application.version,
            "image": own.image, "name": own.object,
            "current_placement": { "id": own.id, "status": { "health": "running", "container_status": "running" } },
        })
    });
    let objects = page
        .iter()
        .map(|own| json!({ "id": own.object, "deployment_id": own.id, "assigned_at": time(own.started_ms) }));
    with_info(
        json!({ "instances": instances.collect::<Vec<_>>(), "durable_objects": objects.collect::<Vec<_>>() }),
        info,
    )
}

/// The instances of an application, as the published API has them.
pub(crate) async fn list(call: Call) -> Answer {
    let (application, page, info) = page(&call).await?;
    let shown = page.iter().map(|own| {
        json!({
            "id": own.id, "application_id": application.id, "name": own.object, "created_at": time(own.started_ms),
            "image": own.image, "location": { "name": LOCATION, "region": LOCATION },
            "status": { "state": "running", "updated_at": time(own.started_ms) },
        })
    });
    with_info(json!({ "instances": shown.collect::<Vec<_>>() }), info)
}
