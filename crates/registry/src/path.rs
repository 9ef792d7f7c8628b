//! What an address stands for. Pure.

use http::Uri;
use percent_encoding::percent_decode_str;

use crate::name::{Digest, Reference, Repository};

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Whether there is a registry here, and the credentials are good.
    Base,
    /// The repositories of an account.
    Catalog,
    /// The removal of what nobody needs.
    Garbage,
    /// Something in a repository of an account.
    Within(String, Repository, Part),
}

/// Something in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Blob(Digest),
    /// Where uploads begin.
    Uploads,
    Upload(String),
    Manifest(Reference),
    Tags,
    Referrers(Digest),
}

/// Why an address stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTarget {
    Unknown,
    Name,
    Digest,
    Reference,
}

/// The longest id of an upload.
const MAX_ID: usize = 64;

/// Reads a path below `/v2`, which may have a trailing slash.
pub(crate) fn read(path: &str) -> Result<Target, NoTarget> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    // A slash that is encoded stays within its segment, where no name has one.
    let segments: Option<Vec<String>> = path
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8().ok().map(|text| text.into_owned()))
        .collect();
    let segments = segments.ok_or(NoTarget::Name)?;
    let texts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match texts[..] {
        [""] => Ok(Target::Base),
        ["_catalog"] => Ok(Target::Catalog),
        ["gc", "layers"] => Ok(Target::Garbage),
        [ref name @ .., "blobs", "uploads"] => within(name, Ok(Part::Uploads)),
        [ref name @ .., "blobs", "uploads", id] => {
            let is_id = id.len() <= MAX_ID && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            within(name, if is_id { Ok(Part::Upload(id.to_owned())) } else { Err(NoTarget::Unknown) })
        }
        [ref name @ .., "blobs", digest] => {
            within(name, Digest::parse(digest).map(Part::Blob).ok_or(NoTarget::Digest))
        }
        [ref name @ .., "manifests", reference] => {
            within(name, Reference::parse(reference).map(Part::Manifest).ok_or(NoTarget::Reference))
        }
        [ref name @ .., "referrers", digest] => {
            within(name, Digest::parse(digest).map(Part::Referrers).ok_or(NoTarget::Digest))
        }
        [ref name @ .., "tags", "list"] => within(name, Ok(Part::Tags)),
        _ => Err(NoTarget::Unknown),
    }
}

fn within(name: &[&str], part: Result<Part, NoTarget>) -> Result<Target, NoTarget> {
    let (account, repository) = name.split_first().ok_or(NoTarget::Name)?;
    let is_account = !account.is_empty() && account.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_account || name.iter().any(|part| part.contains('/')) {
        return Err(NoTarget::Name);
    }
    let repository = Repository::parse(&repository.join("/")).ok_or(NoTarget::Name)?;
    Ok(Target::Within((*account).to_owned(), repository, part?))
}

/// What the query says of `name`, the last time that it does.
pub(crate) fn query(uri: &Uri, name: &str) -> Option<String> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.filter(|(key, _)| key == name).last().map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn target(account: &str, name: &str, part: Part) -> Result<Target, NoTarget> {
        Ok(Target::Within(account.into(), Repository::parse(name).unwrap(), part))
    }

    #[test]
    fn an_address_is_read_from_its_end() {
        let digest = || Digest::parse(DIGEST).unwrap();
        assert_eq!(read("/"), Ok(Target::Base));
        assert_eq!(read(""), Ok(Target::Base));
        assert_eq!(read("/_catalog"), Ok(Target::Catalog));
        assert_eq!(read("/gc/layers"), Ok(Target::Garbage));
        assert_eq!(
            read(&format!("/acc/app/web/blobs/{DIGEST}")),
            target("acc", "app/web", Part::Blob(digest()))
        );
        assert_eq!(
            read(&format!("/acc/app/blobs/{}", DIGEST.replace(':', "%3A"))),
            target("acc", "app", Part::Blob(digest()))
        );
        assert_eq!(read("/acc/app/blobs/uploads/"), target("acc", "app", Part::Uploads));
        assert_eq!(read("/acc/app/blobs/uploads/x-1"), target("acc", "app", Part::Upload("x-1".into())));
        assert_eq!(read("/acc/tags/list/tags/list"), target("acc", "tags/list", Part::Tags));
        assert_eq!(
            read("/acc/blobs/uploads/manifests/v1"),
            target("acc", "blobs/uploads", Part::Manifest(Reference::parse("v1").unwrap()))
        );
    }

    #[test]
    fn what_leaves_its_place_stands_for_nothing() {
        for (path, why) in [
            ("/acc/../other/tags/list", NoTarget::Name),
            ("/acc/%2e%2e/tags/list", NoTarget::Name),
            ("/acc/a%2Fb/tags/list", NoTarget::Name),
            ("/acc%2Fapp/x/tags/list", NoTarget::Name),
            ("/acc/a%00/tags/list", NoTarget::Name),
            ("//app/tags/list", NoTarget::Name),
            ("/acc/tags/list", NoTarget::Name),
            ("/acc/app/manifests/..", NoTarget::Reference),
            ("/acc/app/blobs/sha256:xyz", NoTarget::Digest),
            ("/acc/app/blobs/uploads/..", NoTarget::Unknown),
            ("/acc/app", NoTarget::Unknown),
        ] {
            assert_eq!(read(path), Err(why), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_address_is_read_or_refused(path in "[/a-z0-9:%._-]{0,60}|\\PC{0,40}") {
            if let Ok(Target::Within(account, repository, _)) = read(&path) {
                prop_assert!(account.bytes().all(|b| b.is_ascii_alphanumeric()));
                prop_assert!(Repository::parse(repository.as_str()).is_some());
            }
        }
    }
}
