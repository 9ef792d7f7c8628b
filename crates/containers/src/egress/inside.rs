//! Inside the network of a container: what goes out there is led to sockets of ours. Takes root.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Our rules, in table `nat` of the container's own network.
const CHAIN: &str = "SKEP-OUT";

/// Where everything goes that a container sends out.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Connections.
    pub connections: TcpListener,
    /// Questions for names.
    pub names: UdpSocket,
}

/// The rules for these ports. Pure.
fn rules(connections: u16, names: u16) -> Vec<String> {
    let mut rules = vec![format!("-N {CHAIN}")];
    let chained = [
        // Docker's own name server among them, which has an address of the container.
        format!("-p udp --dport 53 -j REDIRECT --to-ports {names}"),
        "-d 127.0.0.0/8 -j RETURN".to_owned(),
        "-m addrtype --dst-type LOCAL -j RETURN".to_owned(),
        format!("-p tcp -j REDIRECT --to-ports {connections}"),
    ];
    rules.extend(chained.iter().map(|rule| format!("-A {CHAIN} {rule}")));
    // Before Docker's.
    rules.push(format!("-I OUTPUT -j {CHAIN}"));
    rules
}

fn run(program: &str, arguments: &str) -> io::Result<()> {
    let output = Command::new(program).args(arguments.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|e| io::Error::other(format!("cannot run {program}: {e}")))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(format!("{program} {arguments}: {}", said.trim())))
        }
    }
}

/// Leads what goes out of the network of process `pid` to sockets. Moves the calling thread there for good: it is to end.
fn lead(pid: u32) -> io::Result<Sockets> {
    let network = File::open(format!("/proc/{pid}/ns/net"))?;
    let own = File::open("/proc/thread-self/ns/net")?;
    if is_same(&network, &own)? {
        // A process that is no more, whose number another one has.
        return Err(io::Error::other("the container has no network of its own"));
    }
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    let connections = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    for rule in rules(connections.local_addr()?.port(), names.local_addr()?.port()) {
        run("iptables", &format!("-w -t nat {rule}"))?;
    }
    // Without a way out nothing is sent at all, and nothing is led elsewhere.
    if run("ip", "route get 11.0.0.1").is_err() {
        run("ip", "route add default dev lo")?;
    }
    connections.set_nonblocking(true)?;
    names.set_nonblocking(true)?;
    Ok(Sockets { connections, names })
}

fn is_same(one: &File, other: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// The same on a thread of its own.
pub(crate) async fn lead_all(pid: u32) -> io::Result<Sockets> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("inside".to_owned()).spawn(move || {
        // Nobody may wait for it any more.
        let _ = tell.send(lead(pid));
    })?;
    told.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_connections_are_led_elsewhere_and_the_container_itself_is_not() {
        let rules = rules(1000, 2000);
        let at = |part: &str| rules.iter().position(|rule| rule.contains(part)).unwrap();
        assert!(at("--to-ports 2000") < at("127.0.0.0/8") && at("127.0.0.0/8") < at("--to-ports 1000"));
        assert_eq!(rules.last().unwrap(), "-I OUTPUT -j SKEP-OUT");
    }
}
