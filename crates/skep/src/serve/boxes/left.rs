//! What a run of a node with containers leaves in the engine, for a run without them, or with another engine: a file in the node's
//! folder says which engine it was.

use std::path::Path;

use skep_containers::{Address, Containers, Engine, Options};

use super::{bridges, firewall, images, node_of, tag};

/// In the node's folder.
const FILE: &str = "container-engine";

/// Takes note of the engine at `address`, and clears another one that was used before.
pub(super) async fn remember(data: &Path, accounts: &[String], address: &Address) -> Result<(), String> {
    let (file, text) = (data.join(FILE), address.to_string());
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    if before.trim() != text {
        clear(data, accounts).await;
        std::fs::write(&file, text).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    }
    Ok(())
}

/// Removes what earlier runs of the node have left in an engine, if they have used one.
pub async fn clear(data: &Path, accounts: &[String]) {
    let file = data.join(FILE);
    let Ok(address) = std::fs::read_to_string(&file) else { return };
    match remove(&node_of(data), accounts, address.trim()).await {
        Ok(removed) => {
            if removed > 0 {
                tracing::info!(removed, "containers that an earlier run has left were removed");
            }
            let _ = std::fs::remove_file(&file);
        }
        Err(error) => tracing::warn!(
            "what an earlier run with --containers has left in the Docker engine at {address} stays there: {error}. To give it up, remove {}",
            file.display()
        ),
    }
}

async fn remove(node: &str, accounts: &[String], address: &str) -> Result<usize, String> {
    let engine = Engine::at(Address::parse(address)?).await.map_err(|e| e.to_string())?;
    let mut removed = 0;
    for account in accounts {
        let tag = tag(node, account);
        let options = Options { bridges: Some(bridges(&tag)), ..Options::default() };
        removed += Containers::new(engine.clone(), &tag, options).sweep().await.map_err(|e| e.to_string())?;
    }
    images::remove_all(&engine, node).await.map_err(|e| e.to_string())?;
    let tags: Vec<String> =
        accounts.iter().map(String::as_str).chain([""]).map(|own| tag(node, own)).collect();
    let lifted = tokio::task::spawn_blocking(move || {
        tags.iter().flat_map(|tag| bridges(tag)).for_each(|own| firewall::lift(&own))
    });
    lifted.await.map_err(|e| e.to_string())?;
    Ok(removed)
}
