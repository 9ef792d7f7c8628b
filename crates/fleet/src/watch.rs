//! Looks after a running process: what it uses, and whether its code lets others have their turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use skep_sandbox::Group;
use skep_wire::{UnixClient, empty, read_all};
use tokio::sync::Notify;

use crate::alone::Alarms;
use crate::awake::{self, Awake};
use crate::collector::Collector;
use crate::limits::{Exceeded, Inside, Limits, START_CPU, Sample, Verdict, Watch};
use crate::process::Killer;
use crate::spec::{FileLimit, NextAlarm};

/// How often to look at a process that is coming up.
const START_LOOK: Duration = Duration::from_millis(40);

/// What a process was ended for, once it was.
pub(crate) type Offence = Arc<OnceLock<Exceeded>>;

/// A process under supervision.
pub(crate) struct Watched {
    pub pid: u32,
    pub killer: Killer,
    pub limits: Limits,
    pub offence: Offence,
    pub group: Option<Arc<Group>>,
    /// Has it collect its garbage, if it does when it is asked.
    pub collector: Option<Collector>,
    /// How large its files may be, if that changes.
    pub files: Option<Files>,
    /// When its objects' next alarm is due, if they can have any.
    pub next_alarm: Option<NextAlarm>,
}

/// How large the files of a process may be.
pub(crate) struct Files {
    limit: FileLimit,
    /// What was set last: [`NO_LIMIT`] as it is started.
    set: AtomicU64,
}

/// A process's own limit.
const NO_LIMIT: u64 = u64::MAX;

impl Files {
    pub(crate) fn new(limit: FileLimit) -> Self {
        Self { limit, set: AtomicU64::new(NO_LIMIT) }
    }

    /// Sets what has changed.
    fn follow(&self, pid: u32) {
        let limit = (self.limit)();
        let wanted = limit.unwrap_or(NO_LIMIT);
        if self.set.swap(wanted, Ordering::Relaxed) != wanted
            && let Err(error) = skep_sandbox::limit_files(pid, limit)
        {
            tracing::debug!(pid, %error, "the size of a process's files cannot be limited");
        }
    }
}

impl Watched {
    fn follow_files(&self) {
        if let Some(files) = &self.files {
            files.follow(self.pid);
        }
    }

    /// Ends it for what it did.
    fn end(&self, exceeded: Exceeded) {
        let _ = self.offence.set(exceeded);
        self.killer.kill();
    }

    /// While it comes up: nobody can be asked yet, and the code that runs then has less time. Returns only when it
    /// was ended.
    pub(crate) async fn coming_up(&self) {
        loop {
            tokio::time::sleep(START_LOOK).await;
            self.follow_files();
            let sample = sample(self.pid);
            if sample.memory > self.limits.process_memory() {
                return self.end(Exceeded::Memory);
            }
            if sample.cpu >= START_CPU {
                return self.end(Exceeded::Cpu);
            }
        }
    }

    /// While it runs; `busy` says that something has come in, `inside` what is
    /// known of what is in it. Does
    /// not return before the process was ended.
    pub(crate) async fn running(
        self,
        pulse: Arc<UnixClient>,
        busy: Arc<Notify>,
        inside: impl Fn() -> Inside,
    ) {
        let mut watch = Watch::new(self.limits, self.collector.is_some(), self.next_alarm.is_some());
        let mut alarms = Alarms::default();
        let mut asked: Option<tokio::task::JoinHandle<bool>> = None;
        let mut collecting: Option<tokio::task::JoinHandle<()>> = None;
        let mut last = false;
        let mut objects = Awake::new(self.limits.objects, awake::ALL.clone());
        loop {
            if tokio::time::timeout(watch.pause(), busy.notified()).await.is_ok() {
                watch.wake();
                // More may come in at any time, and looking costs something.
                tokio::time::sleep(watch.pause()).await;
            }
            self.follow_files();
            if let Some(question) = asked.take_if(|question| question.is_finished()) {
                match question.await {
                    Ok(true) => watch.answered(),
                    _ => watch.not_asked(),
                }
            }
            // One that failed is one that was of no use.
            if collecting.take_if(|collection| collection.is_finished()).is_some() {
                watch.collected();
            }
            let seen = sample(self.pid);
            let memory = objects.without(self.pid, seen.memory);
            let mut verdict = watch.note(Sample { inside: inside(), memory, ..seen });
            if let (Verdict::Alarm, Some(next)) = (verdict, &self.next_alarm) {
                verdict = watch.alarm(alarms.note(next(), SystemTime::now()));
            }
            match verdict {
                Verdict::Fine | Verdict::Alarm => {}
                Verdict::Ask => {
                    let pulse = pulse.clone();
                    asked = Some(tokio::spawn(async move { answers(&pulse, "/health").await }));
                }
                Verdict::End(exceeded) => return self.end(exceeded),
            }
            if let Some(collector) = self.collector.as_ref().filter(|_| watch.wants_collection()) {
                let collector = collector.clone();
                collecting = Some(tokio::spawn(async move { collector.collect().await }));
            }
            if let Some(group) = self.group.as_ref().filter(|_| last != watch.runs_last()) {
                last = watch.runs_last();
                group.run_last(last);
            }
        }
    }
}

/// Whether the process answers; takes as long as its code takes to give others their turn.
pub(crate) async fn answers(socket: &Arc<UnixClient>, path: &'static str) -> bool {
    let mut request = http::Request::new(empty());
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("skep"));
    match socket.send(request).await {
        Ok(response) => read_all(response.into_body(), 1 << 10).await.is_ok(),
        Err(_) => false,
    }
}

/// Whether the process says yes, by a status of 204, within `patience`.
pub(crate) async fn affirms(socket: &Arc<UnixClient>, path: &'static str, patience: Duration) -> bool {
    let mut request = http::Request::new(empty());
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("skep"));
    let answer = tokio::time::timeout(patience, socket.send(request)).await;
    matches!(answer, Ok(Ok(response)) if response.status() == http::StatusCode::NO_CONTENT)
}

/// What can be seen of a process; nothing if it is gone.
fn sample(pid: u32) -> Sample {
    // The engine runs all code on its first thread; the others collect garbage and resolve names.
    let cpu = crate::idle::ticks_in(&format!("/proc/{pid}/task/{pid}/stat"));
    let tick = 1000 / rustix::param::clock_ticks_per_second().max(1);
    Sample { cpu: Duration::from_millis(cpu * tick), memory: memory(pid), inside: Inside::default() }
}

/// Bytes of memory that a process shares with no other; 0 if it is gone.
pub(crate) fn memory(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut pages = statm.split_whitespace().skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    resident.saturating_sub(shared) * page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_one_that_is_gone_has_none() {
        let own = sample(std::process::id());
        assert!(own.memory > 100 << 10 && own.memory < 1 << 40, "{own:?}");
        assert_eq!(sample(0), Sample::default());
    }
}
