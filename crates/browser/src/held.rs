//! Browsers that strangers drive: each in a cage, with one way out that is guarded.

use std::io;
use std::net::{IpAddr, Shutdown, TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketType, sockopt};
use skep_runtime::Beside;
use skep_sandbox::{Group, GroupLimits, SCRATCH, Sandbox, passed};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::inside::{COMMAND, HERE, Start};
use crate::process::{Program, SWITCHES};
use crate::proxy::{self, Reach};

/// Threads and processes of one browser; some hundred are usual.
const THREADS: u32 = 1024;
/// What of its memory its files may take.
const SCRATCH_PART: u64 = 4;

/// Beside those of all browsers. Its sandbox would need what a cage takes away; the rest keeps it from looking for ways past the proxy.
const MORE_SWITCHES: [&str; 5] = [
    "--no-sandbox",
    "--disable-quic",
    "--proxy-bypass-list=<-loopback>",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
];

/// What programs of this kind load and look at, wherever they lie themselves.
const FILES: [&str; 9] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/fonts",
    "/usr/share/fonts",
    "/usr/share/fontconfig",
    "/usr/local/share/fonts",
    "/usr/share/X11/xkb",
];

/// How browsers are held.
pub struct Hold {
    launcher: PathBuf,
    sandbox: Sandbox,
    limits: GroupLimits,
    reach: Reach,
    beside: Beside,
}

impl Hold {
    /// `launcher` calls [`become_browser`](crate::become_browser) when it is started with [`COMMAND`]. A browser may
    /// use `memory` bytes and keep `cores` busy, and connect to what `reach` says.
    pub fn new(
        launcher: PathBuf,
        sandbox: Sandbox,
        memory: u64,
        cores: u32,
        reach: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let limits = GroupLimits { memory, threads: THREADS, cores: Some(cores) };
        let beside = Beside::start("browsers")?;
        Ok(Self { launcher, sandbox, limits, reach: Arc::new(reach), beside })
    }

    /// Where what passes between a browser and others is moved.
    pub(crate) fn handle(&self) -> &Handle {
        self.beside.handle()
    }

    /// Starts the program, and what serves it. Its standard error is piped.
    pub(crate) async fn start(&self, program: &Program) -> io::Result<(Child, Held)> {
        let path = std::fs::canonicalize(&program.path)?;
        check(&path)?;
        let group = self.sandbox.group()?;
        group.limit(&self.limits)?;
        // Whoever else wants the processor goes first.
        group.run_last(true);
        let own = path.parent().map(Path::to_owned).unwrap_or_default();
        let read = FILES.iter().map(PathBuf::from).chain([own]).collect();
        let cage = self.sandbox.cage(read, self.limits.memory / SCRATCH_PART, &group);
        let cage = cage.map_err(|missing| {
            let missing: Vec<&str> = missing.into_iter().map(skep_sandbox::Layer::describe).collect();
            io::Error::other(format!("this machine cannot hold a browser: {}", missing.join("; ")))
        })?;
        let mut switches: Vec<String> =
            SWITCHES.iter().chain(&MORE_SWITCHES).map(|s| (*s).to_owned()).collect();
        switches.extend([format!("--user-data-dir={SCRATCH}/profile"), "about:blank".to_owned()]);
        let text = |text: &std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment = program.environment.iter().map(|(name, value)| (text(name), text(value))).collect();
        let start = serde_json::to_string(&Start { cage, program: path, switches, environment })?;
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&self.launcher);
        command.arg(COMMAND).arg(start).env_clear();
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.kill_on_drop(true).spawn()?;
        // With it goes our copy of the browser's end: else nobody would be told of its end.
        drop(command);
        let end = ours.try_clone()?;
        let control = UnixStream::from_std(ours)?;
        let received = receive(&control).await;
        let mut held = Held { control: Arc::new(Mutex::new(control)), end, group, proxy: None };
        // If there is none, it says why on its standard error.
        let Ok(listener) = received else { return Ok((child, held)) };
        let listener = StdTcpListener::from(listener);
        listener.set_nonblocking(true)?;
        let listener = {
            let _there = self.handle().enter();
            TcpListener::from_std(listener)?
        };
        let proxy = self.handle().spawn(proxy::serve(listener, self.reach.clone()));
        held.proxy = Some(proxy.abort_handle());
        Ok((child, held))
    }
}

/// A browser in its cage.
#[derive(Debug)]
pub(crate) struct Held {
    control: Arc<Mutex<UnixStream>>,
    /// The same, for who does not wait until nobody asks for a connection.
    end: StdUnixStream,
    /// Removed when all in it have ended.
    group: Group,
    proxy: Option<AbortHandle>,
}

/// How to get connections to a browser's DevTools.
#[derive(Clone, Debug)]
pub(crate) struct Door(Arc<Mutex<UnixStream>>);

impl Held {
    pub fn door(&self) -> Door {
        Door(self.control.clone())
    }

    /// Whether it wanted more memory than it may use.
    pub fn ran_out_of_memory(&self) -> bool {
        self.group.ran_out_of_memory()
    }

    /// Has all in it end, soon.
    pub fn close(&self) {
        let _ = self.end.shutdown(Shutdown::Both);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(proxy) = &self.proxy {
            proxy.abort();
        }
    }
}

impl Door {
    /// A connection to a port in there.
    pub async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let control = self.0.clone();
        // Not given up half way: the answer would be taken for that of the next question.
        let asked = tokio::spawn(async move {
            let mut control = control.lock().await;
            control.write_all(&port.to_be_bytes()).await?;
            receive(&control).await
        });
        let stream = StdTcpStream::from(asked.await.map_err(io::Error::other)??);
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }
}

/// A TCP socket that is passed on. Whatever else comes is an error.
async fn receive(control: &UnixStream) -> io::Result<OwnedFd> {
    let said = control.async_io(Interest::READABLE, || passed(control)).await?;
    let socket = said.filter(|(word, _)| *word == HERE).and_then(|(_, socket)| socket);
    let socket = socket.ok_or(io::ErrorKind::ConnectionRefused)?;
    match is_tcp(socket.as_fd()) {
        true => Ok(socket),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn is_tcp(socket: std::os::fd::BorrowedFd<'_>) -> bool {
    sockopt::socket_domain(socket).is_ok_and(|domain| domain == AddressFamily::INET)
        && sockopt::socket_type(socket).is_ok_and(|kind| kind == SocketType::STREAM)
}

/// Whether it is a program itself: what a script would call is not in the cage.
fn check(path: &Path) -> io::Result<()> {
    use std::io::Read;
    let mut magic = [0; 4];
    std::fs::File::open(path)?.read_exact(&mut magic)?;
    match &magic {
        b"\x7fELF" => Ok(()),
        _ => Err(io::Error::other(
            "it is a script that starts a browser: name the browser's own program instead, such as /opt/google/chrome/chrome",
        )),
    }
}

#[cfg(test)]
mod tests {
    use skep_sandbox::pass;

    use super::*;

    #[test]
    fn a_script_is_no_browser() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("chrome");
        std::fs::write(&file, "#!/bin/sh\nexec chrome").unwrap();
        assert!(check(&file).unwrap_err().to_string().contains("script"));
        check(&std::env::current_exe().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn only_tcp_sockets_are_taken() {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let control = UnixStream::from_std(ours).unwrap();
        let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
        pass(&theirs, HERE, Some(listener.as_fd())).unwrap();
        receive(&control).await.unwrap();
        let file = tempfile::tempfile().unwrap();
        pass(&theirs, HERE, Some(file.as_fd())).unwrap();
        assert_eq!(receive(&control).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        pass(&theirs, crate::inside::NONE, None).unwrap();
        assert_eq!(receive(&control).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        drop(theirs);
        assert!(receive(&control).await.is_err());
    }
}
