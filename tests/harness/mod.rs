//! Starts `skep dev` on a project and talks to it.

pub mod accounts;
pub mod docker;
pub mod lane;
pub mod models;
pub mod npm;
pub mod postgres;
pub mod python;
pub mod random;
pub mod recorder;
pub mod scene;
pub mod serve;
pub mod standin;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take that normally takes milliseconds: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `skep dev`.
pub struct Skep {
    child: Child,
    pub url: String,
    output: Arc<Mutex<String>>,
    // Removed when the test is over.
    _state: Option<tempfile::TempDir>,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Says that it was dropped, so that nobody waits for ever for a test that has failed.
pub struct Ended<'a>(pub &'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The checkout.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A project below `tests/projects`.
pub fn project(name: &str) -> PathBuf {
    repository().join("tests/projects").join(name)
}

/// `skep dev` with fresh state; the URL is known when this returns.
pub fn dev(dir: &Path) -> Skep {
    let state = tempfile::tempdir().unwrap();
    let mut skep = dev_with(dir, state.path(), &[]);
    skep._state = Some(state);
    skep
}

/// `skep dev` with state in `state` and more arguments.
pub fn dev_with(dir: &Path, state: &Path, args: &[&str]) -> Skep {
    try_dev(dir, state, args).unwrap_or_else(|output| panic!("skep dev did not come up:\n{output}"))
}

/// As [`dev_with`], or what it printed before it ended.
pub fn try_dev(dir: &Path, state: &Path, args: &[&str]) -> Result<Skep, String> {
    let mut command = command(dir, state);
    command.args(args);
    start(command)
}

/// `skep dev` with state in `state`, not yet started.
pub fn command(dir: &Path, state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.arg("dev").arg(dir);
    command.args(["--port", "0", "--inspector-port", "0", "--yes", "--persist-to"]).arg(state);
    command
}

/// `skep dev` with its state where it is without a word about it, not yet started.
pub fn dev_command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.arg("dev").arg(dir).args(["--port", "0", "--inspector-port", "0", "--yes"]);
    command
}

/// Starts a [`command`]: it is up, or what it printed before it ended.
pub fn start(mut command: Command) -> Result<Skep, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let output = Arc::new(Mutex::new(String::new()));
    let (url_tx, url_rx) = std::sync::mpsc::channel();
    collect(child.stderr.take().unwrap(), output.clone(), None);
    collect(child.stdout.take().unwrap(), output.clone(), Some(url_tx));
    // The first run on a machine fetches the engine and a project's dependencies.
    let url = url_rx.recv_timeout(PATIENCE * 5);
    match url {
        Ok(url) => Ok(Skep { child, url, output, _state: None }),
        Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            std::thread::sleep(Duration::from_millis(100));
            Err(output.lock().unwrap().clone())
        }
    }
}

fn collect(
    from: impl Read + Send + 'static,
    into: Arc<Mutex<String>>,
    mut url: Option<std::sync::mpsc::Sender<String>>,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // First: who is told the URL finds this line in the output.
            {
                let mut into = into.lock().unwrap();
                into.push_str(&line);
                into.push('\n');
            }
            if line.contains("Ready on")
                && let Some(start) = line.find("http://")
                && let Some(url) = url.take()
            {
                let _ = url.send(line[start..].split_whitespace().next().unwrap().to_owned());
            }
        }
    });
}

impl Skep {
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[], Some(body.as_bytes()))
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Answer {
        self.try_send(method, path, headers, body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.output()))
    }

    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, ureq::Error> {
        request(&format!("{}{path}", self.url), method, headers, body)
    }

    /// Everything that it has printed.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Waits until it has printed `text`.
    pub fn wait_for_output(&self, text: &str) {
        eventually(&format!("{text:?} in the output"), || self.output().contains(text).then_some(()));
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `KILL`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end of skep", || child.try_wait().unwrap())
    }

    /// The process ids of its cells.
    pub fn cells(&self) -> Vec<u32> {
        self.engines().into_iter().filter(|pid| listens(*pid)).collect()
    }

    /// The process ids of engines that no script has got yet, or that are starting.
    pub fn waiting(&self) -> Vec<u32> {
        self.engines().into_iter().filter(|pid| !listens(*pid)).collect()
    }

    /// The port on which it takes DevTools: the other one that it listens on.
    pub fn inspector_port(&self) -> u16 {
        let own: Vec<PathBuf> = std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .collect();
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).unwrap();
        let ports = table.lines().skip(1).filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_own = own.contains(&PathBuf::from(format!("socket:[{}]", fields[9])));
            let port = u16::from_str_radix(fields[1].rsplit(':').next()?, 16).ok()?;
            (fields[3] == "0A" && is_own && !self.url.ends_with(&format!(":{port}"))).then_some(port)
        });
        ports.last().unwrap()
    }

    /// The process ids of all of these.
    pub fn engines(&self) -> Vec<u32> {
        let is_engine = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "workerd")
        };
        self.children().into_iter().filter(is_engine).collect()
    }

    /// The process ids of all that it started.
    pub fn children(&self) -> Vec<u32> {
        children(self.pid())
    }

    /// A WebSocket to `path`.
    pub fn websocket(&self, path: &str) -> tungstenite::WebSocket<std::net::TcpStream> {
        let address = self.url.strip_prefix("http://").unwrap();
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        tungstenite::client(format!("ws://{address}{path}"), stream).unwrap().0
    }
}

impl Drop for Skep {
    fn drop(&mut self) {
        let ended = self.child.try_wait().unwrap();
        if ended.is_none() {
            self.signal("TERM");
            let start = Instant::now();
            while self.child.try_wait().unwrap().is_none() {
                if start.elapsed() > Duration::from_secs(20) {
                    let _ = self.child.kill();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if std::thread::panicking() {
            let ended = ended.map(|status| format!(" before it ended ({status})")).unwrap_or_default();
            eprintln!("--- skep said{ended}:\n{}", self.output());
        }
    }
}

/// One request, on a connection of its own.
pub fn request(
    url: &str,
    method: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Result<Answer, ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = match body {
        Some(body) => agent.run(request.body(body).unwrap())?,
        None => agent.run(request.body(()).unwrap())?,
    };
    let (parts, mut body) = response.into_parts();
    let body = body.with_config().limit(1 << 30).read_to_vec()?;
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

/// Whether a process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>())
        .filter(|pid| is_alive(*pid))
        .collect()
}

/// Whether a process listens on a unix socket.
fn listens(pid: u32) -> bool {
    let sockets = std::fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    // Number, count, protocol, flags (`__SO_ACCEPTCON`), type, state, inode.
    let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening: Vec<String> = fields
        .filter(|fields| fields.get(3) == Some(&"00010000"))
        .filter_map(|fields| Some(format!("socket:[{}]", fields.get(6)?)))
        .collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut open = open.filter_map(|file| std::fs::read_link(file.path()).ok());
    open.any(|file| listening.iter().any(|socket| file.as_os_str() == socket.as_str()))
}

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "no {what} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A project of one file, in a temporary folder.
pub fn small_project(config: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("wrangler.jsonc"), config).unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

/// A copy of a project without what was installed or stored in it, as a new user has it.
pub fn copy(project: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(project, dir.path());
    dir
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name == "node_modules" || name == ".skep" || name == ".wrangler" {
            continue;
        }
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &to.join(name)),
            false => drop(std::fs::copy(entry.path(), to.join(name)).unwrap()),
        }
    }
}
