//! Static assets: routing rules, redirects, headers, compression.
