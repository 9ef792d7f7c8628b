//! Workers KV.
