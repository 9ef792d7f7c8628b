//! What the processes of a script use of the machine.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::idle::cpu_ticks;
use crate::watch::memory;

/// What one script's processes have used, those that have ended included. The fleet keeps it; whoever measures reads
/// it, and only then is a running process looked at.
#[derive(Debug, Default)]
pub struct Usage {
    cold_starts: AtomicU64,
    restarts: AtomicU64,
    processes: Mutex<Processes>,
}

#[derive(Debug, Default)]
struct Processes {
    running: BTreeSet<u32>,
    /// CPU time of those that have ended, in clock ticks.
    ended: u64,
}

/// What a script's processes use at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Processes that run.
    pub cells: usize,
    /// CPU time of all that ever ran.
    pub cpu: Duration,
    /// Bytes of memory of those that run that they share with nobody.
    pub memory: u64,
    /// How often a process was started where none was.
    pub cold_starts: u64,
    /// How often a process had ended by itself and was replaced.
    pub restarts: u64,
}

impl Usage {
    /// What is used now; reads two small files per process.
    pub fn now(&self) -> Used {
        let processes = self.processes();
        let ticks: u64 = processes.running.iter().map(|pid| cpu_ticks(*pid)).sum();
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Used {
            cells: processes.running.len(),
            cpu: Duration::from_millis((processes.ended + ticks) * 1000 / per_second),
            memory: processes.running.iter().map(|pid| memory(*pid)).sum(),
            cold_starts: self.cold_starts.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
        }
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, pid: u32) {
        self.processes().running.insert(pid);
    }

    /// A process has ended. Call it before the process is reaped: until then its CPU time can be read, and its number
    /// is not given to another one.
    pub(crate) fn end(&self, pid: u32) {
        let mut processes = self.processes();
        processes.ended += cpu_ticks(pid);
        processes.running.remove(&pid);
    }

    pub(crate) fn cold_start(&self) {
        self.cold_starts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_stays_counted_after_the_end() {
        let usage = Usage::default();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "n=0; while [ $n -lt 200000 ]; do n=$((n+1)); done; echo; read x"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        usage.begin(child.id());
        let mut worked = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut worked).unwrap();
        let running = usage.now();
        assert!(running.cells == 1 && running.memory > 0 && running.cpu > Duration::ZERO, "{running:?}");
        drop(child.stdin.take());
        std::io::Read::read_to_end(child.stdout.as_mut().unwrap(), &mut Vec::new()).unwrap();
        usage.end(child.id());
        child.wait().unwrap();
        let ended = usage.now();
        assert!(ended.cells == 0 && ended.memory == 0 && ended.cpu >= running.cpu, "{ended:?} {running:?}");
    }
}
