//! `skep secrets rotate`: a new key for all secrets.
//!
//! The new key is put before the old one in the key file; every secret is sealed anew; the old key is removed. Killed at
//! any moment, all secrets open, and the same command ends what was begun.

use std::path::Path;
use std::sync::Arc;

use http::StatusCode;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use skep_api::{Api, secret_context};
use skep_catalog::{Catalog, Registry, Resealed, Sealer};
use skep_wire::{SendError, UnixClient, empty};

use super::accounts::Accounts;
use super::{backup, control};
use crate::args::RotateArgs;
use crate::terminal::{Style, paint, say};

/// What it did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Rotated {
    /// Secrets sealed anew.
    changed: u64,
    /// Secrets that no key of the file opens; they did not before.
    unreadable: u64,
}

/// Seals the secrets of an account anew.
async fn reseal(
    catalog: &Catalog,
    account: &str,
    sealer: &Arc<Sealer>,
    all: &mut Rotated,
) -> Result<(), String> {
    let (sealer, account) = (sealer.clone(), account.to_owned());
    let again = move |script: &str, name: &str, sealed: &str| {
        sealer.reseal(sealed, &secret_context(&account, script, name)).map_err(|e| e.to_string())
    };
    let Resealed { changed, unreadable } =
        catalog.reseal(Arc::new(again)).await.map_err(|e| e.to_string())?;
    all.changed += changed;
    all.unreadable += unreadable;
    Ok(())
}

/// On a node that runs.
pub async fn rotate_running(accounts: &Accounts, api: &Api, sealer: &Arc<Sealer>) -> Result<Rotated, String> {
    sealer.add_key().map_err(|e| e.to_string())?;
    let mut all = Rotated::default();
    for runner in accounts.runners() {
        reseal(&runner.tenant.stores.catalog, &runner.tenant.id, sealer, &mut all).await?;
    }
    // What was sealed before the new key was there, or copied from what was, is stored once these calls have ended.
    let _no_changes = api.without_changes().await;
    all.unreadable = 0;
    for runner in accounts.runners() {
        reseal(&runner.tenant.stores.catalog, &runner.tenant.id, sealer, &mut all).await?;
    }
    sealer.retire_keys().map_err(|e| e.to_string())?;
    Ok(all)
}

/// On the data of a node that does not run.
async fn rotate_resting(data: &Path, key_file: &Path) -> Result<Rotated, String> {
    let _locks = backup::locks(data)?;
    if !key_file.exists() {
        return Err(format!("the key file {} is missing", key_file.display()));
    }
    let sealer = Arc::new(Sealer::open(key_file).map_err(|e| e.to_string())?);
    let registry = Registry::open(&data.join("registry.sqlite")).map_err(|e| e.to_string())?;
    sealer.add_key().map_err(|e| e.to_string())?;
    let mut all = Rotated::default();
    for account in registry.accounts().map_err(|e| e.to_string())? {
        let path = data.join("accounts").join(&account.id).join("catalog.sqlite");
        if path.exists() {
            let catalog = Catalog::open(&path).map_err(|e| e.to_string())?;
            reseal(&catalog, &account.id, &sealer, &mut all).await?;
        }
    }
    sealer.retire_keys().map_err(|e| e.to_string())?;
    Ok(all)
}

/// `skep secrets rotate`: asks the node that runs, or does it here if none does.
pub async fn rotate(args: RotateArgs) -> Result<(), String> {
    let data = std::path::absolute(&args.data).unwrap_or_else(|_| args.data.clone());
    if !data.join("registry.sqlite").exists() {
        return Err(format!("{} is not the data folder of a node: name it with --data", data.display()));
    }
    let client = UnixClient::new(control::socket(&data));
    let request = http::Request::post("http://skep/rotate-key").body(empty()).map_err(|e| e.to_string())?;
    let rotated: Rotated = match client.send(request).await {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let text = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
            if head.status != StatusCode::OK {
                return Err(String::from_utf8_lossy(&text).into_owned());
            }
            serde_json::from_slice(&text).map_err(|e| e.to_string())?
        }
        Err(SendError::Connect { .. }) => {
            let key = args.key_file.clone().unwrap_or_else(|| data.join("secrets.key"));
            rotate_resting(&data, &key).await?
        }
        Err(error) => return Err(format!("the node does not answer: {error}")),
    };
    let Rotated { changed, unreadable } = rotated;
    say(&format!("{} a new key; secrets encrypted anew: {changed}", paint(Style::Green, "✔")));
    if unreadable > 0 {
        say(&format!(
            "  {unreadable} secrets were encrypted with a key that was not in the file: they cannot be read."
        ));
    }
    say("  Keep the old key with the backups that were made with it.");
    Ok(())
}
