//! What a container sends out, when its worker wants to see it: connections are led to Skep, which says to the cell's engine where
//! each wants to go, as the engine's own helper would. The engine gives it to the worker, or passes it on.
//! <https://developers.cloudflare.com/containers/platform-details/outbound-traffic/>

pub(crate) mod hold;
mod inside;
mod names;
mod sniff;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::ip_original_dst;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{AbortHandle, JoinSet};

use sniff::Hint;

/// Connections of one container at the same time; more are closed.
const MOST_OPEN: usize = 1024;
/// Questions for names at the same time; more are not answered.
const MOST_NAMES: usize = 64;
/// How long a client may take to say where it wants to go, and one that may wait for its server to begin.
const SAYS: Duration = Duration::from_secs(10);
const LISTENS: Duration = Duration::from_secs(1);
const HTTP: u16 = 80;
/// How long a name server may take.
const NAME_SERVER: Duration = Duration::from_secs(5);
/// The longest answer of the engine to a request for a connection.
const LONGEST: usize = 16 << 10;

/// What holds of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Where the cell's engine takes connections.
    pub port: Option<u16>,
    /// The hosts of which there is a name whether a name server knows them or not. With none, nothing is led to a worker.
    pub hosts: Vec<String>,
    /// Whether it may reach the internet.
    pub internet: bool,
}

/// The same for those who act by it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Rules>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Rules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

/// Leads what goes out of the network of process `pid`, from when this returns.
pub(crate) async fn lead(pid: u32, rules: Shared) -> io::Result<Led> {
    let sockets = inside::lead_all(pid).await?;
    let connections = TcpListener::from_std(sockets.connections)?;
    let names = UdpSocket::from_std(sockets.names)?;
    let connecting = tokio::spawn(take(connections, rules.clone()));
    let naming = tokio::spawn(answer(names, rules));
    Ok(Led { tasks: [connecting.abort_handle(), naming.abort_handle()] })
}

async fn take(listener: TcpListener, rules: Shared) {
    let mut open = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) if open.len() < MOST_OPEN => {
                let rules = rules.clone();
                open.spawn(async move {
                    if let Err(error) = pass(stream, &rules).await {
                        tracing::debug!(%error, "a connection of a container ended");
                    }
                });
            }
            Ok(_) => tracing::warn!("a container has {MOST_OPEN} connections: one more was closed"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Passes one connection on to the engine.
async fn pass(mut client: TcpStream, rules: &Shared) -> io::Result<()> {
    let to = ip_original_dst(&client)?;
    if to.ip().is_loopback() {
        return Err(io::Error::other("it was meant for the container itself"));
    }
    let (start, hint) = begin(&mut client, to.port()).await?;
    let port = rules.lock().port.ok_or_else(|| io::Error::other("no engine takes connections"))?;
    let mut engine = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    engine.set_nodelay(true)?;
    client.set_nodelay(true)?;
    engine.write_all(asked(to, &hint).as_bytes()).await?;
    let (status, rest) = status(&mut engine).await?;
    if !(200..300).contains(&status) {
        return Err(io::Error::other(format!("the engine says {status}")));
    }
    engine.write_all(&start).await?;
    client.write_all(&rest).await?;
    copy_bidirectional(&mut client, &mut engine).await.map(drop)
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

/// Answers questions for names.
async fn answer(socket: UdpSocket, rules: Shared) {
    let socket = Arc::new(socket);
    let mut open = JoinSet::new();
    let mut message = vec![0; 4096];
    loop {
        let received = socket.recv_from(&mut message).await;
        while open.try_join_next().is_some() {}
        let Ok((length, from)) = received else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if open.len() >= MOST_NAMES {
            continue;
        }
        let (socket, rules, message) = (socket.clone(), rules.lock().clone(), message[..length].to_vec());
        open.spawn(async move {
            if let Some(reply) = named(&message, &rules).await {
                // One who is not there any more asks again.
                let _ = socket.send_to(&reply, from).await;
            }
        });
    }
}

/// What there is to say to a question.
async fn named(message: &[u8], rules: &Rules) -> Option<Vec<u8>> {
    let question = names::question(message)?;
    let allowed = rules.hosts.iter().any(|pattern| names::fits(pattern, &question.name));
    if !rules.internet {
        return Some(match allowed {
            true => names::allow(message, &question),
            false => names::refuse(message, &question),
        });
    }
    let said = ask(message).await;
    match said.as_deref().map(names::code) {
        Some(Some(names::NO_NAME)) | None if allowed => Some(names::allow(message, &question)),
        _ => said,
    }
}

/// Asks the machine's name servers, one after the other.
async fn ask(message: &[u8]) -> Option<Vec<u8>> {
    let text = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    for server in servers(&text) {
        let asked = async {
            let any =
                if server.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0; 16], 0)) };
            let socket = UdpSocket::bind(any).await?;
            socket.connect((server, 53)).await?;
            socket.send(message).await?;
            let mut reply = vec![0; 4096];
            let length = socket.recv(&mut reply).await?;
            reply.truncate(length);
            Ok::<_, io::Error>(reply)
        };
        if let Ok(Ok(reply)) = tokio::time::timeout(NAME_SERVER, asked).await
            && reply.get(..2) == message.get(..2)
        {
            return Some(reply);
        }
    }
    None
}

/// The name servers in resolv.conf(5).
fn servers(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    named.filter_map(|rest| rest.trim().parse().ok()).collect()
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
    fn name_servers_are_read() {
        let text = "# nameserver 1.1.1.1\nnameserver 127.0.0.53\n nameserver ::1\nnameserver x\n";
        assert_eq!(servers(text), ["127.0.0.53".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    }
}
