//! `skep backups`, and `skep restore` from a place.

use std::path::Path;

use skep_runtime::Shutdown;

use super::parse;
use crate::args::{BackupsArgs, RestoreArgs};
use crate::serve::OWNER;
use crate::terminal::{Style, paint, say};

/// `skep backups`
pub async fn list(args: BackupsArgs) -> Result<(), String> {
    // Names are there to be read without a key.
    let destination = parse(&args.place, None)?;
    let (_end, shutdown) = Shutdown::new();
    let repository = destination.open(&shutdown)?;
    let backups = blocking(move || repository.backups()).await?;
    if backups.is_empty() {
        say(&format!("{} has no backup", destination.shown()));
    }
    for backup in backups {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(backup.made_at);
        println!("{}  {}", backup.id, humantime::format_rfc3339_seconds(at));
    }
    Ok(())
}

/// `skep restore` from a place.
pub async fn restore(args: &RestoreArgs, data: &Path, place: &str) -> Result<skep_backup::Restored, String> {
    let (_end, shutdown) = Shutdown::new();
    let repository = parse(place, args.backup_key.as_deref())?.open(&shutdown)?;
    let (at, target, take_over) = (args.at.clone(), data.to_owned(), args.take_over);
    let (restored, owner) = blocking(move || {
        let restored = repository.restore(at.as_deref(), &target)?;
        Ok((restored, if take_over { repository.owner()? } else { None }))
    })
    .await?;
    if let Some(owner) = owner {
        let file = data.join(OWNER);
        std::fs::write(&file, owner).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
        say(&format!("{} This node goes on with the backups there", paint(Style::Green, "✔")));
    }
    Ok(restored)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, skep_backup::BackupError> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?;
    done.map_err(|e| e.to_string())
}
