//! Packages that tests compare with, fetched once into `target/tools`.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::repository;

/// The unpacked npm package `name@version`.
pub fn unpacked(name: &str, version: &str) -> PathBuf {
    once(&format!("{}-{version}", name.replace(['@', '/'], "-")), |folder| {
        run(Command::new("npm").args(["pack", "--silent", &format!("{name}@{version}")]).current_dir(folder));
        let tarball = std::fs::read_dir(folder).unwrap().find_map(|entry| {
            Some(entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "tgz"))
        });
        run(Command::new("tar").arg("xzf").arg(tarball.unwrap()).current_dir(folder));
    })
    .join("package")
}

/// A folder with `packages` and what they need in its `node_modules`.
pub fn installed(name: &str, packages: &[&str]) -> PathBuf {
    once(name, |folder| {
        let flags = ["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"];
        run(Command::new("npm").args(flags).args(packages).current_dir(folder));
    })
}

/// A folder below `target/tools`, made by `make` if it is not there yet; only one process makes it.
pub fn once(name: &str, make: impl FnOnce(&PathBuf)) -> PathBuf {
    let tools = repository().join("target/tools");
    std::fs::create_dir_all(&tools).unwrap();
    let lock = File::create(tools.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let folder = tools.join(name);
    if !folder.exists() {
        let making = tools.join(format!("{name}.making"));
        let _ = std::fs::remove_dir_all(&making);
        std::fs::create_dir_all(&making).unwrap();
        make(&making);
        std::fs::rename(&making, &folder).unwrap();
    }
    folder
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
