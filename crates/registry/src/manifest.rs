//! What a manifest says of the image, and whether it can be taken. Pure.
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md>

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::name::Digest;

/// The longest manifest that a registry has to take.
pub const MAX_MANIFEST: usize = 4 << 20;
/// Things that one manifest may name.
const MAX_NAMED: usize = 4096;
/// Bytes of annotations that are shown with what refers to a manifest. Who wants more reads it.
const MAX_ANNOTATIONS: usize = 64 << 10;
/// What each of them counts beside its text.
const PAIR: usize = 8;
/// The longest media type, RFC 6838 §4.2.
const MAX_KIND: usize = 255;

const IMAGES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Of the list of those that refer to a manifest.
pub(crate) const INDEX: &str = INDEXES[0];

/// What is named in a manifest, by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub digest: Digest,
    pub size: u64,
}

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub media_type: String,
    /// Layers and the configuration.
    pub blobs: Vec<Named>,
    /// Other manifests.
    pub manifests: Vec<Named>,
    /// The manifest that it says something about.
    pub subject: Option<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    urls: Option<Vec<IgnoredAny>>,
}

impl Descriptor {
    /// Whether it is to be had elsewhere, by somebody's licence.
    fn is_elsewhere(&self) -> bool {
        let kind = &self.media_type;
        self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
            && (kind.contains("foreign") || kind.contains("nondistributable"))
    }

    fn named(&self) -> Result<Named, String> {
        let digest = Digest::parse(&self.digest)
            .ok_or_else(|| format!("\"{}\" is not a sha256 digest", self.digest))?;
        Ok(Named { digest, size: self.size })
    }
}

/// Reads a manifest that came with this `Content-Type`. The error is for the one who sent it.
pub(crate) fn read(content: &[u8], content_type: Option<&str>) -> Result<Said, String> {
    let document: Document =
        serde_json::from_slice(content).map_err(|e| format!("the manifest is not one: {e}"))?;
    if document.schema_version != 2 {
        return Err(format!("manifests of schema version {} are not taken: 2 is", document.schema_version));
    }
    let said = content_type.and_then(|kind| kind.split(';').next()).map(str::trim);
    let media_type = match (said.filter(|kind| !kind.is_empty()), &document.media_type) {
        (Some(said), Some(own)) if said != own => {
            return Err(format!("the manifest says that it is {own}, its Content-Type {said}"));
        }
        (Some(said), _) => said.to_owned(),
        (None, Some(own)) => own.clone(),
        (None, None) => return Err("the manifest has no media type".to_owned()),
    };
    let is_image = IMAGES.contains(&media_type.as_str());
    if !is_image && !INDEXES.contains(&media_type.as_str()) {
        return Err(format!("{media_type} is not a kind of manifest that is taken"));
    }
    let (mut blobs, mut manifests) = (Vec::new(), Vec::new());
    match is_image {
        true if document.manifests.is_some() => {
            return Err("an image's manifest has no `manifests`".to_owned());
        }
        true => {
            let config = document.config.ok_or("an image's manifest has a `config`")?;
            blobs.push(config.named()?);
            let layers = document.layers.ok_or("an image's manifest has `layers`")?;
            for layer in layers.iter().filter(|layer| !layer.is_elsewhere()) {
                blobs.push(layer.named()?);
            }
        }
        false if document.layers.is_some() || document.config.is_some() => {
            return Err("an index has neither `config` nor `layers`".to_owned());
        }
        false => {
            for child in document.manifests.ok_or("an index has `manifests`")? {
                manifests.push(child.named()?);
            }
        }
    }
    if blobs.len() + manifests.len() > MAX_NAMED {
        return Err(format!("a manifest names at most {MAX_NAMED} others"));
    }
    let subject = document.subject.map(|subject| subject.named()).transpose()?.map(|named| named.digest);
    Ok(Said { media_type, blobs, manifests, subject })
}

/// How a manifest is shown to those who ask what refers to its subject.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown<'a> {
    media_type: &'a str,
    digest: &'a str,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

/// What of a manifest is shown. All else is passed over.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    artifact_type: Option<String>,
    config: Option<Config>,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: Option<String>,
}

/// Annotations, unless there is too much of them.
struct Annotations(Option<BTreeMap<String, String>>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Gather)
    }
}

struct Gather;

impl<'de> Visitor<'de> for Gather {
    type Value = Annotations;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
        let (mut all, mut size) = (BTreeMap::new(), 0);
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            size += key.len() + value.len() + PAIR;
            if size > MAX_ANNOTATIONS {
                drop(all);
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(Annotations(None));
            }
            all.insert(key, value);
        }
        Ok(Annotations(Some(all)))
    }
}

/// Reads what is shown of a manifest, in little memory beside the content.
pub(crate) fn shown<'a>(digest: &'a str, media_type: &'a str, content: &[u8]) -> Shown<'a> {
    let summary: Summary = serde_json::from_slice(content).unwrap_or_default();
    let kind = summary.artifact_type.or_else(|| summary.config?.media_type);
    Shown {
        media_type,
        digest,
        size: content.len(),
        artifact_type: kind.filter(|kind| kind.len() <= MAX_KIND),
        annotations: summary.annotations.and_then(|own| own.0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    fn digest(n: u8) -> String {
        format!("sha256:{}", format!("{n:02x}").repeat(32))
    }

    fn image() -> Json {
        json!({
            "schemaVersion": 2, "mediaType": IMAGES[1],
            "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest(1), "size": 7 },
            "layers": [
                { "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": digest(2), "size": 9 },
                { "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": digest(3),
                  "size": 9, "urls": ["https://elsewhere.test"] },
            ],
        })
    }

    fn read_json(document: &Json, kind: Option<&str>) -> Result<Said, String> {
        read(document.to_string().as_bytes(), kind)
    }

    #[test]
    fn an_image_needs_its_configuration_and_the_layers_that_are_not_elsewhere() {
        let said = read_json(&image(), Some(&format!("{}; charset=utf-8", IMAGES[1]))).unwrap();
        let names: Vec<_> = said.blobs.iter().map(|own| (own.digest.as_str().to_owned(), own.size)).collect();
        assert_eq!(names, [(digest(1), 7), (digest(2), 9)]);
        assert_eq!((said.media_type.as_str(), said.subject), (IMAGES[1], None));
        let index = json!({ "schemaVersion": 2, "manifests": [{ "digest": digest(4), "size": 1 }],
            "subject": { "digest": digest(5), "size": 1 } });
        let said = read_json(&index, Some(INDEX)).unwrap();
        assert_eq!((said.manifests.len(), said.blobs.len()), (1, 0));
        assert_eq!(said.subject, Digest::parse(&digest(5)));
    }

    #[test]
    fn what_is_no_manifest_is_refused_with_a_reason() {
        let with = |key: &str, value: Json| {
            let mut document = image();
            document[key] = value;
            document
        };
        for (document, part) in [
            (with("schemaVersion", json!(1)), "schema version 1"),
            (with("mediaType", json!("text/plain")), "Content-Type"),
            (with("config", json!({ "digest": "sha256:../x", "size": 1 })), "not a sha256 digest"),
            (with("layers", json!("x")), "not one"),
            (with("layers", Json::Null), "has `layers`"),
            (with("layers", json!([{ "digest": digest(2), "size": -1 }])), "not one"),
            (with("manifests", json!([])), "has no `manifests`"),
            (json!([]), "not one"),
        ] {
            let error = read_json(&document, Some(IMAGES[1])).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let error = read_json(&json!({ "schemaVersion": 2, "config": {} }), None).unwrap_err();
        assert!(error.contains("not one"), "{error}");
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(content in proptest::collection::vec(any::<u8>(), 0..200), kind in "\\PC{0,20}") {
            let _ = read(&content, Some(&kind));
            let _ = shown("x", "y", &content);
        }

        #[test]
        fn a_part_that_is_cut_off_is_no_manifest(cut in 0usize..400) {
            let text = image().to_string();
            let cut = cut.min(text.len() - 1);
            prop_assert!(read(&text.as_bytes()[..cut], None).is_err());
        }
    }
}
