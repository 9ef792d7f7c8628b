//! Event loops beside the one that everything begins on.
//!
//! One loop serves everybody: a request's visitor, its cell and its bindings then share one `epoll_wait`, and nobody wakes another thread. That ends
//! where the loop's thread has no time left. Then connections that can be served anywhere go to other loops, one more at a time, and come home
//! when there is room. What they begin there stays there: connections to cells belong to the loop that opened them.

use std::cell::Cell;
use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{LazyLock, OnceLock};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::manner;
use crate::window::{Window, now};

/// Loops of a machine, the first one included.
const MOST: usize = 16;
/// What a loop said of itself is forgotten after this time, in nanoseconds: a loop that has nothing to do says nothing.
const STALE: u64 = 200_000_000;
/// CPU time of a loop's thread, of a thousand, from which on it is full. What it waits for a processor is not counted: another thread would wait as well.
const FULL: u32 = 850;
/// A loop that uses less takes connections of a full one.
const ROOM: u32 = 600;
/// Two loops that use less together are one too many.
const FEW: u32 = 500;

static LOOPS: LazyLock<Vec<Loop>> = LazyLock::new(|| (0..MOST).map(|_| Loop::default()).collect());
/// How many are open, and how many may be.
static OPEN: AtomicUsize = AtomicUsize::new(1);
static ALLOWED: AtomicUsize = AtomicUsize::new(1);
/// Whether connections go round whatever there is to do.
static GO_ROUND: OnceLock<()> = OnceLock::new();

/// A loop, as others see it.
#[derive(Debug, Default)]
struct Loop {
    handle: OnceLock<Handle>,
    /// Connections that can be served elsewhere.
    members: AtomicU32,
    share: AtomicU32,
    /// When `share` was found, in nanoseconds after the start.
    at: AtomicU64,
}

thread_local! {
    /// The loop that this thread runs; `None`: it is no loop's thread, or there is only one.
    static HERE: Cell<Option<u8>> = const { Cell::new(None) };
    static WATCH: Cell<Watch> = const { Cell::new(Watch { window: Window::FIRST, full: 0, leave: 0, to: 0 }) };
}

/// What a loop's thread knows of itself.
#[derive(Clone, Copy, Debug)]
struct Watch {
    window: Window,
    /// Windows in a row in which it was full.
    full: u32,
    /// So many connections go to the loop `to`.
    leave: u32,
    to: usize,
}

/// A runtime for a loop.
pub fn runtime() -> std::io::Result<Runtime> {
    manner::begin();
    Builder::new_current_thread()
        .enable_all()
        .on_thread_park(manner::rest)
        .on_thread_start(manner::at_once)
        .build()
}

/// Makes the runtime of the thread that calls this the first loop, and allows for more where the machine has the processors: one for two.
/// `SKEP_EVENT_LOOPS=round` makes connections go round with each request, so that tests see what comes of it.
pub fn start() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let _ = LOOPS[0].handle.set(Handle::current());
    if std::env::var_os("SKEP_EVENT_LOOPS").is_some_and(|value| value == "round") {
        let _ = GO_ROUND.set(());
    }
    let most = if GO_ROUND.get().is_some() { 3 } else { (1 + cores / 2).min(MOST) };
    if most > 1 {
        ALLOWED.store(most, Relaxed);
        HERE.set(Some(0));
    }
}

/// The loop that the calling thread runs; 0 also for threads that run none.
pub fn here() -> u8 {
    HERE.get().unwrap_or(0)
}

/// Spawns what is to live as long as the process, or looks after others: on the first loop, whoever asks.
pub fn spawn_home<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    match LOOPS[0].handle.get().filter(|_| here() != 0) {
        Some(home) => home.spawn(future),
        None => tokio::spawn(future),
    }
}

/// A connection that can be served by any loop, where it is served now.
#[derive(Debug)]
pub struct Member(u8);

impl Member {
    /// One more on the calling thread's loop.
    pub fn join() -> Self {
        let here = here();
        LOOPS[usize::from(here)].members.fetch_add(1, Relaxed);
        Self(here)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        LOOPS[usize::from(self.0)].members.fetch_sub(1, Relaxed);
    }
}

/// Where a new connection is to be served, if not here.
pub fn place() -> Option<Handle> {
    let here = usize::from(HERE.get()?);
    if GO_ROUND.get().is_some() {
        return round(here);
    }
    let now = now();
    look(here, now);
    let seen = seen(now);
    if seen[here].share < FULL {
        return None;
    }
    let (to, _) = seen.iter().enumerate().min_by_key(|(_, one)| one.share)?;
    (to != here).then(|| LOOPS[to].handle.get().cloned())?
}

/// Called by whatever serves visitors, with each request: the loop looks at itself now and then.
pub fn note() {
    if let Some(here) = HERE.get() {
        look(usize::from(here), now());
    }
}

/// Asked by a [`Member`] between two requests: where it is to be served from now on, if not here.
pub fn turn() -> Option<Handle> {
    let here = usize::from(HERE.get()?);
    if GO_ROUND.get().is_some() {
        return round(here);
    }
    let mut watch = WATCH.get();
    if watch.leave > 0 {
        watch.leave -= 1;
        WATCH.set(watch);
        return LOOPS[watch.to].handle.get().cloned();
    }
    look(here, now());
    None
}

/// Finds out how busy the calling thread's loop was, if it is time, and what comes of that.
fn look(here: usize, now: u64) {
    let mut watch = WATCH.get();
    let Some(used) = watch.window.over(now) else { return };
    let share = u32::try_from(used.share()).unwrap_or(1000);
    // A window that began with a rest says little.
    let is_full = share >= FULL && used.elapsed < STALE;
    watch.full = if is_full { watch.full + 1 } else { 0 };
    LOOPS[here].share.store(share, Relaxed);
    LOOPS[here].at.store(now, Relaxed);
    match decide(here, &seen(now), watch.full > 1, ALLOWED.load(Relaxed)) {
        Verdict::Stay => {}
        Verdict::Open => open(),
        Verdict::Leave { to, members } => watch = Watch { leave: members, to, ..watch },
    }
    WATCH.set(watch);
}

/// What is known of a loop.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// CPU time, of a thousand.
    share: u32,
    members: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Stay,
    /// Another loop is needed.
    Open,
    /// So many connections are to go to the loop `to`.
    Leave {
        to: usize,
        members: u32,
    },
}

/// What the loop `here` does, which `is_full` if it has been full for a while.
fn decide(here: usize, loops: &[Seen], is_full: bool, allowed: usize) -> Verdict {
    let Seen { share, members } = loops[here];
    if is_full {
        // The first has more to do than its connections: it may send its last one away, others would only pass it on.
        let least = if here == 0 { 1 } else { 2 };
        let others = loops.iter().enumerate().filter(|(index, _)| *index != here);
        return match others.min_by_key(|(_, one)| one.share).filter(|(_, one)| one.share < ROOM) {
            Some(_) if members < least => Verdict::Stay,
            Some((to, _)) => Verdict::Leave { to, members: (members / 4).max(1) },
            None if loops.len() < allowed => Verdict::Open,
            None => Verdict::Stay,
        };
    }
    match here != 0 && share + loops[0].share < FEW {
        true if members > 0 => Verdict::Leave { to: 0, members },
        _ => Verdict::Stay,
    }
}

fn seen(now: u64) -> Vec<Seen> {
    let open = OPEN.load(Relaxed);
    LOOPS[..open]
        .iter()
        .map(|one| {
            let is_new = now.saturating_sub(one.at.load(Relaxed)) < STALE;
            Seen {
                share: if is_new { one.share.load(Relaxed) } else { 0 },
                members: one.members.load(Relaxed),
            }
        })
        .collect()
}

fn round(here: usize) -> Option<Handle> {
    while OPEN.load(Relaxed) < ALLOWED.load(Relaxed) {
        open();
    }
    LOOPS[(here + 1) % OPEN.load(Relaxed)].handle.get().cloned()
}

/// Opens one more loop. It is never closed: what is begun on it ends on it.
fn open() {
    static OPENING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = OPENING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let index = OPEN.load(Relaxed);
    if index >= ALLOWED.load(Relaxed) {
        return;
    }
    match begin(index) {
        Ok(handle) => {
            let _ = LOOPS[index].handle.set(handle);
            OPEN.store(index + 1, Relaxed);
        }
        Err(error) => {
            ALLOWED.store(index, Relaxed);
            tracing::warn!(%error, "there is more to do than one thread can, and no other can be had");
        }
    }
}

fn begin(index: usize) -> std::io::Result<Handle> {
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    let here = u8::try_from(index).ok();
    manner::thread(format!("skep-loop-{index}"), move || {
        HERE.set(here);
        runtime.block_on(std::future::pending::<()>());
    })?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loops(shares: &[u32]) -> Vec<Seen> {
        shares.iter().map(|share| Seen { share: *share, members: 40 }).collect()
    }

    #[test]
    fn a_loop_that_is_not_full_keeps_what_it_has() {
        assert_eq!(decide(0, &loops(&[800]), false, 4), Verdict::Stay);
        assert_eq!(decide(0, &loops(&[900, 0]), false, 4), Verdict::Stay, "not for long");
    }

    #[test]
    fn a_full_loop_opens_another_and_gives_it_some_at_a_time() {
        assert_eq!(decide(0, &loops(&[950]), true, 2), Verdict::Open);
        assert_eq!(decide(0, &loops(&[950]), true, 1), Verdict::Stay);
        assert_eq!(decide(0, &loops(&[950, 0]), true, 2), Verdict::Leave { to: 1, members: 10 });
        assert_eq!(decide(0, &loops(&[950, 900, 300]), true, 3), Verdict::Leave { to: 2, members: 10 });
        assert_eq!(decide(0, &loops(&[950, 900]), true, 3), Verdict::Open);
        assert_eq!(decide(1, &loops(&[950, 900]), true, 2), Verdict::Stay);
    }

    #[test]
    fn a_connection_that_fills_a_loop_alone_is_not_passed_round() {
        let alone = |here: usize| {
            let mut loops = loops(&[900, 900]);
            loops[here].members = 1;
            loops[1 - here].share = 0;
            decide(here, &loops, true, 2)
        };
        assert_eq!(alone(0), Verdict::Leave { to: 1, members: 1 });
        assert_eq!(alone(1), Verdict::Stay);
    }

    #[test]
    fn a_loop_that_is_full_of_what_cannot_go_opens_another_for_who_comes_new() {
        let full = Seen { share: 950, members: 0 };
        assert_eq!(decide(0, &[full], true, 2), Verdict::Open);
        assert_eq!(decide(0, &[full, Seen { share: 0, members: 0 }], true, 2), Verdict::Stay);
    }

    #[test]
    fn connections_come_home_when_there_is_room() {
        assert_eq!(decide(1, &loops(&[200, 200]), false, 2), Verdict::Leave { to: 0, members: 40 });
        assert_eq!(decide(1, &loops(&[400, 200]), false, 2), Verdict::Stay);
        assert_eq!(decide(0, &loops(&[0, 0]), false, 2), Verdict::Stay);
    }

    proptest! {
        #[test]
        fn nobody_is_sent_to_where_he_is_or_to_where_there_is_no_room(
            shares in prop::collection::vec(0_u32..1000, 1..6),
            here in 0_usize..6,
            is_full: bool,
            allowed in 1_usize..6,
        ) {
            let here = here % shares.len();
            match decide(here, &loops(&shares), is_full, allowed) {
                Verdict::Leave { to, members } => {
                    prop_assert!(to != here && shares[to] < ROOM && members > 0);
                }
                Verdict::Open => prop_assert!(is_full && shares.len() < allowed),
                Verdict::Stay => {}
            }
        }
    }

    #[test]
    fn threads_that_run_no_loop_keep_what_they_have() {
        assert!(turn().is_none() && place().is_none());
        assert_eq!(here(), 0);
    }
}
