//! The way out of a cage: every connection of a browser is opened here, where its address is allowed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::socks::{self, Host, Reply};

/// Whether a browser may connect to an address, after names were resolved.
pub type Reach = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Connections of a session at once; Chrome has at most 32 by way of a proxy.
const OPEN: usize = 64;
/// Names of a session that are asked for at once.
const NAMES: usize = 4;
/// Until it has said where to.
const SAYS: Duration = Duration::from_secs(10);
/// Until a name is known, and until a connection is there.
const FINDS: Duration = Duration::from_secs(10);
const CONNECTS: Duration = Duration::from_secs(30);
/// Without a byte in either direction.
const SILENT: Duration = Duration::from_secs(600);
const BUFFER: usize = 16 << 10;
/// A request with the longest name, after the longest greeting.
const SAID: usize = 1024;

/// Serves one browser, until this is dropped.
pub(crate) async fn serve(listener: TcpListener, reach: Reach) {
    let names = Arc::new(Semaphore::new(NAMES));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        if open.len() >= OPEN {
            open.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let (reach, names) = (reach.clone(), names.clone());
                open.spawn(async move {
                    if let Err(error) = pass(stream, &reach, &names).await {
                        tracing::debug!(%error, "a connection of a browser");
                    }
                });
            }
            // There is no file for it now.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn pass(mut stream: TcpStream, reach: &Reach, names: &Semaphore) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let mut said = Vec::new();
    let asked = tokio::time::timeout(SAYS, ask(&mut stream, &mut said)).await.map_err(late)??;
    let Some((host, port)) = asked else { return Ok(()) };
    match connect(&host, port, reach, names).await {
        Ok(mut to) => {
            stream.write_all(&socks::answer(Reply::Connected)).await?;
            // What it has said before it was answered.
            to.write_all(&said).await?;
            relay(stream, to).await
        }
        Err(reply) => stream.write_all(&socks::answer(reply)).await,
    }
}

/// Where a browser wants to go; what else it has said is left in `said`. `None`: it was answered already.
async fn ask(stream: &mut TcpStream, said: &mut Vec<u8>) -> io::Result<Option<(Host, u16)>> {
    let mut greeted = false;
    loop {
        if !greeted && let Some((length, answer, speaks)) = socks::greeting(said) {
            said.drain(..length);
            stream.write_all(&answer).await?;
            if !speaks {
                return Ok(None);
            }
            greeted = true;
        }
        if greeted && let Some(request) = socks::request(said) {
            return match request {
                Ok((length, host, port)) => {
                    said.drain(..length);
                    Ok(Some((host, port)))
                }
                Err(reply) => stream.write_all(&socks::answer(reply)).await.map(|()| None),
            };
        }
        if said.len() >= SAID || stream.read_buf(said).await? == 0 {
            return Ok(None);
        }
    }
}

/// Connects to the first address of a host that is allowed and takes it; what is judged is what is connected to.
async fn connect(host: &Host, port: u16, reach: &Reach, names: &Semaphore) -> Result<TcpStream, Reply> {
    let addresses = match host {
        Host::Address(address) => vec![SocketAddr::new(*address, port)],
        Host::Name(name) => {
            let _turn = names.acquire().await.map_err(|_| Reply::Failed)?;
            let found = tokio::time::timeout(FINDS, tokio::net::lookup_host((name.as_str(), port))).await;
            found.map_err(|_| Reply::Unreachable)?.map_err(|_| Reply::Unreachable)?.collect()
        }
    };
    let mut reply = Reply::NotAllowed;
    for address in addresses.into_iter().filter(|address| reach(address.ip())) {
        match tokio::time::timeout(CONNECTS, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => reply = Reply::Refused,
            _ => reply = Reply::Unreachable,
        }
    }
    Err(reply)
}

/// Bytes both ways, until both sides have ended or nothing comes.
async fn relay(browser: TcpStream, to: TcpStream) -> io::Result<()> {
    let (from_browser, to_browser) = browser.into_split();
    let (from_there, to_there) = to.into_split();
    let moved = tokio::sync::Notify::new();
    let both = async {
        tokio::try_join!(copy(from_browser, to_there, &moved), copy(from_there, to_browser, &moved))
    };
    let silent = async { while tokio::time::timeout(SILENT, moved.notified()).await.is_ok() {} };
    tokio::select! {
        done = both => done.map(|_| ()),
        () = silent => Ok(()),
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    moved: &tokio::sync::Notify,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        moved.notify_one();
        to.write_all(&buffer[..read]).await?;
    }
}
