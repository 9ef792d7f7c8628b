//! One engine process: started, listened to, waited for, ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use skep_intercept::Listener;
use skep_sandbox::Jail;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::certificates::Certificates;
use crate::launcher::LAUNCHER_COMMAND;
use crate::limits::Pace;
use crate::pids::Pids;

/// Starts processes, all from one thread that lives as long as this process: the kernel ends a child
/// when the *thread* that started it ends.
#[derive(Clone, Debug)]
pub(crate) struct Spawner(mpsc::Sender<Wish>);

/// What to start, whether in a namespace of process ids, and whom to tell.
type Wish = (Command, bool, oneshot::Sender<io::Result<Child>>);

impl Spawner {
    pub(crate) fn start() -> io::Result<Self> {
        let (tx, rx) = mpsc::channel::<Wish>();
        // What it starts begins as it is itself.
        skep_runtime::thread("spawner", move || {
            let pids = Pids::of_this_thread();
            for (mut command, apart, reply) in rx {
                let started = match pids.as_ref().filter(|_| apart) {
                    Some(pids) => pids.within(|| command.spawn()).and_then(|started| started),
                    None => command.spawn(),
                };
                let _ = reply.send(started);
            }
        })?;
        Ok(Self(tx))
    }

    /// `apart`: in a namespace of process ids of its own, where that can be had.
    async fn spawn(&self, command: Command, apart: bool) -> io::Result<Child> {
        let gone = || io::Error::other("the spawner is gone");
        let (tx, rx) = oneshot::channel();
        self.0.send((command, apart, tx)).map_err(|_| gone())?;
        rx.await.map_err(|_| gone())?
    }
}

/// How the engine is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Our own binary.
    pub launcher: PathBuf,
    /// The engine.
    pub engine: PathBuf,
}

/// A running engine; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pidfd: OwnedFd,
}

/// A started engine and what it says.
pub(crate) struct Started {
    pub process: Process,
    /// One JSON line per socket that it listens on; ends if it does not come up.
    pub control: BufReader<UnixStream>,
    /// Its connections wait here, if they are to be opened for it.
    pub connections: Option<Listener>,
    pub stdout: tokio::process::ChildStdout,
    pub stderr: tokio::process::ChildStderr,
}

/// A handle by which to signal a process that somebody else waits for.
#[derive(Debug)]
pub(crate) struct Killer(OwnedFd);

impl Launch {
    /// Starts the engine with more `options`. It reads its configuration from `file`, or waits for it.
    pub(crate) async fn start(
        &self,
        spawner: &Spawner,
        file: Option<&Path>,
        options: &[OsString],
        jail: &Jail,
        certificates: &Certificates,
    ) -> io::Result<Started> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut args: Vec<OsString> = vec![
            LAUNCHER_COMMAND.into(),
            std::process::id().to_string().into(),
            serde_json::to_string(jail)?.into(),
            self.engine.clone().into(),
            "serve".into(),
            // For the event shim's compatibility flag; applications cannot use what it opens (the deploy
            // refuses experimental flags and binding types).
            "--experimental".into(),
            // Its standard input is a socket pair: it writes there what it listens on.
            "--control-fd=0".into(),
        ];
        args.extend_from_slice(options);
        match file {
            Some(file) => args.push(file.into()),
            None => args.extend(["--binary".into(), "-".into()]),
        }
        let mut command = Command::new(&self.launcher);
        command
            .args(args)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Two questions in one call would need `sendmmsg`, which a jail lacks.
        command.env("RES_OPTIONS", "single-request");
        command.envs(certificates.variables.iter().map(|(name, value)| (name, value)));
        let mut child = spawner.spawn(command, !jail.layers.is_empty()).await?;
        let missing = || io::Error::other("a pipe is missing");
        let stdout = tokio::process::ChildStdout::from_std(child.stdout.take().ok_or_else(missing)?)?;
        let stderr = tokio::process::ChildStderr::from_std(child.stderr.take().ok_or_else(missing)?)?;
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let control = UnixStream::from_std(ours)?;
        let connections = match jail.is_guarded() {
            true => control.async_io(Interest::READABLE, || skep_sandbox::listener(&control)).await?,
            false => None,
        };
        let control = BufReader::new(control);
        Ok(Started { process: Process { child, pidfd }, control, connections, stdout, stderr })
    }
}

impl Started {
    /// Sends the configuration to an engine that waits for it.
    pub(crate) async fn configure(&mut self, message: &[u8]) {
        if let Err(error) = self.control.get_mut().write_all(message).await {
            // It has ended already; why, it says elsewhere.
            tracing::debug!(%error, "an engine does not read its configuration");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Does nothing where it has been waited for.
        let _ = pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
    }
}

impl Process {
    /// Whether it has not ended.
    pub(crate) fn is_running(&self) -> bool {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // The handle of a process can be read when it has ended.
        poll(&mut polled, Some(&at_once)).is_ok_and(|ready| ready == 0)
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the process, which must have closed its output already, so that this does not take long.
    pub(crate) async fn reap(mut self) -> io::Result<std::process::ExitStatus> {
        tokio::task::spawn_blocking(move || self.child.wait()).await?
    }

    /// The process, to get its sockets by.
    pub(crate) fn handle(&self) -> io::Result<OwnedFd> {
        self.pidfd.try_clone()
    }

    /// A handle for signals.
    pub(crate) fn killer(&self) -> io::Result<Killer> {
        Ok(Killer(self.pidfd.try_clone()?))
    }
}

impl Killer {
    /// Another handle of the same process.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Asks the process to end.
    pub(crate) fn terminate(&self) {
        let _ = pidfd_send_signal(self.0.as_fd(), Signal::TERM);
    }

    /// Stops the process, to go on later, or lets it go on.
    pub(crate) fn pause(&self, paused: bool) {
        let _ = pidfd_send_signal(self.0.as_fd(), if paused { Signal::STOP } else { Signal::CONT });
    }

    /// Ends the process at once.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(self.0.as_fd(), Signal::KILL);
    }
}

/// Calls `line` for every line that `from` says, until it ends. A line longer than 1 MiB is cut in pieces. What says
/// more than `pace` allows has to wait until it is heard.
pub(crate) async fn each_line(
    from: impl AsyncRead + Unpin,
    mut pace: Option<Pace>,
    mut line: impl FnMut(&str),
) {
    let mut reader = BufReader::with_capacity(64 << 10, from);
    let mut buffer = Vec::new();
    loop {
        let Ok(chunk) = reader.fill_buf().await else { return };
        if chunk.is_empty() {
            if !buffer.is_empty() {
                line(&String::from_utf8_lossy(&buffer));
            }
            return;
        }
        let end = chunk.iter().position(|b| *b == b'\n');
        let (taken, whole) = match end {
            Some(end) => (end + 1, true),
            None => (chunk.len(), buffer.len() + chunk.len() > 1 << 20),
        };
        buffer.extend_from_slice(&chunk[..taken]);
        reader.consume(taken);
        if whole {
            line(String::from_utf8_lossy(&buffer).trim_end_matches(['\n', '\r']));
            let wait = pace.as_mut().map(|pace| pace.spend(buffer.len(), Instant::now()));
            buffer.clear();
            if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                tokio::time::sleep(wait).await;
            }
        }
    }
}
