//! Opens connections for a cell, which cannot do so itself: whatever runs in it reaches the sockets in its own folders, name
//! servers, and the addresses that it may connect to. Nothing else, also after a bug in the engine.
//!
//! The address is copied out of the cell's memory, judged, and used for the call on our own copy of the descriptor: what
//! the cell changes afterwards changes nothing.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags, fcntl_getfl, fcntl_setfl, fstat, open, openat2};
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, sockopt};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use skep_intercept::{Call, Listener, Next};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

use crate::egress::Egress;
use crate::spec::Reaches;

/// `sockaddr_storage`.
const MAX_ADDRESS: usize = 128;
const DNS_PORT: u16 = 53;
/// Connections to other machines that a cell may have open at once.
const MOST_OPEN: usize = 1024;
/// How often to look which are still open, while a cell has as many as it may.
const LOOK: Duration = Duration::from_millis(100);
/// How often to say that a connection was refused.
const WARNS: Duration = Duration::from_secs(1);

/// What a cell may connect to.
pub(crate) struct Guard {
    pub script: String,
    /// A handle of the process.
    pub process: OwnedFd,
    /// Its id; it is our child and not waited for while calls come.
    pub pid: u32,
    /// The folders whose sockets it may connect to.
    pub folders: Vec<PathBuf>,
    pub egress: Egress,
    /// The ports of the loopback address at which its containers are.
    pub reaches: Option<Reaches>,
    pub open: Mutex<Open>,
}

/// The connections to other machines that a cell has, by the numbers of their sockets.
#[derive(Debug, Default)]
pub(crate) struct Open {
    sockets: HashSet<u64>,
    looked: Option<Instant>,
    /// When it was last said that one was refused.
    warned: Option<Instant>,
}

impl Open {
    /// Takes note of one more, unless there are `most`. `still` says which sockets the process has; it is asked only when
    /// there seem to be too many, and not all the time.
    fn add(&mut self, socket: u64, most: usize, now: Instant, still: impl FnOnce() -> HashSet<u64>) -> bool {
        if self.sockets.contains(&socket) {
            return true;
        }
        let due = |looked: Instant| now.saturating_duration_since(looked) >= LOOK;
        if self.sockets.len() >= most && self.looked.is_none_or(due) {
            let still = still();
            self.sockets.retain(|socket| still.contains(socket));
            self.looked = Some(now);
        }
        self.sockets.len() < most && self.sockets.insert(socket)
    }
}

/// The numbers of the sockets that a process has.
fn sockets(pid: u32) -> HashSet<u64> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let number = |name: &Path| name.to_str()?.strip_prefix("socket:[")?.strip_suffix("]")?.parse().ok();
    files.filter_map(|file| number(&std::fs::read_link(file.path()).ok()?)).collect()
}

/// An address as the cell gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Ip(SocketAddr),
    Path(PathBuf),
}

impl Guard {
    /// Answers the calls on `listener` until the process ends.
    pub async fn run(self, listener: Listener) {
        if let Err(error) = self.serve(listener).await {
            tracing::error!(script = self.script, %error, "the connections of a worker cannot be opened any more");
        }
    }

    async fn serve(&self, listener: Listener) -> io::Result<()> {
        let listener = watch(listener, Interest::READABLE)?;
        let mut slow: JoinSet<(Call, Result<(), Errno>)> = JoinSet::new();
        loop {
            let mut ready = tokio::select! {
                ready = listener.readable() => ready?,
                Some(Ok((call, result))) = slow.join_next() => {
                    answer(listener.get_ref(), &call, result)?;
                    continue;
                }
            };
            match listener.get_ref().next()? {
                Next::Call(call) => match self.judge(listener.get_ref(), &call) {
                    Ok((socket, address)) => match begin(&socket, &address) {
                        // The caller waits for the end of it.
                        Err(Errno::INPROGRESS) if !is_nonblocking(&socket) => {
                            slow.spawn(async move { (call, finish(socket).await) });
                        }
                        result => answer(listener.get_ref(), &call, result)?,
                    },
                    Err(errno) => answer(listener.get_ref(), &call, Err(errno))?,
                },
                Next::Nothing => ready.clear_ready(),
                Next::Ended => return Ok(()),
            }
        }
    }

    /// Our copy of the socket, and where it may be connected to.
    fn judge(&self, listener: &Listener, call: &Call) -> Result<(OwnedFd, Target), Errno> {
        let [descriptor, pointer, length, ..] = call.args;
        let address = self.read(pointer, length)?;
        // The memory was the caller's if the call still waits.
        if !listener.waits(call) {
            return Err(Errno::INTR);
        }
        let descriptor = i32::try_from(descriptor).map_err(|_| Errno::BADF)?;
        let socket = pidfd_getfd(&self.process, descriptor, PidfdGetfdFlags::empty())?;
        let family = sockopt::socket_domain(&socket)?;
        let target = match parse(&address)? {
            Address::Path(path) if family == AddressFamily::UNIX => Target::Socket(self.socket(&path)?),
            Address::Ip(to) if family == family_of(&to) => {
                self.check(&socket, to)?;
                Target::Ip(to)
            }
            _ => return Err(Errno::AFNOSUPPORT),
        };
        Ok((socket, target))
    }

    /// `length` bytes at `pointer` in the cell's memory.
    fn read(&self, pointer: u64, length: u64) -> Result<Vec<u8>, Errno> {
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_ADDRESS);
        let mut address = vec![0; length.ok_or(Errno::INVAL)?];
        let memory = File::open(format!("/proc/{}/mem", self.pid)).map_err(|_| Errno::PERM)?;
        memory.read_exact_at(&mut address, pointer).map_err(|_| Errno::FAULT)?;
        Ok(address)
    }

    /// A socket in one of its folders, with no symbolic link on the way.
    fn socket(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let below =
            |folder: &PathBuf| path.strip_prefix(folder).ok().map(|name| (folder.clone(), name.to_owned()));
        let (folder, name) = self.folders.iter().find_map(below).ok_or(Errno::ACCESS)?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let folder = open(&folder, flags | OFlags::DIRECTORY, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(folder, name, flags, Mode::empty(), resolve)
    }

    fn check(&self, socket: &OwnedFd, to: SocketAddr) -> Result<(), Errno> {
        let kind = sockopt::socket_type(socket)?;
        let names = to.port() == DNS_PORT && name_servers().any(|server| server == to.ip());
        let own = kind == SocketType::STREAM
            && to.ip() == IpAddr::from(Ipv4Addr::LOCALHOST)
            && self.reaches.as_ref().is_some_and(|reaches| reaches(to.port()));
        if matches!(kind, SocketType::STREAM | SocketType::DGRAM)
            && (names || own || self.egress.allows(to.ip()))
        {
            return match kind {
                SocketType::STREAM => self.count(socket),
                _ => Ok(()),
            };
        }
        // Looking up a name tries which of its addresses could be reached, without sending anything.
        if kind != SocketType::DGRAM && self.warns() {
            tracing::warn!(script = self.script, %to, "a connection to an address that workers may not reach was refused");
        }
        Err(Errno::ACCESS)
    }

    /// Whether to say of a refusal. What containers ask for may be any number of them.
    fn warns(&self) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let due = open.warned.is_none_or(|warned| warned.elapsed() >= WARNS);
        if due {
            open.warned = Some(Instant::now());
        }
        due
    }

    /// One more connection, if the cell may have one.
    fn count(&self, socket: &OwnedFd) -> Result<(), Errno> {
        let number = fstat(socket)?.st_ino;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.add(number, MOST_OPEN, Instant::now(), || sockets(self.pid)) {
            true => Ok(()),
            false => Err(Errno::MFILE),
        }
    }
}

/// Where a socket will be connected to.
enum Target {
    Ip(SocketAddr),
    /// A unix socket's file.
    Socket(OwnedFd),
}

fn family_of(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn is_nonblocking(socket: &OwnedFd) -> bool {
    fcntl_getfl(socket).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}

/// Connects `socket` without waiting.
fn begin(socket: &OwnedFd, target: &Target) -> Result<(), Errno> {
    match target {
        Target::Ip(to) => without_waiting(socket, to),
        Target::Socket(file) => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            without_waiting(socket, &SocketAddrUnix::new(path)?)
        }
    }
}

fn without_waiting(socket: &OwnedFd, to: &impl SocketAddrArg) -> Result<(), Errno> {
    let flags = fcntl_getfl(socket)?;
    fcntl_setfl(socket, flags | OFlags::NONBLOCK)?;
    let result = connect(socket, to);
    fcntl_setfl(socket, flags)?;
    result
}

/// Waits until a connection is there, or failed.
async fn finish(socket: OwnedFd) -> Result<(), Errno> {
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let socket = watch(socket, Interest::WRITABLE).map_err(errno)?;
    let _ = socket.writable().await.map_err(errno)?;
    sockopt::socket_error(socket.get_ref().as_fd())?
}

#[expect(deprecated, reason = "it is for types that lend out others' descriptors; those here own theirs")]
fn watch<T: AsRawFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, interest)
}

fn answer(listener: &Listener, call: &Call, result: Result<(), Errno>) -> io::Result<()> {
    listener.answer(call, result.map(|()| 0).map_err(Errno::raw_os_error))
}

/// Reads a `sockaddr`, connect(2).
fn parse(bytes: &[u8]) -> Result<Address, Errno> {
    let (family, rest) = bytes.split_first_chunk::<2>().ok_or(Errno::INVAL)?;
    match AddressFamily::from_raw(u16::from_ne_bytes(*family)) {
        AddressFamily::INET => {
            let (port, rest) = rest.split_first_chunk::<2>().ok_or(Errno::INVAL)?;
            let ip = rest.first_chunk::<4>().ok_or(Errno::INVAL)?;
            Ok(Address::Ip(SocketAddrV4::new((*ip).into(), u16::from_be_bytes(*port)).into()))
        }
        AddressFamily::INET6 => {
            let (port, rest) = rest.split_first_chunk::<2>().ok_or(Errno::INVAL)?;
            let (flow, rest) = rest.split_first_chunk::<4>().ok_or(Errno::INVAL)?;
            let (ip, rest) = rest.split_first_chunk::<16>().ok_or(Errno::INVAL)?;
            let scope = rest.first_chunk::<4>().map_or(0, |scope| u32::from_ne_bytes(*scope));
            let (port, flow) = (u16::from_be_bytes(*port), u32::from_be_bytes(*flow));
            Ok(Address::Ip(SocketAddrV6::new((*ip).into(), port, flow, scope).into()))
        }
        AddressFamily::UNIX => {
            // One that begins with a zero is in the abstract namespace, where there are no folders.
            let path = rest.split(|byte| *byte == 0).next().filter(|path| path.first() == Some(&b'/'));
            path.map(|path| Address::Path(std::ffi::OsStr::from_bytes(path).into())).ok_or(Errno::ACCESS)
        }
        _ => Err(Errno::AFNOSUPPORT),
    }
}

/// This machine's name servers, resolv.conf(5).
fn name_servers() -> impl Iterator<Item = IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.split('%').next()?.parse().ok())
        .collect();
    servers.into_iter()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::sync::Arc;

    use super::*;

    #[test]
    fn connections_are_counted_while_they_are_open() {
        let (mut open, start) = (Open::default(), Instant::now());
        let never = || -> HashSet<u64> { panic!("nobody has to look") };
        assert!(open.add(1, 2, start, never) && open.add(2, 2, start, never) && open.add(2, 2, start, never));
        let all = || HashSet::from([1, 2, 3]);
        assert!(!open.add(3, 2, start, all));
        // One has been closed, which is seen a little later.
        let one = || HashSet::from([2, 9]);
        assert!(!open.add(3, 2, start + LOOK / 2, one));
        assert!(open.add(3, 2, start + LOOK, one));
        assert!(!open.add(4, 2, start + LOOK, one));
    }

    #[test]
    fn a_process_has_the_sockets_that_it_has() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = fstat(&socket).unwrap().st_ino;
        assert!(sockets(std::process::id()).contains(&number));
        drop(socket);
        assert!(!sockets(std::process::id()).contains(&number));
    }

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let inet = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse(&inet), Ok(Address::Ip("127.0.0.1:8080".parse().unwrap())));
        let mut inet6 = vec![10, 0, 0, 53, 0, 0, 0, 0];
        inet6.extend("fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        inet6.extend(7_u32.to_ne_bytes());
        assert_eq!(parse(&inet6), Ok(Address::Ip("[fe80::1%7]:53".parse().unwrap())));
        assert_eq!(parse(b"\x01\0/run/a\0rest"), Ok(Address::Path("/run/a".into())));
        for wrong in [
            &b""[..],
            b"\x02",
            b"\x02\0\0\x50\x7f",
            b"\0\0",
            b"\x01\0\0abstract",
            b"\x01\0relative",
            b"\x10\0",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sockets_are_found_in_the_folders_only() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let name = |folder: &tempfile::TempDir, name: &str| folder.path().join(name);
        let _listener = std::os::unix::net::UnixListener::bind(name(&folder, "own")).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(name(&other, "other")).unwrap();
        std::os::unix::fs::symlink(name(&other, "other"), name(&folder, "link")).unwrap();
        let pid = rustix::process::getpid();
        let guard = Guard {
            script: "s".into(),
            process: rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap(),
            pid: pid.as_raw_nonzero().get().unsigned_abs(),
            folders: vec![folder.path().to_owned()],
            egress: Egress::default(),
            reaches: None,
            open: Mutex::default(),
        };
        assert!(guard.socket(&name(&folder, "own")).is_ok());
        let around = name(&folder, "..").join(other.path().file_name().unwrap()).join("other");
        for wrong in [name(&folder, "link"), name(&other, "other"), around, name(&folder, "none")] {
            assert!(guard.socket(&wrong).is_err(), "{wrong:?}");
        }
    }

    /// What a thread says that has given up `connect`, while a guard opens its connections.
    fn guarded<T: Send + 'static>(
        egress: &[&str],
        reached: Option<u16>,
        folder: &Path,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let pid = rustix::process::getpid();
        let guard = Guard {
            script: "s".into(),
            process: rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap(),
            pid: pid.as_raw_nonzero().get().unsigned_abs(),
            folders: vec![folder.to_owned()],
            egress: Egress::parse(&egress.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap(),
            reaches: reached.map(|own| Arc::new(move |port| port == own) as Reaches),
            open: Mutex::default(),
        };
        let (tx, rx) = std::sync::mpsc::channel();
        let acting = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            tx.send(skep_intercept::install(&[libc::SYS_connect]).unwrap()).unwrap();
            act()
        });
        let listener = rx.recv().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // It ends with the thread.
        runtime.block_on(guard.serve(listener)).unwrap();
        acting.join().unwrap()
    }

    #[test]
    fn a_way_into_a_container_is_a_port_of_the_loopback_address_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (to, forbidden) = (own.local_addr().unwrap(), other.local_addr().unwrap());
        let elsewhere = SocketAddr::from(([127, 0, 0, 2], to.port()));
        let results = guarded(&[], Some(to.port()), folder.path(), move || {
            [to, forbidden, elsewhere]
                .map(|to| std::net::TcpStream::connect(to).map(drop).map_err(|e| e.kind()))
        });
        let refused = Err(io::ErrorKind::PermissionDenied);
        assert_eq!(results, [Ok(()), refused, refused]);
    }

    #[test]
    fn only_what_is_allowed_is_connected() {
        let folder = tempfile::tempdir().unwrap();
        let (own, tcp) = (folder.path().join("own"), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let unix = std::os::unix::net::UnixListener::bind(&own).unwrap();
        let to = tcp.local_addr().unwrap();
        let other = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        let forbidden = other.local_addr().unwrap();
        let (allowed, refused, inside, outside, datagram) =
            guarded(&["127.0.0.1/32"], None, folder.path(), move || {
                let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                (
                    std::net::TcpStream::connect(to).map(drop),
                    std::net::TcpStream::connect(forbidden).map(drop),
                    std::os::unix::net::UnixStream::connect(own).map(drop),
                    std::os::unix::net::UnixStream::connect("/run/other").map(drop),
                    datagrams.connect(forbidden),
                )
            });
        let refused_by_us =
            |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::PermissionDenied;
        allowed.unwrap();
        inside.unwrap();
        assert!(refused_by_us(refused) && refused_by_us(outside) && refused_by_us(datagram));
        assert!(tcp.accept().is_ok() && unix.accept().is_ok());
        other.set_nonblocking(true).unwrap();
        assert_eq!(other.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn who_waits_for_a_connection_gets_its_end() {
        let folder = tempfile::tempdir().unwrap();
        // Room for one that is not accepted: what comes after it has to wait.
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrV4::new([127, 0, 0, 1].into(), 0)).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let to = listener.local_addr().unwrap();
        let _first = std::net::TcpStream::connect(to).unwrap();
        let accepting = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            (listener.accept().unwrap(), listener.accept().unwrap())
        });
        let nobody = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap()
        };
        let (waited, refused) = guarded(&["private"], None, folder.path(), move || {
            (std::net::TcpStream::connect(to).map(drop), std::net::TcpStream::connect(nobody).map(drop))
        });
        waited.unwrap();
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        accepting.join().unwrap();
    }

    proptest! {
        #[test]
        fn no_address_is_too_strange(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
