//! The socket by which other commands of Skep reach a running node: `control.sock` in its data folder.
//!
//! Only the owner of the folder can connect. The protocol is HTTP/1.1; `POST /backup` answers with an archive, `POST /backup-to` with
//! what a backup in a place, which its body names, came to, `POST /rotate-key` with what became of the secrets.

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
use super::backups::Keeper;
use super::rotate;
use crate::backups::Destination;

/// Pieces of an archive on their way.
const PIECES: usize = 16;
/// The longest name of a place, with its keys, in bytes.
const PLACE: usize = 64 << 10;

/// The socket's path.
pub fn socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// What other commands may ask of a node.
pub struct Control {
    /// Makes its backups.
    pub keeper: Arc<Keeper>,
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
                (&Method::POST, "/backup-to") => self.backup_to(request).await,
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

    async fn backup_to(&self, request: Request) -> Response {
        let to = match skep_wire::read_all(request.into_body(), PLACE).await {
            Ok(text) => serde_json::from_slice::<Destination>(&text).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let saved = match to {
            Ok(to) => self.keeper.save(&to).await,
            Err(error) => return reply(StatusCode::BAD_REQUEST, full(error)),
        };
        match saved {
            Ok(saved) => skep_wire::json(StatusCode::OK, &saved),
            Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, full(error)),
        }
    }

    async fn backup(&self) -> Response {
        let (snapshot, turn) = match self.keeper.snapshot().await {
            Ok(taken) => taken,
            Err(error) => return reply(StatusCode::INTERNAL_SERVER_ERROR, full(error)),
        };
        let (pieces, mut archive) = mpsc::channel(PIECES);
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
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
