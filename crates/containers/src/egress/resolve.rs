//! Answers for the names that a container asks for, when what it sends out is led elsewhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::names;
use super::rules::{Rules, Shared};

/// Questions for names at the same time; more are not answered.
const MOST_NAMES: usize = 64;
/// How long a name server may take.
const NAME_SERVER: Duration = Duration::from_secs(5);

/// Answers questions for names.
pub(crate) async fn answer(socket: UdpSocket, rules: Shared) {
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
    fn name_servers_are_read() {
        let text = "# nameserver 1.1.1.1\nnameserver 127.0.0.53\n nameserver ::1\nnameserver x\n";
        assert_eq!(servers(text), ["127.0.0.53".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    }
}
