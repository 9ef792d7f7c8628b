//! Cells: engine processes, each running one version of one script.
//!
//! Renders the engine's configuration, starts processes, waits until they listen, replaces them without
//! dropping a request, restarts what crashes, carries calls between cells. Knows nothing of the catalog,
//! of HTTP routing, or of what is behind a binding: a [`CellSpec`] brings its servers along.
//!
//! Entry points: [`Machine::new`], [`Fleet::deploy`], [`Worker::acquire`], [`Worker::event`].

mod alone;
mod awake;
mod capnp;
mod cells;
mod certificates;
mod collector;
mod egress;
mod engine;
mod fleet;
mod generation;
mod guard;
mod idle;
mod launcher;
mod limits;
mod log;
mod machine;
mod memory;
mod message;
mod offering;
mod offers;
mod passage;
mod pids;
mod policy;
mod process;
mod relay;
mod render;
mod responses;
mod room;
mod rundir;
mod scale;
mod schema;
mod spec;
mod still;
mod stock;
mod tried;
mod uploads;
mod usage;
mod waiting;
mod watch;
mod worker;

pub use egress::{Egress, check_network, is_public};
pub use fleet::{Fleet, FleetOptions, Wanted, config_hash, expose, print_config};
pub use generation::{CallerFolder, Generation, Hold, Lease, StartError};
pub use launcher::{LAUNCHER_COMMAND, become_cell};
pub use limits::{Exceeded, Limits};
pub use log::{CellLog, LogEvent, LogSink};
pub use machine::{Machine, MachineOptions};
pub use offers::Offered;
pub use passage::PassageError;
pub use render::{CF_HEADER, PROTO_HEADER, RUN_WORKER_HEADER, object_keys, workflow_class};
pub use spec::{
    Binding, CellSpec, Code, Containers, DurableClass, Exposed, FileLimit, Leads, Led, Module, ModuleKind,
    NextAlarm, Origin, Reaches, Tail, Workflow,
};
pub use still::Still;
pub use tried::{NamedExport, Tried};
pub use uploads::RAY;
pub use usage::{Usage, Used};
pub use worker::{Debugged, EventError, Unavailable, Worker};
