//! Which bytes are asked for, and which are sent. Pure.

/// Bytes of a file: where they begin and how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub offset: u64,
    pub len: u64,
}

/// What a `Range` header asks for of `size` bytes: `None` if it is to be ignored, an error if there is none of it.
/// RFC 9110 §14.2; several ranges at once are ignored.
pub(crate) fn asked(header: &str, size: u64) -> Option<Result<Span, ()>> {
    let spec = header.trim().strip_prefix("bytes=")?.trim();
    let (first, last) = spec.split_once('-')?;
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    if first.is_empty() {
        let count = number(last)?.min(size);
        return Some(if count == 0 { Err(()) } else { Ok(Span { offset: size - count, len: count }) });
    }
    let first = number(first)?;
    let last = match last {
        "" => u64::MAX,
        text => number(text)?,
    };
    if last < first {
        return None;
    }
    if first >= size {
        return Some(Err(()));
    }
    Some(Ok(Span { offset: first, len: last.min(size - 1) - first + 1 }))
}

/// Where the bytes of a chunk begin, by its `Content-Range`: `5-9`, as the specification has it, or `bytes 5-9/10`.
pub(crate) fn chunk(header: &str) -> Option<u64> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, str::trim_start);
    let (first, last) = text.split('/').next()?.split_once('-')?;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    (last >= first || last.checked_add(1) == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_cut_to_what_there_is() {
        let span = |offset, len| Some(Ok(Span { offset, len }));
        assert_eq!(asked("bytes=0-3", 10), span(0, 4));
        assert_eq!(asked("bytes=4-", 10), span(4, 6));
        assert_eq!(asked("bytes=-3", 10), span(7, 3));
        assert_eq!(asked("bytes=-30", 10), span(0, 10));
        assert_eq!(asked("bytes=8-99", 10), span(8, 2));
        assert_eq!(asked("bytes=10-", 10), Some(Err(())));
        assert_eq!(asked("bytes=-0", 10), Some(Err(())));
        assert_eq!(asked("bytes=0-", 0), Some(Err(())));
        for ignored in ["bytes=3-1", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=+1-2", "bytes=", ""] {
            assert_eq!(asked(ignored, 10), None, "{ignored}");
        }
    }

    #[test]
    fn a_chunk_says_where_it_begins() {
        assert_eq!(chunk("5-9"), Some(5));
        assert_eq!(chunk("bytes 5-9/10"), Some(5));
        assert_eq!(chunk("0-0"), Some(0));
        for wrong in ["9-5", "a-b", "5", "", "-5"] {
            assert_eq!(chunk(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_span_is_within_its_file(header in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in 0..u64::MAX) {
            if let Some(Ok(Span { offset, len })) = asked(&header, size) {
                prop_assert!(len > 0 && offset.checked_add(len).is_some_and(|end| end <= size));
            }
        }

        #[test]
        fn any_header_is_read(header in "\\PC{0,30}", size in any::<u64>()) {
            let _ = (asked(&header, size), chunk(&header));
        }
    }
}
