use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::*;
use crate::{BoxError, read_all, stream};

const PIECE: usize = 16 << 10;
const MANY: usize = 8 << 20;

/// A body of `MANY` bytes, and how many of them were asked for.
fn upload() -> (Body, Arc<AtomicUsize>) {
    let given = Arc::new(AtomicUsize::new(0));
    let count = given.clone();
    let body = stream(unfold(0, move |sent| {
        let count = count.clone();
        async move {
            (sent < MANY).then(|| {
                count.fetch_add(PIECE, Ordering::Relaxed);
                (Ok::<_, BoxError>(Bytes::from(vec![7; PIECE])), sent + PIECE)
            })
        }
    }));
    (body, given)
}

/// What comes out of a process that takes all that it gets, and makes `change` of each piece.
fn process(body: Body, change: impl Fn(Bytes) -> Bytes + Send + 'static) -> Body {
    let (pieces, out) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut body = body;
        while let Some(piece) = body.frame().await {
            let piece = piece.map(|frame| change(frame.into_data().unwrap_or_default()));
            let _ = pieces.send(piece);
        }
    });
    let out = unfold(out, |mut out| async move { Some((out.recv().await?, out)) });
    stream(futures_util::StreamExt::filter(out, |piece| {
        let is_some = piece.as_ref().map_or(true, |piece| !piece.is_empty());
        async move { is_some }
    }))
}

#[tokio::test(start_paused = true)]
async fn a_process_gets_little_of_what_its_reader_does_not_take() {
    let (body, given) = upload();
    let through = Through::default();
    let mut out = through.leave(process(through.enter(body), |piece| piece));
    out.frame().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let few = given.load(Ordering::Relaxed);
    assert!(few <= 2 * (256 << 10) + PIECE, "{few}");
    // And the reader goes on where he was.
    assert_eq!(read_all(out, MANY).await.unwrap().len(), MANY - PIECE);
}

#[tokio::test(start_paused = true)]
async fn who_reads_is_not_held_up() {
    let (body, _) = upload();
    let through = Through::default();
    let out = through.leave(process(through.enter(body), |piece| piece));
    let began = Instant::now();
    assert_eq!(read_all(out, MANY).await.unwrap().len(), MANY);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_makes_little_of_much_gets_all_of_it() {
    let (body, given) = upload();
    let through = Through::default();
    let none = through.leave(process(through.enter(body), |_| Bytes::new()));
    assert_eq!(read_all(none, MANY).await.unwrap().len(), 0);
    assert_eq!(given.load(Ordering::Relaxed), MANY);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_reads_it_itself_waits_once() {
    let (body, _) = upload();
    let began = Instant::now();
    assert_eq!(read_all(Through::default().enter(body), MANY).await.unwrap().len(), MANY);
    assert_eq!(began.elapsed(), DECIDES);
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_reader_goes_away_gets_the_rest() {
    let (body, given) = upload();
    let through = Through::default();
    let mut out = through.leave(process(through.enter(body), |piece| piece));
    out.frame().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(given.load(Ordering::Relaxed) < MANY);
    drop(out);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(given.load(Ordering::Relaxed), MANY);
}
