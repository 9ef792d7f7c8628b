//! What every part shares: the clock, background jobs, shutdown.
//!
//! Knows nothing of HTTP, storage or Workers. Entry points: [`Clock`], [`Jobs`], [`Shutdown`].

mod alarm;
mod clock;
mod jobs;
mod shutdown;

pub use clock::{Clock, ManualClock};
pub use jobs::{JobState, Jobs};
pub use shutdown::{Shutdown, ShutdownTrigger};
