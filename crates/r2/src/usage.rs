//! How much a bucket holds.

use skep_store::StoreError;

use crate::bucket::Bucket;
use crate::model::StorageClass;

/// Objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects.
    pub objects: u64,
    /// Bytes of their contents.
    pub payload: u64,
    /// Bytes of their keys and metadata.
    pub metadata: u64,
}

impl Bucket {
    /// What it holds of one class. Reads every row: for an administrator, not for requests.
    pub fn usage(&self, class: StorageClass) -> Result<Usage, StoreError> {
        let sql = "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(length(key) + length(CAST(meta AS BLOB))), 0)
                   FROM objects WHERE coalesce(meta ->> '$.storageClass', ?2) = ?1";
        self.core.db.read(|c| {
            let row = |row: &rusqlite::Row<'_>| {
                let number = |n| row.get::<_, i64>(n).map(i64::unsigned_abs);
                Ok(Usage { objects: number(0)?, payload: number(1)?, metadata: number(2)? })
            };
            Ok(c.prepare_cached(sql)?.query_row([class.name(), StorageClass::default().name()], row)?)
        })
    }
}
