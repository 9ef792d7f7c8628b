//! The answer to a bulk get of large values, made as it is read: else who asks for many and reads no answer would have all of them
//! in this process's memory.

use std::io::Read;
use std::vec;

use bytes::{Buf, Bytes};
use futures_util::stream::unfold;
use skep_runtime::Turns;
use skep_store::{Sending, StoreError};
use skep_wire::Body;

use crate::error::KvError;
use crate::namespace::Namespace;
use crate::object::{Object, Text, is_json};
use crate::types::{Entry, Value};

static TURNS: Turns = Turns::new();

/// The values of `keys`. Those that go or come while others are sent are what they are when it is their turn.
pub(crate) async fn read(
    namespace: &Namespace,
    keys: Vec<String>,
    json: bool,
    with_metadata: bool,
) -> Result<Body, KvError> {
    if json {
        // What is no JSON has to be said first.
        let (namespace, keys) = (namespace.again(), keys.clone());
        let checked =
            TURNS.aside(namespace.who(), move || keys.iter().try_for_each(|key| check(&namespace, key)));
        checked.await.map_err(|_| StoreError::Closed)??;
    }
    let object = Object::new(json, with_metadata);
    let reading = Reading {
        namespace: namespace.again(),
        keys: keys.into_iter(),
        open: None,
        object,
        sending: Sending::begin(),
    };
    Ok(skep_wire::stream(unfold(Some(reading), |reading| async {
        let reading = reading?;
        match TURNS.aside(reading.namespace.who(), || reading.next()).await {
            Ok(Ok((piece, more))) => Some((Ok(Bytes::from(piece)), more)),
            Ok(Err(error)) => Some((Err(error), None)),
            Err(_) => Some((Err(StoreError::Closed.into()), None)),
        }
    })))
}

fn check(namespace: &Namespace, key: &str) -> Result<(), KvError> {
    let Some(entry) = namespace.get(key)? else { return Ok(()) };
    let mut value = Vec::new();
    content(entry.value).read_to_end(&mut value).map_err(unreadable)?;
    if is_json(&value) { Ok(()) } else { Err(KvError::NotJson) }
}

struct Reading {
    namespace: Namespace,
    keys: vec::IntoIter<String>,
    open: Option<Open>,
    object: Object,
    sending: Sending,
}

/// An entry of which some is written.
struct Open {
    content: Box<dyn Read + Send>,
    text: Text,
    begun: bool,
    metadata: Option<String>,
}

impl Reading {
    /// The next piece, and what makes those after it; nothing does after the last one.
    fn next(mut self) -> Result<(Vec<u8>, Option<Self>), KvError> {
        // Escaped a byte may be six.
        let size = self.sending.piece() / 4;
        while self.object.len() < size {
            if let Some(open) = self.open.take() {
                self.go_on(open, size)?;
                continue;
            }
            let Some(key) = self.keys.next() else { return Ok((self.object.finish(), None)) };
            let Some(Entry { value, metadata, .. }) = self.namespace.get(&key)? else {
                self.object.absent(&key)?;
                continue;
            };
            self.object.begin(&key)?;
            self.open = Some(Open { content: content(value), text: Text::default(), begun: false, metadata });
        }
        Ok((self.object.take(), Some(self)))
    }

    fn go_on(&mut self, mut open: Open, size: usize) -> Result<(), KvError> {
        let mut piece = Vec::with_capacity(size);
        let read = (&mut open.content).take(size as u64).read_to_end(&mut piece);
        let is_last = read.map_err(unreadable)? < size;
        let text = open.text.push(&piece, is_last);
        self.object.piece(&text, !open.begun, is_last)?;
        open.begun = true;
        match is_last {
            true => self.object.end(open.metadata.as_deref()),
            false => self.open = Some(open),
        }
        Ok(())
    }
}

fn content(value: Value) -> Box<dyn Read + Send> {
    match value {
        Value::Inline(bytes) => Box::new(bytes.reader()),
        Value::File(file) => Box::new(file),
    }
}

fn unreadable(error: std::io::Error) -> StoreError {
    StoreError::io("cannot read a value", error)
}
