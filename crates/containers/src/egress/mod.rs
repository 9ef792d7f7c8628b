//! What a container sends out, when its worker wants to see it: connections are led to Skep, which says to the cell's engine where
//! each wants to go, as the engine's own helper would. The engine gives it to the worker, or passes it on.
//! <https://developers.cloudflare.com/containers/platform-details/outbound-traffic/>

mod aside;
mod authority;
mod door;
pub(crate) mod hold;
mod inside;
mod names;
mod resolve;
mod rules;
mod sniff;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::{ip_original_dst, set_socket_linger};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub(crate) use aside::{Aside, Place};
pub(crate) use authority::PLACE;
pub(crate) use door::Process;
use resolve::answer;
use rules::Open;
pub(crate) use rules::Shared;
pub use rules::Way;
use sniff::Hint;

/// Connections of one container at the same time; more are closed.
const MOST_OPEN: usize = 1024;
/// How long a client may take to say where it wants to go, and one that may wait for its server to begin.
const SAYS: Duration = Duration::from_secs(10);
const LISTENS: Duration = Duration::from_secs(1);
const HTTP: u16 = 80;
/// What the engine is told in place of an address of the machine itself: of a network that is nobody's, RFC 1112.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);
/// Bytes that are kept of what a client by TLS does not read.
const TLS_BUFFER: usize = 16 << 10;
/// The longest answer of the engine to a request for a connection.
const LONGEST: usize = 16 << 10;

/// What leads a container's connections; it stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Led {
    tasks: [AbortHandle; 2],
}

impl Drop for Led {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Leads what goes out of the network of a container, from when this returns. `pid` is its first process, as Docker says; what
/// comes is served at `place`.
pub(crate) async fn lead(
    container: &str,
    pid: u32,
    rules: Shared,
    way: fn(SocketAddrV4) -> Way,
    place: Place,
) -> io::Result<Led> {
    let sockets = inside::lead_all(container, pid).await?;
    let (connections, names) = {
        let _there = place.handle.enter();
        (TcpListener::from_std(sockets.connections)?, UdpSocket::from_std(sockets.names)?)
    };
    let connecting = place.handle.spawn(take(connections, rules.clone(), way, place.room));
    let naming = place.handle.spawn(answer(names, rules));
    Ok(Led { tasks: [connecting.abort_handle(), naming.abort_handle()] })
}

async fn take(listener: TcpListener, rules: Shared, way: fn(SocketAddrV4) -> Way, room: Arc<Semaphore>) {
    let mut open = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while open.try_join_next().is_some() {}
        let mut stream = match accepted {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        match room.clone().try_acquire_owned() {
            Ok(place) if open.len() < MOST_OPEN => {
                let (rules, counted) = (rules.clone(), Open::count(&rules));
                open.spawn(async move {
                    if let Err(error) = pass(&mut stream, &rules, way).await {
                        tracing::debug!(%error, "a connection of a container ended");
                        // Nothing has answered it: that is not to look like an end.
                        let _ = set_socket_linger(&stream, Some(Duration::ZERO));
                    }
                    drop((stream, counted, place));
                });
            }
            _ => tracing::debug!("there are too many connections of containers: one more was closed"),
        }
    }
}

/// Passes one connection on to the engine.
async fn pass(client: &mut TcpStream, rules: &Shared, way: fn(SocketAddrV4) -> Way) -> io::Result<()> {
    let to = ip_original_dst(&*client)?;
    if to.ip().is_loopback() {
        return Err(io::Error::other("it was meant for the container itself"));
    }
    let (start, hint) = begin(client, to.port()).await?;
    let way = way(to);
    let out_of_reach = || io::Error::other(format!("{to} is out of reach"));
    if way != Way::Open && !may_take(&rules.lock().hosts, &hint) {
        return Err(out_of_reach());
    }
    let mut engine = rules.door().await?.connect().await?;
    engine.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let shown = if way == Way::Own { SocketAddrV4::new(NOWHERE, to.port()) } else { to };
    engine.write_all(asked(shown, &hint).as_bytes()).await?;
    let answered = tokio::time::timeout(SAYS, status(&mut engine)).await;
    let (status, rest) = answered.map_err(|_| io::Error::other("the engine says nothing"))??;
    let internet = rules.lock().internet;
    match status {
        200 => {}
        // Without the internet, only a worker can have taken it.
        202 if way == Way::Open || !internet => {}
        202 => return Err(out_of_reach()),
        _ => return Err(io::Error::other(format!("the engine says {status}"))),
    }
    if status == 200 && start.first() == Some(&sniff::HANDSHAKE) {
        let name = match hint {
            Hint::Tls(name) => name,
            _ => to.ip().to_string(),
        };
        let server = rules.authority().and_then(|authority| authority.server(&name));
        let (client, out) = client.split();
        let whole = tokio::io::join(start.as_slice().chain(client), out);
        let accepted = TlsAcceptor::from(server.map_err(io::Error::other)?)
            .accept_with(whole, |session| session.set_buffer_limit(Some(TLS_BUFFER)));
        let accepted = tokio::time::timeout(SAYS, accepted).await;
        let mut client = accepted.map_err(|_| io::Error::other("no handshake comes"))??;
        client.write_all(&rest).await?;
        return copy_bidirectional(&mut client, &mut engine).await.map(drop);
    }
    engine.write_all(&start).await?;
    client.write_all(&rest).await?;
    copy_bidirectional(client, &mut engine).await.map(drop)
}

/// Whether a worker may want a connection: its engine names the hosts, or all of them if it looks at addresses. Pure.
fn may_take(hosts: &[String], hint: &Hint) -> bool {
    let name = match hint {
        Hint::Http(host) | Hint::Tls(host) => host.as_str(),
        Hint::More | Hint::Other => "",
    };
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    hosts.iter().any(|pattern| pattern == "*" || names::fits(pattern, name.trim_end_matches('.')))
}

/// The request for a connection. Pure.
fn asked(to: SocketAddrV4, hint: &Hint) -> String {
    let header = match hint {
        Hint::Http(host) => format!("X-Hostname: {host}\r\n"),
        Hint::Tls(host) => format!("X-Tls-Sni: {host}\r\n"),
        Hint::More | Hint::Other => String::new(),
    };
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{header}\r\n")
}

/// What a client sends first, and what that says.
async fn begin(client: &mut TcpStream, port: u16) -> io::Result<(Vec<u8>, Hint)> {
    let deadline = tokio::time::Instant::now() + SAYS;
    let mut start = Vec::new();
    loop {
        let until = match start.is_empty() && port != HTTP {
            true => deadline - SAYS + LISTENS,
            false => deadline,
        };
        match tokio::time::timeout_at(until, client.read_buf(&mut start)).await {
            // It waits for the server.
            Err(_) if start.is_empty() => return Ok((start, Hint::Other)),
            Err(_) => return Err(io::Error::other("it does not say where it wants to go")),
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) => {}
        }
        match sniff::look(&start) {
            Hint::More if start.len() > sniff::LONGEST => {
                return Err(io::Error::other("where it wants to go is too far behind"));
            }
            Hint::More => {}
            hint => return Ok((start, hint)),
        }
    }
}

/// The status of an answer, and what came after its head.
async fn status(engine: &mut TcpStream) -> io::Result<(u16, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        if engine.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = head.windows(4).position(|part| part == b"\r\n\r\n") {
            let rest = head.split_off(end + 4);
            let status =
                std::str::from_utf8(&head).ok().and_then(|head| head.split(' ').nth(1)?.parse().ok());
            return status.map(|status| (status, rest)).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        if head.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_told_where_a_connection_goes() {
        let to = "9.9.9.9:80".parse().unwrap();
        let with = |hint| asked(to, &hint);
        assert_eq!(with(Hint::Other), "CONNECT 9.9.9.9:80 HTTP/1.1\r\nHost: 9.9.9.9:80\r\n\r\n");
        assert!(with(Hint::Http("a.com".into())).contains("\r\nX-Hostname: a.com\r\n\r\n"));
        assert!(with(Hint::Tls("a.com".into())).contains("\r\nX-Tls-Sni: a.com\r\n\r\n"));
    }

    #[test]
    fn a_worker_is_asked_that_may_want_it() {
        let hosts = ["one.example".to_owned(), "*.two.example".to_owned()];
        let may = |hosts: &[String], host: &str| may_take(hosts, &Hint::Http(host.to_owned()));
        for host in ["one.example", "one.example:81", "one.example.", "a.two.example"] {
            assert!(may(&hosts, host), "{host}");
        }
        assert!(!may(&hosts, "two.example") && !may(&hosts, "[::1]:80") && !may(&[], "one.example"));
        assert!(!may_take(&hosts, &Hint::Other) && may_take(&["*".to_owned()], &Hint::Other));
    }
}
