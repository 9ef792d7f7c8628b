//! Calls in the engine's JSON (`r2-api.capnp` in workerd). Pure; takes hostile input.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::R2Error;
use crate::checksum::{Algorithm, Expected};
use crate::condition::Conditional;
use crate::list::ListOptions;
use crate::model::{CustomField, HttpFields, ObjectOptions, StorageClass};
use crate::multipart::PublishedPart;
use crate::ranges::Range;
use crate::read::GetOptions;
use crate::ssec::SsecKey;
use crate::write::PutOptions;

/// A call of the binding.
#[derive(Debug)]
pub(crate) enum Call {
    Head { key: String },
    Get { key: String, options: Box<GetOptions> },
    List(Box<ListOptions>),
    Put { key: String, options: Box<PutOptions> },
    Create { key: String, options: Box<ObjectOptions>, ssec: Option<SsecKey> },
    UploadPart { key: String, upload: String, number: u32, ssec: Option<SsecKey> },
    Complete { key: String, upload: String, parts: Vec<PublishedPart> },
    Abort { key: String, upload: String },
    Delete { keys: Vec<String> },
}

/// Every field of every call; most are absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    version: u32,
    method: String,
    object: Option<String>,
    objects: Option<Vec<String>>,
    range: Option<RawRange>,
    range_header: Option<String>,
    only_if: Option<Conditional>,
    ssec: Option<RawSsec>,
    custom_fields: Vec<CustomField>,
    http_fields: HttpFields,
    storage_class: Option<String>,
    md5: Option<String>,
    sha1: Option<String>,
    sha256: Option<String>,
    sha384: Option<String>,
    sha512: Option<String>,
    upload_id: Option<String>,
    part_number: Option<u32>,
    parts: Option<Vec<PublishedPart>>,
    limit: Option<i64>,
    prefix: String,
    cursor: Option<String>,
    delimiter: Option<String>,
    start_after: Option<String>,
    include: Option<Vec<u8>>,
    new_runtime: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRange {
    #[serde(deserialize_with = "optional_i64")]
    offset: Option<i64>,
    #[serde(deserialize_with = "optional_i64")]
    length: Option<i64>,
    #[serde(deserialize_with = "optional_i64")]
    suffix: Option<i64>,
}

#[derive(Deserialize)]
struct RawSsec {
    key: String,
}

/// Reads a call.
pub(crate) fn parse(json: &[u8]) -> Result<Call, R2Error> {
    let mut raw: Raw = serde_json::from_slice(json).map_err(|_| invalid())?;
    if raw.version != 1 {
        return Err(invalid());
    }
    let method = std::mem::take(&mut raw.method);
    match method.as_str() {
        "head" => Ok(Call::Head { key: raw.key()? }),
        "get" => Ok(Call::Get {
            key: raw.key()?,
            options: Box::new(GetOptions {
                range: raw.range(),
                ssec: raw.ssec()?,
                only_if: raw.only_if.unwrap_or_default(),
            }),
        }),
        "list" => Ok(Call::List(Box::new(raw.list()))),
        "put" => Ok(Call::Put {
            key: raw.key()?,
            options: Box::new(PutOptions {
                checksum: raw.checksum()?,
                ssec: raw.ssec()?,
                only_if: raw.only_if.take().unwrap_or_default(),
                object: raw.options()?,
                length: None,
                copies: false,
            }),
        }),
        "createMultipartUpload" => {
            Ok(Call::Create { key: raw.key()?, ssec: raw.ssec()?, options: Box::new(raw.options()?) })
        }
        "uploadPart" => Ok(Call::UploadPart {
            key: raw.key()?,
            upload: raw.upload()?,
            number: raw.part_number.unwrap_or(0),
            ssec: raw.ssec()?,
        }),
        "completeMultipartUpload" => Ok(Call::Complete {
            key: raw.key()?,
            upload: raw.upload()?,
            parts: raw.parts.unwrap_or_default(),
        }),
        "abortMultipartUpload" => Ok(Call::Abort { key: raw.key()?, upload: raw.upload()? }),
        "delete" => {
            let mut keys = raw.objects.unwrap_or_default();
            keys.extend(raw.object);
            Ok(Call::Delete { keys })
        }
        _ => Err(invalid()),
    }
}

pub(crate) fn invalid() -> R2Error {
    R2Error::invalid_argument("Metadata missing or invalid")
}

impl Raw {
    fn key(&mut self) -> Result<String, R2Error> {
        self.object.take().ok_or_else(invalid)
    }

    fn upload(&mut self) -> Result<String, R2Error> {
        self.upload_id.take().ok_or_else(invalid)
    }

    fn ssec(&self) -> Result<Option<SsecKey>, R2Error> {
        self.ssec.as_ref().map(|ssec| SsecKey::from_hex(&ssec.key)).transpose()
    }

    fn range(&mut self) -> Option<Range> {
        if let Some(header) = self.range_header.take() {
            return Some(Range::Header(header));
        }
        let RawRange { offset, length, suffix } = self.range.take()?;
        Some(suffix.map_or(Range::From { offset, length }, Range::Suffix))
    }

    fn options(&mut self) -> Result<ObjectOptions, R2Error> {
        let storage_class = match self.storage_class.as_deref() {
            None | Some("" | "Standard") => StorageClass::Standard,
            Some("InfrequentAccess") => StorageClass::InfrequentAccess,
            Some(_) => {
                return Err(R2Error::invalid_argument("The storage class you specified is not valid."));
            }
        };
        Ok(ObjectOptions {
            http_fields: std::mem::take(&mut self.http_fields),
            custom_fields: std::mem::take(&mut self.custom_fields),
            storage_class,
        })
    }

    fn checksum(&self) -> Result<Option<Expected>, R2Error> {
        if let Some(text) = &self.md5 {
            let digest = STANDARD.decode(text).map_err(|_| invalid())?;
            return Expected::new(Algorithm::Md5, digest).map(Some);
        }
        let given = [
            (Algorithm::Sha1, &self.sha1),
            (Algorithm::Sha256, &self.sha256),
            (Algorithm::Sha384, &self.sha384),
            (Algorithm::Sha512, &self.sha512),
        ];
        let Some((algorithm, text)) = given.into_iter().find_map(|(a, text)| Some((a, text.as_ref()?)))
        else {
            return Ok(None);
        };
        Expected::new(algorithm, hex::decode(text).map_err(|_| invalid())?).map(Some)
    }

    fn list(self) -> ListOptions {
        // A runtime older than `include` expects both kinds of metadata without asking.
        let includes = |kind| self.include.as_ref().map_or(!self.new_runtime, |list| list.contains(&kind));
        ListOptions {
            include_http: includes(0),
            include_custom: includes(1),
            prefix: self.prefix,
            delimiter: self.delimiter,
            start_after: self.start_after,
            cursor: self.cursor,
            limit: self.limit,
        }
    }
}

/// 64-bit integers are strings in Cap'n Proto's JSON; numbers are taken too.
pub(crate) fn optional_i64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    struct Integer;
    impl Visitor<'_> for Integer {
        type Value = Option<i64>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a 64-bit integer, as a number or a string")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
            Ok(Some(value))
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
            Ok(Some(i64::try_from(value).unwrap_or(i64::MAX)))
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
            value.parse().map(Some).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Integer)
}
