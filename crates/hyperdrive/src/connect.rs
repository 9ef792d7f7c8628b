//! A TCP connection to where a database may be.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::{Failure, Origin};

/// Until a connection is there, with TLS and the user let in.
pub(crate) const CONNECT: Duration = Duration::from_secs(15);

/// What is thought of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody may go there.
    Forbidden,
    /// On the internet.
    Public,
    /// Where only the operator can have let anybody go.
    Private,
}

/// Judges an address, after names were resolved.
pub type Judge = Arc<dyn Fn(SocketAddr) -> Verdict + Send + Sync>;

/// Connects to the first address of the origin that may be connected to and takes it; what is judged is what is connected to.
pub(crate) async fn connect(origin: &Origin, judge: &Judge) -> Result<(TcpStream, Verdict), Failure> {
    let host = origin.host.trim_matches(['[', ']']);
    let resolved = tokio::net::lookup_host((host, origin.port)).await;
    let addresses: Vec<SocketAddr> = resolved.map_err(|_| Failure::Hostname(host.to_owned()))?.collect();
    if addresses.is_empty() {
        return Err(Failure::Hostname(host.to_owned()));
    }
    let mut failure = Failure::Forbidden(named(host, &addresses));
    for address in addresses {
        let verdict = judge(address);
        if verdict == Verdict::Forbidden {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok((stream, verdict));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => failure = Failure::Refused,
            Err(error) => failure = Failure::Unreachable(error.to_string()),
        }
    }
    Err(failure)
}

/// A host, with its first address where that is not what it says.
fn named(host: &str, addresses: &[SocketAddr]) -> String {
    match addresses.first() {
        Some(address) if host.parse::<IpAddr>().is_err() => format!("{host} is {}", address.ip()),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tls;

    fn origin(host: &str, port: u16) -> Origin {
        let text = String::new;
        let (user, password, database) = (text(), text(), text());
        Origin { host: host.into(), port, user, password, database, tls: Tls::Unsaid, connections: 1 }
    }

    fn only(allowed: SocketAddr) -> Judge {
        Arc::new(move |address| if address == allowed { Verdict::Private } else { Verdict::Forbidden })
    }

    #[tokio::test]
    async fn only_what_is_judged_to_be_allowed_is_connected_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let judge = only(address);
        let connected = connect(&origin("127.0.0.1", address.port()), &judge).await;
        assert_eq!(connected.unwrap().1, Verdict::Private);
        let nobody: Judge = Arc::new(|_| Verdict::Forbidden);
        for host in ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"] {
            let refused = connect(&origin(host, address.port()), &nobody).await.unwrap_err();
            assert!(matches!(refused, Failure::Forbidden(_)), "{host}: {refused}");
        }
        drop(listener);
        let refused = connect(&origin("127.0.0.1", address.port()), &judge).await.unwrap_err();
        assert_eq!(refused, Failure::Refused);
        let nowhere = connect(&origin("nowhere.invalid", 1), &judge).await.unwrap_err();
        assert_eq!(nowhere, Failure::Hostname("nowhere.invalid".into()));
    }
}
