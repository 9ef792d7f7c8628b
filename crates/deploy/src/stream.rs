//! A form of files that are read while it is sent: how large they are does not matter to the memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::form::Form;
use crate::http::{Body, Pieces};

/// Bytes that are read at once: a multiple of three, so that their base64 joins without padding.
const PIECE: usize = 96 * 1024;

/// A file that is sent in base64, if it still has the content that its hash names.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Where it is.
    pub file: PathBuf,
    /// Its path below the folder of assets: the hash knows its ending.
    pub path: String,
    /// wrangler's hash of it, which is its name in the form.
    pub hash: String,
    /// Bytes.
    pub size: u64,
    /// The part's content type.
    pub content_type: String,
}

/// A `multipart/form-data` of such files.
#[derive(Clone, Debug, Default)]
pub struct AssetForm {
    boundary: Form,
    parts: Vec<(Bytes, Asset)>,
}

impl AssetForm {
    /// Adds a file.
    pub fn add(&mut self, asset: Asset) {
        let head = self.boundary.file_head(&asset.hash, &asset.content_type);
        self.parts.push((head, asset));
    }

    /// The form's `Content-Type`, and itself, to be opened once per attempt.
    pub fn finish(self) -> (String, Arc<dyn Fn() -> Body + Send + Sync>, u64) {
        let (content_type, end) = self.boundary.finish();
        let parts = Arc::new(self.parts);
        let part = |(head, asset): &(Bytes, Asset)| {
            head.len() as u64 + asset.size.div_ceil(3) * 4 + END.len() as u64
        };
        let length = parts.iter().map(part).sum::<u64>() + end.len() as u64;
        let open = move || {
            let (parts, end) = (parts.clone(), end.clone());
            Body::in_pieces(length, move |pieces| {
                for (head, asset) in parts.iter() {
                    if !pieces.push(head.clone()) || !send(asset, pieces)? {
                        return Ok(());
                    }
                }
                pieces.push(end);
                Ok(())
            })
        };
        (content_type, Arc::new(open), length)
    }
}

/// What ends a part.
const END: &[u8] = b"\r\n";

/// Sends a file. Its last piece follows only when the hash of the whole is right. `false` if nobody takes it any more.
fn send(asset: &Asset, pieces: &Pieces) -> io::Result<bool> {
    let named = |e: io::Error| io::Error::other(format!("cannot read {}: {e}", asset.file.display()));
    // One byte more shows a file that has grown.
    let mut file = File::open(&asset.file).map_err(named)?.take(asset.size + 1);
    let mut hash = skep_assets::ContentHash::default();
    let mut piece = vec![0_u8; PIECE.min(usize::try_from(asset.size + 1).unwrap_or(PIECE))];
    let mut held = Bytes::new();
    let mut seen = 0;
    loop {
        let read = fill(&mut file, &mut piece).map_err(named)?;
        seen += read as u64;
        let text = STANDARD.encode(piece.get(..read).unwrap_or_default());
        hash.update(&text);
        if !pieces.push(std::mem::replace(&mut held, text.into())) {
            return Ok(false);
        }
        if read < piece.len() || read == 0 {
            break;
        }
    }
    if seen != asset.size || hash.finish(&asset.path) != asset.hash {
        let name = asset.file.display();
        return Err(io::Error::other(format!("{name} has changed during the deploy: deploy again")));
    }
    Ok(pieces.push(held) && pieces.push(Bytes::from_static(END)))
}

/// Reads until `piece` is full or the file ends.
fn fill(file: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = piece.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn asset(dir: &std::path::Path, content: &[u8]) -> Asset {
        let file = dir.join(format!("{}.css", content.len()));
        std::fs::write(&file, content).unwrap();
        let hash = skep_assets::content_hash(content, "a.css").unwrap();
        let (path, content_type) = ("/a.css".to_owned(), "text/css".to_owned());
        Asset { file, path, hash, size: content.len() as u64, content_type }
    }

    #[tokio::test]
    async fn files_are_sent_in_base64_each_time_anew() {
        let dir = tempfile::tempdir().unwrap();
        let contents: Vec<Vec<u8>> =
            [0, 1, 2, 3, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE].map(|length| vec![b'x'; length]).into();
        let mut form = AssetForm::default();
        let mut expected = Form::default();
        for content in &contents {
            let asset = asset(dir.path(), content);
            expected.file(&asset.hash, &asset.hash, "text/css", STANDARD.encode(content).as_bytes());
            form.add(asset);
        }
        let (content_type, open, length) = form.finish();
        let boundary = content_type.split_once("boundary=").unwrap().1.to_owned();
        let (other, expected) = expected.finish();
        let other = other.split_once("boundary=").unwrap().1.to_owned();
        let expected = String::from_utf8(expected.to_vec()).unwrap().replace(&other, &boundary);
        for _ in 0..2 {
            let sent = open().collect().await.unwrap().to_bytes();
            assert_eq!(sent.len() as u64, length);
            assert!(sent == expected.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_file_that_has_changed_is_not_sent_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        for (before, after) in [(&b"one"[..], &b"two"[..]), (b"one", b"on"), (b"one", b"ones"), (b"", b"x")] {
            let mut form = AssetForm::default();
            let asset = asset(dir.path(), before);
            std::fs::write(&asset.file, after).unwrap();
            form.add(asset);
            let error = (form.finish().1)().collect().await.unwrap_err();
            assert!(error.to_string().contains("has changed during the deploy"), "{error}");
        }
    }
}
