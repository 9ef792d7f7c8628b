//! Cloudflare's limits (<https://developers.cloudflare.com/kv/platform/limits/>) and the checks that keep them.
//! All pure.

use crate::error::KvError;
use crate::types::Expiration;

/// Bytes of a key in UTF-8.
pub const MAX_KEY_BYTES: usize = 512;
/// Bytes of a value: 25 MiB.
pub const MAX_VALUE_BYTES: u64 = 25 * 1024 * 1024;
/// Bytes of an entry's metadata as JSON.
pub const MAX_METADATA_BYTES: usize = 1024;
/// Keys on one page of a list.
pub const MAX_LIST_KEYS: usize = 1000;
/// Keys of one bulk get.
pub const MAX_BULK_GET_KEYS: usize = 100;
/// Bytes of all values of one bulk get.
pub(crate) const MAX_BULK_GET_BYTES: u64 = 25 * 1024 * 1024;
/// Keys of one bulk put or bulk delete.
pub const MAX_BULK_WRITE_KEYS: usize = 10_000;
/// Seconds from now to an expiry, at least.
pub const MIN_TTL_SECS: u64 = 60;
/// Seconds of `cacheTtl`, at least.
pub(crate) const MIN_CACHE_TTL_SECS: u64 = 30;
/// Values up to this many bytes live in the database: there they share one flush with all writes of their
/// moment, while a content file costs two of its own. Above it, copying through the log costs more than that.
pub(crate) const INLINE_MAX: usize = 64 * 1024;

pub(crate) fn check_key(key: &str) -> Result<(), KvError> {
    match key {
        "" => Err(KvError::EmptyKey),
        "." | ".." => Err(KvError::IllegalKey(key.to_owned())),
        _ => check_key_len(key),
    }
}

/// The length alone: what holds for a list's prefix, too.
pub(crate) fn check_key_len(key: &str) -> Result<(), KvError> {
    if key.len() > MAX_KEY_BYTES { Err(KvError::KeyTooLong(key.len())) } else { Ok(()) }
}

/// The metadata as stored: valid JSON in a form that fits a header (no line breaks, no `DEL`).
pub(crate) fn check_metadata(json: &str) -> Result<String, KvError> {
    if json.len() > MAX_METADATA_BYTES {
        return Err(KvError::MetadataTooLong(json.len()));
    }
    serde_json::from_str::<&serde_json::value::RawValue>(json).map_err(|_| KvError::MetadataNotJson)?;
    // Valid JSON has control characters as white space only, and DEL only inside strings.
    Ok(json.replace(['\n', '\r', '\t'], " ").replace('\x7f', "\\u007f"))
}

/// The second from which an entry is gone.
pub(crate) fn expires_at(expiration: Expiration, now_secs: u64) -> Result<u64, KvError> {
    match expiration {
        Expiration::After(0) => Err(KvError::TtlNotPositive("0".to_owned())),
        Expiration::After(ttl) if ttl < MIN_TTL_SECS => Err(KvError::TtlTooShort(ttl)),
        Expiration::After(ttl) => now_secs
            .checked_add(ttl)
            .filter(|at| i64::try_from(*at).is_ok())
            .ok_or_else(|| KvError::TtlNotPositive(ttl.to_string())),
        Expiration::At(at) if at <= now_secs || i64::try_from(at).is_err() => {
            Err(KvError::ExpirationPassed(at.to_string()))
        }
        Expiration::At(at) if at - now_secs < MIN_TTL_SECS => Err(KvError::ExpirationTooSoon(at)),
        Expiration::At(at) => Ok(at),
    }
}

/// Reads the two expiry parameters of a put; a time to live wins.
pub(crate) fn parse_expiration(at: Option<&str>, ttl: Option<&str>) -> Result<Option<Expiration>, KvError> {
    match (at, ttl) {
        (_, Some(ttl)) => match ttl.parse() {
            Ok(secs) => Ok(Some(Expiration::After(secs))),
            Err(_) => Err(KvError::TtlNotPositive(ttl.to_owned())),
        },
        (Some(at), None) => match at.parse() {
            Ok(secs) => Ok(Some(Expiration::At(secs))),
            Err(_) => Err(KvError::ExpirationPassed(at.to_owned())),
        },
        (None, None) => Ok(None),
    }
}

/// `cacheTtl` is checked and has no other meaning: there is no cache that could be stale.
pub(crate) fn check_cache_ttl(text: &str) -> Result<(), KvError> {
    match text.parse::<u64>() {
        Ok(secs) if secs >= MIN_CACHE_TTL_SECS => Ok(()),
        _ => Err(KvError::CacheTtl(text.to_owned())),
    }
}

pub(crate) fn parse_list_limit(text: &str) -> Result<usize, KvError> {
    match text.parse::<i64>() {
        Ok(limit) if limit > MAX_LIST_KEYS as i64 => Err(KvError::LimitTooLarge(text.to_owned())),
        Ok(limit) if limit > 0 => Ok(limit as usize),
        _ => Err(KvError::LimitNotPositive(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: std::fmt::Debug>(result: Result<T, KvError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn an_expiry_is_at_least_a_minute_away() {
        assert_eq!(expires_at(Expiration::After(60), 1000).unwrap(), 1060);
        assert_eq!(expires_at(Expiration::At(1060), 1000).unwrap(), 1060);
        assert_eq!(
            text(expires_at(Expiration::After(59), 1000)),
            "Invalid expiration_ttl of 59. Expiration TTL must be at least 60."
        );
        assert_eq!(
            text(expires_at(Expiration::At(1059), 1000)),
            "Invalid expiration of 1059. Expiration times must be at least 60 seconds in the future."
        );
        assert_eq!(
            text(expires_at(Expiration::At(1000), 1000)),
            "Invalid expiration of 1000. Please specify integer greater than the current number of seconds since \
             the UNIX epoch."
        );
        assert!(expires_at(Expiration::After(u64::MAX), 1000).is_err());
        assert!(expires_at(Expiration::At(u64::MAX), 1000).is_err());
    }

    #[test]
    fn a_time_to_live_wins_over_a_time() {
        assert_eq!(parse_expiration(Some("x"), Some("90")).unwrap(), Some(Expiration::After(90)));
        assert_eq!(
            text(parse_expiration(None, Some("-5"))),
            "Invalid expiration_ttl of -5. Please specify integer greater than 0."
        );
    }

    #[test]
    fn metadata_fits_a_header() {
        assert_eq!(check_metadata("{\n\"a\":\"\x7f\"}").unwrap(), "{ \"a\":\"\\u007f\"}");
        assert_eq!(text(check_metadata("{a}")), "Metadata must be valid JSON");
        let long = format!("\"{}\"", "x".repeat(1023));
        assert_eq!(text(check_metadata(&long)), "Metadata length of 1025 exceeds limit of 1024.");
    }

    #[test]
    fn list_limits_have_cloudflares_texts() {
        assert_eq!(parse_list_limit("1000").unwrap(), 1000);
        assert_eq!(
            text(parse_list_limit("1001")),
            "Invalid key_count_limit of 1001. Please specify an integer less than 1000."
        );
        assert_eq!(
            text(parse_list_limit("x")),
            "Invalid key_count_limit of x. Please specify an integer greater than 0."
        );
    }
}
