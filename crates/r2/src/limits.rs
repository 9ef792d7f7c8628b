//! What Cloudflare allows (<https://developers.cloudflare.com/r2/platform/limits/>). Pure.

use crate::R2Error;
use crate::model::{CustomField, HttpFields};

/// Longest key, in UTF-8 bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Most custom metadata, counted as [`metadata`] does; the same again for the HTTP fields.
pub const MAX_METADATA_BYTES: usize = 8192;
/// Largest object of one put or one part: 5 GiB − 5 MiB.
pub const MAX_PUT_BYTES: u64 = (5 << 30) - (5 << 20);
/// Largest object of many parts: 5 TiB − 5 GiB.
pub const MAX_OBJECT_BYTES: u64 = (5 << 40) - (5 << 30);
/// Smallest part that is not the last: 5 MiB.
pub const MIN_PART_BYTES: u64 = 5 << 20;
/// Most parts of an upload, and the greatest part number.
pub const MAX_PARTS: u32 = 10_000;
/// Most entries of one list.
pub const MAX_LIST: u32 = 1000;
/// Most keys of one delete.
pub const MAX_DELETE_KEYS: usize = 1000;

pub(crate) fn key(key: &str) -> Result<(), R2Error> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES { Err(R2Error::invalid_object_name()) } else { Ok(()) }
}

/// The characters of keys and values; those of a text with any character past U+00FF count twice.
pub(crate) fn metadata(http: &HttpFields, custom: &[CustomField]) -> Result<(), R2Error> {
    let custom: usize = custom.iter().map(|field| counted(&field.k) + counted(&field.v)).sum();
    let http: usize = http.texts().map(counted).sum();
    if custom > MAX_METADATA_BYTES || http > MAX_METADATA_BYTES {
        return Err(R2Error::metadata_too_large());
    }
    Ok(())
}

fn counted(text: &str) -> usize {
    let units = text.encode_utf16().count();
    if text.chars().any(|c| u32::from(c) >= 256) { units * 2 } else { units }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(k: &str, v: String) -> CustomField {
        CustomField { k: k.into(), v }
    }

    #[test]
    fn keys_have_1_to_1024_bytes() {
        assert!(key(&"k".repeat(1024)).is_ok());
        assert!(key(&"é".repeat(512)).is_ok());
        assert_eq!(key(&"é".repeat(513)).unwrap_err().code(), 10020);
        assert_eq!(key("").unwrap_err().code(), 10020);
    }

    #[test]
    fn wide_characters_make_a_text_count_twice() {
        let http = HttpFields::default();
        assert!(metadata(&http, &[field("k", "é".repeat(8191))]).is_ok());
        assert_eq!(metadata(&http, &[field("k", "é".repeat(8192))]).unwrap_err().code(), 10012);
        assert!(metadata(&http, &[field("k", "€".repeat(4095))]).is_ok());
        assert_eq!(metadata(&http, &[field("k", "€".repeat(4096))]).unwrap_err().code(), 10012);
    }
}
