//! What the secrets of the Secrets Store are that a script is bound to, when its cell starts.

use skep_api::stored_secret;
use skep_catalog::{Catalog, Sealer};
use skep_config::WorkerConfig;

/// Gives the bindings their values. One that went after the deploy has none, and who gets it hears of it.
pub fn fill(
    config: &mut WorkerConfig,
    catalog: &Catalog,
    sealer: &Sealer,
    account: &str,
) -> Result<(), String> {
    for bound in &mut config.stored_secrets {
        let found = stored_secret(catalog, sealer, account, &bound.store_id, &bound.secret_name);
        bound.value = found.map_err(|e| format!("the stored secret {}: {e}", bound.secret_name))?;
    }
    Ok(())
}
