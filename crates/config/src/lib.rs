//! Wrangler configuration files, typed and validated.
