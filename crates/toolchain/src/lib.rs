//! The pinned engine and build tools, fetched once through the user's npm.
