//! How a cell gets to its containers, on this machine and on a node.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_containers::Gate;
use skep_fleet::{CellSpec, Containers, Leads, Led};

/// The id of the gate among a cell's servers.
const GATE: &str = "docker";

/// Gives a cell its gate; `images` are those of its classes.
pub fn give(spec: &mut CellSpec, gate: Arc<Gate>, images: BTreeMap<String, String>) {
    let (reaches, runs, led) = (gate.clone(), gate.clone(), gate.clone());
    spec.containers = Some(Containers {
        connections: GATE.to_owned(),
        images,
        reaches: Arc::new(move |port| reaches.reaches(port)),
        runs: Arc::new(move |id, handle| runs.runs(id, handle)),
        led: Leads::new(move || led.led().map(|(begun, open)| Led { begun, open })),
    });
    spec.connections.insert(GATE.to_owned(), gate);
}
