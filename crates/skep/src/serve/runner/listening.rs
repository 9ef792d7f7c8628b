//! Who hears of what a script's cells do, and which cells have to say so.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use skep_api::TailEvents;
use skep_catalog::Version;
use skep_fleet::{CellSpec, Tail};
use skep_logs::Observability;
use skep_otlp::Signal;

use super::{Runner, When, is_of};
use crate::reports::Sink;
use crate::serve::export;
use crate::serve::tails::Wishes;
use crate::serve::traces::Traces;

impl Runner {
    /// Notes what the settings of `script` want with its events.
    fn wish(&self, script: &str) -> Result<(), String> {
        let row = self.tenant.stores.catalog.script(script).map_err(|e| e.to_string())?;
        let Some(row) = row else {
            self.tails.forget(script);
            return Ok(());
        };
        let consumers =
            row.settings.tail_consumers.iter().filter_map(|consumer| consumer["service"].as_str());
        // Each is told once.
        let consumers: BTreeSet<&str> = consumers.filter(|consumer| *consumer != script).collect();
        self.tails.wish(
            script,
            Wishes {
                consumers: consumers
                    .into_iter()
                    .map(|consumer| self.tails.consumer(self.fleet.worker(consumer)))
                    .collect(),
                observability: Observability::of(row.settings.observability.as_ref()),
            },
        );
        Ok(())
    }

    /// Lets a version's events go to those who want them, if anybody does.
    pub(super) fn report(&self, script: &str, version: &Version, spec: &mut CellSpec) -> Result<(), String> {
        self.wish(script)?;
        let rate = self.tails.rate(script);
        if rate > 0.0 {
            spec.services.insert("tail".into(), self.tails.sink(script, &version.id, rate));
            spec.tail = Some(Tail { service: "tail".into(), rate });
        }
        self.trace(script, version, spec);
        Ok(())
    }

    /// Lets a version's spans go to the collector, if its settings ask for traces.
    fn trace(&self, script: &str, version: &Version, spec: &mut CellSpec) {
        let observability = self.tails.wishes(script).observability;
        let Some(rate) = observability.traces.map(|traces| traces.rate).filter(|rate| *rate > 0.0) else {
            return;
        };
        let exporter = self.around.exporter.as_ref();
        if !exporter.is_some_and(|exporter| exporter.settings().exports(Signal::Traces)) {
            return;
        }
        let Some(traced) = export::traced(exporter, &self.tenant.id, script, version, observability) else {
            return;
        };
        spec.services
            .insert("trace".into(), Arc::new(Sink::new(Traces { traced, calls: self.calls.clone() })));
        spec.trace = Some(Tail { service: "trace".into(), rate });
    }

    /// The events of a script from now on. Its cells are started anew if they do not report them all yet.
    pub async fn tail(self: &Arc<Self>, script: &str) -> Result<TailEvents, String> {
        let (events, is_new) = self.tails.listen(script);
        if is_new {
            self.start_all_changed(script).await?;
        }
        Ok(events)
    }

    /// Lets cells report no more than is wanted. Those with Durable Objects do so at the next deploy: their objects would be
    /// started anew for it.
    pub(super) async fn untail(self: &Arc<Self>, script: &str) -> Result<(), String> {
        let has_objects =
            !self.tenant.stores.catalog.namespaces(script).map_err(|e| e.to_string())?.is_empty();
        if has_objects || self.tails.is_wanted(script) {
            return Ok(());
        }
        self.start_all_changed(script).await
    }

    /// Starts anew what runs of `script` and would be another now.
    async fn start_all_changed(self: &Arc<Self>, script: &str) -> Result<(), String> {
        for name in self.awake().into_iter().filter(|name| is_of(script, name)) {
            self.start_if(&name, When::Changed).await?;
        }
        Ok(())
    }

    /// The settings of `script` that are not of a version are others.
    pub async fn settings_changed(self: &Arc<Self>, script: &str) -> Result<(), String> {
        self.wish(script)?;
        self.schedule(script)?;
        self.live.write().unwrap_or_else(PoisonError::into_inner).remove(script);
        self.start_all_changed(script).await
    }
}
