//! A machine of a test's own: a network namespace with addresses, a Docker whose firewall is on, and something outside of it. It goes
//! with the threads and processes that are in it.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::thread::UnshareFlags;

/// The machine's own public address, and one elsewhere. It is of a network that is on the internet, and where no servers are:
/// <https://www.rfc-editor.org/rfc/rfc7535>.
pub const PUBLIC: &str = "192.31.196.1";
pub const ELSEWHERE: &str = "192.31.196.77";
/// The same in the machine's private network.
pub const PRIVATE: &str = "10.99.0.1";
pub const NEIGHBOUR: &str = "10.99.0.77";
/// Where clouds tell a machine its secrets.
pub const METADATA: &str = "169.254.169.254";
/// The machine's name server.
const RESOLVER: &str = "127.7.7.7";
pub const SIX: &str = "fd00:99::1";
pub const NEIGHBOUR_SIX: &str = "fd00:99::77";

/// Where something listens, on all addresses of where it is.
pub struct Door {
    pub port: u16,
    came: Arc<AtomicUsize>,
}

impl Door {
    /// Opens one where the calling thread is.
    fn open() -> Self {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let came = Arc::new(AtomicUsize::new(0));
        let counted = came.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                // What was not read would reset the connection, and the answer might be lost.
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhere");
            }
        });
        for address in [PUBLIC, PRIVATE, ELSEWHERE, NEIGHBOUR, METADATA] {
            if let Ok(socket) = UdpSocket::bind((address, 53)) {
                listen(socket, came.clone());
            }
        }
        Self { port, came }
    }

    /// How many have come.
    pub fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

/// Counts what comes there.
fn listen(socket: UdpSocket, came: Arc<AtomicUsize>) -> Arc<AtomicUsize> {
    let counted = came.clone();
    std::thread::spawn(move || {
        let mut asked = [0; 512];
        while socket.recv_from(&mut asked).is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    came
}

/// The machine.
pub struct Machine {
    /// On the machine.
    pub inside: Door,
    /// On another one.
    pub outside: Door,
    /// How many names were asked for of the machine's name server.
    pub names: Arc<AtomicUsize>,
    /// What the machine knows of name servers.
    _resolv: tempfile::NamedTempFile,
}

fn ip(command: &str) {
    must("ip", &command.split(' ').collect::<Vec<_>>());
}

#[expect(deprecated, reason = "no file descriptors are unshared")]
fn unshare(flags: UnshareFlags) -> bool {
    rustix::thread::unshare(flags).is_ok()
}

fn must(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Moves the calling thread, and what it starts from now on, to a machine of its own; `None` where that cannot be, which is said.
pub fn enter() -> Option<Machine> {
    for program in ["dockerd", "docker", "iptables", "ip6tables", "ip", "busybox", "tar"] {
        if !is_there(program) {
            eprintln!("skipped: there is no {program} on the PATH");
            return None;
        }
    }
    if !unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS) {
        eprintln!("skipped: a network namespace needs root");
        return None;
    }
    // Names are asked for on the machine itself, as with systemd-resolved.
    let resolv = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(resolv.path(), format!("nameserver {RESOLVER}\noptions timeout:1 attempts:1\n")).unwrap();
    must("mount", &["--make-rprivate", "/"]);
    must("mount", &["--bind", resolv.path().to_str().unwrap(), "/etc/resolv.conf"]);
    ip("link set lo up");
    ip("link add out0 type veth peer name out1");
    let (tell, told) = mpsc::channel();
    let (go, went) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        assert!(unshare(UnshareFlags::NEWNET), "another network namespace");
        tell.send(Err(rustix::thread::gettid())).unwrap();
        went.recv().unwrap();
        for command in ["link set lo up", "link set out1 up", "addr add 169.254.169.254/32 dev lo"] {
            ip(command);
        }
        ip(&format!("addr add {ELSEWHERE}/24 dev out1"));
        ip(&format!("addr add {NEIGHBOUR}/24 dev out1"));
        ip(&format!("addr add {NEIGHBOUR_SIX}/64 dev out1 nodad"));
        ip(&format!("route add default via {PUBLIC}"));
        ip(&format!("-6 route add default via {SIX}"));
        tell.send(Ok(Door::open())).unwrap();
        // The namespace is there as long as somebody is in it.
        let _ = went.recv();
    });
    let Ok(Err(thread)) = told.recv() else { panic!("nothing outside") };
    ip(&format!("link set out1 netns {thread}"));
    ip("link set out0 up");
    ip(&format!("addr add {PUBLIC}/24 dev out0"));
    ip(&format!("addr add {PRIVATE}/24 dev out0"));
    ip(&format!("addr add {SIX}/64 dev out0 nodad"));
    go.send(()).unwrap();
    let Ok(Ok(outside)) = told.recv() else { panic!("nothing outside") };
    ip(&format!("route add default via {ELSEWHERE}"));
    ip(&format!("-6 route add default via {NEIGHBOUR_SIX}"));
    std::mem::forget(go);
    let names = listen(UdpSocket::bind((RESOLVER, 53)).unwrap(), Arc::default());
    Some(Machine { inside: Door::open(), outside, names, _resolv: resolv })
}
