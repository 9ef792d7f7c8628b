//! Peers as processes: started, measured, ended.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running peer. Ended when dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// From its start to its first answer.
    pub started_in: Duration,
}

/// A free port on the loopback address.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Peer {
    /// Starts `command`, which will listen on `port`, and waits for its first answer to `GET path`.
    pub async fn start(command: Command, port: u16, path: &str) -> Result<Self, String> {
        Self::start_until(command, port, path, 200).await
    }

    /// As [`Peer::start`], until `GET path` has this status.
    pub async fn start_until(
        mut command: Command,
        port: u16,
        path: &str,
        wanted: u16,
    ) -> Result<Self, String> {
        let start = Instant::now();
        let name = format!("{:?}", command.get_program());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start {name}: {e}"))?;
        let mut said = Vec::new();
        for stream in [child.stdout.take().map(boxed), child.stderr.take().map(boxed)].into_iter().flatten() {
            said.push(std::thread::spawn(move || read_on(stream)));
        }
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        while start.elapsed() < Duration::from_secs(90) {
            if let Ok(Some(status)) = child.try_wait() {
                let said: Vec<String> = said.into_iter().filter_map(|s| s.join().ok()).collect();
                return Err(format!("{name} ended with {status}:\n{}", said.join("\n")));
            }
            if crate::load::status(address, path).await == Some(wanted) {
                return Ok(Self { child, address, started_in: start.elapsed() });
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let _ = child.kill();
        Err(format!("{name} does not answer on port {port}"))
    }

    /// Its processes: itself and all below it.
    pub fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = all.get(next).copied() {
            next += 1;
            let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten() {
                let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                all.extend(list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
        }
        all
    }

    /// The process itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// The first lines of what a process says; the rest is read too, so that it can go on.
fn read_on(stream: impl std::io::Read) -> String {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first: Vec<String> = lines.by_ref().take(200).collect();
    lines.for_each(drop);
    first.join("\n")
}

fn boxed(stream: impl std::io::Read + Send + 'static) -> Box<dyn std::io::Read + Send> {
    Box::new(stream)
}

impl Drop for Peer {
    fn drop(&mut self) {
        let all = self.processes();
        let _ = Command::new("kill").arg(self.child.id().to_string()).stderr(Stdio::null()).status();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        for pid in all {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        let _ = self.child.wait();
    }
}

/// The processor time that a process has used, in microseconds.
pub fn cpu_us(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanoseconds = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1000.0
}

/// Resident and private memory of a process, in MiB.
pub fn memory_mib(pid: u32) -> (f64, f64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let kib = lines
            .filter_map(|rest| rest.trim_start_matches(':').split_whitespace().next()?.parse::<f64>().ok());
        kib.sum::<f64>() / 1024.0
    };
    (field("Rss"), field("Private_Dirty") + field("Private_Clean"))
}

/// Resets what [`peak_mib`] says.
pub fn forget_peak(pid: u32) {
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The most memory that a process has had resident, in MiB.
pub fn peak_mib(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}
