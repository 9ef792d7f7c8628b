use super::*;
use crate::{BoxFuture, Request, Response, Service, bind_unix, empty, full, read_all, reply, serve_unix};

struct Echo;
impl Service for Echo {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move { reply(http::StatusCode::OK, full(request.uri().path().to_owned())) })
    }
}

#[tokio::test]
async fn a_connection_is_reused_and_a_restarted_server_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let client = UnixClient::new(&path);
    for round in 0..2 {
        let (trigger, shutdown) = skep_runtime::Shutdown::new();
        let listener = bind_unix(&path).unwrap();
        let server = tokio::spawn(serve_unix(listener, Arc::new(Echo), shutdown));
        for n in 0..3 {
            let request = http::Request::get(format!("/{round}/{n}")).body(empty()).unwrap();
            let response = client.send(request).await.unwrap();
            assert_eq!(read_all(response.into_body(), 100).await.unwrap(), format!("/{round}/{n}"));
            assert_eq!(client.idle.all().len(), 1);
        }
        trigger.trigger();
        server.await.unwrap();
    }
}

/// Answers at once, with as many bytes as the path says, in pieces.
struct Pieces;
impl Service for Pieces {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let count: usize = request.uri().path()[1..].parse().unwrap();
            let piece = Bytes::from(vec![b'x'; 1000]);
            let pieces = (0..count).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
            reply(http::StatusCode::OK, crate::stream(futures_util::stream::iter(pieces)))
        })
    }
}

fn serve(service: impl Service) -> (tempfile::TempDir, Arc<UnixClient>, skep_runtime::ShutdownTrigger) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (trigger, shutdown) = skep_runtime::Shutdown::new();
    tokio::spawn(serve_unix(bind_unix(&path).unwrap(), Arc::new(service), shutdown));
    (dir, UnixClient::new(path), trigger)
}

fn get(path: &str) -> http::Request<Body> {
    http::Request::get(path).body(empty()).unwrap()
}

#[tokio::test]
async fn a_long_response_arrives_whole_and_its_connection_serves_the_next() {
    let (_dir, client, _trigger) = serve(Pieces);
    for count in [5000, 0, 1, 2000] {
        let response = client.send(get(&format!("/{count}"))).await.unwrap();
        let body = read_all(response.into_body(), 10_000_000).await.unwrap();
        assert_eq!(body.len(), count * 1000);
        assert_eq!(client.idle.all().len(), 1);
    }
}

#[tokio::test]
async fn a_response_that_nobody_reads_to_its_end_costs_its_connection() {
    let (_dir, client, _trigger) = serve(Pieces);
    drop(client.send(get("/5000")).await.unwrap());
    assert_eq!(client.idle.all().len(), 0);
    assert_eq!(client.send(get("/1")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_connection_whose_request_is_not_all_sent_is_not_used_again() {
    let (_dir, client, _trigger) = serve(Echo);
    let never = crate::stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let response = client.send(http::Request::post("/a").body(never).unwrap()).await.unwrap();
    assert_eq!(read_all(response.into_body(), 100).await.unwrap(), "/a");
    assert_eq!(client.general.all().len(), 0);
    assert_eq!(client.send(get("/b")).await.unwrap().status(), 200);
}

/// Answers without end, and says elsewhere how long the request's body was.
struct Counts(tokio::sync::mpsc::UnboundedSender<usize>);
impl Service for Counts {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        let count = self.0.clone();
        Box::pin(async move {
            tokio::spawn(async move {
                let body = read_all(request.into_body(), 100_000_000).await.unwrap();
                count.send(body.len()).unwrap();
            });
            let endless = std::iter::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1000])));
            reply(http::StatusCode::OK, crate::stream(futures_util::stream::iter(endless)))
        })
    }
}

#[tokio::test]
async fn a_request_is_sent_to_its_end_also_while_nobody_reads_the_response() {
    let (count, mut counted) = tokio::sync::mpsc::unbounded_channel();
    let (_dir, client, _trigger) = serve(Counts(count));
    let pieces = (0..1000).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'y'; 10_000])));
    let body = crate::stream(futures_util::stream::iter(pieces));
    let _unread = client.send(http::Request::post("/").body(body).unwrap()).await.unwrap();
    assert_eq!(counted.recv().await, Some(10_000_000));
}

#[tokio::test]
async fn a_request_that_found_nobody_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let client = UnixClient::new(dir.path().join("nobody"));
    let request = http::Request::post("/a").header("x", "y").body(full("content")).unwrap();
    let Err(SendError::Connect { unsent, .. }) = client.send(request).await else { panic!("sent") };
    assert_eq!((unsent.uri().path(), &unsent.headers()["x"]), ("/a", &http::HeaderValue::from_static("y")));
    assert_eq!(read_all(unsent.into_body(), 100).await.unwrap(), "content");
}
