//! From `assets` in a configuration to how they are served.

use skep_assets::AssetsConfig;
use skep_config::WorkerConfig;

use crate::dates;

/// How the assets of `config` are served.
pub fn assets_config(config: &WorkerConfig) -> Result<AssetsConfig, String> {
    let Some(assets) = &config.assets else { return Ok(AssetsConfig::default()) };
    let mut options = AssetsConfig {
        has_worker: config.main.is_some(),
        compatibility_date: config.compatibility_date.clone().unwrap_or_else(|| dates::ENGINE_DATE.into()),
        compatibility_flags: config.compatibility_flags.clone(),
        ..AssetsConfig::default()
    };
    // Both sides have wrangler's spelling.
    let invalid = |e: serde_json::Error| format!("the assets' configuration: {e}");
    if let Some(value) = &assets.html_handling {
        options.html_handling = serde_json::from_value(value.clone().into()).map_err(invalid)?;
    }
    if let Some(value) = &assets.not_found_handling {
        options.not_found_handling = serde_json::from_value(value.clone().into()).map_err(invalid)?;
    }
    let first = match &assets.run_worker_first {
        skep_config::RunWorkerFirst::Always(always) => serde_json::Value::Bool(*always),
        skep_config::RunWorkerFirst::Paths(paths) => serde_json::json!(paths),
    };
    options.run_worker_first = serde_json::from_value(first).map_err(invalid)?;
    Ok(options)
}
