//! Whether an event loop gives way to the engines.
//!
//! A message wakes the loop's thread, and where all processors are busy the kernel puts it in the place of the engine that sent it, in the
//! middle of what that does: two switches for each message, and cold caches on both sides. Who waits for its turn finds many messages at once.
//! So a loop that has much to do gives way (`SCHED_BATCH`), if that comes to something: if it does more between two rests than before. It
//! does not where visitors come one at a time, or processors are free; there, beside scripts that compute, it would wait for nothing.

use std::cell::Cell;
use std::io;
use std::sync::LazyLock;
use std::thread::JoinHandle;

use crate::window::{Window, now};

const MS: u64 = 1_000_000;
/// CPU time of a loop's thread, of a thousand, from which on giving way is tried, and below which it ends.
const BUSY: u64 = 200;
const QUIET: u64 = 100;
/// How long it may give way before it is found out again what it would do otherwise.
const AGAIN: u64 = 5_000 * MS;
/// How long it is not tried again when it came to nothing: more each time.
const PAUSE: u64 = 1_000 * MS;
const LONGEST_PAUSE: u64 = 16_000 * MS;

/// What a loop was seen to do in a window.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// CPU time, of a thousand.
    share: u64,
    /// CPU time between two rests, in nanoseconds.
    run: u64,
}

/// What a loop does. Moments are nanoseconds after the start; `alone` is what it did between two rests when it did not give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Takes its turn at once, and tries nothing else before that moment.
    AtOnce { until: u64, pause: u64 },
    /// Gives way for one window.
    Tries { alone: u64, pause: u64 },
    /// Gives way until that moment, or until there is less to do.
    GivesWay { alone: u64, until: u64 },
}

impl Manner {
    fn gives_way(self) -> bool {
        !matches!(self, Self::AtOnce { .. })
    }

    /// What it does after a window.
    fn after(self, seen: Seen, now: u64) -> Self {
        let Seen { share, run } = seen;
        match self {
            Self::AtOnce { until, pause } if share >= BUSY && now >= until => {
                Self::Tries { alone: run, pause }
            }
            Self::AtOnce { .. } => self,
            Self::Tries { alone, .. } if share >= QUIET && run >= alone.saturating_mul(2) => {
                Self::GivesWay { alone, until: now + AGAIN }
            }
            Self::Tries { pause, .. } => {
                Self::AtOnce { until: now + pause, pause: (pause * 2).min(LONGEST_PAUSE) }
            }
            Self::GivesWay { alone, until }
                if share >= QUIET && run >= alone.saturating_mul(3) / 2 && now < until =>
            {
                self
            }
            Self::GivesWay { .. } => Self::AtOnce { until: now, pause: PAUSE },
        }
    }
}

/// What a loop's thread knows of itself.
#[derive(Clone, Copy, Debug)]
struct Watch {
    manner: Manner,
    window: Window,
    rests: u64,
    /// The kernel does not let it choose.
    is_fixed: bool,
}

/// Whether there is a choice: whoever has started Skep may have made one for all of it, which stays.
static MAY_CHOOSE: LazyLock<bool> = LazyLock::new(skep_intercept::is_scheduled_as_usual);

thread_local! {
    static WATCH: Cell<Watch> = const {
        Cell::new(Watch { manner: Manner::AtOnce { until: 0, pause: PAUSE }, window: Window::FIRST, rests: 0, is_fixed: false })
    };
}

/// Starts a thread that takes its turn at once: by itself it would do as the one that starts it does at the time.
pub fn thread<T: Send + 'static>(
    name: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(move || {
        at_once();
        work()
    })
}

/// Has the calling thread take its turn at once; called first by one that a loop may have started.
pub(crate) fn at_once() {
    if *MAY_CHOOSE {
        // What it had from the one that started it, it can keep.
        let _ = skep_intercept::give_way(false);
    }
}

/// To be called before the first loop begins, by a thread that has not chosen.
pub(crate) fn begin() {
    LazyLock::force(&MAY_CHOOSE);
}

/// Called by a loop's thread whenever it is about to wait: `on_thread_park` of its runtime.
pub fn rest() {
    if !*MAY_CHOOSE {
        return;
    }
    let mut watch = WATCH.get();
    watch.rests += 1;
    let now = now();
    if !watch.is_fixed
        && let Some(used) = watch.window.over(now)
    {
        let seen = Seen { share: used.share(), run: used.cpu / watch.rests };
        let manner = watch.manner.after(seen, now);
        if manner.gives_way() != watch.manner.gives_way() {
            watch.is_fixed = skep_intercept::give_way(manner.gives_way()).is_err();
        }
        (watch.manner, watch.rests) = (manner, 0);
    }
    WATCH.set(watch);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::window::{WINDOW, thread_cpu};

    const FIRST: Manner = Manner::AtOnce { until: 0, pause: PAUSE };

    /// Plays windows one after the other; `run` is what the loop does between two rests in each manner.
    fn play(windows: u64, mut seen: impl FnMut(u64, bool) -> Seen) -> Vec<Manner> {
        let mut manner = FIRST;
        let step = |at: u64| {
            manner = manner.after(seen(at, manner.gives_way()), at * WINDOW);
            manner
        };
        (1..=windows).map(step).collect()
    }

    fn ways(manners: &[Manner]) -> usize {
        manners.iter().filter(|manner| manner.gives_way()).count()
    }

    #[test]
    fn who_finds_more_at_once_gives_way_and_looks_again_now_and_then() {
        let all = play(400, |_, gives| Seen { share: 300, run: if gives { 90_000 } else { 20_000 } });
        assert_eq!(all[0], Manner::Tries { alone: 20_000, pause: PAUSE });
        assert_eq!(all[1], Manner::GivesWay { alone: 20_000, until: 2 * WINDOW + AGAIN });
        // Twenty seconds: one window of a hundred and some is spent on finding out.
        assert!((395..400).contains(&ways(&all)), "{}", ways(&all));
    }

    #[test]
    fn who_finds_no_more_takes_his_turn_at_once() {
        let all = play(1200, |_, _| Seen { share: 300, run: 20_000 });
        // At once, again after 1, 2, 4, 8 and 16 seconds, and every 16 from then on.
        assert_eq!(ways(&all), 7);
    }

    #[test]
    fn it_ends_with_what_it_was_for() {
        let less = |at: u64, later: Seen| {
            play(40, move |now, gives| match now < at {
                true => Seen { share: 300, run: if gives { 90_000 } else { 20_000 } },
                false => later,
            })
        };
        let quiet = less(20, Seen { share: 50, run: 90_000 });
        assert!(quiet[18].gives_way() && ways(&quiet[19..]) == 0);
        let single = less(20, Seen { share: 300, run: 22_000 });
        assert!(single[18].gives_way() && !single[19].gives_way());
    }

    proptest! {
        #[test]
        fn it_never_gives_way_for_long_without_need(shares in prop::collection::vec((0_u64..1100, 0_u64..1_000_000), 1..300)) {
            let mut before = FIRST;
            for (at, (share, run)) in shares.into_iter().enumerate() {
                let manner = before.after(Seen { share, run }, at as u64 * WINDOW);
                if share < QUIET {
                    prop_assert!(!manner.gives_way());
                }
                // Nobody gives way whose manner of before is not known.
                if let Manner::GivesWay { .. } = manner {
                    prop_assert!(before.gives_way());
                }
                before = manner;
            }
        }
    }

    /// What the kernel calls the calling thread's policy: `0` is `SCHED_OTHER`, `3` is `SCHED_BATCH`.
    fn policy() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The 41st field; the second, a name, may have spaces.
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(38).unwrap().to_owned()
    }

    #[test]
    fn the_kernel_is_asked_for_the_calling_thread_and_others_begin_afresh() {
        if !*MAY_CHOOSE {
            eprintln!("skipped: somebody has chosen how these tests are scheduled");
            return;
        }
        let loops = std::thread::spawn(|| {
            skep_intercept::give_way(true).unwrap();
            let seen = [policy(), thread("other", policy).unwrap().join().unwrap()];
            at_once();
            (seen, policy())
        });
        assert_eq!(loops.join().unwrap(), (["3".to_owned(), "0".to_owned()], "0".to_owned()));
    }

    #[test]
    fn a_loop_that_has_much_to_do_tries_it() {
        if !*MAY_CHOOSE {
            eprintln!("skipped: somebody has chosen how these tests are scheduled");
            return;
        }
        let found = std::thread::spawn(|| {
            let runtime = crate::loops::runtime().unwrap();
            runtime.block_on(async {
                let (first, begin) = (policy(), std::time::Instant::now());
                while policy() == first && begin.elapsed() < std::time::Duration::from_secs(60) {
                    let work = thread_cpu();
                    while thread_cpu() - work < 2 * MS {}
                    // A rest.
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                [first, policy(), tokio::task::spawn_blocking(policy).await.unwrap()]
            })
        });
        // The last is a thread that waits for disks.
        assert_eq!(found.join().unwrap(), ["0", "3", "0"]);
    }
}
