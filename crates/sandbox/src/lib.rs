//! What an engine process may do on this machine.
//!
//! A [`Jail`] is a list of files, a few permissions and the [`Layer`]s that hold them: namespaces with a root of
//! their own, Landlock, a system call filter, connections that somebody else opens, no capabilities, control groups. It is entered by the process itself, just before it
//! becomes the engine by `exec`. Knows nothing of cells, scripts or sockets.
//!
//! A process that only computes needs no jail: it is sealed. A program of several processes, such as a browser, has a [`Cage`].
//!
//! Entry points: [`Sandbox::probe`], [`Sandbox::jail`], [`Jail::enter`], [`Sandbox::cage`], [`seal`].

mod cage;
mod connections;
mod files;
mod filter;
mod filter_many;
mod groups;
mod jail;
mod layer;
mod loopback;
mod namespaces;
mod passing;
mod privileges;
mod probe;
mod root;
mod sandbox;
mod sealed;

pub use cage::{Cage, SCRATCH};
pub use connections::listener;
pub use groups::{Group, GroupLimits, Groups};
pub use jail::{Jail, JailError};
pub use layer::{Layer, Layers};
pub use passing::{pass, passed};
pub use privileges::limit_files;
pub use probe::{PROBE, probe_here};
pub use sandbox::{Permissions, Sandbox};
pub use sealed::{Sealed, seal};
