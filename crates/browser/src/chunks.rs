//! Messages in chunks, as versions of `@cloudflare/puppeteer` before 1.1 send and want them: the first chunk begins with the
//! message's length, a little-endian number of 32 bits; no chunk has more than 1 MiB − 1.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a chunk at most, the length included.
const CHUNK: usize = (1 << 20) - 1;
const LENGTH: usize = 4;
/// The longest message that is put together.
pub(crate) const LONGEST: usize = 16 << 20;

/// The chunks of a message. Pure.
pub(crate) fn split(message: &[u8]) -> Vec<Bytes> {
    let (first, mut rest) = message.split_at(message.len().min(CHUNK - LENGTH));
    let mut begun = BytesMut::with_capacity(LENGTH + first.len());
    // A message of more than 4 GiB cannot be told in this form; DevTools sends none.
    begun.put_u32_le(u32::try_from(message.len()).unwrap_or(u32::MAX));
    begun.put_slice(first);
    let mut chunks = vec![begun.freeze()];
    while !rest.is_empty() {
        let (chunk, more) = rest.split_at(rest.len().min(CHUNK));
        chunks.push(Bytes::copy_from_slice(chunk));
        rest = more;
    }
    chunks
}

/// Puts messages together again.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// What has come of the message, and how long it will be.
    begun: Option<(Vec<u8>, usize)>,
}

/// Why chunks make no message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The first has no length.
    Short,
    /// The message would be longer than [`LONGEST`].
    Long,
    /// More came than was said.
    Beyond,
    /// It is no UTF-8.
    Text,
}

impl Joined {
    /// Takes one chunk; the message, if it is complete. Nothing is reserved for what was only promised.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Option<String>, Broken> {
        let (mut message, length) = match self.begun.take() {
            Some((mut message, length)) => {
                message.extend_from_slice(chunk);
                (message, length)
            }
            None => {
                let (length, first) = chunk.split_first_chunk::<LENGTH>().ok_or(Broken::Short)?;
                let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
                (first.to_vec(), length)
            }
        };
        if length > LONGEST {
            return Err(Broken::Long);
        }
        match message.len().cmp(&length) {
            std::cmp::Ordering::Less => {
                self.begun = Some((message, length));
                Ok(None)
            }
            std::cmp::Ordering::Equal => {
                message.shrink_to_fit();
                String::from_utf8(message).map(Some).map_err(|_| Broken::Text)
            }
            std::cmp::Ordering::Greater => Err(Broken::Beyond),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_makes_no_message_is_refused() {
        let push = |chunk: &[u8]| Joined::default().push(chunk);
        assert_eq!(push(b"abc"), Err(Broken::Short));
        assert_eq!(push(&u32::MAX.to_le_bytes()), Err(Broken::Long));
        assert_eq!(push(b"\x01\0\0\0ab"), Err(Broken::Beyond));
        assert_eq!(push(b"\x01\0\0\0\xff"), Err(Broken::Text));
        assert_eq!(push(b"\0\0\0\0"), Ok(Some(String::new())));
    }

    proptest! {
        #[test]
        fn a_message_comes_out_as_it_went_in(texts in prop::collection::vec((".{0,50}", 1_usize..60_000), 1..4)) {
            let mut joined = Joined::default();
            for (piece, times) in texts {
                let message = piece.repeat(times);
                let chunks = split(message.as_bytes());
                prop_assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK));
                let (last, before) = chunks.split_last().unwrap();
                for chunk in before {
                    prop_assert_eq!(joined.push(chunk), Ok(None));
                }
                prop_assert_eq!(joined.push(last), Ok(Some(message)));
            }
        }

        #[test]
        fn chunks_of_any_kind_are_taken_or_refused(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..10)) {
            let mut joined = Joined::default();
            for chunk in chunks {
                let _ = joined.push(&chunk);
            }
        }
    }
}
