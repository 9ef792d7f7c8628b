//! Processes that do nothing for a moment, so that their files can be copied.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::generation::Generation;

/// How long the kernel may take to stop a process.
const PATIENCE: Duration = Duration::from_millis(500);

/// Processes that are stopped; they go on when it is dropped. If this process dies instead, so do they.
#[derive(Debug)]
pub struct Still(Vec<Arc<Generation>>);

impl Still {
    pub(crate) fn of(generations: Vec<Arc<Generation>>) -> Self {
        generations.iter().for_each(|generation| generation.pause(true));
        let until = Instant::now() + PATIENCE;
        for generation in &generations {
            while !is_stopped(generation.pid()) && Instant::now() < until {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        Self(generations)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.0.iter().for_each(|generation| generation.pause(false));
    }
}

/// Whether all threads of a process stand still, or it is gone.
fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything; the state follows it.
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
        matches!(state, None | Some("T" | "t" | "Z" | "X"))
    })
}
