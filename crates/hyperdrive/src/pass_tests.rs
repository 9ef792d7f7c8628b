use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, UnixStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use super::*;
use crate::Tls;
use crate::connect::Verdict;
use crate::messages::{ssl_request, startup};
use crate::open::EACH;

/// Long enough for what is not to happen to happen.
const SOON: Duration = Duration::from_millis(300);
/// Long enough for what is to happen, on any machine; less than [`WAIT`].
const LATE: Duration = Duration::from_secs(10);
const NO_BOUNDS: Bounds = Bounds { own: usize::MAX, all: usize::MAX, little: usize::MAX };

/// A database that lets everybody in, and says nothing more. Returns its port, and how many are in.
async fn database() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, there) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let count = there.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                stream.read_exact(&mut vec![0; ssl_request().len()]).await.unwrap();
                stream.write_all(b"N").await.unwrap();
                let length = stream.read_u32().await.unwrap() as usize;
                stream.read_exact(&mut vec![0; length - 4]).await.unwrap();
                stream.write_all(&let_in()).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read_to_end(&mut Vec::new()).await;
                count.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (port, there)
}

/// Waits until as many are in, and then whether it stays so.
async fn assert_there(there: &AtomicUsize, expected: usize) {
    let reached = async {
        while there.load(Ordering::SeqCst) != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(SOON).await;
    };
    let _ = timeout(LATE, reached).await;
    assert_eq!(there.load(Ordering::SeqCst), expected);
}

fn hyperdrive(bounds: Bounds) -> Arc<Hyperdrive> {
    Hyperdrive::within(Arc::new(|_| Verdict::Private), bounds)
}

/// A binding of `owner` to its configuration `id`, and how many connections that may have.
fn binding(
    hyperdrive: &Arc<Hyperdrive>,
    owner: &str,
    id: &str,
    port: u16,
) -> (Arc<Binding>, Arc<AtomicUsize>) {
    let most = Arc::new(AtomicUsize::new(100));
    let (text, connections) = (String::new, most.clone());
    let find: Find = Arc::new(move || {
        let (host, user, password, database) = ("127.0.0.1".to_owned(), text(), text(), text());
        let connections = connections.load(Ordering::SeqCst);
        Ok(Origin { host, port, user, password, database, tls: Tls::Unsaid, connections })
    });
    let (hyperdrive, script) = (hyperdrive.clone(), "script".to_owned());
    let (id, owner) = (format!("{owner}/{id}"), owner.to_owned());
    (Arc::new(Binding { hyperdrive, id, script, owner, find }), most)
}

/// A connection of which nothing was said yet.
fn connection(binding: &Arc<Binding>) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (binding, theirs) = (binding.clone(), Socket::try_from(theirs).unwrap());
    tokio::spawn(async move { binding.serve(theirs).await });
    ours
}

/// A connection that was let in, or what it was told.
async fn begin(binding: Arc<Binding>) -> Result<UnixStream, String> {
    let mut stream = connection(&binding);
    stream.write_all(&startup("user", "database", &[])).await.unwrap();
    let mut answer = vec![0; let_in().len()];
    stream.read_exact(&mut answer).await.unwrap();
    if answer == let_in() {
        return Ok(stream);
    }
    stream.read_to_end(&mut answer).await.unwrap();
    Err(String::from_utf8_lossy(&answer).into_owned())
}

async fn begin_soon(binding: &Arc<Binding>) -> Result<UnixStream, String> {
    timeout(LATE, begin(binding.clone())).await.expect("nobody is kept waiting")
}

fn assert_busy(refused: Result<UnixStream, String>) {
    let told = refused.expect_err("it was let in");
    assert!(told.contains("53300") && told.contains(&Failure::Busy.to_string()), "{told}");
}

#[tokio::test]
async fn a_limit_that_changes_back_and_forth_is_a_limit() {
    let (port, there) = database().await;
    let hyperdrive = hyperdrive(NO_BOUNDS);
    // As many bindings as one likes: they have one count.
    let bindings: Vec<_> = (0..3).map(|_| binding(&hyperdrive, "a", "db", port)).collect();
    let (enter, mut entered) = unbounded_channel();
    let mut waiting = JoinSet::new();
    for round in 0..30 {
        let (binding, most) = bindings[round % 3].clone();
        most.store(4 + round % 2, Ordering::SeqCst);
        let enter = enter.clone();
        waiting.spawn(async move { enter.send(begin(binding).await.unwrap()).unwrap() });
        tokio::time::sleep(Duration::from_millis(5)).await;
        if round == 7 {
            // The configuration goes, and another one gets its id.
            hyperdrive.forget("a/db");
        }
    }
    // Never more than the most that it was.
    assert_there(&there, 5).await;

    // Those that wait see that there may be more, those that are there stay where there may be fewer.
    hyperdrive.limit("a/db", 7);
    assert_there(&there, 7).await;
    hyperdrive.limit("a/db", 6);
    assert_there(&there, 7).await;
    drop(entered.try_recv().unwrap());
    assert_there(&there, 6).await;
    drop(entered.try_recv().unwrap());
    assert_there(&there, 6).await;
    waiting.shutdown().await;
}

#[tokio::test]
async fn an_account_that_has_all_it_may_is_refused_and_another_one_gets_in() {
    let (port, there) = database().await;
    let hyperdrive = hyperdrive(Bounds { own: 3 * EACH, all: 100 * EACH, little: EACH });
    let [one, two] = ["one", "two"].map(|id| binding(&hyperdrive, "a", id, port).0);
    let other = binding(&hyperdrive, "b", "one", port).0;
    let first = begin_soon(&one).await.unwrap();
    let _second = begin_soon(&two).await.unwrap();
    // It has not said who it is, and takes a file.
    let silent = connection(&two);
    tokio::time::sleep(SOON).await;
    for binding in [&one, &two] {
        assert_busy(begin_soon(binding).await);
    }
    let _others = (begin_soon(&other).await.unwrap(), begin_soon(&other).await.unwrap());
    assert_there(&there, 4).await;

    // Who is refused and says nothing hears it too.
    let mut mute = connection(&one);
    let mut told = Vec::new();
    timeout(LATE, mute.read_to_end(&mut told)).await.unwrap().unwrap();
    assert_busy(Err(String::from_utf8_lossy(&told).into_owned()));

    drop((silent, first));
    assert_there(&there, 3).await;
    begin_soon(&one).await.unwrap();
}

#[tokio::test]
async fn who_waits_for_a_place_counts_and_where_all_have_much_little_is_left() {
    let (port, there) = database().await;
    let hyperdrive = hyperdrive(Bounds { own: 4 * EACH, all: 4 * EACH, little: EACH });
    let (one, most) = binding(&hyperdrive, "a", "db", port);
    most.store(1, Ordering::SeqCst);
    let _inside = begin_soon(&one).await.unwrap();
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        waiting.spawn(begin(one.clone()));
    }
    tokio::time::sleep(SOON).await;
    assert_busy(begin_soon(&one).await);
    let other = binding(&hyperdrive, "b", "db", port).0;
    let _others = begin_soon(&other).await.unwrap();
    assert_busy(begin_soon(&other).await);
    assert_there(&there, 2).await;
    waiting.shutdown().await;
}

#[tokio::test]
async fn who_is_refused_and_reads_nothing_is_not_waited_for() {
    let hyperdrive = hyperdrive(Bounds::default());
    let binding = binding(&hyperdrive, "a", "db", 1).0;
    let mut stream = connection(&binding);
    let asks = async { while stream.write_all(&ssl_request()).await.is_ok() {} };
    timeout(LATE, asks).await.expect("it is closed");
    assert_eq!(hyperdrive.hearing.available_permits(), HEARD);
}

#[tokio::test]
async fn however_many_are_refused_few_may_speak_before_they_are() {
    let hyperdrive = hyperdrive(Bounds::default());
    let binding = binding(&hyperdrive, "a", "db", 1).0;
    let mut silent: Vec<_> = (0..200).map(|_| connection(&binding)).collect();
    tokio::time::sleep(SOON).await;
    let over = silent.iter_mut().filter(|stream| stream.try_read(&mut [0; 200]).is_ok()).count();
    assert_eq!(over, 200 - HEARD);
}
