//! What of a stored response answers a request: all of it, a range, or that nothing changed. Pure.

use http::{HeaderMap, HeaderName, header};

use crate::freshness::seconds_of_date;
use crate::head::Head;

/// What to answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// 304.
    NotModified,
    /// Everything.
    Whole,
    /// 206: from the first byte on, so many.
    Part { start: u64, len: u64 },
    /// 416.
    Unsatisfiable,
}

/// Chooses by the request's conditional and range headers (RFC 9110 §13.2.2). Several ranges in one request get the
/// whole response, as §14.2 allows.
pub(crate) fn select(request: &HeaderMap, stored: &Head, size: u64) -> Selection {
    if (200..300).contains(&stored.status) && not_modified(request, &stored.headers) {
        return Selection::NotModified;
    }
    let range = text(request, header::RANGE).filter(|_| stored.status == 200);
    match range {
        Some(range) if range_holds(request, &stored.headers) => one_range(range, size),
        _ => Selection::Whole,
    }
}

fn not_modified(request: &HeaderMap, stored: &HeaderMap) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        let Some(etag) = text(stored, header::ETAG).map(|tag| weak(tag.trim())) else { return false };
        return request
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|list| list.trim() == "*" || tags(list).any(|tag| weak(tag) == etag));
    }
    let date = |headers, name| text(headers, name).and_then(seconds_of_date);
    match (date(request, header::IF_MODIFIED_SINCE), date(stored, header::LAST_MODIFIED)) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

/// Whether `If-Range` lets the range stand: a strong tag or the very date (RFC 9110 §13.1.5).
fn range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(condition) = request.get(header::IF_RANGE) else { return true };
    let Ok(condition) = condition.to_str().map(str::trim) else { return false };
    match seconds_of_date(condition) {
        Some(date) => text(stored, header::LAST_MODIFIED).and_then(seconds_of_date) == Some(date),
        None => !condition.starts_with("W/") && text(stored, header::ETAG).map(str::trim) == Some(condition),
    }
}

/// One range of bytes; what is not that is ignored (RFC 9110 §14.2).
fn one_range(range: &str, size: u64) -> Selection {
    let Some((unit, spec)) = range.split_once('=') else { return Selection::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Selection::Whole;
    }
    let Some((first, last)) = spec.split_once('-') else { return Selection::Whole };
    let (Some(first), Some(last)) = (position(first), position(last)) else { return Selection::Whole };
    match (first, last) {
        (Some(first), Some(last)) if first > last => Selection::Whole,
        (Some(first), _) if first >= size => Selection::Unsatisfiable,
        (Some(first), last) => {
            let last = last.unwrap_or(u64::MAX).min(size - 1);
            Selection::Part { start: first, len: last - first + 1 }
        }
        (None, Some(0)) => Selection::Unsatisfiable,
        (None, Some(suffix)) if suffix >= size => Selection::Whole,
        (None, Some(suffix)) => Selection::Part { start: size - suffix, len: suffix },
        (None, None) => Selection::Whole,
    }
}

/// A position: absent, a number (too large counts as the largest), or not a position at all.
fn position(text: &str) -> Option<Option<u64>> {
    match text.trim() {
        "" => Some(None),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(Some(digits.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    }
}

/// The entity tags of a list; commas may stand inside the quotes.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
}

fn weak(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(request: &str, response: &str) -> Selection {
        let parse = |lines: &str| Head::parse(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes()).unwrap();
        select(&parse(request).headers, &parse(response), 10)
    }

    #[test]
    fn a_range_is_cut_to_what_there_is() {
        let range = |spec: &str| ask(&format!("Range: {spec}\r\n"), "");
        assert_eq!(range("bytes=2-4"), Selection::Part { start: 2, len: 3 });
        assert_eq!(range("bytes=8-"), Selection::Part { start: 8, len: 2 });
        assert_eq!(range("bytes=8-99"), Selection::Part { start: 8, len: 2 });
        assert_eq!(range("BYTES = -3"), Selection::Part { start: 7, len: 3 });
        assert_eq!(range("bytes=-99"), Selection::Whole);
        assert_eq!(range("bytes=10-"), Selection::Unsatisfiable);
        assert_eq!(range("bytes=-0"), Selection::Unsatisfiable);
        for ignored in ["bytes=4-2", "bytes=0-1,3-4", "lines=1-2", "bytes=x-1", "bytes", "bytes=-"] {
            assert_eq!(range(ignored), Selection::Whole, "{ignored}");
        }
    }

    #[test]
    fn if_range_needs_the_same_version() {
        let stored = "ETag: \"a\"\r\nLast-Modified: Fri, 15 Jan 2027 08:00:00 GMT\r\n";
        let part = Selection::Part { start: 0, len: 2 };
        assert_eq!(ask("Range: bytes=0-1\r\nIf-Range: \"a\"\r\n", stored), part);
        assert_eq!(ask("Range: bytes=0-1\r\nIf-Range: Fri, 15 Jan 2027 08:00:00 GMT\r\n", stored), part);
        assert_eq!(ask("Range: bytes=0-1\r\nIf-Range: \"b\"\r\n", stored), Selection::Whole);
    }

    #[test]
    fn a_tag_decides_before_a_date() {
        let stored = "ETag: W/\"a,b\"\r\nLast-Modified: Fri, 15 Jan 2027 08:00:00 GMT\r\n";
        let same = Selection::NotModified;
        assert_eq!(ask("If-None-Match: \"x\", \"a,b\"\r\n", stored), same);
        assert_eq!(ask("If-None-Match: *\r\n", stored), same);
        assert_eq!(ask("If-None-Match: \"x\"\r\n", stored), Selection::Whole);
        let date = "If-Modified-Since: Fri, 15 Jan 2027 08:00:00 GMT\r\n";
        assert_eq!(ask(date, stored), same);
        assert_eq!(ask(&format!("If-None-Match: \"x\"\r\n{date}"), stored), Selection::Whole);
        assert_eq!(ask("If-Modified-Since: Fri, 15 Jan 2027 07:59:59 GMT\r\n", stored), Selection::Whole);
    }

    proptest! {
        #[test]
        fn a_part_never_leaves_the_body(spec in "(bytes=)?[0-9 ,-]{0,24}", size in 0..20u64) {
            if let Selection::Part { start, len } = one_range(&spec, size) {
                prop_assert!(len > 0 && start + len <= size, "{start} {len}");
            }
        }
    }
}
