//! Queues and cron triggers: what calls a worker without a visitor.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use skep_api::InstanceError;
use skep_cron::{Cron, CronHandle, Expression, Fire, Fired};
use skep_fleet::{EventError, Worker};
use skep_queues::{Batch, ConsumerSettings, Deliver, DeliveryOutcome};
use skep_runtime::{Clock, Shutdown, Turns, Waiting};
use skep_wire::BoxFuture;

/// What `scheduled()` came to.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    /// `ok`, `exception`, …
    pub outcome: String,
    /// Whether the handler called `controller.noRetry()`.
    #[serde(default, rename = "noRetry")]
    pub no_retry: bool,
}

/// Runs a script's `scheduled` handler. `time_ms` is in milliseconds since the Unix epoch; `traceparent` says whose span it is.
pub async fn run_scheduled(
    worker: &Worker,
    cron: &str,
    time_ms: u64,
    traceparent: Option<&str>,
) -> Result<Outcome, String> {
    let event = json!({ "cron": cron, "time": time_ms }).to_string().into_bytes();
    let ran = worker.traced_event("/scheduled", event, traceparent).await;
    let (status, answer) = ran.map_err(|e| e.to_string())?;
    match serde_json::from_slice(&answer) {
        Ok(outcome) if status.is_success() => Ok(outcome),
        _ => Err(format!("the scheduled event failed: {}", String::from_utf8_lossy(&answer))),
    }
}

/// Asks a script about instances of its Workflows.
pub async fn ask_instances(worker: &Worker, call: &Json) -> Result<Json, InstanceError> {
    let (status, answer) = worker
        .event("/workflow", call.to_string().into_bytes())
        .await
        .map_err(|error| InstanceError::NotRunning(error.to_string()))?;
    let answer: Json =
        serde_json::from_slice(&answer).map_err(|error| InstanceError::NotRunning(error.to_string()))?;
    let message = answer["error"]["message"].as_str().unwrap_or_default().to_owned();
    match () {
        () if status.is_success() => Ok(answer),
        () if message == "workflow.not_deployed" || message.starts_with("no such target") => {
            Err(InstanceError::NotDeployed)
        }
        () => Err(InstanceError::Refused(message)),
    }
}

/// How long a `scheduled` handler may take, waiting included: Cloudflare's 15 minutes. The engine ends alarms by itself after
/// that time, and queues give up a batch. <https://developers.cloudflare.com/workers/platform/limits/#wall-time-limits-by-invocation-type>
const CRON_TIME: Duration = Duration::from_secs(15 * 60);
/// The outcome of an event that took too long.
const EXCEEDED_TIME: &str = "exceededWallTime";

/// What `ran` comes to, if it does in time.
async fn in_time(
    limit: Duration,
    ran: impl Future<Output = Result<Outcome, String>>,
) -> Result<Outcome, String> {
    match tokio::time::timeout(limit, ran).await {
        Ok(ran) => ran,
        Err(_) => Ok(Outcome { outcome: EXCEEDED_TIME.to_owned(), no_retry: false }),
    }
}

/// Says to people what came of an event.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

/// Notes that an event begins.
pub type Note = Box<dyn Fn() -> Noted + Send + Sync>;

/// What came of an event (`ok`, `exception`, …), and the queue or the cron expression.
pub type End = Box<dyn FnOnce(&str, &str) + Send>;

/// An event under way.
pub struct Noted {
    /// Its span, if it is recorded, as a `traceparent`.
    pub traceparent: Option<String>,
    /// Notes its end.
    pub end: End,
}

impl Noted {
    /// One that nobody hears of.
    pub fn not() -> Self {
        Self { traceparent: None, end: Box::new(|_, _| {}) }
    }
}

/// The outcome of an event that did not come to its handler's end.
const INTERNAL_ERROR: &str = "internalError";

/// Delivers batches to a worker's `queue()` handler.
pub struct QueueConsumer {
    /// The worker.
    pub worker: Arc<Worker>,
    /// Notes batches.
    pub note: Note,
}

/// Making texts of batches of which the event loop would take notice.
static WRITING: Turns = Turns::new();

impl Deliver for QueueConsumer {
    fn who(&self) -> u64 {
        skep_runtime::who(&self.worker)
    }

    fn room(&self, bytes: usize) -> BoxFuture<'_, Waiting> {
        // In the text of a batch they are in base64.
        Box::pin(self.worker.room_for_event(bytes / 3 * 4))
    }

    fn deliver(&self, batch: Batch, room: Waiting) -> BoxFuture<'_, Result<DeliveryOutcome, String>> {
        Box::pin(async move {
            let queue = batch.queue.clone();
            let event = match batch.is_large() {
                true => WRITING.aside(self.who(), move || serde_json::to_vec(&batch)).await,
                false => Ok(serde_json::to_vec(&batch)),
            };
            let event = event.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
            let event = skep_wire::held(event.into(), room);
            let Noted { traceparent, end } = (self.note)();
            let delivered = match self.worker.traced_event("/queue", event, traceparent.as_deref()).await {
                Ok((status, body)) => Ok(DeliveryOutcome::from_reply(status, &body)),
                Err(EventError::Lost(_)) => Ok(DeliveryOutcome::ended(INTERNAL_ERROR)),
                Err(error) => Err(error.to_string()),
            };
            let outcome = delivered.as_ref().map_or(INTERNAL_ERROR, |delivered| &delivered.outcome);
            end(outcome, &queue);
            delivered
        })
    }
}

/// Runs a worker's `scheduled()` handler.
pub struct CronTrigger {
    /// The worker.
    pub worker: Arc<Worker>,
    /// Says what came of it.
    pub report: Report,
    /// Notes runs.
    pub note: Note,
}

impl Fire for CronTrigger {
    fn fire(&self, fired: Fired) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Noted { traceparent, end } = (self.note)();
            let time = fired.scheduled_time_ms;
            let run = run_scheduled(&self.worker, &fired.cron, time, traceparent.as_deref());
            let ran = in_time(CRON_TIME, run).await;
            let outcome = ran.as_ref().map_or(INTERNAL_ERROR, |ran| &ran.outcome);
            end(outcome, &fired.cron);
            match ran {
                Ok(outcome) => (self.report)(&format!("scheduled \"{}\": {}", fired.cron, outcome.outcome)),
                Err(error) => (self.report)(&format!("scheduled \"{}\" failed: {error}", fired.cron)),
            }
        })
    }
}

/// Makes an instance of a Workflow whenever its schedule says so.
pub struct WorkflowTrigger {
    /// The worker that has it.
    pub worker: Arc<Worker>,
    /// The Workflow.
    pub workflow: String,
    /// Says what came of it.
    pub report: Report,
}

fn why(error: InstanceError) -> String {
    match error {
        InstanceError::Refused(why) | InstanceError::NotRunning(why) => why,
        InstanceError::NotDeployed => "the worker does not have it".to_owned(),
    }
}

impl Fire for WorkflowTrigger {
    fn fire(&self, fired: Fired) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Fired { cron, scheduled_time_ms } = fired;
            let call = json!({
                "workflow": self.workflow, "op": "scheduled", "cron": cron, "time": scheduled_time_ms,
            });
            match ask_instances(&self.worker, &call).await {
                Ok(made) => {
                    let id = made["id"].as_str().unwrap_or_default();
                    (self.report)(&format!("Workflow {} \"{cron}\": started {id}", self.workflow));
                }
                Err(error) => {
                    (self.report)(&format!("Workflow {} \"{cron}\" failed: {}", self.workflow, why(error)));
                }
            }
        })
    }
}

/// What a worker does at certain times.
pub struct AtTimes<'a> {
    /// The worker.
    pub worker: &'a Arc<Worker>,
    /// Says what came of it.
    pub report: &'a Report,
    /// The time.
    pub clock: &'a Clock,
    /// Ends it.
    pub shutdown: &'a Shutdown,
}

impl AtTimes<'_> {
    /// Runs its `scheduled()` handler; nothing without a cron expression. `note` counts runs.
    pub fn handler(&self, crons: &[String], note: Note) -> Option<CronHandle> {
        let (worker, report) = (self.worker.clone(), self.report.clone());
        self.start(crons, CronTrigger { worker, report, note })
    }

    /// Makes instances of one of its Workflows.
    pub fn workflow(&self, name: &str, schedules: &[String]) -> Option<CronHandle> {
        let (worker, report) = (self.worker.clone(), self.report.clone());
        self.start(schedules, WorkflowTrigger { worker, workflow: name.to_owned(), report })
    }

    /// Expressions are checked where they come in.
    fn start(&self, crons: &[String], trigger: impl Fire) -> Option<CronHandle> {
        let all: Vec<Expression> = crons.iter().filter_map(|cron| cron.parse().ok()).collect();
        (!all.is_empty())
            .then(|| Cron::start(all, self.clock.clone(), self.shutdown.clone(), Arc::new(trigger)))
    }
}

/// The settings of a consumer; what the configuration does not say is Cloudflare's default.
pub fn consumer_settings(consumer: &skep_config::QueueConsumer) -> ConsumerSettings {
    let default = ConsumerSettings::default();
    ConsumerSettings {
        max_batch_size: consumer.max_batch_size.unwrap_or(default.max_batch_size),
        max_batch_timeout_s: consumer.max_batch_timeout.unwrap_or(default.max_batch_timeout_s),
        max_retries: consumer.max_retries.unwrap_or(default.max_retries),
        retry_delay: consumer.retry_delay,
        dead_letter_queue: consumer.dead_letter_queue.clone(),
        max_concurrency: consumer.max_concurrency,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scheduled_handler_that_does_not_end_is_given_up() {
        let ok = async { Ok(Outcome { outcome: "ok".into(), no_retry: false }) };
        assert_eq!(in_time(Duration::from_secs(600), ok).await.unwrap().outcome, "ok");
        let late = in_time(Duration::from_millis(1), std::future::pending());
        assert_eq!(late.await.unwrap().outcome, EXCEEDED_TIME);
    }
}
