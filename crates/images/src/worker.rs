//! Starts a process for a job, and gets its answer.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::encode::MAX_OUTPUT;
use crate::error::ImagesError;
use crate::form::Form;
use crate::job::{self, Answer, Job};

/// By the clock, for a process that waits for others too. Its CPU time is limited by who locks it up.
const TIME: Duration = Duration::from_secs(60);

/// The program that calls [`work`](crate::work) with its standard input and output, after it was locked up. It has no other
/// environment than this.
#[derive(Clone, Debug)]
pub struct Worker {
    /// What to start.
    pub program: PathBuf,
    /// With these arguments.
    pub args: Vec<OsString>,
    /// And these variables.
    pub env: Vec<(OsString, OsString)>,
}

impl Worker {
    /// Does what a form asks for, in a process of its own.
    pub(crate) async fn run(&self, form: Form) -> Result<(Answer, Bytes), ImagesError> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| failed("cannot be started", &error))?;
        match tokio::time::timeout(TIME, exchange(&mut child, form)).await {
            Ok(answer) => answer,
            // Dropped, it is killed.
            Err(_) => Err(ImagesError::too_much()),
        }
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> ImagesError {
    tracing::warn!(%error, "the process for an image {what}");
    ImagesError::internal()
}

async fn exchange(child: &mut Child, form: Form) -> Result<(Answer, Bytes), ImagesError> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(ImagesError::internal());
    };
    let Form { images, task } = form;
    let job = Job { lengths: images.iter().map(Bytes::len).collect(), task };
    let head = job::head(&job).map_err(|error| failed("cannot be asked", &error))?;
    let send = async move {
        // A process that died does not read; why, its end says.
        let sent = async {
            stdin.write_all(&head).await?;
            for image in &images {
                stdin.write_all(image).await?;
            }
            stdin.shutdown().await
        };
        let _ = sent.await;
    };
    let mut said = Vec::new();
    let read = async {
        let most = MAX_OUTPUT as u64 + (1 << 20);
        stdout.take(most).read_to_end(&mut said).await
    };
    let ((), read) = tokio::join!(send, read);
    read.map_err(|error| failed("does not answer", &error))?;
    let status = child.wait().await.map_err(|error| failed("does not end", &error))?;
    let mut from = said.as_slice();
    match job::read::<Answer>(&mut from) {
        Ok(Answer::Failed(error)) => Err(error),
        Ok(answer) if status.success() => {
            let start = said.len() - from.len();
            Ok((answer, Bytes::from(said).slice(start..)))
        }
        _ => Err(ending(status)),
    }
}

/// What it means that a process ended without an answer: its limits end it by a signal, a bug in a decoder by a panic.
fn ending(status: std::process::ExitStatus) -> ImagesError {
    use std::os::unix::process::ExitStatusExt;
    /// Rust's, for a panic.
    const PANIC: i32 = 101;
    tracing::info!(%status, "the process for an image gave no answer");
    match (status.signal(), status.code()) {
        (Some(_), _) => ImagesError::too_much(),
        (_, Some(PANIC)) => ImagesError::decoding("the image is damaged"),
        _ => ImagesError::internal(),
    }
}
