//! Which databases of this process are awake: they have threads, files and memory, of which a node with ten thousand tenants has not enough for all that
//! were ever used.
//!
//! Whoever wakes up is entered here. Beyond a number the ones that were used longest ago go to sleep, and so does whoever was not used for a
//! while. Who is asked something then wakes up again.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Databases that are awake at once, unless more are in use.
const MOST: usize = 192;

/// What can go to sleep.
pub trait Sleeper: Send + Sync {
    /// When it was last used, by [`now`].
    fn used(&self) -> u64;

    /// Whether it is awake.
    fn is_awake(&self) -> bool;

    /// Goes to sleep if nobody uses it, without waiting for anybody. Returns whether it sleeps.
    fn sleep(&self) -> bool;
}

/// Microseconds since this process first asked.
#[must_use]
pub fn now() -> u64 {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(STARTED.elapsed().as_micros()).unwrap_or(u64::MAX)
}

static AWAKE: LazyLock<Awake> = LazyLock::new(|| Awake { most: MOST, all: Mutex::default() });

/// Enters what has just woken up; others may go to sleep for it.
pub fn has_woken(sleeper: Weak<dyn Sleeper>) {
    AWAKE.enter(sleeper);
}

/// Puts to sleep what was not used for `idle`; says how many are awake and how many went to sleep. Blocking.
#[must_use]
pub fn let_sleep(idle: Duration) -> String {
    let (awake, slept) = AWAKE.let_sleep(now().saturating_sub(idle.as_micros() as u64));
    format!("{awake} awake, {slept} went to sleep")
}

struct Awake {
    most: usize,
    all: Mutex<Vec<Weak<dyn Sleeper>>>,
}

impl Awake {
    fn all(&self) -> MutexGuard<'_, Vec<Weak<dyn Sleeper>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are awake, the one that was used longest ago first.
    fn by_use(&self) -> Vec<Arc<dyn Sleeper>> {
        let mut awake = Vec::new();
        self.all().retain(|one| {
            let one = one.upgrade().filter(|one| one.is_awake());
            awake.extend(one.clone());
            one.is_some()
        });
        awake.sort_by_cached_key(|one| one.used());
        awake
    }

    fn enter(&self, sleeper: Weak<dyn Sleeper>) {
        let count = {
            let mut all = self.all();
            all.push(sleeper);
            all.len()
        };
        if count <= self.most {
            return;
        }
        // Never the lock of all while one is put to sleep: it may be in somebody's last hands.
        let awake = self.by_use();
        let too_many = awake.len().saturating_sub(self.most);
        awake.into_iter().filter(|one| one.sleep()).take(too_many).for_each(drop);
    }

    fn let_sleep(&self, since: u64) -> (usize, usize) {
        let awake = self.by_use();
        let count = awake.len();
        let slept = awake.into_iter().filter(|one| one.used() < since).filter(|one| one.sleep()).count();
        (count - slept, slept)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct One {
        used: AtomicU64,
        awake: AtomicBool,
        busy: AtomicBool,
    }

    impl Sleeper for One {
        fn used(&self) -> u64 {
            self.used.load(Ordering::SeqCst)
        }

        fn is_awake(&self) -> bool {
            self.awake.load(Ordering::SeqCst)
        }

        fn sleep(&self) -> bool {
            let sleeps = !self.busy.load(Ordering::SeqCst);
            if sleeps {
                self.awake.store(false, Ordering::SeqCst);
            }
            sleeps
        }
    }

    /// Some that wake up one after the other, with what happens to each before; who is awake at the end.
    fn awake(most: usize, used: &[u64], busy: &[usize]) -> Vec<bool> {
        let all = Awake { most, all: Mutex::default() };
        let ones: Vec<Arc<One>> = used.iter().map(|_| Arc::default()).collect();
        for (n, one) in ones.iter().enumerate() {
            one.used.store(used[n], Ordering::SeqCst);
            one.busy.store(busy.contains(&n), Ordering::SeqCst);
            one.awake.store(true, Ordering::SeqCst);
            let one: Arc<dyn Sleeper> = one.clone();
            all.enter(Arc::downgrade(&one));
        }
        ones.iter().map(|one| one.is_awake()).collect()
    }

    #[test]
    fn those_that_were_used_longest_ago_go_to_sleep_for_others() {
        assert_eq!(awake(2, &[1, 2, 3, 4], &[]), [false, false, true, true]);
        assert_eq!(awake(2, &[9, 2, 3, 4], &[]), [true, false, false, true]);
        assert_eq!(awake(4, &[1, 2, 3, 4], &[]), [true; 4]);
    }

    #[test]
    fn who_is_in_use_stays_awake() {
        assert_eq!(awake(2, &[1, 2, 3, 4], &[0]), [true, false, false, true]);
        assert_eq!(awake(1, &[1, 2, 3], &[0, 1, 2]), [true; 3]);
    }

    #[test]
    fn who_was_not_used_for_a_while_goes_to_sleep() {
        let all = Awake { most: 9, all: Mutex::default() };
        let [one, other] = [5, 15].map(|used| {
            let one = One::default();
            one.used.store(used, Ordering::SeqCst);
            one.awake.store(true, Ordering::SeqCst);
            Arc::new(one)
        });
        for one in [&one, &other] {
            let one: Arc<dyn Sleeper> = one.clone();
            all.enter(Arc::downgrade(&one));
        }
        drop(other);
        assert_eq!(all.let_sleep(5), (1, 0));
        assert_eq!(all.let_sleep(10), (0, 1));
        assert!(all.all().len() <= 1 && all.by_use().is_empty());
    }
}
