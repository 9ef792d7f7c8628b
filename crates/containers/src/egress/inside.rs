//! Inside the network of a container: what goes out there is led to sockets of ours. Takes root.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::door::Process;

/// Our rules, in table `nat` of the container's own network.
const CHAIN: &str = "SKEP-OUT";
/// Letters of a container's id: Docker's have 64.
const LEAST_ID: usize = 64;

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
    let chained = [
        // Docker's own name server among them, which has an address of the container.
        format!("-p udp --dport 53 -j REDIRECT --to-ports {names}"),
        "-d 127.0.0.0/8 -j RETURN".to_owned(),
        "-m addrtype --dst-type LOCAL -j RETURN".to_owned(),
        format!("-p tcp -j REDIRECT --to-ports {connections}"),
    ];
    let mut rules: Vec<String> = chained.iter().map(|rule| format!("-A {CHAIN} {rule}")).collect();
    // Before Docker's.
    rules.push(format!("-I OUTPUT -j {CHAIN}"));
    rules
}

/// What `iptables-restore` is told: our chain as a whole, at once, whatever it had in it. Pure.
fn table(rules: &[String]) -> String {
    format!("*nat\n:{CHAIN} - [0:0]\n{}\nCOMMIT\n", rules.join("\n"))
}

/// Runs a program of the machine; only the network is the container's.
fn run(program: &str, arguments: &str, input: &str) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments.split(' ')).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|error| io::Error::other(format!("cannot run {program}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(format!("{program} {arguments}: {}", said.trim())))
        }
    }
}

/// A handle of a container's process. Its number may be another's meanwhile, or that of another machine on which the engine
/// runs: the control group of a container's process has the container's id in its name.
fn process(container: &str, pid: u32) -> io::Result<Process> {
    let gone = || io::Error::other("the container has no process on this machine");
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    let handle = pidfd_open(number, PidfdFlags::empty()).map_err(|_| gone())?;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(|_| gone())?;
    // What was read was of the process that the handle is of, if that still is there.
    let process = Process::new(pid, handle);
    match !process.has_ended() && container.len() >= LEAST_ID && groups.contains(container) {
        true => Ok(process),
        false => Err(gone()),
    }
}

/// Leads what goes out of the network of a container to sockets. Moves the calling thread there for good: it is to end.
fn lead(container: &str, pid: u32) -> io::Result<Sockets> {
    let process = process(container, pid)?;
    let own = network()?;
    move_into_thread_name_spaces(process.handle(), ThreadNameSpaceType::NETWORK)?;
    if network()? == own {
        return Err(io::Error::other("the container has no network of its own"));
    }
    let connections = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let rules = rules(connections.local_addr()?.port(), names.local_addr()?.port());
    run("iptables-restore", "-w -n", &table(&rules))?;
    // Without a way out nothing is sent at all, and nothing is led elsewhere.
    if run("ip", "route get 11.0.0.1", "").is_err() {
        run("ip", "route add default dev lo", "")?;
    }
    connections.set_nonblocking(true)?;
    names.set_nonblocking(true)?;
    Ok(Sockets { connections, names })
}

/// Which network the calling thread is in.
fn network() -> io::Result<(u64, u64)> {
    let network = std::fs::metadata("/proc/thread-self/ns/net")?;
    Ok((network.dev(), network.ino()))
}

/// The same on a thread of its own.
pub(crate) async fn lead_all(container: &str, pid: u32) -> io::Result<Sockets> {
    let container = container.to_owned();
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("inside".to_owned()).spawn(move || {
        // Nobody may wait for it any more.
        let _ = tell.send(lead(&container, pid));
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
