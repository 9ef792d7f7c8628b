//! A data point and its limits. Pure.

/// Blobs and doubles of a point, each.
pub const COLUMNS: usize = 20;
/// Bytes of the index.
pub const MAX_INDEX_BYTES: usize = 96;
/// Bytes of all blobs of a point.
pub const MAX_BLOB_BYTES: usize = 16_000;

/// A data point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Nanoseconds since the Unix epoch.
    pub timestamp: i64,
    /// Empty when the worker gave none.
    pub index1: Vec<u8>,
    /// `blob1` to `blob20`; absent when null or not given.
    pub blobs: [Option<Vec<u8>>; COLUMNS],
    /// `double1` to `double20`; 0 when not given.
    pub doubles: [f64; COLUMNS],
}

/// Why a point is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPoint {
    #[error("Size of indexes[0] exceeds {MAX_INDEX_BYTES} bytes")]
    Index,
    #[error("Cumulative size of blobs exceeds {MAX_BLOB_BYTES} bytes")]
    Blobs,
    #[error("The data point has no timestamp")]
    Timestamp,
    #[error("Could not parse the data point: {0}")]
    Malformed(String),
}

/// Bytes that a point takes beside its index and its blobs, about: its numbers, and its place in the index by time.
const ROW: usize = 256;

impl Point {
    /// Bytes that it takes on the disk, about.
    pub(crate) fn bytes(&self) -> u64 {
        let blobs = self.blobs.iter().flatten().map(Vec::len).sum::<usize>();
        (ROW + self.index1.len() + blobs) as u64
    }

    /// The limits that the engine checks as well, for whoever does not come by way of it.
    pub(crate) fn check(&self) -> Result<(), BadPoint> {
        if self.index1.len() > MAX_INDEX_BYTES {
            return Err(BadPoint::Index);
        }
        if self.blobs.iter().flatten().map(Vec::len).sum::<usize>() > MAX_BLOB_BYTES {
            return Err(BadPoint::Blobs);
        }
        Ok(())
    }
}
