//! Questions about what scripts logged.
//! <https://developers.cloudflare.com/api/resources/workers/subresources/observability/subresources/telemetry/>

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use serde_json::{Value as Json, json};
use skep_logs::{BadQuery, KeysQuery, Query, Scanned, ValuesQuery};
use skep_runtime::Turns;
use skep_store::StoreError;

use crate::aside::whose;
use crate::call::Call;
use crate::platform::Tenant;
use crate::reply::{Answer, ApiError, ok, time};

/// A question is not longer than this.
const MAX_QUESTION: usize = 1 << 20;
/// Turns at answering questions, of logs and of points; each may read all that an account keeps.
pub(crate) static QUESTIONS: Turns = Turns::new();

/// `observability` of an upload or of settings: what nothing does is refused.
pub(crate) fn check(asked: Option<&Json>) -> Result<(), ApiError> {
    let fault = asked.filter(|asked| !asked.is_null()).and_then(skep_logs::Observability::fault);
    fault.map_or(Ok(()), |fault| Err(ApiError::bad(10021, fault)))
}

impl From<BadQuery> for ApiError {
    fn from(wrong: BadQuery) -> Self {
        Self::bad(10026, format!("The query is not valid: {wrong}"))
    }
}

/// Runs `read` where it may block, once what was logged before is there.
async fn read<T: Send + 'static>(
    tenant: Arc<dyn Tenant>,
    read: impl FnOnce(&dyn Tenant) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    tenant.logs().flush().await;
    let answered = QUESTIONS.aside(whose(), move || read(&*tenant)).await.map_err(ApiError::internal)?;
    answered.map_err(|error| match error {
        StoreError::Io { source, context } if source.kind() == ErrorKind::TimedOut => {
            let text = format!("{context}: ask for less time, or with fewer filters");
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, 10026, text)
        }
        error => ApiError::internal(error),
    })
}

pub(crate) async fn query(mut call: Call) -> Answer {
    let body = call.document(MAX_QUESTION, 10026).await?;
    let query = Query::read(&body)?;
    let (frame, granularity, tenant) = (query.timeframe(), query.granularity(), call.tenant()?);
    let start = Instant::now();
    let found = read(tenant, move |tenant| tenant.logs().ask(&query)).await?;
    let statistics = statistics(found.scanned, start);
    let now = time(call.now_ms());
    let user = &call.token.id;
    let run = json!({
        "id": uuid::Uuid::new_v4().simple().to_string(),
        "accountId": call.token.account,
        "dry": true,
        "granularity": granularity,
        "query": {
            "id": body["queryId"], "adhoc": true, "name": body["queryId"], "description": null,
            "parameters": body["parameters"], "created": now, "createdBy": user, "updated": now, "updatedBy": user,
        },
        "status": "COMPLETED",
        "timeframe": { "from": frame.from, "to": frame.to },
        "userId": user,
        "created": now,
        "updated": now,
        "statistics": statistics,
    });
    let mut result = json!({ "run": run, "statistics": statistics });
    if let Some(fields) = result.as_object_mut() {
        fields.extend(found.parts);
    }
    ok(result)
}

pub(crate) async fn keys(mut call: Call) -> Answer {
    let body = call.any_json().await?;
    let query = KeysQuery::read(&body)?;
    let tenant = call.tenant()?;
    let (keys, _) = read(tenant, move |tenant| tenant.logs().keys(&query)).await?;
    ok(keys.into())
}

pub(crate) async fn values(mut call: Call) -> Answer {
    let body = call.document(MAX_QUESTION, 10026).await?;
    let query = ValuesQuery::read(&body)?;
    let tenant = call.tenant()?;
    let (values, _) = read(tenant, move |tenant| tenant.logs().values(&query)).await?;
    ok(values.into())
}

fn statistics(scanned: Scanned, start: Instant) -> Json {
    json!({ "elapsed": start.elapsed().as_secs_f64(), "rows_read": scanned.rows, "bytes_read": scanned.bytes })
}
