//! The Cache API.
