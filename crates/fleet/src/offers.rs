//! Content that a process was given, and that Skep sends for it where its script passes it on as it is.
//!
//! What a script may have sent is what it has asked its bindings for, and no more: an offer belongs to one process, from the answer that
//! brought it until the process has let go of that answer, and a little longer, as it lets go before its own response is here.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_runtime::{Backlog, Bounds, Waiting};
use skep_wire::{Body, Loan, NamedFile, SendFile};
use tokio::time::Instant;

/// An offer of files lasts for so long after the process has let go of the answer.
const FILES: Duration = Duration::from_secs(5);
/// One of a body, which somebody else is kept busy with.
const BODIES: Duration = Duration::from_millis(500);
/// So many are kept that long; of more, those that were let go of first end.
const MANY: usize = 1024;

/// What is kept of bodies that may be taken over: of one process, and of all.
const KEPT: Bounds = Bounds { own: 16 << 20, all: 128 << 20, little: 1 << 20 };
/// What one is counted as from its beginning.
const BEGUN: usize = 64 << 10;
static ALL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Content that is sent for a process.
#[derive(Debug)]
pub enum Offered {
    /// Files.
    File(SendFile),
    /// A body, from its beginning.
    Body(Body),
}

/// What one process was offered.
#[derive(Debug)]
pub(crate) struct Offers {
    files: Shelf<SendFile>,
    bodies: Shelf<Loan>,
    kept: Arc<Backlog>,
    names: AtomicU64,
    /// Whether files were passed on since somebody read one.
    passes: Arc<AtomicBool>,
}

impl Default for Offers {
    fn default() -> Self {
        let (kept, names, passes) = (Backlog::new(ALL.clone()), AtomicU64::default(), Arc::default());
        Self { files: Shelf::new(FILES), bodies: Shelf::new(BODIES), kept, names, passes }
    }
}

impl Offers {
    /// The content that the process calls `name`. A body is there once.
    pub fn find(&self, name: &str) -> Option<Offered> {
        let file = self.files.find(name).map(Offered::File);
        self.passes.fetch_or(file.is_some(), Ordering::Relaxed);
        file.or_else(|| self.bodies.find(name)?.take().map(Offered::Body))
    }

    /// Whether the process has passed files on lately: who does it once does it again, mostly.
    pub fn passes(&self) -> &Arc<AtomicBool> {
        &self.passes
    }

    /// A name that nothing here has.
    pub fn name(&self) -> Arc<str> {
        // Names of objects begin with a version.
        format!("-{}", self.names.fetch_add(1, Ordering::Relaxed)).into()
    }

    /// Room for a body that may be taken over, if there is some.
    pub fn room(&self) -> Option<Waiting> {
        (!self.kept.is_over(KEPT)).then(|| self.kept.hold(BEGUN))
    }

    /// Offers files until the result is dropped, and a little longer.
    pub fn file(&self, NamedFile { name, file }: NamedFile) -> Offer<SendFile> {
        self.files.put(name, file)
    }

    /// Offers a body until the result is dropped, and a little longer.
    pub fn body(&self, name: Arc<str>, body: Loan) -> Offer<Loan> {
        self.bodies.put(name, body)
    }
}

/// Offers of one kind.
#[derive(Debug)]
struct Shelf<T> {
    table: Arc<Mutex<Table<T>>>,
    /// How much longer they last.
    after: Duration,
}

#[derive(Debug)]
struct Table<T> {
    entries: HashMap<Arc<str>, Entry<T>>,
    /// Answers that were let go of, and when their offers end, in that order.
    ending: VecDeque<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct Entry<T> {
    content: T,
    /// Answers with it that are open, or were until a moment ago.
    answers: usize,
}

impl<T> Table<T> {
    /// Ends what has come to its end, and what is too much.
    fn end(&mut self, now: Instant) {
        while let Some((_, name)) = self.ending.pop_front_if(|(at, _)| *at <= now).or_else(|| self.surplus())
        {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.answers -= 1;
                if entry.answers == 0 {
                    self.entries.remove(&name);
                }
            }
        }
    }

    fn surplus(&mut self) -> Option<(Instant, Arc<str>)> {
        (self.ending.len() > MANY).then(|| self.ending.pop_front()).flatten()
    }
}

impl<T: Clone + Send + 'static> Shelf<T> {
    fn new(after: Duration) -> Self {
        let (entries, ending) = Default::default();
        Self { table: Arc::new(Mutex::new(Table { entries, ending })), after }
    }

    fn find(&self, name: &str) -> Option<T> {
        lock(&self.table).entries.get(name).map(|entry| entry.content.clone())
    }

    fn put(&self, name: Arc<str>, content: T) -> Offer<T> {
        let mut table = lock(&self.table);
        table.entries.entry(name.clone()).or_insert(Entry { content, answers: 0 }).answers += 1;
        Offer { table: self.table.clone(), after: self.after, name }
    }
}

fn lock<T>(table: &Mutex<Table<T>>) -> MutexGuard<'_, Table<T>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends offers in time, as long as there are any to end.
async fn sweep<T>(table: Arc<Mutex<Table<T>>>) {
    loop {
        let next = lock(&table).ending.front().map(|(at, _)| *at);
        let Some(at) = next else { return };
        tokio::time::sleep_until(at).await;
        lock(&table).end(Instant::now());
    }
}

/// An open answer with content that is offered.
#[derive(Debug)]
pub(crate) struct Offer<T: Send + 'static> {
    table: Arc<Mutex<Table<T>>>,
    after: Duration,
    name: Arc<str>,
}

impl<T: Send + 'static> Drop for Offer<T> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut table = lock(&self.table);
        let is_first = table.ending.is_empty();
        table.ending.push_back((now + self.after, self.name.clone()));
        table.end(now);
        // Outside of an event loop everything ends: the process does, too.
        if is_first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(sweep(self.table.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_wire::{Content, Piece, lend};

    use super::*;

    struct Nothing;

    impl Content for Nothing {
        fn piece(&self, _: usize) -> std::io::Result<Option<Piece>> {
            Ok(None)
        }

        fn body(&self) -> std::io::Result<Body> {
            Ok(skep_wire::empty())
        }
    }

    fn file(name: &str) -> NamedFile {
        NamedFile { name: name.into(), file: SendFile::new(3, Nothing) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_offer_lasts_a_little_longer_than_its_answers() {
        let offers = Offers::default();
        let (first, second) = (offers.file(file("a")), offers.file(file("a")));
        let other = offers.file(file("b"));
        drop(first);
        tokio::time::sleep(FILES * 2).await;
        assert!(matches!(offers.find("a"), Some(Offered::File(file)) if file.length() == 3));
        drop(second);
        tokio::time::sleep(FILES - Duration::from_millis(2)).await;
        assert!(offers.find("a").is_some());
        tokio::time::sleep(Duration::from_millis(4)).await;
        assert!(offers.find("a").is_none() && offers.find("b").is_some());
        drop(other);
        tokio::time::sleep(FILES + Duration::from_millis(2)).await;
        assert!(offers.find("b").is_none() && lock(&offers.files.table).ending.is_empty());
        assert!(offers.find("c").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_let_go_of_is_not_kept_without_end() {
        let offers = Offers::default();
        let open = offers.file(file("open"));
        for n in 0..3 * MANY {
            drop(offers.file(file(&n.to_string())));
        }
        assert_eq!(lock(&offers.files.table).entries.len(), MANY + 1);
        assert!(offers.find("0").is_none());
        assert!(offers.find(&(3 * MANY - 1).to_string()).is_some());
        tokio::time::sleep(FILES + Duration::from_millis(2)).await;
        assert_eq!(lock(&offers.files.table).entries.len(), 1);
        drop(open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_there_once_and_only_so_many_are_offered() {
        let offers = Offers::default();
        let mut open = Vec::new();
        while let Some(room) = offers.room() {
            let (lent, loan) = lend(skep_wire::empty(), room);
            let name = offers.name();
            open.push((name.clone(), lent, offers.body(name, loan)));
        }
        assert_eq!(open.len(), KEPT.own / BEGUN + 1);
        let (name, lent, offer) = open.pop().unwrap();
        drop((lent, offer));
        assert!(matches!(offers.find(&name), Some(Offered::Body(_))));
        assert!(offers.find(&name).is_none());
        assert!(offers.room().is_some());
        let (name, ..) = open.pop().unwrap();
        tokio::time::sleep(BODIES + Duration::from_millis(2)).await;
        assert!(offers.find(&name).is_none(), "its answer is gone");
    }
}
