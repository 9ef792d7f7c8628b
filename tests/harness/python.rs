//! Python with packages from PyPI, each set in a virtual environment of its own in `target/tools`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::npm;

/// A Python with `packages` in it, of which `module` can be imported; `None` where there is no Python, or none of its
/// packages can be fetched: neither is needed for anything else here.
pub fn with(name: &str, packages: &[&str], module: &str) -> Option<PathBuf> {
    let runs = |command: &mut Command| {
        command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
    };
    // Not in the folder that is renamed: a virtual environment knows its place.
    let venv = format!("{name}-venv");
    let made = npm::once(name, |folder| {
        let place = folder.with_file_name(&venv);
        let _ = std::fs::remove_dir_all(&place);
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let _ = runs(Command::new("python3").args(["-m", "venv"]).arg(&place))
            && runs(Command::new(place.join("bin/python")).args(pip).args(packages));
    });
    let python = made.with_file_name(&venv).join("bin/python");
    if !runs(Command::new(&python).args(["-c", &format!("import {module}")])) {
        println!("skipped: no python3 with venv, or {} cannot be fetched by pip", packages.join(", "));
        // To be tried again.
        let _ = std::fs::remove_dir_all(made);
        return None;
    }
    Some(python)
}
