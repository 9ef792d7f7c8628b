//! Methods that are called in another process: the engine says there which span they are called in, not of which trace that
//! is. The caller's process says so when its own invocation is over, which may be later. Pure.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use skep_otlp::{SpanId, TraceContext, TraceId};

/// Calls, and traces that were joined or not, that are remembered.
const MOST_KNOWN: usize = 16_384;
/// Reports that may wait.
const MOST_HELD: usize = 4_096;

/// What belongs to which trace; `T` is what waits for that to be known.
pub struct Joins<T> {
    /// Calls of others that were made.
    calls: Recent<SpanId, TraceContext>,
    /// By the engine's name for a trace that began with a method: what it is below.
    known: Recent<TraceId, Option<TraceContext>>,
    held: HashMap<TraceId, Vec<T>>,
    /// By the call that is waited for.
    waiting: HashMap<SpanId, TraceId>,
    count: usize,
}

impl<T> Default for Joins<T> {
    fn default() -> Self {
        Self {
            calls: Recent::default(),
            known: Recent::default(),
            held: HashMap::new(),
            waiting: HashMap::new(),
            count: 0,
        }
    }
}

/// What becomes of something that was reported.
#[derive(Debug, PartialEq)]
pub enum Offered<T> {
    /// It is known what these are below, if of anything.
    Ready(Option<TraceContext>, Vec<T>),
    /// It waits; whether it is the first of its trace, which is to be given up some time.
    Held(bool),
}

impl<T> Joins<T> {
    /// Something of a trace that began with a method, in a process of its own. Its end is `over`: then it is known which call it
    /// is of, if the engine says so.
    pub fn offer(&mut self, trace: TraceId, over: Option<Option<SpanId>>, item: T) -> Offered<T> {
        if let Some(known) = self.known.get(&trace) {
            return Offered::Ready(*known, vec![item]);
        }
        let found = match over {
            Some(None) => Some(None),
            Some(Some(call)) => self.calls.get(&call).map(|call| Some(*call)),
            None => None,
        };
        let found = found.or_else(|| (self.count >= MOST_HELD).then_some(None));
        if let Some(found) = found {
            let mut items = self.take(trace, found);
            items.push(item);
            return Offered::Ready(found, items);
        }
        if let Some(Some(call)) = over {
            self.waiting.insert(call, trace);
        }
        self.count += 1;
        let held = self.held.entry(trace).or_default();
        held.push(item);
        Offered::Held(held.len() == 1)
    }

    /// A call was made, and what is called is below `context`; what was waiting to hear of it.
    pub fn called(&mut self, call: SpanId, context: TraceContext) -> Vec<T> {
        self.calls.insert(call, context);
        self.waiting.remove(&call).map_or_else(Vec::new, |trace| self.take(trace, Some(context)))
    }

    /// Nobody said what it is below.
    pub fn give_up(&mut self, trace: TraceId) -> Vec<T> {
        match self.known.get(&trace) {
            Some(_) => Vec::new(),
            None => self.take(trace, None),
        }
    }

    fn take(&mut self, trace: TraceId, below: Option<TraceContext>) -> Vec<T> {
        self.known.insert(trace, below);
        self.waiting.retain(|_, waiting| *waiting != trace);
        let held = self.held.remove(&trace).unwrap_or_default();
        self.count -= held.len();
        held
    }
}

/// Those that came last.
struct Recent<K, V> {
    all: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { all: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.all.get(key)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.all.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > MOST_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: TraceId = TraceId([7; 16]);

    fn call(n: u8) -> TraceContext {
        TraceContext::recorded(TraceId([1; 16]), SpanId([n; 8]))
    }

    #[test]
    fn what_comes_before_its_caller_waits_for_it() {
        let mut joins = Joins::default();
        assert_eq!(joins.offer(TRACE, None, "inner"), Offered::Held(true));
        assert_eq!(joins.offer(TRACE, Some(Some(SpanId([5; 8]))), "method"), Offered::Held(false));
        assert!(joins.called(SpanId([4; 8]), call(4)).is_empty());
        assert_eq!(joins.called(SpanId([5; 8]), call(5)), ["inner", "method"]);
        // What is late is below the same.
        assert_eq!(joins.offer(TRACE, None, "late"), Offered::Ready(Some(call(5)), vec!["late"]));
        assert!(joins.give_up(TRACE).is_empty());
        assert_eq!((joins.count, joins.waiting.len()), (0, 0));
    }

    #[test]
    fn what_comes_after_its_caller_waits_for_nobody() {
        let mut joins = Joins::default();
        joins.called(SpanId([5; 8]), call(5));
        let offered = joins.offer(TRACE, Some(Some(SpanId([5; 8]))), "method");
        assert_eq!(offered, Offered::Ready(Some(call(5)), vec!["method"]));
    }

    #[test]
    fn what_nobody_called_is_a_trace_of_its_own() {
        let mut joins = Joins::default();
        assert_eq!(joins.offer(TRACE, None, "inner"), Offered::Held(true));
        assert_eq!(joins.offer(TRACE, Some(None), "method"), Offered::Ready(None, vec!["inner", "method"]));
        let other = TraceId([8; 16]);
        assert_eq!(joins.offer(other, Some(Some(SpanId([6; 8]))), "unknown"), Offered::Held(true));
        assert_eq!(joins.give_up(other), ["unknown"]);
        assert!(joins.called(SpanId([6; 8]), call(6)).is_empty());
    }

    #[test]
    fn no_more_waits_than_may() {
        let mut joins = Joins::default();
        for n in 0..2 * MOST_HELD as u128 {
            joins.offer(TraceId((n + 1).to_be_bytes()), None, n);
        }
        assert_eq!(joins.count, MOST_HELD);
        for n in 0..=255 {
            joins.called(SpanId([n; 8]), call(n));
        }
        for n in 0..2 * MOST_KNOWN as u64 {
            joins.called(SpanId((n + 1).to_be_bytes()), call(1));
        }
        assert_eq!((joins.calls.all.len(), joins.calls.order.len()), (MOST_KNOWN, MOST_KNOWN));
    }
}
