//! Background jobs, all visible in one list.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{Clock, Shutdown};

/// What a background job last did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobState {
    /// Completed runs, successful or not.
    pub runs: u64,
    /// When the last run ended, in milliseconds since the Unix epoch; 0 before the first.
    pub last_run_ms: u64,
    /// What the last run said: a short summary, or the error's text.
    pub last_result: Result<String, String>,
}

/// Starts background jobs and knows the state of each. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Jobs {
    states: Arc<Mutex<BTreeMap<String, JobState>>>,
    clock: Clock,
    shutdown: Shutdown,
}

impl Jobs {
    /// An empty list whose jobs end with `shutdown`.
    pub fn new(clock: Clock, shutdown: Shutdown) -> Self {
        Self { states: Arc::default(), clock, shutdown }
    }

    /// Runs `job` every `period` until shutdown, first after one period. Must be called inside a tokio
    /// runtime. A job name that is taken replaces the listed state, not the running task.
    pub fn every<F, Fut>(&self, name: impl Into<String>, period: Duration, mut job: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<String, String>> + Send,
    {
        let name = name.into();
        let this = self.clone();
        this.update(&name, |_| {});
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = this.shutdown.requested() => return,
                    () = tokio::time::sleep(period) => {}
                }
                let result = job().await;
                if let Err(error) = &result {
                    tracing::warn!(job = %name, %error, "background job failed");
                }
                let now = this.clock.now_ms();
                this.update(&name, |state| {
                    state.runs += 1;
                    state.last_run_ms = now;
                    state.last_result = result;
                });
            }
        });
    }

    /// Every job and its state, by name.
    pub fn list(&self) -> BTreeMap<String, JobState> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut JobState)) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        change(states.entry(name.to_owned()).or_insert_with(|| JobState {
            runs: 0,
            last_run_ms: 0,
            last_result: Ok(String::new()),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_runs_until_shutdown_and_lists_its_state() {
        let (trigger, shutdown) = Shutdown::new();
        let jobs = Jobs::new(Clock::system(), shutdown);
        let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
        jobs.every("sweep", Duration::from_millis(1), move || {
            let tx = tx.clone();
            async move {
                let _ = tx.send(());
                Err("full".to_owned())
            }
        });
        rx.recv().await.unwrap();
        rx.recv().await.unwrap();
        let state = jobs.list()["sweep"].clone();
        assert!(state.runs >= 1);
        assert_eq!(state.last_result, Err("full".to_owned()));
        trigger.trigger();
        while rx.recv().await.is_some() {}
    }
}
