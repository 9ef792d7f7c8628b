//! Lists: of tags, of repositories, of what says something about a manifest. They are made aside, each in no more memory than it may take.

use std::sync::Arc;

use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;
use skep_runtime::Slices;
use skep_wire::{Response, full, reply};

use crate::error::RegistryError;
use crate::manifest::{self, MAX_MANIFEST};
use crate::name::{Digest, Repository};
use crate::path::query;
use crate::rows;
use crate::store::ImageStore;

/// Entries of a list.
const MOST_LISTED: i64 = 1000;
/// A list of so many bytes goes on in the next one.
const FULL: usize = 1 << 20;
/// So does one for which so much of manifests was read.
const READ: usize = 32 << 20;
/// What all tags of an account take, with the longest names.
const ALL_TAGS: usize = 48 << 20;

type Answer = Result<Response, RegistryError>;

/// Tags of a repository.
pub(crate) async fn tags(
    images: &Arc<ImageStore>,
    account: &str,
    repository: &Repository,
    head: &Parts,
) -> Answer {
    let (limit, last) = listed(head)?;
    let (own, name) = (images.clone(), repository.to_string());
    let shown = format!("{account}/{repository}");
    let place = format!("/v2/{shown}/tags/list?n={limit}");
    let made = images.memory.made(FULL, move |_| {
        let (tags, known) = own.db.read(|c| {
            let tags = rows::tags(c, &name, &last, limit)?;
            Ok::<_, skep_store::StoreError>((tags, rows::has_repository(c, &name)?))
        })?;
        if !known {
            return Err(RegistryError::missing("NAME_UNKNOWN", "repository name not known to registry"));
        }
        Ok((written(&json!({ "name": shown, "tags": tags }))?, after(&tags, limit)))
    });
    let (body, last) = made.await?;
    Ok(linked(full(body), "application/json", &place, last))
}

/// The repositories of an account: their names, or with `tags=true`, in Cloudflare's own form, their tags.
pub(crate) async fn catalog(images: &Arc<ImageStore>, account: &str, head: &Parts) -> Answer {
    let (own, prefix) = (images.clone(), format!("{account}/"));
    if query(&head.uri, "tags").as_deref() == Some("true") {
        let made = images.memory.made(ALL_TAGS, move |_| Ok((all_tags(&own, &prefix)?, None)));
        let (body, last) = made.await?;
        return Ok(linked(full(body), "application/json", "", last));
    }
    let (limit, last) = listed(head)?;
    let made = images.memory.made(FULL, move |_| {
        let last = last.strip_prefix(&prefix).unwrap_or_default();
        let names = own.db.read(|c| rows::repositories(c, last, limit))?;
        let names: Vec<String> = names.into_iter().map(|name| format!("{prefix}{name}")).collect();
        Ok((written(&json!({ "repositories": names }))?, after(&names, limit)))
    });
    let (body, last) = made.await?;
    Ok(linked(full(body), "application/json", &format!("/v2/_catalog?n={limit}"), last))
}

/// What says something about the manifest with this digest.
pub(crate) async fn referrers(
    images: &Arc<ImageStore>,
    account: &str,
    repository: &Repository,
    digest: &Digest,
    head: &Parts,
) -> Answer {
    let (kind, last) = (query(&head.uri, "artifactType"), query(&head.uri, "last").unwrap_or_default());
    let mut place = format!("/v2/{account}/{repository}/referrers/{digest}?");
    if let Some(kind) = &kind {
        place.push_str("artifactType=");
        place.extend(form_urlencoded::byte_serialize(kind.as_bytes()));
    }
    let asked = About {
        images: images.clone(),
        repository: repository.to_string(),
        subject: digest.to_string(),
        kind,
        last,
    };
    let is_filtered = asked.kind.is_some();
    let (body, last) = images.memory.made(2 * FULL + MAX_MANIFEST, move |slices| asked.list(slices)).await?;
    let mut response = linked(full(body), manifest::INDEX, &place, last);
    if is_filtered {
        let applied = HeaderName::from_static("oci-filters-applied");
        response.headers_mut().insert(applied, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

/// What is asked for of those that say something about a manifest.
struct About {
    images: Arc<ImageStore>,
    repository: String,
    subject: String,
    kind: Option<String>,
    /// They come after this one.
    last: String,
}

impl About {
    /// The list, and after which one the next one goes on. One manifest at a time is in memory. Blocking.
    fn list(self, slices: &mut Slices) -> Result<(Vec<u8>, Option<String>), RegistryError> {
        let db = &self.images.db;
        let digests =
            db.read(|c| rows::referrers(c, &self.repository, &self.subject, &self.last, MOST_LISTED + 1))?;
        let mut list =
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":["#, manifest::INDEX).into_bytes();
        let (begin, mut read, mut last) = (list.len(), 0, None);
        for (count, digest) in (0..).zip(digests) {
            if count == MOST_LISTED || list.len() > FULL || read > READ {
                list.extend_from_slice(b"]}");
                return Ok((list, last));
            }
            slices.pause();
            if let Some((kind, content)) = db.read(|c| rows::content(c, &self.repository, &digest))? {
                read += content.len();
                let shown = manifest::shown(&digest, &kind, &content);
                if self.kind.is_none() || self.kind == shown.artifact_type {
                    if list.len() > begin {
                        list.push(b',');
                    }
                    serde_json::to_writer(&mut list, &shown).map_err(RegistryError::internal)?;
                }
            }
            last = Some(digest);
        }
        list.extend_from_slice(b"]}");
        Ok((list, None))
    }
}

/// All tags by repository, each of which `prefix` comes before. Blocking.
fn all_tags(images: &ImageStore, prefix: &str) -> Result<Vec<u8>, RegistryError> {
    let mut list = br#"{"repositories":{"#.to_vec();
    let mut of: Option<String> = None;
    images.db.read(|c| {
        rows::all_tags(c, |repository, tag| {
            if of.as_deref() != Some(repository) {
                list.extend_from_slice(if of.is_some() { b"]," } else { b"" });
                list.extend(written(&format!("{prefix}{repository}"))?);
                list.extend_from_slice(b":[");
                of = Some(repository.to_owned());
            } else {
                list.push(b',');
            }
            serde_json::to_writer(&mut list, tag).map_err(RegistryError::internal)
        })
    })?;
    list.extend_from_slice(if of.is_some() { b"]}}" } else { b"}}" });
    Ok(list)
}

fn written(list: &impl Serialize) -> Result<Vec<u8>, RegistryError> {
    serde_json::to_vec(list).map_err(RegistryError::internal)
}

/// How many names are asked for, and after which.
fn listed(head: &Parts) -> Result<(i64, String), RegistryError> {
    let limit = match query(&head.uri, "n") {
        None => MOST_LISTED,
        Some(text) => match text.parse::<i64>() {
            Ok(limit) if limit >= 0 => limit.min(MOST_LISTED),
            _ => return Err(RegistryError::bad("PAGINATION_NUMBER_INVALID", "`n` is not a number from 0")),
        },
    };
    Ok((limit, query(&head.uri, "last").unwrap_or_default()))
}

/// After which name a list goes on that may have more.
fn after(names: &[String], limit: i64) -> Option<String> {
    names.last().filter(|_| i64::try_from(names.len()).is_ok_and(|count| count == limit)).cloned()
}

/// A list, which goes on at `place` after what was `last`.
fn linked(body: skep_wire::Body, kind: &'static str, place: &str, last: Option<String>) -> Response {
    let mut response = reply(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let next = last.and_then(|last| {
        let last: String = form_urlencoded::byte_serialize(last.as_bytes()).collect();
        let and = if place.ends_with('?') { "" } else { "&" };
        HeaderValue::try_from(format!("<{place}{and}last={last}>; rel=\"next\"")).ok()
    });
    headers.extend(next.map(|next| (header::LINK, next)));
    response
}
