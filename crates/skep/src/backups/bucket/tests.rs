use std::sync::{Arc, Mutex};

use skep_backup::Repository;
use skep_wire::{BoxFuture, CrowdLimits, Request, Response, Service, full, read_all, reply};
use tokio::net::TcpListener;

use super::*;

/// What a server was asked: method, path, a part of the query, and the length of the body.
type Seen = Arc<Mutex<Vec<(Method, String, String, usize)>>>;

/// A server with an answer for each request in turn.
struct Server {
    answers: Mutex<Vec<(u16, String)>>,
    seen: Seen,
}

impl Service for Server {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = read_all(body, 1 << 20).await.unwrap();
            if head.method == Method::PUT {
                assert_eq!(head.headers["content-md5"], STANDARD.encode(Md5::digest(&body)));
            }
            let query = head.uri.query().unwrap_or_default();
            assert!(query.contains("X-Amz-Signature="), "{query}");
            let own = query.split('&').filter(|part| !part.starts_with("X-Amz-"));
            let own = own.collect::<Vec<_>>().join("&");
            let asked = (head.method, head.uri.path().to_owned(), own, body.len());
            self.seen.lock().unwrap().push(asked);
            let (status, text) = self.answers.lock().unwrap().remove(0);
            reply(StatusCode::from_u16(status).unwrap(), full(text))
        })
    }
}

/// Asks a server with these answers; what came of it, and what it was asked.
fn asked<T: Send + 'static>(
    answers: &[(u16, &str)],
    ask: impl FnOnce(&Client) -> T + Send + 'static,
) -> (T, Vec<(Method, String, String, usize)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen = Seen::default();
    let answers = answers.iter().map(|(status, text)| (*status, (*text).to_owned())).collect();
    let server = Arc::new(Server { answers: Mutex::new(answers), seen: seen.clone() });
    let came = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (_end, shutdown) = Shutdown::new();
        let crowd = CrowdLimits { all: 100, per_address: 100 };
        tokio::spawn(skep_wire::serve_tcp(listener, server, crowd, shutdown.clone()));
        let env = |name: &str| match name {
            "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("key".to_owned()),
            _ => None,
        };
        let bucket = Bucket::parse(&Url::parse("s3://safe/a%20b").unwrap(), env).unwrap();
        let client = bucket.open(Proxies::default(), Handle::current(), shutdown).unwrap();
        tokio::task::spawn_blocking(move || ask(&client)).await.unwrap()
    });
    let seen = seen.lock().unwrap().clone();
    (came, seen)
}

#[test]
fn a_busy_server_is_asked_again_and_a_refusal_is_told() {
    let busy = (503, "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>");
    let denied = (403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>");
    let (put, seen) = asked(&[busy, (200, "")], |client| client.put("x/y", b"content".to_vec()));
    assert_eq!(put, Ok(()));
    assert_eq!(seen, vec![(Method::PUT, "/safe/a%20b/x/y".into(), String::new(), 7); 2]);
    let (put, seen) = asked(&[denied], |client| client.put("x", b"content".to_vec()));
    assert_eq!(put, Err(PlaceError("AccessDenied: Access Denied (status 403)".into())));
    assert_eq!(seen.len(), 1);
}

#[test]
fn what_is_not_there_is_none_but_a_bucket_has_to_be() {
    let (got, _) = asked(&[(404, "<Error><Code>NoSuchKey</Code></Error>")], |client| client.get("x", None));
    assert_eq!(got, Ok(None));
    let (got, _) =
        asked(&[(404, "<Error><Code>NoSuchBucket</Code></Error>")], |client| client.get("x", None));
    assert_eq!(got, Err(PlaceError("NoSuchBucket (status 404)".into())));
    let (got, _) = asked(&[(200, "0123456789")], |client| client.get("x", Some(2..5)));
    assert_eq!(got, Ok(Some(b"234".to_vec())), "a server that ignores ranges");
    let (gone, _) = asked(&[(404, "")], |client| client.remove("x"));
    assert_eq!(gone, Ok(()));
}

#[test]
fn lists_go_on_to_their_end() {
    let page = |key: &str, more: &str| {
        format!(
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <IsTruncated>{}</IsTruncated><EncodingType>url</EncodingType>{more}\
             <Contents><Key>{key}</Key><Size>5</Size></Contents></ListBucketResult>",
            !more.is_empty()
        )
    };
    let first = page("a+b/backups/20261130T101010Z", "<NextContinuationToken>t1</NextContinuationToken>");
    let last = page("a%20b/backups/20261130T101011Z", "");
    let (backups, seen) = asked(&[(200, &first), (200, &last), (200, "<no")], |client| {
        (client.list("backups/"), client.list("backups/"))
    });
    let names: Vec<String> = backups.0.unwrap().into_iter().map(|listed| listed.key).collect();
    assert_eq!(names, ["backups/20261130T101010Z", "backups/20261130T101011Z"]);
    assert!(backups.1.unwrap_err().0.contains("cannot be read"));
    assert!(
        seen[1].2.contains("continuation-token=t1") && seen[0].2.contains("prefix=a%20b%2Fbackups%2F"),
        "{seen:?}"
    );
}

#[test]
fn who_does_not_answer_is_not_waited_for_at_the_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = runtime.block_on(async {
        // It takes connections, and that is all.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (end, shutdown) = Shutdown::new();
        let env =
            |name: &str| Some(if name == "AWS_ENDPOINT_URL_S3" { endpoint.clone() } else { "x".into() });
        let bucket = Bucket::parse(&Url::parse("s3://safe").unwrap(), env).unwrap();
        let client = bucket.open(Proxies::default(), Handle::current(), shutdown).unwrap();
        let asked = tokio::task::spawn_blocking(move || Repository::new(Arc::new(client), None).backups());
        let _connection = listener.accept().await.unwrap();
        end.trigger();
        asked.await.unwrap().unwrap_err().to_string()
    });
    assert_eq!(said, "s3://safe: it was not waited for, as Skep ends");
}
