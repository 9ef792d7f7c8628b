//! Tail consumers in a session: workers whose `tail()` hears of another's events.

use std::sync::Arc;

use serde_json::Value as Json;
use skep_catalog::split_name;
use skep_fleet::{Fleet, Tail};

use super::project::Project;
use crate::reports::{Consumer, Sink, TakeReports, pass_on, tidy};
use crate::stand_ins::Running;
use crate::wiring::Wired;

/// What a worker's cell reports.
struct Reports {
    script: String,
    consumers: Vec<Consumer>,
}

impl TakeReports for Reports {
    fn take(&self, mut events: Vec<Json>) {
        let (namespace, label) = split_name(&self.script);
        for event in &mut events {
            tidy(event);
            event["scriptName"] = label.into();
            if let Some(namespace) = namespace {
                event["dispatchNamespace"] = namespace.into();
            }
        }
        pass_on(&events, &self.consumers);
    }
}

/// Lets a worker's cell report to those that its configuration names. One is not told of its own events.
pub fn add(project: &Project, running: &Running, fleet: &Fleet, wired: &mut Wired) {
    let own = &project.config.name;
    let mut consumers = Vec::new();
    for name in project.config.tail_consumers.iter().filter(|name| *name != own) {
        if running.scripts.contains(name) {
            consumers.push(Consumer { worker: fleet.worker(name), backlog: Consumer::room(), all: None });
        }
        let backing = running.shown(name, name.clone());
        wired.table.push(["(events)".to_owned(), "Tail consumer".to_owned(), backing]);
    }
    if consumers.is_empty() {
        return;
    }
    let reports = Reports { script: own.clone(), consumers };
    wired.spec.services.insert("tail".to_owned(), Arc::new(Sink::new(reports)));
    wired.spec.tail = Some(Tail { service: "tail".to_owned(), rate: 1.0 });
}
