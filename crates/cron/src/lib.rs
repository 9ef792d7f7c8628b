//! Cron triggers: Cloudflare's cron expressions, and a scheduler that fires them.
//!
//! All times are UTC, in milliseconds since the Unix epoch; the resolution is a minute. The syntax is that
//! of Cloudflare's own parser, `saffron` (a test holds this one against it), without its defects.
//!
//! This crate does not know workers: whatever implements [`Fire`] is fired.
//!
//! Entry points: [`Expression`], [`Cron::start`].

mod calendar;
mod expression;
mod next;
mod parse;
mod plan;
mod scheduler;

pub use expression::Expression;
pub use parse::CronError;
pub use scheduler::{Cron, CronHandle, Fire, Fired};
