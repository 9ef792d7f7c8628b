//! What part of an object a read is for. Pure.

use serde::{Deserialize, Serialize};

use crate::R2Error;

/// A part of an object as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Range {
    /// From `offset` (0) on, `length` bytes (to the end).
    From {
        /// First byte.
        offset: Option<i64>,
        /// Bytes.
        length: Option<i64>,
    },
    /// The last bytes.
    Suffix(i64),
    /// The text of a `Range` header (RFC 9110 §14.2); ignored unless it is one satisfiable range.
    Header(String),
}

/// A part of an object that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// The part of an object of `size` bytes that `range` stands for.
pub(crate) fn resolve(range: Option<&Range>, size: u64) -> Result<Span, R2Error> {
    let whole = Span { offset: 0, length: size };
    match range {
        None => Ok(whole),
        Some(Range::Header(text)) => Ok(single(text, size).unwrap_or(whole)),
        Some(Range::Suffix(suffix)) => {
            let suffix = u64::try_from(*suffix).unwrap_or(0).min(size);
            if suffix == 0 {
                return Err(R2Error::invalid_range());
            }
            Ok(Span { offset: size - suffix, length: suffix })
        }
        Some(Range::From { offset, length }) => {
            let offset = u64::try_from(offset.unwrap_or(0)).map_err(|_| R2Error::invalid_range())?;
            let rest = size.checked_sub(offset).ok_or_else(R2Error::invalid_range)?;
            let length = match length {
                None => rest,
                Some(length) => u64::try_from(*length).unwrap_or(0),
            };
            if length == 0 {
                return Err(R2Error::invalid_range());
            }
            Ok(Span { offset, length: length.min(rest) })
        }
    }
}

fn single(text: &str, size: u64) -> Option<Span> {
    match asked(text, size) {
        Asked::Part(span) => Some(span),
        Asked::Nothing | Asked::PastTheEnd => None,
    }
}

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing that is one range of bytes: then it is as if it was not there.
    Nothing,
    /// Bytes that are not there.
    PastTheEnd,
    /// A part.
    Part(Span),
}

/// What the text of a `Range` header asks for of `size` bytes.
pub(crate) fn asked(text: &str, size: u64) -> Asked {
    let parsed = || -> Option<Asked> {
        let (unit, spec) = text.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = spec.trim().split_once('-')?;
        let (first, last) = (first.trim(), last.trim());
        if first.is_empty() {
            let suffix = number(last)?.min(size);
            return Some(match suffix {
                0 => Asked::PastTheEnd,
                _ => Asked::Part(Span { offset: size - suffix, length: suffix }),
            });
        }
        let first = number(first)?;
        let end = if last.is_empty() { u64::MAX } else { number(last)?.saturating_add(1) };
        if end <= first {
            return None;
        }
        Some(match first < size {
            true => Asked::Part(Span { offset: first, length: end.min(size) - first }),
            false => Asked::PastTheEnd,
        })
    };
    parsed().unwrap_or(Asked::Nothing)
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // A number too large for us is past the end of any object.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(text: &str, size: u64) -> (u64, u64) {
        let span = resolve(Some(&Range::Header(text.into())), size).unwrap();
        (span.offset, span.length)
    }

    #[test]
    fn a_header_counts_only_if_it_is_one_satisfiable_range() {
        assert_eq!(header("bytes=1-2", 10), (1, 2));
        assert_eq!(header("bytes=4-", 10), (4, 6));
        assert_eq!(header("bytes=-3", 10), (7, 3));
        assert_eq!(header("bytes=-30", 10), (0, 10));
        assert_eq!(header("bytes=5-99999999999999999999999", 10), (5, 5));
        for ignored in [
            "bytes=10-",
            "bytes=3-2",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=a-b",
            "bytes=-0",
            "",
            "bytes=+1-2",
        ] {
            assert_eq!(header(ignored, 10), (0, 10), "{ignored}");
        }
    }

    #[test]
    fn options_past_the_end_are_errors_or_clamped() {
        let from =
            |offset, length| resolve(Some(&Range::From { offset, length }), 10).map(|s| (s.offset, s.length));
        assert_eq!(from(Some(2), Some(3)).unwrap(), (2, 3));
        assert_eq!(from(Some(2), Some(300)).unwrap(), (2, 8));
        assert_eq!(from(Some(11), None).unwrap_err().code(), 10039);
        assert_eq!(from(None, Some(0)).unwrap_err().code(), 10039);
        assert_eq!(from(Some(-1), None).unwrap_err().code(), 10039);
        assert_eq!(resolve(Some(&Range::Suffix(0)), 10).unwrap_err().status(), 416);
        assert_eq!(resolve(Some(&Range::Suffix(40)), 10).unwrap().length, 10);
    }

    proptest! {
        #[test]
        fn a_span_is_always_inside_the_object(text in "(bytes=)?[0-9,\\- ]{0,12}|.*", size in 0u64..100,
            offset in any::<Option<i64>>(), length in any::<Option<i64>>(), suffix in any::<i64>()) {
            for range in [Range::Header(text), Range::From { offset, length }, Range::Suffix(suffix)] {
                if let Ok(span) = resolve(Some(&range), size) {
                    prop_assert!(span.offset + span.length <= size);
                }
            }
        }
    }
}
