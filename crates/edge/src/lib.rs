//! The front door: HTTP to cells and assets.
