//! Where WebSocket frames begin and end in a stream of bytes (RFC 6455 §5.2).

/// Follows a stream of frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: Vec<u8>,
    /// Bytes of the frame's payload that are still to come.
    payload: u64,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub fn between(&self) -> bool {
        self.head.is_empty() && self.payload == 0
    }

    /// Takes note of bytes that pass.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len() as u64);
                self.payload -= skipped;
                bytes = &bytes[skipped as usize..];
                continue;
            }
            self.head.push(*first);
            bytes = rest;
            if let Some(payload) = payload_of(&self.head) {
                self.head.clear();
                self.payload = payload;
            }
        }
    }
}

/// The payload's length, once the head is whole.
fn payload_of(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (extended, short) = match second & 0x7f {
        126 => (2, 0),
        127 => (8, 0),
        short => (0, u64::from(short)),
    };
    if head.len() < 2 + extended + mask {
        return None;
    }
    let long = head[2..2 + extended].iter().fold(0u64, |length, byte| (length << 8) | u64::from(*byte));
    Some(if extended == 0 { short } else { long })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match length {
            0..126 => frame.push(bit | length as u8),
            126..0x1_0000 => {
                frame.push(bit | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0xff; length + if masked { 4 } else { 0 }]);
        frame
    }

    proptest! {
        #[test]
        fn frames_end_where_they_end(
            lengths in prop::collection::vec(0usize..70_000, 1..6),
            masked in any::<bool>(),
            cut in 1usize..9000,
        ) {
            let mut frames = Frames::default();
            for length in lengths {
                let bytes = frame(length, masked);
                let (last, before) = bytes.split_last().unwrap();
                for piece in before.chunks(cut) {
                    frames.pass(piece);
                    prop_assert!(!frames.between());
                }
                frames.pass(&[*last]);
                prop_assert!(frames.between());
            }
        }

        #[test]
        fn any_bytes_pass(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            Frames::default().pass(&bytes);
        }
    }
}
