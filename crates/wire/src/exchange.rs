//! One request without a body and its response, on a connection that nobody else uses.
//!
//! A general client has a task, channels and locks between whoever asks and the connection; for a request that is one
//! write and an answer that is one read these cost more than the rest. Whoever asks here writes and reads itself.
//! Requests with a body, and those that become something else than HTTP, go through hyper.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{Method, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use skep_runtime::loops::here;

use crate::Socket;
use crate::flow::piece;
use crate::framing::Framing;
use crate::head::{read_response, write_headers};
use crate::whole::{Whole, with_whole};

/// Read at once, at most.
const PIECE: usize = 128 << 10;
/// What a head and a small body fit into.
const FIRST: usize = 4 << 10;

/// A connection between two exchanges, or in one.
#[derive(Debug)]
pub(crate) struct Exchange {
    socket: Socket,
    /// What came and was not taken yet.
    buffer: BytesMut,
    /// What is left of the response's body.
    framing: Framing,
    /// Whether another request may follow.
    keeps: bool,
    /// The event loop that it belongs to.
    pub(crate) home: u8,
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Nothing was sent: the connection had been closed.
    Unsent,
    /// The request may have been acted on.
    Lost(io::Error),
}

impl Exchange {
    pub fn new(socket: Socket) -> Self {
        Self { socket, buffer: BytesMut::new(), framing: Framing::Length(0), keeps: true, home: here() }
    }

    /// Whether the connection is open and silent, so that a request may be sent.
    pub fn is_idle(&mut self) -> bool {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        self.buffer.is_empty() && Pin::new(&mut self.socket).poll_read(&mut cx, &mut buf).is_pending()
    }

    /// Sends a request without a body; returns the response's head.
    pub async fn send(&mut self, request: &Parts) -> Result<Response<()>, Failed> {
        self.ask(&written(request)).await?;
        self.head(&request.method).await
    }

    /// Sends the head of a request that has no body.
    async fn ask(&mut self, head: &[u8]) -> Result<(), Failed> {
        let mut sent = 0;
        while let Some(rest) = head.get(sent..).filter(|rest| !rest.is_empty()) {
            match poll_fn(|cx| Pin::new(&mut self.socket).poll_write(cx, rest)).await {
                Ok(more @ 1..) => sent += more,
                Ok(0) | Err(_) if sent == 0 => return Err(Failed::Unsent),
                Ok(_) => return Err(Failed::Lost(io::ErrorKind::WriteZero.into())),
                Err(error) => return Err(Failed::Lost(error)),
            }
        }
        Ok(())
    }

    /// The response's head, once all of it is there.
    async fn head(&mut self, method: &Method) -> Result<Response<()>, Failed> {
        loop {
            match read_response(&mut self.buffer) {
                Ok(Some((response, _))) if is_interim(response.status()) => {}
                Ok(Some((response, keeps))) => {
                    self.framing =
                        Framing::of(method, response.status(), response.headers()).map_err(Failed::Lost)?;
                    self.keeps = keeps && self.framing != Framing::UntilClose;
                    return Ok(response);
                }
                Ok(None) => self.more().await?,
                Err(error) => return Err(Failed::Lost(error)),
            }
        }
    }

    /// Sends `head`, that of a request by `method` without a body. If the whole response comes at once, `take` may have it where it
    /// lies; returns what that made of it, or the response's head.
    pub async fn relay<T>(
        &mut self,
        head: &[u8],
        method: &Method,
        take: &mut impl FnMut(Whole<'_>) -> Option<T>,
    ) -> Result<Result<T, Response<()>>, Failed> {
        self.ask(head).await?;
        self.more().await?;
        if let Some(taken) = with_whole(&self.buffer, method, take) {
            self.buffer.clear();
            return Ok(Ok(taken));
        }
        self.head(method).await.map(Err)
    }

    /// Waits for more of a head.
    async fn more(&mut self) -> Result<(), Failed> {
        match poll_fn(|cx| self.poll_more(cx, FIRST)).await {
            Ok(0) => Err(Failed::Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(Failed::Lost(error)),
        }
    }

    /// The next piece of the response's body.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match self.framing.take(&mut self.buffer) {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(None) if self.framing.is_over() => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(self.broken(error)))),
            }
            match ready!(self.poll_more(cx, PIECE.min(piece()))) {
                Ok(0) if self.framing.ends_here() => return Poll::Ready(None),
                Ok(0) => {
                    let error = self.broken(io::ErrorKind::UnexpectedEof.into());
                    return Poll::Ready(Some(Err(error)));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(self.broken(error)))),
            }
        }
    }

    /// Whether the response's body is over, without looking for more.
    pub fn is_over(&self) -> bool {
        self.framing.is_over()
    }

    /// The bytes that are left of the body, if that is known.
    pub fn left(&self) -> Option<u64> {
        self.framing.left()
    }

    /// Whether the next request may follow.
    pub fn is_reusable(&self) -> bool {
        self.keeps && self.framing.is_over() && self.buffer.is_empty()
    }

    fn broken(&mut self, error: io::Error) -> io::Error {
        self.keeps = false;
        self.framing = Framing::Length(0);
        error
    }

    fn poll_more(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<usize>> {
        self.buffer.reserve(size);
        let read = std::pin::pin!(self.socket.read_buf(&mut self.buffer));
        read.poll(cx)
    }
}

/// 100 and 103; 101 is an answer.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// A request's head as it is sent.
fn written(request: &Parts) -> Vec<u8> {
    let mut head = Vec::with_capacity(1 << 10);
    head.extend_from_slice(request.method.as_str().as_bytes());
    head.push(b' ');
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    head.extend_from_slice(if path.is_empty() { b"/" } else { path.as_bytes() });
    head.extend_from_slice(b" HTTP/1.1\r\n");
    // There is no body, whatever was said of it.
    write_headers(&mut head, &request.headers, |name, value| {
        name == header::CONTENT_LENGTH && value != "0" || name == header::TRANSFER_ENCODING
    });
    head
}

/// Whether a request can go this way.
pub(crate) fn is_plain(request: &Parts) -> bool {
    request.method != Method::CONNECT && !request.headers.contains_key(header::UPGRADE)
}

#[cfg(test)]
mod tests {
    use hyper::ext::ReasonPhrase;

    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    fn request(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri("/a?b");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// What an exchange makes of an answer that comes in `pieces`, after which the peer is gone: status, body (`None` if it
    /// broke), whether the connection could be used again.
    async fn answered(method: &str, pieces: &[&str]) -> Option<(u16, Option<String>, bool)> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut exchange = Exchange::new(ours.try_into().unwrap());
        let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        let peer = tokio::spawn(async move {
            let mut head = [0; 200];
            assert!(theirs.read(&mut head).await.unwrap() > 0);
            for piece in pieces {
                theirs.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let head = exchange.send(&request(method, &[])).await.ok()?;
        let mut body = Some(String::new());
        while let Some(piece) = poll_fn(|cx| exchange.poll_piece(cx)).await {
            body = body.zip(piece.ok()).map(|(body, piece)| body + std::str::from_utf8(&piece).unwrap());
        }
        peer.await.unwrap();
        Some((head.status().as_u16(), body, exchange.is_reusable()))
    }

    #[tokio::test]
    async fn answers_are_read_in_whatever_pieces_they_come() {
        let whole = |status, body: &str, reusable| Some((status, Some(body.to_owned()), reusable));
        let sized = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(answered("GET", &[sized]).await, whole(200, "hello", true));
        let single: Vec<&str> = sized.split_inclusive("").collect();
        assert_eq!(answered("GET", &single).await, whole(200, "hello", true));
        let chunked =
            ["HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "2\r\nde\r\n0\r\n\r\n"];
        assert_eq!(answered("GET", &chunked).await, whole(404, "abcde", true));
        assert_eq!(
            answered("HEAD", &["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"]).await,
            whole(200, "", true)
        );
        assert_eq!(
            answered("GET", &["HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", sized]).await,
            whole(200, "hello", true)
        );
        assert_eq!(
            answered("GET", &["HTTP/1.1 200 OK\r\n\r\nall of it"]).await,
            whole(200, "all of it", false)
        );
        assert_eq!(
            answered("GET", &["HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"]).await,
            whole(200, "x", false)
        );
        let more = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n";
        assert_eq!(answered("GET", &[more]).await, whole(200, "x", false));
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_an_error() {
        for wrong in ["", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200"]
        {
            assert_eq!(answered("GET", &[wrong]).await, None, "{wrong}");
        }
        for cut in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            assert_eq!(answered("GET", &[cut]).await, Some((200, None, false)), "{cut}");
        }
    }

    #[tokio::test]
    async fn many_headers_and_an_own_reason_come_through() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut exchange = Exchange::new(ours.try_into().unwrap());
        let headers: String = (0..300).map(|n| format!("Set-Cookie: a{n}=b\r\n")).collect();
        let answer = format!("HTTP/1.1 200 Fine\r\n{headers}Content-Length: 0\r\n\r\n");
        theirs.write_all(answer.as_bytes()).await.unwrap();
        let head = exchange.send(&request("GET", &[])).await.unwrap();
        assert_eq!(head.headers().get_all("set-cookie").iter().count(), 300);
        assert_eq!(head.extensions().get::<ReasonPhrase>().unwrap().as_bytes(), b"Fine");
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_or_speaks_out_of_turn_is_not_used() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut exchange = Exchange::new(ours.try_into().unwrap());
        tokio::task::yield_now().await;
        assert!(exchange.is_idle());
        theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        tokio::task::yield_now().await;
        assert!(!exchange.is_idle());
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut exchange = Exchange::new(ours.try_into().unwrap());
        drop(theirs);
        assert!(matches!(exchange.send(&request("GET", &[])).await, Err(Failed::Unsent)));
        tokio::task::yield_now().await;
        assert!(!exchange.is_idle());
    }

    #[test]
    fn a_request_says_of_its_body_what_is_true() {
        let headers = [("host", "h"), ("content-length", "7"), ("transfer-encoding", "chunked")];
        let head = written(&request("DELETE", &headers));
        assert_eq!(String::from_utf8(head).unwrap(), "DELETE /a?b HTTP/1.1\r\nhost: h\r\n\r\n");
        let head = written(&request("POST", &[("content-length", "0")]));
        assert_eq!(String::from_utf8(head).unwrap(), "POST /a?b HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
    }
}
