//! The content hash that wrangler and Cloudflare know a file by.

use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A multiple of three, so that pieces of base64 join without padding.
const PIECE: usize = 48 * 1024;

/// First 32 hex digits of BLAKE3 over the base64 of the content followed by the file's extension without its
/// dot; reads `content` piece by piece. It is the `ETag`, and the key in wrangler's upload manifest.
pub fn content_hash(mut content: impl Read, file_name: &str) -> io::Result<String> {
    let mut hash = ContentHash::default();
    let mut piece = vec![0_u8; PIECE];
    let mut text = String::with_capacity(PIECE / 3 * 4);
    loop {
        let read = fill(&mut content, &mut piece)?;
        text.clear();
        STANDARD.encode_string(piece.get(..read).unwrap_or_default(), &mut text);
        hash.update(&text);
        if read < PIECE {
            break;
        }
    }
    Ok(hash.finish(file_name))
}

/// [`content_hash`] of a content that is in base64 already and comes in pieces.
#[derive(Clone, Debug, Default)]
pub struct ContentHash(blake3::Hasher);

impl ContentHash {
    /// The next piece of the base64; together they are that of the whole content.
    pub fn update(&mut self, base64: &str) {
        self.0.update(base64.as_bytes());
    }

    /// The hash of the content as a file of this name.
    pub fn finish(mut self, file_name: &str) -> String {
        self.0.update(extension(file_name).as_bytes());
        let mut hash = self.0.finalize().to_hex().to_string();
        hash.truncate(32);
        hash
    }
}

/// Reads until `piece` is full or the content ends.
fn fill(content: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = piece.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match content.read(rest) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// `path.extname` of Node without the dot: empty for `.name` and `name.`.
fn extension(file_name: &str) -> &str {
    let name = file_name.rsplit('/').next().unwrap_or(file_name);
    name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map_or("", |(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from wrangler's own `hashFile`.
    #[test]
    fn hashes_are_wranglers() {
        let long = vec![b'x'; 200_000];
        for (content, name, expected) in [
            (b"hello text\n".as_slice(), "/a.txt", "930377316f140e68a722a49270f7f0d7"),
            (b"noext\n".as_slice(), "/dir.x/noext", "439bd8ab7533da9c693dd82bb3835518"),
            (b"".as_slice(), "/.dot", "af1349b9f5f9a1a6a0404dea36dcc949"),
            (long.as_slice(), "/x.js", "eb90a072c6177d7eb98fb0674d9ae8c3"),
        ] {
            assert_eq!(content_hash(content, name).unwrap(), expected, "{name}");
        }
    }
}
