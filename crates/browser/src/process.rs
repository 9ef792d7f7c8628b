//! One browser process.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdin, Command};

use crate::error::BrowserError;
use crate::held::{Door, Held, Hold};

/// A browser of the Chrome family, and what has to be in its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Variables, beside those of this process.
    pub environment: Vec<(OsString, OsString)>,
}

/// Until its DevTools listen.
const STARTS: Duration = Duration::from_secs(60);
/// How long its helpers may keep its profile from being removed.
const LINGERS: Duration = Duration::from_secs(1);
/// Lines of what it wrote that are told when it does not start.
const LINES: usize = 5;
const LISTENING: &str = "DevTools listening on ws://";

/// The shell makes the standard input also the third file, where a browser with `--remote-debugging-pipe` reads orders, and ends
/// when nobody is left who could give any: so none outlives this process, however that ends.
const SHELL: &str = r#"exec "$0" "$@" 3<&0 4>/dev/null"#;

/// What Chrome is told, <https://peter.sh/experiments/chromium-command-line-switches/>: no window, nothing of its own in the
/// background, every page as if it were in front.
pub(crate) const SWITCHES: [&str; 22] = [
    "--headless",
    "--hide-scrollbars",
    "--mute-audio",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-popup-blocking",
    "--disable-sync",
    "--enable-automation",
    "--export-tagged-pdf",
    "--force-color-profile=srgb",
    "--password-store=basic",
    "--use-mock-keychain",
];

/// A running browser; it ends when this is dropped, and its profile is removed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    place: Place,
    pub devtools: Devtools,
}

/// Where it runs.
#[derive(Debug)]
enum Place {
    /// Among this machine's processes.
    Free {
        group: Pid,
        /// The browser ends when this is closed, which waiting for the child would do.
        _orders: Option<ChildStdin>,
        profile: TempDir,
    },
    Held(Held),
}

/// Where a browser's DevTools listen, and how one gets there.
#[derive(Clone, Debug)]
pub(crate) struct Devtools {
    port: u16,
    /// The path of the browser's own.
    pub path: String,
    /// The way into its network, if it has one of its own.
    door: Option<Door>,
}

impl Devtools {
    pub async fn connect(&self) -> io::Result<TcpStream> {
        match &self.door {
            None => TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await,
            Some(door) => door.connect(self.port).await,
        }
    }

    /// What they take for their host.
    pub fn host(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }
}

impl Process {
    /// Starts it, held if it has to be, with a profile of its own, and waits until its DevTools listen.
    pub async fn start(program: &Program, hold: Option<&Hold>) -> Result<Self, BrowserError> {
        let started = tokio::time::timeout(STARTS, Self::begin(program, hold)).await;
        started.unwrap_or_else(|_| {
            Err(not_ready(&program.path, format!("nothing of its DevTools after {} s", STARTS.as_secs())))
        })
    }

    async fn begin(program: &Program, hold: Option<&Hold>) -> Result<Self, BrowserError> {
        let failed = |source| BrowserError::Start { path: program.path.clone(), source };
        let (mut child, place) = match hold {
            None => start_free(program).map_err(failed)?,
            Some(hold) => {
                let (child, held) = hold.start(program).await.map_err(failed)?;
                (child, Place::Held(held))
            }
        };
        let said = child.stderr.take().map(|stderr| BufReader::new(stderr).lines());
        let mut said = said.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let (port, path) = listening(&mut said).await.map_err(|said| not_ready(&program.path, said))?;
        // What it writes later has nobody to read it, but has to go somewhere.
        tokio::spawn(async move {
            while let Ok(Some(line)) = said.next_line().await {
                tracing::debug!("browser: {line}");
            }
        });
        let door = match &place {
            Place::Free { .. } => None,
            Place::Held(held) => Some(held.door()),
        };
        Ok(Self { child, place, devtools: Devtools { port, path, door } })
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) {
        let _ = self.child.wait().await;
    }

    /// Ends it and its helpers, and removes its profile. Whether it wanted more memory than it may use.
    pub async fn end(mut self) -> bool {
        match self.place {
            Place::Free { group, profile, .. } => {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = self.child.wait().await;
                remove(&profile).await;
                false
            }
            Place::Held(held) => {
                held.close();
                // Its helpers are of its namespace, and have ended before the child does.
                if tokio::time::timeout(LINGERS, self.child.wait()).await.is_err() {
                    let _ = self.child.kill().await;
                }
                held.ran_out_of_memory()
            }
        }
    }
}

/// Its helpers are of its group.
fn start_free(program: &Program) -> io::Result<(Child, Place)> {
    let profile = tempfile::Builder::new().prefix("skep-browser-").tempdir()?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SHELL]).arg(&program.path).args(SWITCHES).arg("--remote-debugging-pipe");
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    // It refuses to be root's with a sandbox.
    if rustix::process::geteuid().is_root() {
        command.arg("--no-sandbox");
    }
    command.arg("about:blank");
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let group = group.ok_or(io::ErrorKind::NotFound)?;
    let _orders = child.stdin.take();
    Ok((child, Place::Free { group, _orders, profile }))
}

/// A helper may still have been writing there. They are not our children, so nobody tells us of their end.
async fn remove(profile: &TempDir) {
    let until = Instant::now() + LINGERS;
    while profile.path().exists() && Instant::now() < until {
        if tokio::fs::remove_dir_all(profile.path()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn not_ready(path: &Path, said: String) -> BrowserError {
    BrowserError::NotReady { path: path.to_owned(), said }
}

/// The port and path of DevTools, or the last lines before the end.
async fn listening(said: &mut Lines<BufReader<ChildStderr>>) -> Result<(u16, String), String> {
    let mut last = VecDeque::new();
    while let Ok(Some(line)) = said.next_line().await {
        if let Some(place) = place(&line) {
            return Ok(place);
        }
        if last.len() == LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    match Vec::from(last).join("\n") {
        lines if lines.is_empty() => Err("it ended without a word".to_owned()),
        lines => Err(lines),
    }
}

/// The port and path that a line names. Pure.
fn place(line: &str) -> Option<(u16, String)> {
    let (_, rest) = line.split_once(LISTENING)?;
    let (host, path) = rest.trim_end().split_once('/')?;
    let port = host.rsplit_once(':')?.1.parse().ok()?;
    Some((port, format!("/{path}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_devtools_is_read() {
        let line = "DevTools listening on ws://127.0.0.1:41335/devtools/browser/e64424eb-1801";
        let place = place(line).unwrap();
        assert_eq!(place, (41335, "/devtools/browser/e64424eb-1801".to_owned()));
        for line in ["DevTools listening on ws://127.0.0.1", "DevTools listening on ws://a:b/c", "listening"]
        {
            assert_eq!(super::place(line), None, "{line}");
        }
    }

    #[tokio::test]
    async fn what_does_not_start_says_why() {
        let start = |path: &str| {
            let program = Program { path: path.into(), environment: Vec::new() };
            async move { Process::start(&program, None).await.unwrap_err().to_string() }
        };
        let error = start("/bin/false").await;
        assert!(error.contains("/bin/false did not start: it ended without a word"), "{error}");
        let error = start("/nowhere/chrome").await;
        assert!(error.contains("/nowhere/chrome did not start"), "{error}");
    }
}
