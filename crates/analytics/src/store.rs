//! All datasets of one machine, and one of them as a binding.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Method, StatusCode};
use skep_store::{Database, Quota, StoreError};
use skep_wire::{BoxFuture, ReadError, Request, Response, Service, read_all, reason};

use crate::parse::parse;
use crate::point::Point;
use crate::rows;
use crate::sql::{self, Answered, QueryError};

/// Bytes of a request at most. A point at its limits has some 16,100 bytes of data, each written as up to four, and
/// twenty doubles.
const MAX_REQUEST: usize = 256 * 1024;

/// The datasets in one folder.
#[derive(Clone, Debug)]
pub struct AnalyticsStore {
    file: PathBuf,
    db: Arc<Database>,
    quota: Arc<Quota>,
}

/// One dataset: what a worker writes to.
#[derive(Debug)]
pub struct Dataset {
    name: String,
    db: Arc<Database>,
    quota: Arc<Quota>,
}

impl AnalyticsStore {
    /// Opens or creates the folder.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let file = dir.join("analytics.sqlite");
        let db = Arc::new(Database::open(&file, rows::SCHEMA)?);
        Ok(Self { file, db, quota: Arc::default() })
    }

    /// What is written to datasets that are asked for from now on counts towards `quota`.
    #[must_use]
    pub fn within(self, quota: Arc<Quota>) -> Self {
        Self { quota, ..self }
    }

    /// The dataset of this name; it exists from its first point on.
    pub fn dataset(&self, name: &str) -> Arc<Dataset> {
        Arc::new(Dataset { name: name.to_owned(), db: self.db.clone(), quota: self.quota.clone() })
    }

    /// Answers a query of Cloudflare's SQL API, asked at `now` in seconds since 1970. Blocking, for ten seconds at most.
    pub fn query(&self, query: &str, now: i64) -> Result<Answered, QueryError> {
        sql::answer(&self.file, query, now)
    }

    /// The newest points of a dataset, newest first; none if it does not exist.
    pub fn recent(&self, dataset: &str, limit: usize) -> Result<Vec<Point>, StoreError> {
        self.db.read(|db| rows::recent(db, dataset, limit))
    }
}

impl Dataset {
    async fn add(&self, point: Point) -> Result<(), StoreError> {
        let bytes = point.bytes();
        self.quota.take(bytes)?;
        let dataset = self.name.clone();
        let written = self.db.write(move |t| rows::add(t, &dataset, &point)).await;
        if written.is_err() {
            self.quota.give_back(bytes);
        }
        written
    }
}

impl Service for Dataset {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            if request.method() != Method::POST {
                return reason(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
            }
            let json = match read_all(request.into_body(), MAX_REQUEST).await {
                Ok(json) => json,
                Err(error @ ReadError::TooLarge(_)) => {
                    return reason(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string());
                }
                Err(error) => return reason(StatusCode::BAD_REQUEST, &error.to_string()),
            };
            let point = match parse(&json) {
                Ok(point) => point,
                Err(error) => return reason(StatusCode::BAD_REQUEST, &error.to_string()),
            };
            match self.add(point).await {
                Ok(()) => skep_wire::reply(StatusCode::OK, skep_wire::empty()),
                Err(error @ (StoreError::DiskFull | StoreError::QuotaReached)) => {
                    reason(StatusCode::INSUFFICIENT_STORAGE, error.outside())
                }
                Err(error) => {
                    tracing::error!(%error, dataset = %self.name, "a data point could not be stored");
                    reason(StatusCode::INTERNAL_SERVER_ERROR, error.outside())
                }
            }
        })
    }
}
