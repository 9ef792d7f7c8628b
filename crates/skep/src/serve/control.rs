//! The socket by which other commands of Skep reach a running node: `control.sock` in its data folder.
//!
//! Only the owner of the folder can connect. The protocol is HTTP/1.1; `POST /backup` answers with an archive,
//! `POST /rotate-key` with what became of the secrets.

use std::any::Any;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use skep_api::Api;
use skep_catalog::Sealer;
use skep_wire::{BoxFuture, Request, Response, Service, full, reply, stream};
use tokio::sync::mpsc;

use super::accounts::Accounts;
use super::{backup, rotate};

/// Pieces of an archive on their way.
const PIECES: usize = 16;

/// The socket's path.
pub fn socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// What other commands may ask of a node.
pub struct Control {
    /// The node's data.
    pub data: PathBuf,
    /// The file with the key that secrets are encrypted with.
    pub key_file: PathBuf,
    /// The node's accounts.
    pub accounts: Arc<Accounts>,
    /// Its API.
    pub api: Arc<Api>,
    /// What secrets are encrypted with.
    pub sealer: Arc<Sealer>,
}

impl Service for Control {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match (request.method(), request.uri().path()) {
                (&Method::POST, "/backup") => self.backup().await,
                (&Method::POST, "/rotate-key") => self.rotate().await,
                _ => reply(StatusCode::NOT_FOUND, full("no such command")),
            }
        })
    }
}

impl Control {
    async fn rotate(&self) -> Response {
        match rotate::rotate_running(&self.accounts, &self.api, &self.sealer).await {
            Ok(rotated) => skep_wire::json(StatusCode::OK, &rotated),
            Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, full(error)),
        }
    }

    async fn backup(&self) -> Response {
        let (data, key_file, accounts) = (self.data.clone(), self.key_file.clone(), self.accounts.clone());
        let taken = tokio::task::spawn_blocking(move || {
            let mut settle = || Box::new(accounts.pause_d1()) as Box<dyn Any>;
            backup::take(&data, &key_file, &mut settle, &mut || Box::new(accounts.hold_still()))
        });
        let snapshot = match taken.await.map_err(|e| e.to_string()).and_then(|taken| taken) {
            Ok(snapshot) => snapshot,
            Err(error) => return reply(StatusCode::INTERNAL_SERVER_ERROR, full(error)),
        };
        let (pieces, mut archive) = mpsc::channel(PIECES);
        tokio::task::spawn_blocking(move || {
            let failed = snapshot.write(Pieces(pieces.clone()), env!("CARGO_PKG_VERSION")).err();
            if let Some(error) = failed {
                tracing::error!(%error, "a backup failed");
                // The reader sees a broken stream, not a short archive.
                let _ = pieces.blocking_send(Err(std::io::Error::other(error)));
            }
        });
        let archive = futures_util::stream::poll_fn(move |context| archive.poll_recv(context));
        reply(StatusCode::OK, stream(archive))
    }
}

/// Writes into a stream.
struct Pieces(mpsc::Sender<std::io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
