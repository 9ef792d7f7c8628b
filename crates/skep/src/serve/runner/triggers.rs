//! What starts scripts beside requests: alarms, cron triggers, queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_catalog::{Kind, Schedule};
use skep_edge::Traced;
use skep_fleet::workflow_class;

use super::{Runner, Surroundings, lock};
use crate::events::{AtTimes, Note, Noted, QueueConsumer, Report};
use crate::serve::alarms::next_alarm;
use crate::serve::export::{self, EventSpan};
use crate::serve::links::{consumer_settings, queue_settings};
use crate::serve::metrics::EventKind;
use crate::serve::workflows::settings_of;

/// Cron expressions and the Workflow that follows them.
type Scheduled = (Vec<String>, String);

impl Runner {
    /// Starts scripts when the alarms are due that were set before this start.
    pub(super) fn wake_for_alarms(self: &Arc<Self>) -> Result<(), String> {
        let stores = &self.tenant.stores;
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (script, _, namespace) in stores.catalog.all_namespaces().map_err(|e| e.to_string())? {
            keys.entry(script).or_default().push(namespace.unique_key);
        }
        // Where an instance of a Workflow waits, there is an alarm; where it was in the middle of a step, too.
        for workflow in stores.catalog.resources(Kind::Workflow).map_err(|e| e.to_string())? {
            if let Some(script) = workflow.settings["script_name"].as_str() {
                keys.entry(script.to_owned()).or_default().push(workflow_class(&workflow.name));
            }
        }
        let objects = stores.objects();
        let mut due: Vec<(std::time::SystemTime, String)> = keys
            .into_iter()
            .filter_map(|(script, keys)| Some((next_alarm(&objects, &keys)?, script)))
            .collect();
        due.sort();
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            for (at, script) in due {
                let until = at.duration_since(std::time::SystemTime::now()).unwrap_or_default();
                tokio::time::sleep(until).await;
                let Some(runner) = weak.upgrade() else { return };
                if let Err(error) = runner.start(&script).await {
                    tracing::warn!(script, error, "a script whose alarm is due does not start");
                }
            }
        });
        Ok(())
    }

    /// Starts what the script does at certain times: its cron triggers, the schedules of its Workflows.
    pub(super) fn schedule(&self, script: &str) -> Result<(), String> {
        let catalog = &self.tenant.stores.catalog;
        let Some(row) = catalog.script(script).map_err(|e| e.to_string())? else {
            lock(&self.crons).remove(script);
            return Ok(());
        };
        let workflows = self.workflow_schedules()?.remove(script).unwrap_or_default();
        self.schedule_all(script, row.settings.schedules, &workflows);
        Ok(())
    }

    /// The Workflows that have schedules, with these, by their scripts.
    pub(super) fn workflow_schedules(&self) -> Result<BTreeMap<String, Vec<Scheduled>>, String> {
        let mut all: BTreeMap<String, Vec<Scheduled>> = BTreeMap::new();
        let catalog = &self.tenant.stores.catalog;
        for row in catalog.resources(Kind::Workflow).map_err(|e| e.to_string())? {
            let schedules = settings_of(&row.settings).schedules;
            let script = row.settings["script_name"].as_str().filter(|_| !schedules.is_empty());
            if let Some(script) = script.map(str::to_owned) {
                all.entry(script).or_default().push((schedules, row.name));
            }
        }
        Ok(all)
    }

    /// Starts what `script` does at these times.
    pub(super) fn schedule_all(&self, script: &str, schedules: Vec<Schedule>, workflows: &[Scheduled]) {
        let schedules: Vec<String> = schedules.into_iter().map(|schedule| schedule.cron).collect();
        if schedules.is_empty() && workflows.is_empty() {
            // The fleet need not know of it: a script that nobody has called is a few rows on the disk.
            lock(&self.crons).remove(script);
            return;
        }
        let name = script.to_owned();
        let report: Report = Arc::new(move |text: &str| tracing::info!(script = name, text));
        let worker = self.fleet.worker(script);
        let Surroundings { clock, shutdown, .. } = &self.around;
        let at_times = AtTimes { worker: &worker, report: &report, clock, shutdown };
        let mut started: Vec<_> = workflows
            .iter()
            .filter_map(|(schedules, workflow)| at_times.workflow(workflow, schedules))
            .collect();
        started.extend(at_times.handler(&schedules, self.note(script, EventKind::Scheduled)));
        lock(&self.crons).insert(script.to_owned(), started);
    }

    /// Counts events of a script in its metrics, of which it has some from the first one on, and has those that are traced be
    /// spans.
    fn note(&self, script: &str, kind: EventKind) -> Note {
        let (account, script) = (self.tenant.id.clone(), script.to_owned());
        let meters = self.around.meters.clone();
        let (exporter, running, tails) =
            (self.around.exporter.clone(), self.running.clone(), self.tails.clone());
        Box::new(move || {
            let span = exporter.as_ref().and_then(|exporter| {
                let version = lock(&running).get(&script).map(|deployed| deployed.version.clone());
                EventSpan::begin(Traced {
                    exporter: exporter.clone(),
                    resource: export::resource(&account, &script, &version.unwrap_or_default()),
                    ratio: tails.wishes(&script).observability.traces.map(|traces| traces.rate),
                })
            });
            let meter = meters.of(&account, &script);
            Noted {
                traceparent: span.as_ref().map(EventSpan::traceparent),
                end: Box::new(move |outcome, what| {
                    meter.events.note(kind, outcome);
                    if let Some(span) = span {
                        span.end(kind, what, outcome);
                    }
                }),
            }
        })
    }

    /// Gives every queue its settings, and its consumer its messages.
    pub(super) fn consume(&self) -> Result<(), String> {
        let catalog = &self.tenant.stores.catalog;
        let mut wanted = BTreeMap::new();
        for queue in catalog.resources(skep_catalog::Kind::Queue).map_err(|e| e.to_string())? {
            self.tenant.stores.queues.configure(&queue.name, queue_settings(&queue.settings));
            if queue.settings["delivery_paused"] == true {
                continue;
            }
            let consumers = queue.settings["consumers"].as_array().into_iter().flatten();
            let Some(consumer) = consumers.into_iter().find(|consumer| consumer["script"].is_string()) else {
                continue;
            };
            wanted.insert(queue.name, consumer.clone());
        }
        let mut consumers = lock(&self.consumers);
        consumers.retain(|queue, (consumer, _)| wanted.get(queue) == Some(consumer));
        for (queue, consumer) in wanted {
            if consumers.contains_key(&queue) {
                continue;
            }
            let script = consumer["script"].as_str().unwrap_or_default();
            let note = self.note(script, EventKind::Queue);
            let deliver = Arc::new(QueueConsumer { worker: self.fleet.worker(script), note });
            let settings = consumer_settings(&consumer);
            let handle = self.tenant.stores.queues.consume(&queue, settings, deliver);
            consumers.insert(queue, (consumer, handle));
        }
        Ok(())
    }
}
