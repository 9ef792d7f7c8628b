//! R2 buckets are made and removed: for the v4 API, and for the S3 API. Who may do what with them by which token.

use http::StatusCode;
use serde_json::{Value as Json, json};
use skep_catalog::{Catalog, CatalogError, Kind, Resource, Terms, Token};
use skep_r2::ListOptions;

use crate::permissions::{Area, allows};
use crate::platform::Platform;
use crate::reply::ApiError;

/// <https://developers.cloudflare.com/r2/reference/data-location/#available-hints>
pub(crate) const LOCATIONS: [&str; 6] = ["enam", "wnam", "weur", "eeur", "apac", "oc"];

/// Why a bucket is not made or removed.
#[derive(Debug)]
pub enum BucketError {
    /// There is one of that name.
    Exists,
    /// There is none.
    Missing,
    /// There are objects in it.
    NotEmpty(String),
    /// A bucket cannot have that name.
    InvalidName,
    /// There is no such place.
    InvalidLocation(String),
    /// Something else.
    Other(ApiError),
}

impl BucketError {
    pub(crate) fn missing() -> ApiError {
        Self::Missing.into()
    }
}

impl From<ApiError> for BucketError {
    fn from(error: ApiError) -> Self {
        Self::Other(error)
    }
}

impl From<BucketError> for ApiError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Exists => Self::new(
                StatusCode::CONFLICT,
                10004,
                "The bucket you tried to create already exists, and you own it.",
            ),
            BucketError::Missing => Self::not_found(10006, "The specified bucket does not exist."),
            BucketError::NotEmpty(name) => Self::new(
                StatusCode::CONFLICT,
                10008,
                format!("The bucket you tried to delete ({name}) is not empty."),
            ),
            BucketError::InvalidName => Self::bad(10005, "The specified bucket name is not valid."),
            BucketError::InvalidLocation(hint) => {
                Self::bad(10005, format!("The location hint \"{hint}\" is not valid."))
            }
            BucketError::Other(error) => error,
        }
    }
}

/// <https://developers.cloudflare.com/r2/buckets/create-buckets/#bucket-level-operations>
fn fits(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let all = (3..=63).contains(&name.len()) && name.chars().all(allowed);
    all && !name.starts_with('-') && !name.ends_with('-')
}

/// Makes a bucket. `class` is `Standard` or `InfrequentAccess`; `location` is one of Cloudflare's hints, in any case.
pub async fn make(
    catalog: &Catalog,
    name: &str,
    class: &str,
    location: Option<&str>,
    now_ms: i64,
) -> Result<Resource, BucketError> {
    if !fits(name) {
        return Err(BucketError::InvalidName);
    }
    let location = location.map(str::to_ascii_lowercase);
    if let Some(hint) = location.as_deref().filter(|hint| !LOCATIONS.contains(hint)) {
        return Err(BucketError::InvalidLocation(hint.to_owned()));
    }
    let made = Resource {
        id: name.to_owned(),
        name: name.to_owned(),
        created_ms: now_ms,
        settings: json!({ "storage_class": class, "location": location }),
    };
    catalog.add_resource(Kind::R2, made).await.map_err(|error| match error {
        CatalogError::Exists(_) => BucketError::Exists,
        other => ApiError::from(other).into(),
    })
}

/// Removes an empty bucket, and where it was public.
pub async fn remove(platform: &dyn Platform, account: &str, name: &str) -> Result<(), BucketError> {
    let tenant = platform.tenant(account).map_err(ApiError::internal)?;
    let row = tenant.catalog().resource(Kind::R2, name).map_err(ApiError::from)?;
    let row = row.ok_or(BucketError::Missing)?;
    let bucket = tenant.r2().bucket(&row.name).map_err(crate::modules::storage)?;
    let some = ListOptions { limit: Some(1), ..ListOptions::default() };
    if !bucket.list(&some).map_err(crate::r2::r2_error)?.objects.is_empty() {
        return Err(BucketError::NotEmpty(row.name));
    }
    tenant.catalog().remove_resource(Kind::R2, &row.id).await.map_err(ApiError::from)?;
    let removed = tokio::task::spawn_blocking(move || tenant.r2().remove(&row.name));
    removed.await.map_err(ApiError::internal)?.map_err(crate::modules::storage)?;
    platform.addresses_changed(account).await.map_err(ApiError::internal)?;
    Ok(())
}

/// The buckets that a permission is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum R2Scope {
    /// All of the account.
    All,
    /// Those of these names, which may be none.
    Named(Vec<String>),
}

/// What a token may do by the S3 API. <https://developers.cloudflare.com/r2/api/tokens/#permissions>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct R2Access {
    /// Where objects may be read and listed.
    pub read: R2Scope,
    /// Where objects may be written and removed.
    pub write: R2Scope,
    /// Whether buckets may be made, removed and set.
    pub manage: bool,
}

impl R2Scope {
    /// Whether all of these buckets are among others.
    fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::All) => true,
            (Self::All, Self::Named(_)) => false,
            (Self::Named(own), Self::Named(others)) => own.iter().all(|name| others.contains(name)),
        }
    }
}

impl R2Access {
    /// Whether one may do nothing that another may not.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.read.is_within(&other.read)
            && self.write.is_within(&other.write)
            && (!self.manage || other.manage)
    }

    /// That of a token.
    pub fn of(token: &Token) -> Self {
        Self::by(&token.terms, &token.account)
    }

    /// That of a token of an account by its terms.
    pub(crate) fn by(terms: &Terms, account: &str) -> Self {
        let permissions = &terms.permissions;
        let manage = allows(permissions, Some((Area::R2, true)));
        let reads = allows(permissions, Some((Area::R2, false)));
        let policies: Json = serde_json::from_str(&terms.policies).unwrap_or_default();
        let scope =
            |all: bool, write: bool| if all { R2Scope::All } else { named(&policies, account, write) };
        Self { read: scope(reads, false), write: scope(manage, true), manage }
    }
}

/// Where the policies of a token let it read, or write, objects alone.
fn named(policies: &Json, account: &str, write: bool) -> R2Scope {
    let mut names = Vec::new();
    for policy in policies.as_array().into_iter().flatten() {
        let groups = policy["permission_groups"].as_array().into_iter().flatten();
        let ids: Vec<String> = groups.filter_map(|group| group["id"].as_str()).map(str::to_owned).collect();
        if !allows(&ids, Some((Area::R2Items, write))) {
            continue;
        }
        for (resource, _) in policy["resources"].as_object().into_iter().flatten() {
            match bucket_of(resource, account) {
                Some(name) => names.push(name.to_owned()),
                None if is_account(resource, account) => return R2Scope::All,
                // A zone has no buckets.
                None => {}
            }
        }
    }
    R2Scope::Named(names)
}

/// Whether a policy's resource is all of an account.
pub(crate) fn is_account(resource: &str, account: &str) -> bool {
    let id = resource.strip_prefix("com.cloudflare.api.account.");
    id.is_some_and(|id| id == "*" || id == account)
}

/// The bucket that a policy's resource is; `None` if it is another kind of resource, or another account's.
pub(crate) fn bucket_of<'a>(resource: &'a str, account: &str) -> Option<&'a str> {
    let rest = resource.strip_prefix("com.cloudflare.edge.r2.bucket.")?.strip_prefix(account)?;
    rest.strip_prefix("_default_").filter(|name| fits(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "6a018a9f2fc74eb6b293b0c548f38b39";
    const WRITE: &str = "2efd5506f9c8494dacb1fa10a3e7d5b6";

    fn access(permissions: &[&str], policies: Json) -> R2Access {
        let terms = Terms {
            permissions: permissions.iter().map(|id| (*id).to_owned()).collect(),
            policies: policies.to_string(),
            ..Terms::default()
        };
        R2Access::of(&Token { id: "t".into(), account: "a".into(), terms, created_ms: 0, modified_ms: 0 })
    }

    fn policy(group: &str, resource: &str) -> Json {
        json!({ "resources": { resource: "*" }, "permission_groups": [{ "id": group }] })
    }

    fn only(names: &[&str]) -> R2Scope {
        R2Scope::Named(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_permission_is_for_the_buckets_that_its_policy_names() {
        let bucket = |name: &str| format!("com.cloudflare.edge.r2.bucket.a_default_{name}");
        let one = policy(WRITE, &bucket("logs"));
        let own = access(&[WRITE], json!([one]));
        assert_eq!(own, R2Access { read: only(&["logs"]), write: only(&["logs"]), manage: false });
        let both = access(&[READ, WRITE], json!([one, policy(READ, &bucket("site"))]));
        assert_eq!(both, R2Access { read: only(&["logs", "site"]), write: only(&["logs"]), manage: false });
        // What else the token is for gives it no bucket.
        let other = access(&[READ, "kv"], json!([one, policy("kv", "com.cloudflare.api.account.a")]));
        assert_eq!(other.read, only(&["logs"]));
        let all = access(&[READ], json!([policy(READ, "com.cloudflare.api.account.a")]));
        assert_eq!(all, R2Access { read: R2Scope::All, write: only(&[]), manage: false });
        assert_eq!(access(&[], json!([])), R2Access { read: only(&[]), write: only(&[]), manage: false });
        assert!(
            own.is_within(&both) && !both.is_within(&own) && !all.is_within(&both) && both.is_within(&both)
        );
        let every = access(&["*"], json!([]));
        assert!(all.is_within(&every) && !every.is_within(&all));
        assert_eq!(every, R2Access { read: R2Scope::All, write: R2Scope::All, manage: true });
    }

    #[test]
    fn a_resource_is_a_bucket_of_its_account() {
        assert_eq!(bucket_of("com.cloudflare.edge.r2.bucket.a_default_my-bucket", "a"), Some("my-bucket"));
        for other in [
            "com.cloudflare.edge.r2.bucket.b_default_x",
            "com.cloudflare.edge.r2.bucket.a_eu_xyz",
            "com.cloudflare.api.account.a",
        ] {
            assert_eq!(bucket_of(other, "a"), None);
        }
    }
}
