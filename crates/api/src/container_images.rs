//! Images of containers: credentials for the node's registry, and whether an image is in it.
//! <https://developers.cloudflare.com/api/resources/containers/subresources/registries/>

use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_registry::{MOST_MINUTES, Reference, Repository, USER};

use crate::call::Call;
use crate::containers::refusal;
use crate::platform::Tenant;
use crate::reply::{Answer, ApiError, ok};

pub(crate) const PERMISSIONS: [&str; 3] = ["push", "pull", "library_push"];

/// The repository and the manifest of an image that is in the account's part of the node's registry, by its full name:
/// `HOST/ACCOUNT/NAME`, with a tag or a digest or both. By what name clients reach the registry is not known here.
pub fn own_image(account: &str, image: &str) -> Option<(Repository, Reference)> {
    let (host, path) = image.split_once('/')?;
    if !host.contains(['.', ':']) && host != "localhost" {
        return None;
    }
    let path = path.strip_prefix(account)?.strip_prefix('/')?;
    let (path, digest) = match path.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => (path, None),
    };
    let (path, tag) = match path.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    let reference = Reference::parse(digest.or(tag).unwrap_or("latest"))?;
    Some((Repository::parse(path)?, reference))
}

/// Checks that an image can be run here; the error says why not and what to do.
pub(crate) fn check_image(tenant: &dyn Tenant, account: &str, image: &str) -> Result<(), String> {
    let (repository, reference) = own_image(account, image).ok_or_else(|| {
        format!(
            "the image {image:?} is not in this node's registry, from which alone it runs images: push it with \
             `wrangler containers push`, and name it as REGISTRY/{account}/NAME:TAG, where REGISTRY is CLOUDFLARE_CONTAINER_REGISTRY"
        )
    })?;
    match tenant.images().manifest(&repository, &reference) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!("the image {image} is not there: push it first")),
        Err(error) => Err(error.outside().to_owned()),
    }
}

#[derive(Deserialize)]
struct Asked {
    expiration_minutes: f64,
    permissions: Vec<String>,
}

/// Registries that belong to others: nobody here has credentials for them.
fn is_external(domain: &str) -> bool {
    domain == "docker.io" || domain.ends_with(".amazonaws.com") || domain.ends_with("-docker.pkg.dev")
}

pub(crate) async fn credentials(mut call: Call) -> Answer {
    let Asked { expiration_minutes, permissions } = call.json().await?;
    let domain = call.param(0).to_owned();
    if is_external(&domain) {
        return Err(no_registry(&domain));
    }
    let invalid = |what: &str| refusal("VALIDATE_INPUT", &json!({ "credentials": what }));
    if !(1.0..=MOST_MINUTES as f64).contains(&expiration_minutes) {
        return Err(invalid(&format!("expiration_minutes must be from 1 to {MOST_MINUTES}")));
    }
    if permissions.is_empty() || !permissions.iter().all(|own| PERMISSIONS.contains(&own.as_str())) {
        return Err(invalid("permissions are push and pull"));
    }
    if permissions.iter().any(|own| own == "library_push") {
        return Err(invalid("library_push is for Cloudflare's own images"));
    }
    let may = |what: &str| permissions.iter().any(|own| own == what);
    let account = &call.token.account;
    let minutes = expiration_minutes.floor() as u64;
    let password = call.api.platform.registry().issue(account, may("push"), may("pull"), minutes);
    ok(json!({ "account_id": account, "registry_host": domain, "username": USER, "password": password }))
}

fn no_registry(domain: &str) -> ApiError {
    let mut error = refusal("IMAGE_REGISTRY_NOT_FOUND", &json!({ "domain": domain }));
    error.status = http::StatusCode::NOT_FOUND;
    error
}

/// Those beside the node's own: none.
pub(crate) async fn list(_call: Call) -> Answer {
    ok(json!([]))
}

pub(crate) async fn add(_call: Call) -> Answer {
    Err(refusal(
        "IMAGE_REGISTRY_NOT_ALLOWED",
        &json!({ "domain": "images run from this node's own registry: push them there with `wrangler containers push`" }),
    ))
}

pub(crate) async fn remove(call: Call) -> Answer {
    Err(no_registry(call.param(0)))
}

/// Says whether an image can run, as those ask who wait until Cloudflare has copied it to where it runs.
pub(crate) async fn prepare(mut call: Call) -> Answer {
    let asked: Json = call.json().await?;
    let image = asked["image"]
        .as_str()
        .ok_or_else(|| refusal("VALIDATE_INPUT", &json!({ "image": "is missing" })))?;
    let tenant = call.tenant()?;
    ok(match check_image(&*tenant, &call.token.account, image) {
        Ok(()) => json!({ "status": "ready" }),
        Err(reason) => json!({ "status": "error", "reason": reason }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_image_is_the_accounts_own_by_its_full_name() {
        let own = |image: &str| own_image("abc", image).map(|(name, which)| format!("{name} {which}"));
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(own("127.0.0.1:8788/abc/app/web:v1").as_deref(), Some("app/web v1"));
        assert_eq!(own("registry.test/abc/app").as_deref(), Some("app latest"));
        assert_eq!(own(&format!("localhost/abc/app@{digest}")), Some(format!("app {digest}")));
        assert_eq!(own(&format!("r.test/abc/app:v1@{digest}")), Some(format!("app {digest}")));
        for other in [
            "docker.io/library/x",
            "abc/app:v1",
            "r.test/abd/app",
            "r.test/abc",
            "r.test/abc/../x:1",
            "",
            "r.test/abcd/x",
        ] {
            assert_eq!(own(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read(image in "[a-z0-9.:/@_-]{0,60}|\\PC{0,30}") {
            let _ = own_image("abc", &image);
        }
    }
}
