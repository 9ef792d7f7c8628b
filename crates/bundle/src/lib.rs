//! Bundles a Worker project into modules, as wrangler does.
