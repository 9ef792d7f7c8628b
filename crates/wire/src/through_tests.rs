use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::*;
use crate::flow::Writing;
use crate::{BoxError, read_all, stream};

const PIECE: usize = 16 << 10;
const MANY: usize = 8 << 20;

/// How many bodies there are is counted for all of the process: one test at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

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
    let _alone = ALONE.lock().await;
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
    let _alone = ALONE.lock().await;
    let (body, _) = upload();
    let through = Through::default();
    let out = through.leave(process(through.enter(body), |piece| piece));
    let began = Instant::now();
    assert_eq!(read_all(out, MANY).await.unwrap().len(), MANY);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_makes_little_of_much_gets_all_of_it() {
    let _alone = ALONE.lock().await;
    let (body, given) = upload();
    let through = Through::default();
    let none = through.leave(process(through.enter(body), |_| Bytes::new()));
    assert_eq!(read_all(none, MANY).await.unwrap().len(), 0);
    assert_eq!(given.load(Ordering::Relaxed), MANY);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_reads_it_itself_waits_once() {
    let _alone = ALONE.lock().await;
    let (body, _) = upload();
    let began = Instant::now();
    assert_eq!(read_all(Through::default().enter(body), MANY).await.unwrap().len(), MANY);
    assert_eq!(began.elapsed(), DECIDES);
}

/// What a process has got of an upload after a while, when it is one of many, and passes it on by then or not.
async fn given_among_many(habit: &Arc<Habit>, after: Duration, passed: bool) -> usize {
    let many: Vec<_> = (0..100).map(|_| Writing::begin()).collect();
    let (body, given) = upload();
    let through = Through::of(habit);
    let out = process(through.enter(body), |piece| piece);
    tokio::time::sleep(after).await;
    let _out = passed.then(|| through.leave(out));
    drop(many);
    given.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_slow_to_pass_many_on_gets_little_of_them_unless_it_is_known_to_read() {
    let _alone = ALONE.lock().await;
    let habit = Arc::default();
    let little = 64 << 10;
    assert!(given_among_many(&habit, DECIDES * 2, true).await <= little);
    assert_eq!(given_among_many(&habit, DECIDES_AMONG_MANY * 2, false).await, MANY, "it reads");
    assert_eq!(given_among_many(&habit, DECIDES * 2, true).await, MANY, "as it did before");
    assert!(given_among_many(&habit, DECIDES * 2, true).await <= little, "but the last one was passed on");
}

#[tokio::test(start_paused = true)]
async fn of_many_that_do_not_come_out_soon_one_at_a_time_is_believed_to_be_read() {
    let _alone = ALONE.lock().await;
    let many: Vec<_> = (0..100).map(|_| Writing::begin()).collect();
    let (habit, buffers) = (Arc::default(), 600 << 10);
    let all: Vec<_> = (0..10)
        .map(|_| {
            let (body, given) = upload();
            let mut body = Through::of(&habit).enter(body);
            // Its buffers get full, and nothing comes out.
            let task = tokio::spawn(async move {
                for _ in 0..buffers / PIECE {
                    body.frame().await.unwrap().unwrap();
                }
                std::future::pending::<()>().await;
            });
            (task, given)
        })
        .collect();
    let full = || all.iter().filter(|(_, given)| given.load(Ordering::Relaxed) > buffers / 2).count();
    tokio::time::sleep(DECIDES_AMONG_MANY + DECIDES).await;
    assert_eq!(full(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!((2..=5).contains(&full()), "{}", full());
    // Until one takes more than fits into buffers.
    let (body, _) = upload();
    let mut reader = Through::of(&habit).enter(body);
    let taken = tokio::time::timeout(Duration::from_secs(60), async {
        for _ in 0..2 * READ / PIECE {
            reader.frame().await.unwrap().unwrap();
        }
    });
    taken.await.unwrap();
    tokio::time::sleep(DECIDES_AMONG_MANY).await;
    assert_eq!(full(), all.len());
    drop(many);
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_reader_goes_away_gets_the_rest() {
    let _alone = ALONE.lock().await;
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
