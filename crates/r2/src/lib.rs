//! R2 object storage.
