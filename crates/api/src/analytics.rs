//! Questions about what scripts wrote to Analytics Engine, in SQL.
//! <https://developers.cloudflare.com/analytics/analytics-engine/sql-api/>

use http::{HeaderValue, StatusCode, header};
use skep_analytics::{Format, QueryError};
use skep_wire::{Response, full, reply};

use crate::aside::whose;
use crate::call::Call;
use crate::observability::QUESTIONS;
use crate::reply::{Answer, ApiError};

/// A query is not longer than this.
const MAX_QUERY: usize = 1 << 20;

/// The query is the body, or `query` in the URL as ClickHouse's clients send it. Answers are ClickHouse's, too: no envelope, and errors are texts.
pub(crate) async fn sql(mut call: Call) -> Answer {
    let body = call.bytes(MAX_QUERY).await?;
    let in_url = call.query("query").unwrap_or_default();
    let query = match std::str::from_utf8(&body) {
        Ok(text) if text.trim().is_empty() => in_url,
        // Clients of ClickHouse send the data of an INSERT there, which there is none of.
        Ok(text) => format!("{in_url} {text}"),
        Err(_) => return Ok(refused("Input was invalid: the query is no UTF-8")),
    };
    let (tenant, now) = (call.tenant()?, call.now_ms() / 1000);
    let answered = QUESTIONS.aside(whose(), move || tenant.analytics().query(&query, now)).await;
    match answered.map_err(ApiError::internal)? {
        Ok(answered) => {
            let kind = match answered.format {
                Format::Json => "application/json",
                Format::JsonEachRow => "application/x-ndjson",
                Format::TabSeparated => "text/tab-separated-values; charset=UTF-8",
            };
            Ok(said(StatusCode::OK, kind, answered.body))
        }
        Err(QueryError::Database(error)) => Err(ApiError::internal(error)),
        Err(error @ (QueryError::Invalid(_) | QueryError::Limit(_))) => Ok(refused(&error.to_string())),
    }
}

/// As [`sql`], where there is no body.
pub(crate) async fn sql_in_url(call: Call) -> Answer {
    sql(call).await
}

fn refused(text: &str) -> Response {
    said(StatusCode::UNPROCESSABLE_ENTITY, "text/plain; charset=UTF-8", text.to_owned())
}

fn said(status: StatusCode, kind: &'static str, body: String) -> Response {
    let mut response = reply(status, full(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
