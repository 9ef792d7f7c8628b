//! One browser process.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};

use crate::error::BrowserError;

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
const SWITCHES: [&str; 23] = [
    "--headless",
    "--hide-scrollbars",
    "--mute-audio",
    "--remote-debugging-port=0",
    "--remote-debugging-pipe",
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
    group: Pid,
    /// The browser ends when this is closed, which waiting for the child would do.
    _orders: Option<ChildStdin>,
    /// Where its DevTools listen.
    pub address: SocketAddr,
    /// The path of the browser's own DevTools.
    pub path: String,
    profile: TempDir,
}

impl Process {
    /// Starts it with a profile of its own, and waits until its DevTools listen.
    pub async fn start(program: &Program) -> Result<Self, BrowserError> {
        let failed = |source| BrowserError::Start { path: program.path.clone(), source };
        let profile = tempfile::Builder::new().prefix("skep-browser-").tempdir().map_err(failed)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SHELL]).arg(&program.path).args(SWITCHES);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        // It refuses to be root's with a sandbox.
        if rustix::process::geteuid().is_root() {
            command.arg("--no-sandbox");
        }
        command.arg("about:blank");
        command.envs(program.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let said = child.stderr.take().map(|stderr| BufReader::new(stderr).lines());
        let mut said = said.ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        let (address, path) = match tokio::time::timeout(STARTS, listening(&mut said)).await {
            Ok(Ok(place)) => place,
            Ok(Err(said)) => return Err(not_ready(&program.path, said)),
            Err(_) => {
                return Err(not_ready(
                    &program.path,
                    format!("nothing of its DevTools after {} s", STARTS.as_secs()),
                ));
            }
        };
        // What it writes later has nobody to read it, but has to go somewhere.
        tokio::spawn(async move {
            while let Ok(Some(line)) = said.next_line().await {
                tracing::debug!("browser: {line}");
            }
        });
        let orders = child.stdin.take();
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = group.ok_or_else(|| not_ready(&program.path, "it has ended".to_owned()))?;
        Ok(Self { child, group, _orders: orders, address, path, profile })
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) {
        let _ = self.child.wait().await;
    }

    /// Ends it and its helpers, which are of its group, and removes its profile.
    pub async fn end(mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait().await;
        // A helper may still have been writing there. They are not our children, so nobody tells us of their end.
        let until = Instant::now() + LINGERS;
        while self.profile.path().exists() && Instant::now() < until {
            if tokio::fs::remove_dir_all(self.profile.path()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

fn not_ready(path: &Path, said: String) -> BrowserError {
    BrowserError::NotReady { path: path.to_owned(), said }
}

/// Where DevTools listen, or the last lines before the end.
async fn listening(said: &mut Lines<BufReader<ChildStderr>>) -> Result<(SocketAddr, String), String> {
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

/// The address and path that a line names. Pure.
fn place(line: &str) -> Option<(SocketAddr, String)> {
    let (_, rest) = line.split_once(LISTENING)?;
    let (host, path) = rest.trim_end().split_once('/')?;
    let port = host.rsplit_once(':')?.1.parse().ok()?;
    Some(((Ipv4Addr::LOCALHOST, port).into(), format!("/{path}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_devtools_is_read() {
        let line = "DevTools listening on ws://127.0.0.1:41335/devtools/browser/e64424eb-1801";
        let place = place(line).unwrap();
        assert_eq!(place, ("127.0.0.1:41335".parse().unwrap(), "/devtools/browser/e64424eb-1801".to_owned()));
        for line in ["DevTools listening on ws://127.0.0.1", "DevTools listening on ws://a:b/c", "listening"]
        {
            assert_eq!(super::place(line), None, "{line}");
        }
    }

    #[tokio::test]
    async fn what_does_not_start_says_why() {
        let start = |path: &str| {
            let program = Program { path: path.into(), environment: Vec::new() };
            async move { Process::start(&program).await.unwrap_err().to_string() }
        };
        let error = start("/bin/false").await;
        assert!(error.contains("/bin/false did not start: it ended without a word"), "{error}");
        let error = start("/nowhere/chrome").await;
        assert!(error.contains("/nowhere/chrome did not start"), "{error}");
    }
}
