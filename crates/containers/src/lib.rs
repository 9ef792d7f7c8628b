//! Containers of Durable Objects, run by Docker or by what speaks its API.
//!
//! The engine of a cell asks for containers over Docker's HTTP API. It gets to speak with a [`Gate`] instead, on a socket in its
//! own folder: that one knows which containers the cell may have ([`Cell`]), answers a part of the API, and writes what it
//! sends on to Docker itself. Nothing that a cell says gets there as it is.
//!
//! Around it:
//!
//! 1. [`Engine::find`] finds Docker or Podman, and is its client.
//! 2. [`Containers::new`] is what one Skep has of an engine, under a name of its own (`owner`): all that it makes has labels by
//!    which [`Containers::sweep`] finds it again, also after a crash.
//! 3. [`Containers::gate`] makes the gate of one script. It is a [`Connections`](skep_wire::Connections) for a cell's
//!    `CellSpec::connections`; `CellSpec::containers` tells the engine of it. Gates hold nothing that is lost with them: the cell
//!    after a reload finds the containers of the one before.
//! 4. [`Engine::pull`] gets an image from a registry, with a login of its own. [`Cli`] builds images, as its user would.
//!
//! What a container sends out goes past Skep when its worker wants to see it: `egress`. [`Gate::runs`] says which process that worker is,
//! [`Gate::led`] that it is wanted.
//!
//! On a node, where connections of a cell are opened for it, [`Gate::reaches`] says which ports of the loopback address the cell
//! has to reach: the engine talks with its containers through one port for each.
//!
//! Knows nothing of scripts, configurations, accounts or the control API.

mod address;
mod archive;
mod cli;
mod containers;
mod create;
mod disk;
mod egress;
mod engine;
mod exec;
mod execs;
mod gate;
mod ingress;
mod lead;
mod names;
mod network;
mod policy;
mod pull;

pub use address::Address;
pub use cli::Cli;
pub use containers::{Containers, Listed, Options};
pub use create::Limits;
pub use disk::Oversized;
pub use egress::Way;
pub use engine::{Engine, EngineError};
pub use gate::Gate;
pub use names::{Cell, Class, Instance};
