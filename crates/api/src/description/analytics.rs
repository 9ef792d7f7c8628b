//! Analytics Engine.

use http::StatusCode;

use super::schema::{any, may, text};
use super::{About, about};

pub fn sql() -> About {
    answers("Ask in SQL what was written to Analytics Engine").may_take("text/plain", any())
}

pub fn sql_in_url() -> About {
    answers("Ask in SQL what was written to Analytics Engine, in the URL")
}

fn answers(summary: &'static str) -> About {
    about(summary)
        .query([may("query", text())])
        .gives_raw("application/json")
        .gives_raw("application/x-ndjson")
        .gives_raw("text/tab-separated-values")
        .answers(StatusCode::UNPROCESSABLE_ENTITY, Some(("text/plain", any())))
}
