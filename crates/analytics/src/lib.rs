//! Workers Analytics Engine: datasets to which workers write data points.
//!
//! A point is kept for three months, as at Cloudflare
//! (<https://developers.cloudflare.com/analytics/analytics-engine/limits/>). Nothing is sampled. The columns are those
//! of Cloudflare's SQL API, whose queries are translated. Knows nothing of cells, scripts and accounts.
//!
//! Entry points: [`AnalyticsStore`] hands out a [`Dataset`], which is a [`skep_wire::Service`], and reads with
//! [`AnalyticsStore::query`] and [`AnalyticsStore::recent`].

mod parse;
mod point;
mod rows;
mod sql;
mod store;

#[cfg(test)]
mod tests;

pub use point::{COLUMNS, MAX_BLOB_BYTES, MAX_INDEX_BYTES, Point};
pub use sql::{Answered, Format, QueryError};
pub use store::{AnalyticsStore, Dataset};
