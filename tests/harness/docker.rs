//! A Docker daemon for tests: one of their own for the whole process, or the one that DOCKER_HOST names.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use super::PATIENCE;

/// A daemon that answers.
pub struct Docker {
    /// As `DOCKER_HOST` has it.
    pub host: String,
}

/// An image with a shell and Node.js, made of this machine's programs: no registry is asked.
pub const BASE: &str = "skep-test/base:1";

/// Runs a daemon until its input ends, that is until the process of the tests does, and leaves nothing behind.
const DAEMON: &str = r#"
dir=$1
dockerd --data-root "$dir/data" --exec-root "$dir/exec" -H "unix://$dir/docker.sock" --pidfile "$dir/pid" \
  --bridge none --iptables=false >"$dir/log" 2>&1 </dev/null &
daemon=$!
cat >/dev/null
export DOCKER_HOST="unix://$dir/docker.sock"
docker ps -aq | xargs -r docker rm -f >/dev/null 2>&1
docker network prune -f >/dev/null 2>&1
kill "$daemon"
wait "$daemon"
rm -rf "$dir"
"#;

/// Copies programs with their libraries into a folder, and makes an image of it.
const IMAGE: &str = r#"
set -e
root=$(mktemp -d)
mkdir -p "$root/bin" "$root/tmp" "$root/etc"
put() {
  cp -L "$1" "$root/bin/$2"
  for library in $(ldd "$1" 2>/dev/null | grep -o '/[^ )]*'); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
}
put "$(command -v busybox)" busybox
put "$(node -p process.execPath)" node
for name in sh cat sleep echo kill id ls mkdir; do ln -s busybox "$root/bin/$name"; done
tar -C "$root" -c . | docker import - "$1" >/dev/null
rm -rf "$root"
"#;

/// The daemon, with [`BASE`]; `None` where there can be none, which is said.
pub fn docker() -> Option<&'static Docker> {
    static DOCKER: OnceLock<Result<Docker, String>> = OnceLock::new();
    match DOCKER.get_or_init(start) {
        Ok(docker) => Some(docker),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

fn start() -> Result<Docker, String> {
    for program in ["docker", "busybox", "node"] {
        if !is_there(program) {
            return Err(format!("there is no {program} on the PATH"));
        }
    }
    let docker = match std::env::var("DOCKER_HOST") {
        Ok(host) if !host.is_empty() => Docker { host },
        _ if !rustix::process::geteuid().is_root() => {
            return Err("a Docker daemon needs root, and DOCKER_HOST names none".to_owned());
        }
        _ if !is_there("dockerd") => {
            return Err("there is no dockerd on the PATH, and DOCKER_HOST names none".to_owned());
        }
        _ => daemon()?,
    };
    if let Err(error) = docker.try_run(&["info"]) {
        return Err(format!("the Docker daemon at {} does not work: {error}", docker.host));
    }
    let mut image = Command::new("sh");
    image.args(["-c", IMAGE, "image", BASE]).env("DOCKER_HOST", &docker.host);
    let made = image.output().unwrap();
    match made.status.success() {
        true => Ok(docker),
        false => Err(format!("no image can be made here: {}", String::from_utf8_lossy(&made.stderr))),
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn daemon() -> Result<Docker, String> {
    /// The end of this process closes its input.
    static RUNS: Mutex<Option<Child>> = Mutex::new(None);
    let dir = tempfile::tempdir().unwrap().keep();
    let mut command = Command::new("sh");
    command.args(["-c", DAEMON, "daemon"]).arg(&dir);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // What interrupts the tests must not interrupt what cleans up after them.
    command.process_group(0);
    let mut child = command.spawn().unwrap();
    let docker = Docker { host: format!("unix://{}/docker.sock", dir.display()) };
    let begin = Instant::now();
    while docker.try_run(&["version"]).is_err() {
        let gone = !is_running(&dir);
        if begin.elapsed() > PATIENCE || (gone && begin.elapsed().as_secs() > 5) {
            let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            drop(child.stdin.take());
            let _ = child.wait();
            let last: Vec<&str> = log.lines().rev().take(3).collect();
            return Err(format!("dockerd does not start here: {}", last.join(" / ")));
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    *RUNS.lock().unwrap() = Some(child);
    Ok(docker)
}

fn is_running(dir: &Path) -> bool {
    let pid = std::fs::read_to_string(dir.join("pid")).ok().and_then(|text| text.trim().parse().ok());
    pid.is_some_and(super::is_alive)
}

impl Docker {
    /// What a `docker` command says.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).unwrap_or_else(|error| panic!("docker {arguments:?}: {error}"))
    }

    fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("docker").args(arguments).env("DOCKER_HOST", &self.host).output();
        let output = output.map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    /// The ids of the containers of a project's objects, running or not.
    pub fn containers(&self, project: &str) -> Vec<String> {
        let filter = format!("label=dev.skep.class={project}-Box");
        self.run(&["ps", "-aq", "--no-trunc", "--filter", &filter]).lines().map(str::to_owned).collect()
    }
}
