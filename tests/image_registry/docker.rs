//! A Docker of one's own, where one can run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::serve::{Ran, run};

/// A daemon with a folder of its own; ends with the test.
pub struct Docker {
    daemon: Child,
    dir: tempfile::TempDir,
}

impl Docker {
    /// Starts one. `None` where Docker is not installed or cannot run, which is said.
    pub fn start() -> Option<Self> {
        Self::start_with(&["--iptables=false", "--ip-masq=false", "--storage-driver", "vfs"])
    }

    /// The same with these options.
    pub fn start_with(options: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let log = std::fs::File::create(at("log")).unwrap();
        let daemon = Command::new("dockerd")
            .args(["--bridge", "none"])
            .args(options)
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", at("docker.sock").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let Ok(daemon) = daemon else {
            eprintln!("skipped: there is no dockerd");
            return None;
        };
        let docker = Self { daemon, dir };
        let began = Instant::now();
        while !docker.docker(&["info"]).success {
            if began.elapsed() > Duration::from_secs(30) {
                let log = std::fs::read_to_string(docker.dir.path().join("log")).unwrap_or_default();
                eprintln!("skipped: dockerd does not come up:\n{log}");
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        docker.wrap();
        Some(docker)
    }

    /// A `docker` that takes the options that wrangler gives to newer ones, and works with this daemon.
    fn wrap(&self) {
        use std::os::unix::fs::PermissionsExt;
        let script = format!(
            "#!/bin/sh\nfor a; do shift; case \"$a\" in --load|--provenance=false) ;; *) set -- \"$@\" \"$a\" ;; esac; done\n\
             DOCKER_BUILDKIT=0 exec docker --config {0}/config -H unix://{0}/docker.sock \"$@\"\n",
            self.dir.path().display()
        );
        std::fs::write(self.program(), script).unwrap();
        std::fs::set_permissions(self.program(), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// The program that works with this daemon.
    pub fn program(&self) -> PathBuf {
        self.dir.path().join("docker")
    }

    /// Where it listens.
    pub fn socket(&self) -> String {
        format!("unix://{}/docker.sock", self.dir.path().display())
    }

    /// Where it keeps who is logged in.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// Runs `docker`.
    pub fn docker(&self, args: &[&str]) -> Ran {
        let socket = format!("unix://{}/docker.sock", self.dir.path().display());
        run(Command::new("docker").arg("--config").arg(self.config()).args(["-H", &socket]).args(args))
    }

    /// The same, which must succeed.
    pub fn must(&self, args: &[&str]) -> String {
        let ran = self.docker(args);
        assert!(ran.success, "docker {args:?}: {}", ran.text);
        ran.text
    }

    /// An image of some files.
    pub fn image(&self, name: &str, files: &[(&str, &[u8])]) {
        let context = tempfile::tempdir().unwrap();
        for (file, content) in files {
            std::fs::write(context.path().join(file), content).unwrap();
        }
        let copies: String = files.iter().map(|(file, _)| format!("COPY {file} /{file}\n")).collect();
        std::fs::write(context.path().join("Dockerfile"), format!("FROM scratch\n{copies}CMD [\"/x\"]\n"))
            .unwrap();
        self.must(&["build", "-t", name, path(context.path())]);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Drop for Docker {
    fn drop(&mut self) {
        // What still runs would go on without it. To end takes processor time.
        let listed = self.docker(&["ps", "-aq"]).text;
        let all: Vec<&str> = listed.split_whitespace().collect();
        if !all.is_empty() {
            self.docker(&[&["update", "--cpu-quota", "-1"], all.as_slice()].concat());
            self.docker(&[&["rm", "-f"], all.as_slice()].concat());
        }
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
    }
}
