//! Bindings of the configuration that store something: KV, R2, D1.

use std::fmt::{Debug, Formatter, Result};
use std::path::PathBuf;

/// `kv_namespaces[]`
#[derive(Clone, Debug, PartialEq)]
pub struct KvNamespace {
    /// The name on `env`.
    pub binding: String,
    /// The namespace; the binding's name where none is given.
    pub id: String,
}

/// `r2_buckets[]`
#[derive(Clone, Debug, PartialEq)]
pub struct R2Bucket {
    /// The name on `env`.
    pub binding: String,
    /// The bucket; the binding's name where none is given.
    pub bucket_name: String,
    /// The key of its S3 API under `skep dev`; without one it has none.
    pub s3_credentials: Option<S3Credentials>,
}

/// `r2_buckets[].local_dev.experimental_s3_credentials`
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: String,
}

/// Without the secret.
impl Debug for S3Credentials {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("S3Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// `d1_databases[]`
#[derive(Clone, Debug, PartialEq)]
pub struct D1Database {
    /// The name on `env`.
    pub binding: String,
    /// The database; the binding's name where none is given.
    pub database_id: String,
    /// The name for people.
    pub database_name: Option<String>,
    /// The folder of SQL migrations: `migrations` where none is given.
    pub migrations_dir: PathBuf,
    /// Which files in that folder: `*.sql` where none is given.
    pub migrations_pattern: String,
    /// The table that says which are applied: `d1_migrations` where none is given.
    pub migrations_table: String,
}
