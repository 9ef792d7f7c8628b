//! Answers that a cell has not read: they are in this process's memory, and its script may ask for as many as it likes and do something
//! else. Beyond a bound its next calls wait until it has read some.
//!
//! Only what is whole in memory counts. Of an answer that is read from the disk as it is sent no more is there than a piece, and a script
//! may hold any number of those: it waits for visitors who are slow.

use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};
use std::task::Context;

use bytes::Bytes;
use http_body::Body as _;
use skep_runtime::{Backlog, Bounds, Waiting};

use crate::{Body, NextFrame, Response, Wrap, wrapped};

/// Bytes that may be unread when another call is answered. Answers that are whole are read by the engine itself, which has 128 MiB.
pub(crate) const BOUNDS: Bounds = Bounds { own: 16 << 20, all: 256 << 20, little: 1 << 20 };
/// What a socket takes at once does not count.
const SMALL: u64 = 64 << 10;

static ALL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// For the answers to one cell.
pub(crate) fn of_a_cell() -> Arc<Backlog> {
    Backlog::new(ALL.clone())
}

/// `response`, which counts among what is `unread` until the last of its bytes was sent.
pub(crate) fn counted(response: Response, unread: Option<&Arc<Backlog>>) -> Response {
    let Some(unread) = unread else { return response };
    match response.body().size_hint().exact() {
        Some(size @ SMALL..) => {
            let held = Arc::new(unread.hold(usize::try_from(size).unwrap_or(usize::MAX)));
            response.map(|body| wrapped(body, Counted(held)))
        }
        _ => response,
    }
}

/// `bytes`, which count as `waiting` until the last of them was sent.
pub fn held(bytes: Bytes, waiting: Waiting) -> Bytes {
    Bytes::from_owner(Piece { bytes, _held: Arc::new(waiting) })
}

struct Counted(Arc<Waiting>);

/// A piece, which may be in a queue longer than the body that it came from lives.
struct Piece {
    bytes: Bytes,
    _held: Arc<Waiting>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Wrap for Counted {
    fn poll_frame(&mut self, body: Pin<&mut Body>, cx: &mut Context<'_>) -> NextFrame {
        let held = &self.0;
        let counted = |bytes| Bytes::from_owner(Piece { bytes, _held: held.clone() });
        body.poll_frame(cx).map_ok(|frame| frame.map_data(counted))
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http_body_util::BodyExt;

    use super::*;
    use crate::{full, reply};

    const ZERO: Bounds = Bounds { own: 0, all: 0, little: 0 };

    #[tokio::test]
    async fn an_answer_counts_until_its_last_byte_is_gone() {
        let unread = of_a_cell();
        let large = || reply(StatusCode::OK, full(vec![7; SMALL as usize]));
        let mut answer = counted(large(), Some(&unread)).into_body();
        assert!(unread.is_over(ZERO));
        assert_eq!(answer.size_hint().exact(), Some(SMALL));
        let piece = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(answer);
        let rest = piece.slice(1..);
        drop(piece);
        assert!(unread.is_over(ZERO), "some of it is in a queue");
        drop(rest);
        assert!(!unread.is_over(ZERO));
        let small = counted(reply(StatusCode::OK, full("a")), Some(&unread));
        assert!(!unread.is_over(ZERO));
        drop((small, counted(large(), None)));
        assert!(!unread.is_over(ZERO));
    }
}
