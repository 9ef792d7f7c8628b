//! The real binary, driven from outside: one test program, one module per subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod harness;

mod acme;
mod api_fuzz;
mod api_page;
mod assets_api;
mod backup;
mod conformance;
mod crash;
mod crash_serve;
mod deploy;
mod deploy_containers;
mod deploy_faults;
mod deploy_wire;
mod dev;
mod disk_full;
mod dispatch;
mod edge;
mod errors;
mod exports;
mod frames;
mod hive;
mod hostile;
mod import;
mod import_workers;
mod jail;
mod layers;
mod limits;
mod logs;
mod lookups;
mod metrics;
mod objects;
mod otlp;
mod platform;
mod projects;
mod pull;
mod reach;
mod resources;
mod rest;
mod scale;
mod schema;
mod schemathesis;
mod sdk;
mod secrets;
mod serve;
mod several;
mod subrequests;
mod templates;
mod tls;
mod tokens;
mod types;
mod worker_objects;
mod workflows;
mod wrangler_more;
