//! `build.command`: the project's own build, which runs before ours.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::error::BundleError;

/// Runs `command` with the shell in `folder`; `print` gets every line of its output. The programs of npm packages are
/// found by their names, as in a script of a `package.json`.
pub async fn run_custom_build(
    command: &str,
    folder: &Path,
    mut print: impl FnMut(&str),
) -> Result<(), BundleError> {
    let failed = |status: String| BundleError::Custom { command: command.to_owned(), status };
    let spawned = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .env("PATH", with_packages(folder, std::env::var_os("PATH").as_deref()))
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

/// The `PATH` with the programs of packages in `folder` and above it. Who runs `npx wrangler` has them there.
fn with_packages(folder: &Path, path: Option<&OsStr>) -> OsString {
    let own: Vec<PathBuf> = folder.ancestors().map(|above| above.join("node_modules/.bin")).collect();
    let inherited = path.into_iter().flat_map(std::env::split_paths);
    // A folder with a colon in its name cannot be in a `PATH`.
    let own = own.into_iter().filter(|path| std::env::join_paths([path]).is_ok());
    std::env::join_paths(own.chain(inherited)).unwrap_or_else(|_| path.unwrap_or_default().to_owned())
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
    async fn programs_of_packages_are_found_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let (bin, inner) = (dir.path().join("node_modules/.bin"), dir.path().join("apps/web"));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&inner).unwrap();
        std::os::unix::fs::symlink("/bin/echo", bin.join("my-bundler")).unwrap();
        let mut lines = Vec::new();
        run_custom_build("my-bundler src", &inner, |line| lines.push(line.to_owned())).await.unwrap();
        assert_eq!(lines, ["src"]);
    }

    #[test]
    fn the_nearest_packages_go_first_and_the_path_stays() {
        let path = with_packages(Path::new("/a/b"), Some(OsStr::new("/usr/bin:/bin")));
        assert_eq!(path, "/a/b/node_modules/.bin:/a/node_modules/.bin:/node_modules/.bin:/usr/bin:/bin");
    }

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
