//! What every part shares: the clock, background jobs, shutdown.
//!
//! Knows nothing of HTTP, storage or Workers. Entry points: [`Clock`], [`Jobs`], [`Shutdown`], [`Turns`], [`Room`], [`Backlog`], [`loops`].

mod alarm;
mod aside;
mod backlog;
mod clock;
mod jobs;
pub mod loops;
mod room;
mod shutdown;

pub use aside::{Turns, half_of_the_cores};
pub use backlog::{Backlog, Bounds, Waiting};
pub use clock::{Clock, ManualClock};
pub use jobs::{JobState, Jobs};
pub use room::{Room, Taken};
pub use shutdown::{Shutdown, ShutdownTrigger};
