//! Content that a process was given, and that Skep sends for it where its script passes it on as it is.
//!
//! What a script may have sent is what it has asked its bindings for, and no more: an offer belongs to one process, from the answer that
//! brought it until the process has let go of that answer, and a little longer, as it lets go before its own response is here.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use skep_wire::{BoxFuture, Held, NamedFile, Request, Response, SendFile, Service};
use tokio::time::Instant;

/// An offer lasts for so long after the process has let go of the answer.
const AFTER: Duration = Duration::from_secs(5);
/// So many are kept that long; of more, those that were let go of first end.
const MANY: usize = 1024;

/// What one process was offered.
#[derive(Debug, Default)]
pub(crate) struct Offers(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    files: HashMap<Arc<str>, Entry>,
    /// Answers that were let go of, and when their offers end, in that order.
    ending: VecDeque<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct Entry {
    file: SendFile,
    /// Answers with it that are open, or were until a moment ago.
    answers: usize,
}

impl Table {
    /// Ends what has come to its end, and what is too much.
    fn end(&mut self, now: Instant) {
        while let Some((_, name)) = self.ending.pop_front_if(|(at, _)| *at <= now).or_else(|| self.surplus())
        {
            if let Some(entry) = self.files.get_mut(&name) {
                entry.answers -= 1;
                if entry.answers == 0 {
                    self.files.remove(&name);
                }
            }
        }
    }

    fn surplus(&mut self) -> Option<(Instant, Arc<str>)> {
        (self.ending.len() > MANY).then(|| self.ending.pop_front()).flatten()
    }
}

impl Offers {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content that the process calls `name`.
    pub fn find(&self, name: &str) -> Option<SendFile> {
        self.table().files.get(name).map(|entry| entry.file.clone())
    }

    /// Offers `file` until the result is dropped, and a little longer.
    fn offer(self: &Arc<Self>, NamedFile { name, file }: NamedFile) -> Offer {
        let mut table = self.table();
        table.files.entry(name.clone()).or_insert(Entry { file, answers: 0 }).answers += 1;
        Offer { offers: self.clone(), name }
    }

    fn let_go(self: &Arc<Self>, name: Arc<str>) {
        let now = Instant::now();
        let mut table = self.table();
        let is_first = table.ending.is_empty();
        table.ending.push_back((now + AFTER, name));
        table.end(now);
        // Outside of an event loop everything ends: the process does, too.
        if is_first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.clone().sweep());
        }
    }

    /// Ends offers in time, as long as there are any to end.
    async fn sweep(self: Arc<Self>) {
        loop {
            let next = self.table().ending.front().map(|(at, _)| *at);
            let Some(at) = next else { return };
            tokio::time::sleep_until(at).await;
            self.table().end(Instant::now());
        }
    }
}

/// An open answer with content that is offered.
#[derive(Debug)]
struct Offer {
    offers: Arc<Offers>,
    name: Arc<str>,
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.offers.let_go(self.name.clone());
    }
}

/// A binding's server of which the process is offered what can be sent for it.
pub(crate) struct Offering {
    pub service: Arc<dyn Service>,
    pub offers: Arc<Offers>,
}

impl Service for Offering {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let mut response = self.service.call(request).await;
            match response.extensions_mut().remove::<NamedFile>() {
                None => response,
                Some(file) => {
                    let offer = self.offers.offer(file);
                    response.map(|body| Held::new(body, offer).boxed_unsync())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use skep_wire::{Body, Content, Piece};

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
        let offers = Arc::<Offers>::default();
        let (first, second) = (offers.offer(file("a")), offers.offer(file("a")));
        let other = offers.offer(file("b"));
        drop(first);
        tokio::time::sleep(AFTER * 2).await;
        assert_eq!(offers.find("a").map(|file| file.length()), Some(3));
        drop(second);
        tokio::time::sleep(AFTER - Duration::from_millis(2)).await;
        assert!(offers.find("a").is_some());
        tokio::time::sleep(Duration::from_millis(4)).await;
        assert!(offers.find("a").is_none() && offers.find("b").is_some());
        drop(other);
        tokio::time::sleep(AFTER + Duration::from_millis(2)).await;
        assert!(offers.find("b").is_none() && offers.table().ending.is_empty());
        assert!(offers.find("c").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_let_go_of_is_not_kept_without_end() {
        let offers = Arc::<Offers>::default();
        let open = offers.offer(file("open"));
        for n in 0..3 * MANY {
            drop(offers.offer(file(&n.to_string())));
        }
        assert_eq!(offers.table().files.len(), MANY + 1);
        assert!(offers.find("0").is_none());
        assert!(offers.find(&(3 * MANY - 1).to_string()).is_some());
        tokio::time::sleep(AFTER + Duration::from_millis(2)).await;
        assert_eq!(offers.table().files.len(), 1);
        drop(open);
    }
}
