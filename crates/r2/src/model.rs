//! What is known of an object, in the form of the engine's R2 schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ranges::Span;

/// The HTTP headers kept with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpFields {
    /// `Content-Type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Content-Language`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// `Cache-Control`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// `Expires`, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "crate::request::optional_i64")]
    pub cache_expiry: Option<i64>,
}

impl HttpFields {
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        [
            &self.content_type,
            &self.content_language,
            &self.content_disposition,
            &self.content_encoding,
            &self.cache_control,
        ]
        .into_iter()
        .filter_map(|text| text.as_deref())
    }
}

/// One entry of an object's custom metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomField {
    /// Its name.
    pub k: String,
    /// Its value.
    pub v: String,
}

/// What an object's storage costs at Cloudflare; here all are kept alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StorageClass {
    /// For what is read often.
    #[default]
    Standard,
    /// For what is read once a month or less.
    InfrequentAccess,
}

impl StorageClass {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Standard => "Standard",
            Self::InfrequentAccess => "InfrequentAccess",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Standard, Self::InfrequentAccess].into_iter().find(|class| class.name() == name)
    }
}

/// What a put or a multipart upload says about its object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectOptions {
    /// HTTP headers.
    pub http_fields: HttpFields,
    /// Custom metadata.
    pub custom_fields: Vec<CustomField>,
    /// Storage class.
    pub storage_class: StorageClass,
}

/// How an object is encrypted with its owner's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SsecInfo {
    pub algorithm: String,
    pub key_md5: String,
}

/// What is kept of an object besides its content and its columns; stored as JSON. The first three are its [`ObjectOptions`], which
/// are not flattened into it: serde would first make a copy of all that there is, with each read of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub http_fields: HttpFields,
    pub custom_fields: Vec<CustomField>,
    pub storage_class: StorageClass,
    /// Hex digests by the schema's number of the algorithm.
    pub checksums: BTreeMap<u8, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssec: Option<SsecInfo>,
}

/// An object without its content. Serializes as the engine's `R2HeadResponse`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// The key.
    pub name: String,
    /// Different for every write.
    pub version: String,
    /// Bytes of content.
    pub size: u64,
    /// Hex, without quotes: the content's MD5, or the MD5 of the parts' MD5s, `-` and their number.
    pub etag: String,
    /// When it was written, in milliseconds since the Unix epoch.
    pub uploaded: i64,
    /// HTTP headers; `None` where a list was not asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_fields: Option<HttpFields>,
    /// Custom metadata; `None` where a list was not asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_fields: Option<Vec<CustomField>>,
    /// What part of the content follows; only for `get`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<Span>,
    /// Hex digests by the schema's number of the algorithm: 0 MD5, 1 SHA-1, 2 SHA-256, 3 SHA-384, 4 SHA-512.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checksums: BTreeMap<u8, String>,
    /// Storage class.
    pub storage_class: StorageClass,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ssec: Option<SsecInfo>,
}

impl Object {
    /// The hex MD5 of the key that it is encrypted with, if it is.
    pub fn ssec_key_md5(&self) -> Option<&str> {
        self.ssec.as_ref().map(|ssec| ssec.key_md5.as_str())
    }
}

impl Meta {
    pub fn of(object: &Object) -> Self {
        Self {
            http_fields: object.http_fields.clone().unwrap_or_default(),
            custom_fields: object.custom_fields.clone().unwrap_or_default(),
            storage_class: object.storage_class,
            checksums: object.checksums.clone(),
            ssec: object.ssec.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_object_is_written_and_read_as_it_always_was() {
        let text = r#"{"httpFields":{"contentType":"text/plain"},"customFields":[{"k":"a","v":"b"}],"storageClass":"InfrequentAccess","checksums":{"0":"ab"},"ssec":{"algorithm":"AES256","keyMd5":"cd"}}"#;
        let meta: Meta = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&meta).unwrap(), text);
        assert_eq!(serde_json::from_str::<Meta>(r#"{"new":1}"#).unwrap(), Meta::default());
    }
}
