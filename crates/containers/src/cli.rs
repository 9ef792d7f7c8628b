//! The command `docker`, or a program that takes the same arguments: what builds images, as its user would.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::address::Address;

/// The longest Dockerfile.
const MAX_DOCKERFILE: u64 = 4 << 20;

/// The program.
#[derive(Clone, Debug)]
pub struct Cli {
    program: PathBuf,
    /// The engine that it is to talk to.
    host: Option<String>,
}

async fn read(dockerfile: &Path) -> Result<Vec<u8>, String> {
    let cannot = |e: std::io::Error| format!("cannot read {}: {e}", dockerfile.display());
    if tokio::fs::metadata(dockerfile).await.map_err(cannot)?.len() > MAX_DOCKERFILE {
        return Err(format!("{} has more than {MAX_DOCKERFILE} bytes", dockerfile.display()));
    }
    tokio::fs::read(dockerfile).await.map_err(cannot)
}

impl Cli {
    /// The program at `program`, or the first of `docker` and `podman` in the folders of `path`.
    pub fn find(program: Option<&OsStr>, path: Option<&OsStr>) -> Option<Self> {
        if let Some(program) = program {
            return Some(Self { program: program.into(), host: None });
        }
        let folders: Vec<PathBuf> = path.map(std::env::split_paths).into_iter().flatten().collect();
        let all =
            ["docker", "podman"].iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        all.into_iter().find(|file| file.is_file()).map(|program| Self { program, host: None })
    }

    /// Whether it is Podman, which knows fewer options.
    fn is_podman(&self) -> bool {
        self.program.file_stem().is_some_and(|name| name == "podman")
    }

    /// Whether it works: the program is there, and what it talks to.
    pub async fn check(&self) -> Result<(), String> {
        let done = self.command(&["info"]).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        match done {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!(
                "The Docker CLI could not be launched, or its daemon does not run: the image of a container has to be built. \
                 `{} info` fails. Docker or Podman can be named in WRANGLER_DOCKER_BIN",
                self.program.display()
            )),
        }
    }

    /// Builds an image as wrangler does: the Dockerfile by standard input.
    pub async fn build(
        &self,
        tag: &str,
        dockerfile: &Path,
        context: &Path,
        arguments: &[(String, String)],
    ) -> Result<(), String> {
        let text = read(dockerfile).await?;
        let mut command = self.command(&["build"]);
        if !self.is_podman() {
            command.arg("--load");
        }
        command.args(["-t", tag, "--platform", "linux/amd64"]);
        if !self.is_podman() {
            command.arg("--provenance=false");
        }
        self.run_build(command, &text, context, arguments).await
    }

    /// Builds an image for this machine alone: also with the builder before BuildKit, which has none of the options that
    /// wrangler gives.
    pub async fn build_here(
        &self,
        tag: &str,
        dockerfile: &Path,
        context: &Path,
        arguments: &[(String, String)],
    ) -> Result<(), String> {
        if self.is_podman() || self.asked(&["buildx", "version"]).await.is_ok() {
            return self.build(tag, dockerfile, context, arguments).await;
        }
        let text = read(dockerfile).await?;
        let mut command = self.command(&["build", "-t", tag]);
        command.env("DOCKER_BUILDKIT", "0");
        self.run_build(command, &text, context, arguments).await
    }

    async fn run_build(
        &self,
        mut command: Command,
        dockerfile: &[u8],
        context: &Path,
        arguments: &[(String, String)],
    ) -> Result<(), String> {
        for (name, value) in arguments {
            command.arg("--build-arg").arg(format!("{name}={value}"));
        }
        command.args(["-f", "-"]).arg(context);
        self.told(command, dockerfile, "build").await
    }

    /// Gets an image from its registry.
    pub async fn pull(&self, image: &str) -> Result<(), String> {
        self.told(self.command(&["pull", image]), b"", "pull").await
    }

    /// The same program for the engine at `address`, whatever the environment says.
    #[must_use]
    pub fn at(mut self, address: &Address) -> Self {
        self.host = Some(address.to_string());
        self
    }

    /// What it says of an image, in this form.
    pub async fn inspect(&self, image: &str, form: &str) -> Result<String, String> {
        self.asked(&["image", "inspect", image, "--format", form]).await
    }

    /// What a registry says of an image.
    pub async fn manifest(&self, image: &str) -> Result<String, String> {
        self.asked(&["manifest", "inspect", "-v", image]).await
    }

    /// Logs in. The password goes by standard input, so that no list of processes shows it.
    pub async fn login(&self, registry: &str, user: &str, password: &str) -> Result<(), String> {
        let command = self.command(&["login", "--password-stdin", "--username", user, registry]);
        self.told(command, password.as_bytes(), "login").await
    }

    /// Gives an image another name.
    pub async fn tag(&self, image: &str, name: &str) -> Result<(), String> {
        self.told(self.command(&["tag", image, name]), b"", "tag").await
    }

    /// Sends an image to its registry; the digest that it has there, if the program says it.
    pub async fn push(&self, image: &str) -> Result<Option<String>, String> {
        if !self.is_podman() {
            return self.told(self.command(&["push", image]), b"", "push").await.map(|()| None);
        }
        // Podman compresses on the way: what it knows the image by here is not what the registry knows it by.
        let mut command = self.command(&["push", "--digestfile", "/dev/stdout", image]);
        let output = command.stderr(Stdio::inherit()).output().await;
        let output = output.map_err(|e| format!("cannot run {}: {e}", self.program.display()))?;
        match output.status.success() {
            true => Ok(Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())),
            false => Err(format!("`{} push` ended with {}", self.program.display(), output.status)),
        }
    }

    /// Takes a name off an image.
    pub async fn remove(&self, image: &str) -> Result<(), String> {
        self.asked(&["image", "rm", image]).await.map(drop)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        if let Some(host) = &self.host {
            command.env(if self.is_podman() { "CONTAINER_HOST" } else { "DOCKER_HOST" }, host);
        }
        command
    }

    /// Runs a command whose output is for people: standard output may be one of machines.
    async fn told(&self, mut command: Command, input: &[u8], what: &str) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("cannot run {}: {e}", self.program.display());
        command.stdin(Stdio::piped()).stdout(std::io::stderr()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read it ends by itself, and says why.
            let _ = stdin.write_all(input).await;
        }
        let status = child.wait().await.map_err(failed)?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("`{} {what}` ended with {status}", self.program.display())),
        }
    }

    async fn asked(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output().await;
        let output = output.map_err(|e| format!("cannot run {}: {e}", self.program.display()))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }
}
