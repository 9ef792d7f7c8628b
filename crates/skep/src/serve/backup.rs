//! `skep backup` and `skep restore`: one archive of everything that a node keeps.

use std::any::Any;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use http::StatusCode;
use http_body_util::BodyExt;
use skep_backup::{Kind, Saved, Snapshot, restore};
use skep_d1::{D1Store, Paused, Retention};
use skep_runtime::{Clock, Shutdown};
use skep_wire::{SendError, UnixClient, empty, full};

use super::backups::{self, OWNER};
use super::control;
use crate::args::{BackupArgs, RestoreArgs};
use crate::backups::{Destination, is_place, parse};
use crate::terminal::{Style, paint, say};

const KEY_APART: &str =
    "  It holds neither secrets.key nor certificates: keep the key apart, secrets cannot be read without it.";

/// Where copies are put while an archive is made; in the data folder, so that files can be linked.
const STAGE: &str = ".backup";

/// Takes a snapshot of a data folder. Blocking.
pub fn take(
    data: &Path,
    key_file: &Path,
    settle: &mut dyn FnMut() -> Box<dyn Any>,
    hold_still: &mut dyn FnMut() -> Box<dyn Any>,
) -> Result<Snapshot, String> {
    let key = key_file.strip_prefix(data).unwrap_or(Path::new("")).to_owned();
    let new_key = with_suffix(&key, ".new");
    let is_key = move |path: &Path| path == key || path == new_key;
    let layout = move |path: &Path| if is_key(path) { Kind::LeftOut } else { layout(path) };
    Snapshot::take(data, &data.join(STAGE), &layout, settle, hold_still).map_err(|e| e.to_string())
}

/// What a file of a data folder is. Left out: what can be made anew, what is held by this machine alone, and keys.
fn layout(path: &Path) -> Kind {
    let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap_or_default()).collect();
    let name = parts.last().copied().unwrap_or_default();
    match parts.as_slice() {
        [
            STAGE
            | "tls"
            | "acme"
            | "credentials.json"
            | "credentials.json.new"
            | OWNER
            | "secrets.key"
            | "secrets.key.new"
            | "control.sock",
        ] => Kind::LeftOut,
        ["accounts", _, "cache" | "lock"] => Kind::LeftOut,
        ["accounts", _, "do", ..] if name.ends_with("-shm") => Kind::LeftOut,
        ["accounts", _, "do", ..] => Kind::Guarded,
        _ if ["-wal", "-shm", "-journal"].iter().any(|end| name.ends_with(end)) => Kind::LeftOut,
        _ if name.ends_with(".sqlite") => Kind::Database,
        _ => Kind::Immutable,
    }
}

/// `skep backup`
pub async fn backup(args: BackupArgs) -> Result<(), String> {
    let data = std::path::absolute(&args.data).unwrap_or_else(|_| args.data.clone());
    if !data.join("registry.sqlite").exists() {
        return Err(format!("{} is not the data folder of a node: name it with --data", data.display()));
    }
    if let Some(place) = args.file.to_str().filter(|name| is_place(name)) {
        let to = parse(place, args.backup_key.as_deref())?;
        to.is_outside(&data)?;
        let saved = save(&data, &args, &to).await?;
        say(&format!("{} {} in {}", paint(Style::Green, "✔"), backups::summary(&saved), to.shown()));
        say(KEY_APART);
        return Ok(());
    }
    if args.file.as_os_str() == "-" {
        archive(&data, &args, std::io::stdout().lock()).await?;
        return Ok(());
    }
    // Complete under its name, or not there.
    let partial = Partial(with_suffix(&args.file, ".partial"));
    let cannot = |e: std::io::Error| format!("cannot write {}: {e}", args.file.display());
    let mut options = File::options();
    let file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&partial.0).map_err(cannot)?;
    archive(&data, &args, &file).await?;
    file.sync_all().map_err(cannot)?;
    std::fs::rename(&partial.0, &args.file).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    say(&format!("{} {} ({:.1} MB)", paint(Style::Green, "✔"), args.file.display(), size as f64 / 1e6));
    say(KEY_APART);
    Ok(())
}

/// Makes a backup in a place: asks the node that runs, or makes it here if none does.
async fn save(data: &Path, args: &BackupArgs, to: &Destination) -> Result<Saved, String> {
    let client = UnixClient::new(control::socket(data));
    let text = serde_json::to_vec(to).map_err(|e| e.to_string())?;
    let request = http::Request::post("http://skep/backup-to").body(full(text)).map_err(|e| e.to_string())?;
    match client.send(request).await {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let text = body.collect().await.map_err(|e| format!("the node ended: {e}"))?.to_bytes();
            match head.status {
                StatusCode::OK => serde_json::from_slice(&text).map_err(|e| e.to_string()),
                _ => Err(String::from_utf8_lossy(&text).into_owned()),
            }
        }
        Err(SendError::Connect { .. }) => {
            let (_end, shutdown) = Shutdown::new();
            let (repository, data, key) = (to.open(&shutdown)?, data.to_owned(), args.key_file.clone());
            let saved = tokio::task::spawn_blocking(move || {
                let _locks = locks(&data)?;
                let owner = backups::owner(&data)?;
                backups::save(&repository, &owner, &mut || take_stopped(&data, key.clone()))
            });
            saved.await.map_err(|e| e.to_string())?
        }
        Err(error) => Err(format!("the node does not answer: {error}")),
    }
}

/// A snapshot of a node that does not run.
fn take_stopped(data: &Path, key_file: Option<PathBuf>) -> Result<Snapshot, String> {
    let key = key_file.unwrap_or_else(|| data.join("secrets.key"));
    let stores = stores_of_d1(data)?;
    let mut settle = || Box::new(pause(&stores)) as Box<dyn Any>;
    take(data, &key, &mut settle, &mut || Box::new(()))
}

/// Removed unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Writes the archive: asks the node that runs, or makes it here if none does.
async fn archive(data: &Path, args: &BackupArgs, out: impl Write) -> Result<(), String> {
    let mut out = BufWriter::with_capacity(1 << 20, out);
    let client = UnixClient::new(control::socket(data));
    let request = http::Request::post("http://skep/backup").body(empty()).map_err(|e| e.to_string())?;
    match client.send(request).await {
        Ok(response) => {
            let (head, mut body) = response.into_parts();
            if head.status != StatusCode::OK {
                let text = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
                return Err(String::from_utf8_lossy(&text).into_owned());
            }
            while let Some(frame) = body.frame().await {
                let frame =
                    frame.map_err(|e| format!("the node ended the backup early, see its log: {e}"))?;
                if let Some(piece) = frame.data_ref() {
                    out.write_all(piece).map_err(|e| format!("cannot write the archive: {e}"))?;
                }
            }
            out.flush().map_err(|e| format!("cannot write the archive: {e}"))
        }
        Err(SendError::Connect { .. }) => {
            let _locks = locks(data)?;
            let snapshot = take_stopped(data, args.key_file.clone())?;
            let written = snapshot.write(out, env!("CARGO_PKG_VERSION"));
            written.map(drop).map_err(|e| e.to_string())
        }
        Err(error) => Err(format!("the node does not answer: {error}")),
    }
}

/// D1 databases of a node that does not run: after a crash, their histories are behind them.
fn stores_of_d1(data: &Path) -> Result<Vec<D1Store>, String> {
    let accounts = std::fs::read_dir(data.join("accounts")).into_iter().flatten().flatten();
    let folders = accounts.map(|account| account.path().join("d1")).filter(|folder| folder.is_dir());
    let open = |folder: PathBuf| D1Store::open_with_history(&folder, Retention::default(), Clock::system());
    folders.map(|folder| open(folder).map_err(|e| e.to_string())).collect()
}

/// Stops all writes of D1 databases, with their histories stored.
fn pause(stores: &[D1Store]) -> Vec<Paused> {
    stores.iter().filter_map(D1Store::pause).collect()
}

/// Takes all accounts, so that no node starts to write meanwhile.
pub fn locks(data: &Path) -> Result<Vec<File>, String> {
    let accounts = match std::fs::read_dir(data.join("accounts")) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        accounts => accounts.map_err(|e| format!("cannot list {}: {e}", data.display()))?,
    };
    accounts.flatten().map(|account| crate::stores::lock(&account.path(), "--data")).collect()
}

/// `skep restore`
pub async fn restore_archive(args: RestoreArgs) -> Result<(), String> {
    let data = std::path::absolute(&args.data).unwrap_or_else(|_| args.data.clone());
    let place = args.file.to_str().filter(|name| is_place(name));
    let restored = match place {
        Some(place) => crate::backups::restore(&args, &data, place).await?,
        None if args.at.is_some() || args.take_over => {
            return Err(format!(
                "--at and --take-over are for backups in a place: {} is an archive",
                args.file.display()
            ));
        }
        None if args.file.as_os_str() == "-" => {
            restore(std::io::stdin().lock(), &data).map_err(|e| e.to_string())?
        }
        None => {
            let cannot = |e: std::io::Error| format!("cannot read {}: {e}", args.file.display());
            let archive = BufReader::with_capacity(1 << 20, File::open(&args.file).map_err(cannot)?);
            restore(archive, &data).map_err(|e| e.to_string())?
        }
    };
    say(&format!("{} {} files in {}", paint(Style::Green, "✔"), restored.files, data.display()));
    say("  Put secrets.key there before the node starts, or name it with --key-file.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_what_can_be_made_anew_are_left_out() {
        let kind = |path: &str| layout(Path::new(path));
        for path in [
            "secrets.key",
            "secrets.key.new",
            "credentials.json",
            "backup-owner",
            "tls",
            "acme",
            "accounts/a/cache",
            "accounts/a/lock",
            "x.sqlite-wal",
        ] {
            assert_eq!(kind(path), Kind::LeftOut, "{path}");
        }
        assert_eq!(kind("registry.sqlite"), Kind::Database);
        assert_eq!(kind("accounts/a/do/key/1.sqlite"), Kind::Guarded);
        assert_eq!(kind("accounts/a/do/key/1.sqlite-wal"), Kind::Guarded, "it is part of the object's file");
        assert_eq!(kind("accounts/a/kv/n/blobs/ab/abcd"), Kind::Immutable);
        assert_eq!(kind("accounts/a/kv/cache/kv.sqlite"), Kind::Database, "a namespace may have any name");
    }
}
