//! `Range`, `If-Range` and `If-None-Match` (RFC 9110 §13, §14). Cloudflare's own asset worker always sends the whole
//! file; ranges are a superset of what it does.

use http::{HeaderMap, header};

/// What part of a body is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// From the first to before the second byte; never empty.
    Bytes(u64, u64),
    /// None that exists.
    Unsatisfiable,
}

/// Reads the request's `Range` for a body of `size` bytes with this strong `etag`. What is not a single byte range
/// is ignored, as the RFC allows.
pub(crate) fn part(headers: &HeaderMap, size: u64, etag: &[u8]) -> Part {
    let mut ranges = headers.get_all(header::RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Part::Whole };
    let fresh = headers.get(header::IF_RANGE).is_none_or(|condition| condition.as_bytes() == etag);
    match range.to_str() {
        Ok(range) if fresh => parse(range, size).unwrap_or(Part::Whole),
        _ => Part::Whole,
    }
}

fn parse(range: &str, size: u64) -> Option<Part> {
    let (unit, spec) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    let part = match (number(first), number(last)) {
        (Some(first), _) if last.is_empty() => (first, size),
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(size)),
        (None, Some(last)) if first.is_empty() => (size.saturating_sub(last), size),
        _ => return None,
    };
    Some(if part.0 < part.1 { Part::Bytes(part.0, part.1) } else { Part::Unsatisfiable })
}

/// Digits only; a number too large for 64 bits is past every end.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Whether the client has the content already. The comparison is weak: the same content in another encoding
/// counts, its tag is `W/"<hash>"`.
pub(crate) fn none_match(headers: &HeaderMap, hash: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        value.to_str().is_ok_and(|list| {
            list.split(',').map(str::trim).any(|tag| {
                let opaque = tag.strip_prefix("W/").unwrap_or(tag);
                tag == "*" || opaque.strip_prefix('"').and_then(|t| t.strip_suffix('"')) == Some(hash)
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn asked(range: &str) -> Part {
        parse(range, 100).unwrap_or(Part::Whole)
    }

    #[test]
    fn a_single_range_is_cut_to_the_size() {
        assert_eq!(asked("bytes=0-9"), Part::Bytes(0, 10));
        assert_eq!(asked("bytes=90-"), Part::Bytes(90, 100));
        assert_eq!(asked("bytes=-10"), Part::Bytes(90, 100));
        assert_eq!(asked("bytes=-1000"), Part::Bytes(0, 100));
        assert_eq!(asked("bytes=50-99999999999999999999999"), Part::Bytes(50, 100));
        assert_eq!(asked("Bytes=0-0"), Part::Bytes(0, 1));
        for beyond in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            assert_eq!(asked(beyond), Part::Unsatisfiable, "{beyond}");
        }
        for other in
            ["bytes=5-2", "bytes=a-b", "bytes=0-1,5-6", "items=0-1", "bytes=-", "bytes", "bytes=+1-2"]
        {
            assert_eq!(asked(other), Part::Whole, "{other}");
        }
        assert_eq!(parse("bytes=0-", 0), Some(Part::Unsatisfiable));
    }

    #[test]
    fn if_range_asks_for_the_whole_when_the_content_changed() {
        let part_if = |condition: &'static str| {
            let headers = HeaderMap::from_iter([
                (header::RANGE, HeaderValue::from_static("bytes=0-9")),
                (header::IF_RANGE, HeaderValue::from_static(condition)),
            ]);
            part(&headers, 100, b"\"abc\"")
        };
        assert_eq!(part_if("\"abc\""), Part::Bytes(0, 10));
        for other in ["\"abd\"", "W/\"abc\"", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(part_if(other), Part::Whole, "{other}");
        }
    }

    #[test]
    fn tags_match_in_lists_and_weakly() {
        let has = |value: &'static str| {
            none_match(
                &HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))]),
                "abc",
            )
        };
        for yes in ["\"abc\"", "W/\"abc\"", "\"x\", W/\"abc\"", "*"] {
            assert!(has(yes), "{yes}");
        }
        for no in ["\"abd\"", "abc", "", "\"abc"] {
            assert!(!has(no), "{no}");
        }
    }

    proptest! {
        #[test]
        fn a_range_lies_within_the_body(range in "(bytes=)?[0-9-]{0,25}|\\PC{0,20}", size in 0..1000_u64) {
            if let Some(Part::Bytes(from, to)) = parse(&range, size) {
                prop_assert!(from < to && to <= size);
            }
        }
    }
}
