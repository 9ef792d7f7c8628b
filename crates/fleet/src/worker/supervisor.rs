//! A script over its versions and processes: which of them run, what happens when one ends.

mod scaling;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{join_all, select_all};
use tokio::sync::{mpsc, watch};

use super::{Command, State};
use crate::alone::{Alarms, TASKS, most};
use crate::cells::Cells;
use crate::fleet::Shared;
use crate::generation::{Generation, StartError};
use crate::idle::Idle;
use crate::log::{CellLog, LogEvent};
use crate::policy::{Backoff, DRAIN_EXCLUSIVE, DRAIN_SHARED, LEAST_REST, PATIENCE, STOP_GRACE, look_every};
use crate::render::Storage;
use crate::scale::{LOOK, Scale};
use crate::spec::CellSpec;

/// Does one thing at a time for its script: starts, replaces, restarts and ends its processes.
pub(super) struct Supervisor {
    name: String,
    /// Whether there has been an event.
    has_events: Arc<AtomicBool>,
    /// How many debuggers are attached.
    debugged: Arc<AtomicUsize>,
    shared: Arc<Shared>,
    state: watch::Sender<State>,
    spec: Option<Box<CellSpec>>,
    backoff: Backoff,
    /// When the process that takes requests came up.
    since: Instant,
    /// When to start again what crashed.
    restart_at: Option<Instant>,
    /// Since when what takes requests has had none.
    idle: Idle,
    /// Which alarms of its objects have rung.
    alarms: Alarms,
    /// When to look next whether it has.
    look_at: Instant,
    /// How many processes it needs.
    scale: Scale,
    /// When to look next whether it needs more or fewer.
    scale_at: Instant,
    /// By process: what CPU time it had wanted, and when that was seen.
    demands: HashMap<u32, (Duration, Instant)>,
    /// When to start again what rests.
    wake_at: Option<Instant>,
}

impl Supervisor {
    /// Of a script that nothing was deployed of yet. `has_events` says whether there has been an event, `debugged` how
    /// many debuggers are attached.
    pub fn new(
        name: String,
        has_events: Arc<AtomicBool>,
        debugged: Arc<AtomicUsize>,
        shared: Arc<Shared>,
        state: watch::Sender<State>,
    ) -> Self {
        Self {
            name,
            has_events,
            debugged,
            shared,
            state,
            spec: None,
            backoff: Backoff::default(),
            since: Instant::now(),
            restart_at: None,
            idle: Idle::default(),
            alarms: Alarms::default(),
            look_at: Instant::now(),
            scale: Scale::default(),
            scale_at: Instant::now(),
            demands: HashMap::new(),
            wake_at: None,
        }
    }

    /// Does what it is told, and what has to be done by itself, until the script is stopped.
    pub async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            let current = self.current();
            let ended = async {
                match &current {
                    Some(cells) => {
                        let each = cells.all().iter().map(|cell| Box::pin(cell.ended()));
                        let (how, which, _) = select_all(each).await;
                        (cells.all()[which].clone(), how)
                    }
                    None => std::future::pending().await,
                }
            };
            let restart_at = self.restart_at;
            let restart = async {
                match restart_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let wake_at = self.wake_at;
            let wake = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let look_at = self.look_at;
            let look = async {
                match (&current, self.shared.rest) {
                    (Some(_), Some(_)) => tokio::time::sleep_until(look_at.into()).await,
                    _ => std::future::pending().await,
                }
            };
            let (may_scale, scale_at) = (self.may_scale(), self.scale_at);
            let scale = async {
                match (&current, may_scale) {
                    (Some(_), true) => tokio::time::sleep_until(scale_at.into()).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Deploy(spec, reply)) => {
                        drop(current);
                        let _ = reply.send(self.deploy(spec).await);
                    }
                    Some(Command::TakeEvents(reply)) => {
                        drop(current);
                        let _ = reply.send(self.take_events().await);
                    }
                    Some(Command::Break(why, reply)) => {
                        if current.is_none() && self.restart_at.is_none() {
                            self.state.send_replace(State::Broken(why.into()));
                        }
                        let _ = reply.send(());
                    }
                    Some(Command::Narrow(reply)) => {
                        drop(current);
                        self.narrow();
                        let _ = reply.send(());
                    }
                    Some(Command::Rest(_asked)) => {
                        drop(current);
                        self.rest().await;
                    }
                    Some(Command::GiveUp(reply)) => {
                        drop(current);
                        self.give_up().await;
                        let _ = reply.send(());
                    }
                    Some(Command::Stop(reply)) => {
                        drop(current);
                        self.stop().await;
                        let _ = reply.send(());
                        return;
                    }
                    None => {
                        drop(current);
                        self.stop().await;
                        return;
                    }
                },
                (which, how) = ended => {
                    drop(current);
                    self.crashed(&which, &how);
                }
                () = restart => self.restart().await,
                () = wake => {
                    self.wake_at = None;
                    if let Some(wanted) = &self.shared.wanted {
                        wanted(&self.name);
                    }
                }
                () = look => {
                    drop(current);
                    self.look().await;
                }
                () = scale => {
                    drop(current);
                    self.scale().await;
                }
            }
        }
    }

    fn current(&self) -> Option<Cells> {
        match &*self.state.borrow() {
            State::Ready(cells) => Some(cells.clone()),
            _ => None,
        }
    }

    /// Stops what has had nothing to do for long enough.
    async fn look(&mut self) {
        let (Some(rest), Some(current)) = (self.shared.rest, self.current()) else { return };
        self.look_at = Instant::now() + look_every(rest);
        let seen = current.seen();
        let quiet = self.idle.note(seen, Instant::now());
        drop(current);
        if quiet.idle >= rest {
            self.rest().await;
        } else if self.has_been_alone(quiet.alone, seen.called) {
            self.say("ended what the script does by itself, without any event".to_owned());
            self.end().await;
        }
    }

    /// Whether it may not go on any longer with what it has done by itself for this long.
    fn has_been_alone(&mut self, alone: Duration, is_called: bool) -> bool {
        let Some(spec) = self.spec.as_ref().filter(|spec| spec.workflows.is_empty()) else { return false };
        let most = most(spec, is_called);
        // What is known of alarms has to be known before.
        if alone < most / 2 {
            return false;
        }
        let now = SystemTime::now();
        let next = spec.next_alarm.as_ref().and_then(|next| next());
        if self.alarms.note(next, now) {
            self.idle.begun(Instant::now());
            return false;
        }
        let rings = next.is_some_and(|at| at <= now);
        alone >= if rings { most.max(TASKS) } else { most }
    }

    /// Ends the process if nothing is in it; the next request starts one.
    async fn rest(&mut self) {
        let (Some(current), Some(spec)) = (self.current(), &self.spec) else { return };
        // What its containers send out goes nowhere without it.
        if spec.containers.as_ref().is_some_and(|containers| containers.led.now().is_some()) {
            return;
        }
        // An instance's next alarm is known once it rests.
        if current.is_busy() || !current.workflows_rest().await {
            return;
        }
        let wake_at = match spec.next_alarm.as_ref().and_then(|next| next()) {
            None => None,
            Some(at) => match at.duration_since(SystemTime::now()) {
                Ok(until) if until > LEAST_REST => Some(Instant::now() + until),
                _ => return,
            },
        };
        self.end_by(current, wake_at).await;
    }

    /// Ends the process whatever it does by itself; the next request or alarm starts one.
    async fn end(&mut self) {
        let (Some(current), Some(spec)) = (self.current(), &self.spec) else { return };
        let until = |at: SystemTime| at.duration_since(SystemTime::now()).unwrap_or_default();
        let wake_at = spec.next_alarm.as_ref().and_then(|next| next()).map(|at| Instant::now() + until(at));
        self.end_by(current, wake_at).await;
    }

    async fn end_by(&mut self, current: Cells, wake_at: Option<Instant>) {
        // From here on requests wait; one may just have come in.
        self.state.send_replace(State::Starting);
        if current.is_busy() {
            self.state.send_replace(State::Ready(current));
            return;
        }
        current.all().iter().for_each(|cell| cell.retire());
        join_all(current.all().iter().map(|cell| cell.kill())).await;
        self.spec = None;
        self.wake_at = wake_at;
        self.state.send_replace(State::Asleep);
    }

    fn is_exclusive(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.is_exclusive())
    }

    /// Ends what runs, running requests within the time that a deploy gives them.
    async fn give_up(&mut self) {
        let last = self.current();
        self.state.send_replace(State::Starting);
        if let Some(last) = last {
            last.all().iter().for_each(|cell| cell.retire());
            join_all(last.all().iter().map(|cell| cell.drained(DRAIN_EXCLUSIVE))).await;
            join_all(last.all().iter().map(|cell| cell.kill())).await;
        }
        self.spec = None;
        self.restart_at = None;
        self.state.send_replace(State::Asleep);
    }

    /// Replaces what runs by the same with what delivers events, unless it has that.
    async fn take_events(&mut self) -> Result<(), StartError> {
        let lacks = |cells: &Cells| cells.all().iter().any(|cell| cell.events().is_none());
        let Some(current) = self.current().filter(lacks) else { return Ok(()) };
        let Some(mut spec) = self.spec.clone() else { return Ok(()) };
        spec.events = true;
        self.replace_shared(Some(current), &spec).await?;
        self.spec = Some(spec);
        Ok(())
    }

    async fn deploy(&mut self, mut spec: Box<CellSpec>) -> Result<(), StartError> {
        spec.events |= self.has_events.load(Ordering::Relaxed);
        let is_cold = self.current().is_none();
        if is_cold {
            self.shared.machine.make_room(self.shared.account);
        }
        let old = self.current().filter(|cells| cells.all().iter().any(|cell| cell.is_running()));
        let result = match old {
            // Also where the new one has no objects any more: they may be another script's.
            Some(old) if spec.is_exclusive() || self.is_exclusive() => {
                self.replace_exclusive(old, &spec).await
            }
            old => self.replace_shared(old, &spec).await,
        };
        match &result {
            Ok(()) => {
                if is_cold {
                    spec.usage.cold_start();
                }
                self.spec = Some(spec);
                self.backoff = Backoff::default();
            }
            Err(error) if self.current().is_none() && self.restart_at.is_none() => {
                self.state.send_replace(State::Broken(error.to_string().into()));
            }
            Err(_) => {}
        }
        result
    }

    /// The new process takes over when it is ready; the old one finishes what it has.
    async fn replace_shared(&mut self, old: Option<Cells>, spec: &CellSpec) -> Result<(), StartError> {
        let new = Generation::start(&self.shared, spec, Storage::Real).await?;
        self.ready(new);
        if let Some(old) = old {
            self.scale.replaced(old.all().len());
            old.all().iter().for_each(|cell| self.finish(cell.clone()));
        }
        Ok(())
    }

    /// Lets a process finish what it has, which gets nothing new any more.
    fn finish(&self, old: Arc<Generation>) {
        let stop = self.shared.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.requested() => {}
                () = async {
                    // What it does after its last response (`waitUntil`) has the same time.
                    let start = Instant::now();
                    old.drained(DRAIN_SHARED).await;
                    tokio::time::sleep(DRAIN_SHARED.saturating_sub(start.elapsed())).await;
                } => {}
            }
            old.stop(STOP_GRACE).await;
        });
    }

    /// Objects may have only one process: requests wait while the old one ends and the new one starts. That
    /// the code starts at all is tried before, without the objects.
    async fn replace_exclusive(&mut self, old: Cells, spec: &CellSpec) -> Result<(), StartError> {
        let trial = Generation::start(&self.shared, spec, Storage::Throwaway).await?;
        trial.kill().await;
        self.state.send_replace(State::Starting);
        old.all().iter().for_each(|cell| cell.retire());
        join_all(old.all().iter().map(|cell| cell.drained(DRAIN_EXCLUSIVE))).await;
        join_all(old.all().iter().map(|cell| cell.kill())).await;
        match Generation::start(&self.shared, spec, Storage::Real).await {
            Ok(new) => {
                self.ready(new);
                Ok(())
            }
            Err(error) => {
                if let Some(previous) = &self.spec
                    && let Ok(back) = Generation::start(&self.shared, previous, Storage::Real).await
                {
                    self.ready(back);
                }
                Err(error)
            }
        }
    }

    /// What ended by itself is started again, later each time.
    fn crashed(&mut self, which: &Arc<Generation>, how: &str) {
        let exceeded = which.exceeded();
        let left = self.current().and_then(|cells| cells.without(which));
        let delay = self.backoff.after_crash(self.since.elapsed(), exceeded.is_some());
        let in_ms = delay.as_millis();
        if let Some(spec) = &self.spec {
            spec.usage.restart();
        }
        match exceeded {
            Some(exceeded) => {
                (self.shared.log)(CellLog { script: self.name.clone(), event: LogEvent::Exceeded(exceeded) });
                self.say(format!("{} Starting the cell again in {in_ms} ms", exceeded.message()));
            }
            None => self.say(format!("the cell ended unexpectedly ({how}); starting it again in {in_ms} ms")),
        }
        if let Some(left) = left {
            // They take its requests; load decides whether it is missed.
            self.state.send_replace(State::Ready(left));
            return;
        }
        self.state.send_replace(match exceeded.is_some() && delay > PATIENCE {
            true => State::Resting,
            false => State::Starting,
        });
        self.restart_at = Some(Instant::now() + delay);
    }

    async fn restart(&mut self) {
        self.restart_at = None;
        let Some(spec) = &self.spec else { return };
        match Generation::start(&self.shared, spec, Storage::Real).await {
            Ok(new) => self.ready(new),
            // It did start once: what stands in its way now may pass.
            Err(error) => {
                let delay = self.backoff.after_crash(Duration::ZERO, false);
                self.say(format!(
                    "the cell does not start any more: {error}; trying again in {} ms",
                    delay.as_millis()
                ));
                self.state.send_replace(State::Broken(error.to_string().into()));
                self.restart_at = Some(Instant::now() + delay);
            }
        }
    }

    fn ready(&mut self, generation: Arc<Generation>) {
        self.idle = Idle::default();
        self.alarms = Alarms::default();
        self.look_at = Instant::now() + self.shared.rest.map_or(Duration::ZERO, look_every);
        self.scale = Scale::default();
        self.scale_at = Instant::now() + LOOK;
        self.wake_at = None;
        self.since = Instant::now();
        self.restart_at = None;
        self.state.send_replace(State::Ready(Cells::one(generation)));
    }

    async fn stop(&self) {
        let last = self.current();
        self.state.send_replace(State::Stopped);
        if let Some(last) = last {
            join_all(last.all().iter().map(|cell| async {
                cell.drained(STOP_GRACE).await;
                cell.stop(STOP_GRACE).await;
            }))
            .await;
        }
    }

    fn say(&self, message: String) {
        (self.shared.log)(CellLog { script: self.name.clone(), event: LogEvent::Fleet { message } });
    }
}
