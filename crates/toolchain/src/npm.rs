//! `npm pack`: the user's npm client knows their registry, proxy and credentials.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::ToolchainError;
use crate::packages::Package;

/// Lines of npm's complaints that are shown.
const SAID: usize = 12;

/// Fetches the tarball of `package` into the empty folder `into`.
pub(crate) fn pack(npm: &Path, package: &Package, into: &Path) -> Result<PathBuf, ToolchainError> {
    let failed = |said: String| ToolchainError::Npm { package: package.name, version: package.version, said };
    // A cache of its own, below our folder: what has arrived there is the progress.
    let arriving = into.join("npm");
    let log = into.join("npm.log");
    let log_file = std::fs::File::create(&log).map_err(|e| failed(e.to_string()))?;
    let child = Command::new(npm)
        .arg("pack")
        .arg(format!("{}@{}", package.name, package.version))
        .args(["--loglevel=error", "--no-update-notifier", "--pack-destination"])
        .arg(into)
        .arg("--cache")
        .arg(&arriving)
        .current_dir(into)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(ToolchainError::NoNpm { package: package.name });
        }
        Err(e) => return Err(failed(e.to_string())),
    };
    let ok = wait(child, package, &arriving).map_err(|e| failed(e.to_string()))?;
    let tarball = std::fs::read_dir(into).ok().and_then(|mut entries| {
        entries.find_map(|entry| {
            Some(entry.ok()?.path()).filter(|path| path.extension().is_some_and(|e| e == "tgz"))
        })
    });
    match tarball {
        Some(tarball) if ok => Ok(tarball),
        _ => Err(failed(last_lines(&log))),
    }
}

fn wait(mut child: Child, package: &Package, arriving: &Path) -> std::io::Result<bool> {
    let bar = progress(package);
    loop {
        if let Some(status) = child.try_wait()? {
            bar.finish_and_clear();
            return Ok(status.success());
        }
        bar.set_position(size_of(arriving).min(package.size));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn progress(package: &Package) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("Fetching {} {} with npm", package.name, package.version);
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(package.size);
    let style = "  {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(format!("{} {}", package.name, package.version));
    bar
}

fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(SAID)..].join("\n")
}
