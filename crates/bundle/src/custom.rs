//! `build.command`: the project's own build, which runs before ours.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::error::BundleError;

/// Runs `command` with the shell in `folder`; `print` gets every line of its output.
pub async fn run_custom_build(
    command: &str,
    folder: &Path,
    mut print: impl FnMut(&str),
) -> Result<(), BundleError> {
    let failed = |status: String| BundleError::Custom { command: command.to_owned(), status };
    let spawned = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|error| failed(error.to_string()))?;
    let (lines, mut printed) = mpsc::channel(64);
    child.stdout.take().into_iter().for_each(|out| drop(tokio::spawn(pass_on(out, lines.clone()))));
    child.stderr.take().into_iter().for_each(|out| drop(tokio::spawn(pass_on(out, lines.clone()))));
    drop(lines);
    while let Some(line) = printed.recv().await {
        print(&line);
    }
    let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
}

async fn pass_on(from: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while matches!(from.read_until(b'\n', &mut line).await, Ok(read) if read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if lines.send(text).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_output_is_passed_on_and_failure_is_an_error() {
        let mut lines = Vec::new();
        let run =
            run_custom_build("echo one; echo two >&2; exit 3", Path::new("/"), |l| lines.push(l.to_owned()));
        let error = run.await.unwrap_err();
        assert!(error.to_string().contains("failed (exit status: 3)"), "{error}");
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
    }
}
