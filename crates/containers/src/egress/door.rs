//! Where the engine of a cell takes what containers send out: a port of the loopback address, which the engine says. That is believed
//! only of a socket that the cell's own process has: whoever has taken an engine over could name a port of another account's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketType, getsockname, sockopt};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use tokio::net::TcpStream;

/// The process of a cell.
#[derive(Debug)]
pub(crate) struct Process {
    id: u32,
    handle: OwnedFd,
}

impl Process {
    pub fn new(id: u32, handle: OwnedFd) -> Self {
        Self { id, handle }
    }

    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    pub fn has_ended(&self) -> bool {
        let mut polled = [PollFd::new(&self.handle, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(poll(&mut polled, Some(&at_once)), Ok(0))
    }
}

/// A port on which a process listens. The socket is ours as well: nobody else gets the port while this is there.
#[derive(Debug)]
pub(crate) struct Door {
    address: SocketAddr,
    process: Arc<Process>,
    _socket: OwnedFd,
}

impl Door {
    /// Finds the socket. Blocking.
    pub fn find(process: Arc<Process>, port: u16) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for file in std::fs::read_dir(format!("/proc/{}/fd", process.id))?.flatten() {
            let is_socket = std::fs::read_link(file.path())
                .is_ok_and(|to| to.to_str().is_some_and(|to| to.starts_with("socket:")));
            let number = file.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(number) = number.filter(|_| is_socket) else { continue };
            let socket = match pidfd_getfd(&process.handle, number, PidfdGetfdFlags::empty()) {
                Ok(socket) => socket,
                // It was closed meanwhile.
                Err(rustix::io::Errno::BADF) => continue,
                Err(error) => return Err(error.into()),
            };
            if listens(&socket, address) {
                return Ok(Self { address, process, _socket: socket });
            }
        }
        Err(io::Error::other(format!("the engine of the worker does not listen on port {port}")))
    }

    /// A connection to the process.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        // The socket is there without it, but nobody takes what comes.
        if self.process.has_ended() {
            return Err(io::Error::other("the engine of the worker has ended"));
        }
        TcpStream::connect(self.address).await
    }
}

fn listens(socket: &OwnedFd, address: SocketAddr) -> bool {
    sockopt::socket_type(socket) == Ok(SocketType::STREAM)
        && sockopt::socket_acceptconn(socket) == Ok(true)
        && getsockname(socket).is_ok_and(|own| SocketAddr::try_from(own) == Ok(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

    fn process(pid: Pid) -> Arc<Process> {
        let id = u32::try_from(pid.as_raw_nonzero().get()).unwrap();
        Arc::new(Process::new(id, pidfd_open(pid, PidfdFlags::empty()).unwrap()))
    }

    #[tokio::test]
    async fn only_what_the_process_listens_on_is_a_door() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let door = Door::find(process(getpid()), port).unwrap();
        door.connect().await.unwrap();
        // On all addresses is another thing; so is a socket that is connected.
        let all = TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(Door::find(process(getpid()), all.local_addr().unwrap().port()).is_err());
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(Door::find(process(getpid()), stream.local_addr().unwrap().port()).is_err());

        // Another process does not have it.
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let other = process(Pid::from_child(&child));
        let error = Door::find(other.clone(), port).unwrap_err().to_string();
        assert!(error.contains(&port.to_string()), "{error}");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(other.has_ended() && Door::find(other, port).is_err());
        drop(listener);
        door.connect().await.unwrap();
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "the port is kept");
    }
}
