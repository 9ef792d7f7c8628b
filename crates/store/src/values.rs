//! Values that arrive and leave piece by piece: small ones for the row, large ones as content files, both in
//! constant memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};

use crate::{BlobId, BlobWriter, Blobs, StoreError};

/// Bytes handed to the file system at a time: large enough that the hop to a blocking thread (about 10 µs) is
/// small beside the copy, small enough that a thousand values in flight fit in memory.
const PIECE: usize = 256 * 1024;

/// What is being sent from the disk, of everybody.
static SENDING: AtomicUsize = AtomicUsize::new(0);

/// Something that is being sent from the disk, a piece at a time. One piece of each is in memory for as long as its reader does not read.
#[derive(Debug)]
pub struct Sending(());

impl Sending {
    /// One more.
    pub fn begin() -> Self {
        SENDING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Bytes of its next piece: fewer where there are many, so that all of them together stay few.
    pub fn piece(&self) -> usize {
        piece_among(SENDING.load(Ordering::Relaxed))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        SENDING.fetch_sub(1, Ordering::Relaxed);
    }
}

fn piece_among(sending: usize) -> usize {
    match sending {
        0..=64 => PIECE,
        65..=512 => PIECE / 4,
        _ => PIECE / 16,
    }
}

/// What became of a value.
#[derive(Debug)]
pub enum Stored {
    /// No more than the inline limit: belongs into the row.
    Inline(Bytes),
    /// A content file, durable already; belongs to whoever stores its name, or must be removed.
    Blob {
        /// The file's name, for the row.
        id: BlobId,
        /// Its length in bytes.
        len: u64,
    },
}

impl Stored {
    /// The value's length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Blob { len, .. } => *len,
        }
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Takes a value of unknown length. Dropping it before [`ValueSink::finish`] leaves nothing.
#[derive(Debug)]
pub struct ValueSink {
    blobs: Blobs,
    inline_max: usize,
    pending: Vec<Bytes>,
    pending_len: usize,
    writer: Option<BlobWriter>,
    len: u64,
}

impl ValueSink {
    /// A sink for one value; one longer than `inline_max` bytes becomes a file in `blobs`.
    pub fn new(blobs: Blobs, inline_max: usize) -> Self {
        Self { blobs, inline_max, pending: Vec::new(), pending_len: 0, writer: None, len: 0 }
    }

    /// Bytes taken so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no byte has been taken yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the next piece.
    pub async fn push(&mut self, piece: Bytes) -> Result<(), StoreError> {
        self.len += piece.len() as u64;
        self.pending_len += piece.len();
        self.pending.push(piece);
        match self.pending_len >= PIECE.max(self.inline_max + 1) {
            true => {
                // Each write begins where a piece of the file does.
                let later = self.cut_after(self.pending_len / PIECE * PIECE);
                self.flush().await?;
                self.pending_len = later.iter().map(Bytes::len).sum();
                self.pending = later;
                Ok(())
            }
            false => Ok(()),
        }
    }

    /// Ends the value. A file is on the disk when this resolves.
    pub async fn finish(mut self) -> Result<Stored, StoreError> {
        if self.writer.is_none() && self.pending_len <= self.inline_max {
            return Ok(Stored::Inline(join(self.pending, self.pending_len)));
        }
        self.flush().await?;
        let (Some(writer), len) = (self.writer, self.len) else { return Err(StoreError::Closed) };
        let id = blocking(move || writer.finish()).await?;
        Ok(Stored::Blob { id, len })
    }

    /// Takes from what is pending what comes after its first `length` bytes.
    fn cut_after(&mut self, length: usize) -> Vec<Bytes> {
        let mut before = 0;
        let Some(at) = self.pending.iter().position(|piece| {
            before += piece.len();
            before > length
        }) else {
            return Vec::new();
        };
        let mut later = self.pending.split_off(at);
        if let Some(first) = later.first_mut() {
            let mine = first.split_to(first.len() - (before - length));
            self.pending.push(mine);
        }
        later
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let (blobs, writer) = (self.blobs.clone(), self.writer.take());
        let pieces = std::mem::take(&mut self.pending);
        self.pending_len = 0;
        let written = blocking(move || {
            let mut writer = match writer {
                Some(writer) => writer,
                None => blobs.create(BlobId::random())?,
            };
            writer.write_all(&pieces)?;
            Ok((writer, pieces))
        });
        // The pieces come back to be freed where they were made: the pool's threads keep no pages of them.
        let (writer, _pieces) = written.await?;
        self.writer = Some(writer);
        Ok(())
    }
}

/// The bytes of `file` from `offset`, `len` of them, read as they are asked for. A file that ends before that
/// is an error, so that nobody takes half a value for the whole.
pub fn read_pieces(
    file: File,
    offset: u64,
    len: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let sending = Sending::begin();
    stream::unfold(Some((file, offset, len, sending)), |state| async move {
        let (file, offset, left, sending) = state?;
        if left == 0 {
            return None;
        }
        let now = left.min(sending.piece() as u64);
        // Made here, where it will be freed, too: otherwise each thread of the pool would keep pages of its own.
        let mut piece = vec![0; now as usize];
        let read = tokio::task::spawn_blocking(move || {
            file.read_exact_at(&mut piece, offset)?;
            Ok::<_, io::Error>((file, Bytes::from(piece)))
        });
        match read.await.map_err(io::Error::other).flatten() {
            Ok((file, piece)) => Some((Ok(piece), Some((file, offset + now, left - now, sending)))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

fn join(mut pieces: Vec<Bytes>, len: usize) -> Bytes {
    if pieces.len() <= 1 {
        return pieces.pop().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(len);
    pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    all.freeze()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Closed))
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    async fn store(blobs: &Blobs, value: &[u8], piece: usize) -> Stored {
        let mut sink = ValueSink::new(blobs.clone(), 1000);
        for part in value.chunks(piece) {
            sink.push(Bytes::copy_from_slice(part)).await.unwrap();
        }
        sink.finish().await.unwrap()
    }

    #[tokio::test]
    async fn a_value_becomes_a_file_only_past_the_inline_limit() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        assert!(matches!(store(&blobs, b"", 10).await, Stored::Inline(v) if v.is_empty()));
        assert!(matches!(store(&blobs, &[7; 1000], 300).await, Stored::Inline(v) if v == vec![7; 1000]));
        assert!(matches!(store(&blobs, &[7; 1001], 300).await, Stored::Blob { len: 1001, .. }));
    }

    #[tokio::test]
    async fn values_in_pieces_of_any_size_are_kept_whole() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let value: Vec<u8> = (0..PIECE * 3 + 4321).map(|n| (n * 7 % 251) as u8).collect();
        for piece in [1000, 83_840, 131_072, PIECE - 1, PIECE, PIECE + 1, PIECE * 2 + 5, value.len()] {
            let Stored::Blob { id, len } = store(&blobs, &value, piece).await else { panic!("not a file") };
            assert_eq!(len, value.len() as u64, "{piece}");
            assert!(std::fs::read(blobs.path(&id)).unwrap() == value, "{piece}");
        }
        let mut sink = ValueSink::new(blobs.clone(), 1000);
        for piece in [&b""[..], &value[..PIECE], b"", b"", b"end"] {
            sink.push(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let Stored::Blob { id, .. } = sink.finish().await.unwrap() else { panic!("not a file") };
        assert_eq!(std::fs::read(blobs.path(&id)).unwrap().len(), PIECE + 3);
    }

    #[tokio::test]
    async fn a_large_value_comes_back_whole_and_by_range() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let value: Vec<u8> = (0..PIECE * 2 + 17).map(|n| (n % 251) as u8).collect();
        let Stored::Blob { id, len } = store(&blobs, &value, 60_000).await else { panic!("not a file") };
        assert_eq!(len, value.len() as u64);
        let read = async |offset, len| -> io::Result<Vec<u8>> {
            let pieces = read_pieces(blobs.read(&id).unwrap(), offset, len).try_collect::<Vec<_>>().await?;
            Ok(pieces.concat())
        };
        assert_eq!(read(0, len).await.unwrap(), value);
        assert_eq!(read(100, PIECE as u64).await.unwrap(), value[100..100 + PIECE]);
        assert!(read(1, len).await.is_err());
    }

    #[test]
    fn where_much_is_sent_pieces_are_small() {
        let all: usize = (1..=20_000).map(piece_among).sum();
        assert!(all < 400 << 20, "{all}");
        assert_eq!(piece_among(1), PIECE);
    }

    #[tokio::test]
    async fn a_sink_that_is_dropped_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut sink = ValueSink::new(blobs.clone(), 10);
        sink.push(Bytes::from(vec![1; PIECE * 2])).await.unwrap();
        drop(sink);
        assert_eq!(blobs.sweep(&std::collections::HashSet::new()).unwrap(), 0);
    }
}
