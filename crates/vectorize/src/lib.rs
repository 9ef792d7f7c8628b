//! Vectorize: vectors with metadata, and the nearest of them. <https://developers.cloudflare.com/vectorize/>
//!
//! Search is exact: every vector of the index, or of the namespace that is asked for, is compared. Mutations are visible when
//! they are acknowledged, which is sooner than Cloudflare promises. Knows nothing of cells, scripts or the control API; a cell
//! reaches one index over HTTP through its [`Binding`], an admin interface calls the methods of [`Index`].
//!
//! Entry points: [`VectorizeStore`] makes an [`Index`], hands it out by name, and hands out a [`Binding`].
//!
//! On disk: a folder per index with one SQLite file. The numbers are there and not in memory, so that what an index takes of
//! memory does not depend on its size.

mod error;
mod filter;
mod http;
mod index;
mod limits;
mod metric;
mod query;
mod rows;
mod store;
mod top;
mod vector;

#[cfg(test)]
mod measure;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use error::VectorizeError;
pub use filter::{Property, PropertyKind};
pub use index::{Details, Index, Listed};
pub use limits::{
    DIMENSIONS, MAX_BATCH_HTTP, MAX_BATCH_WORKERS, MAX_LIST, MAX_NAME_BYTES, MAX_PROPERTIES, MAX_UPLOAD,
};
pub use metric::Metric;
pub use query::{Match, Matches, Query};
pub use rows::Shape;
pub use store::{Binding, Local, VectorizeStore};
pub use vector::{Unparsable, Vector, parse_lines};
