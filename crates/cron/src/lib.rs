//! Cron triggers.
