//! What every part shares: the clock, background jobs, shutdown.
//!
//! Knows nothing of HTTP, storage or Workers. Entry points: [`Clock`], [`Jobs`], [`Shutdown`], [`Turns`], [`Fair`], [`Room`], [`Backlog`], [`loops`].

mod alarm;
mod aside;
mod backlog;
mod beside;
mod clock;
mod fair;
mod jobs;
mod lines;
pub mod loops;
mod manner;
mod room;
mod shutdown;
mod window;

pub use aside::{Slices, Turns, half_of_the_cores, who, who_is};
pub use backlog::{Backlog, Bounds, Waiting};
pub use beside::Beside;
pub use clock::{Clock, ManualClock};
pub use fair::{Fair, Turn};
pub use jobs::{JobState, Jobs};
pub use manner::thread;
pub use room::{Room, Taken};
pub use shutdown::{Shutdown, ShutdownTrigger};
