//! What a deploy takes from beside the project: `skep.deploy.toml`, the environment, the project's own domain.

use std::io::Write;
use std::path::Path;

use skep_config::Loaded;
use skep_deploy::{Client, Domain, Settings, domain};

use super::args::DeployArgs;
use super::project::{MAX_TEXT, limited, load};
use crate::terminal::{Style, paint};

/// The file beside the configuration.
const FILE: &str = "skep.deploy.toml";

/// Reads it; a project needs none.
pub fn settings(config: &Path) -> Result<Settings, String> {
    let path = config.parent().unwrap_or(Path::new(".")).join(FILE);
    if !path.exists() {
        return Ok(Settings::default());
    }
    let text = limited(&path, MAX_TEXT)?;
    let json = skep_config::to_json(&path, &text).map_err(|e| e.to_string())?;
    Settings::read(json).map_err(|e| format!("{}: {e}", path.display()))
}

/// Brings the configuration in line with the project's own domain: `CUSTOM_DOMAIN`, or the variable that the settings name.
/// Where neither is there, nothing is touched. In a dry run the edit is only shown.
pub async fn with_domain(
    loaded: Loaded,
    args: &DeployArgs,
    settings: &Settings,
    client: &Client,
    variable: impl Fn(&str) -> Option<String>,
    print: impl Fn(&str),
) -> Result<Loaded, String> {
    let set = |name: &str| {
        variable(name).map(|value| value.trim().to_lowercase()).filter(|value| !value.is_empty())
    };
    let own = match &settings.domain {
        Some(own) => own.clone(),
        None if set(&Domain::default().variable).is_some() => Domain::default(),
        None => return Ok(loaded),
    };
    let path = loaded.config.path.clone();
    let found = match set(&own.variable) {
        None => None,
        Some(name) => {
            let zone = domain::zone(client, &name).await.map_err(|e| format!("{}: {e}", own.variable))?;
            Some((name, zone))
        }
    };
    let text = limited(&path, MAX_TEXT)?;
    let wanted = found.as_ref().map(|(name, zone)| (name.as_str(), zone.as_str()));
    let is_toml = path.extension().is_some_and(|ending| ending == "toml");
    if is_toml {
        return Err(format!(
            "{} is needed as wrangler.jsonc: {} edits its routes",
            path.display(),
            own.variable
        ));
    }
    let edited = domain::edited(&text, &loaded.raw, args.project.env.as_deref(), wanted, own.previews);
    let edited = edited.map_err(|e| format!("{}: {e}", path.display()))?;
    if edited == text {
        return Ok(loaded);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    print(&paint(Style::Dim, domain::diff(&text, &edited, &name).trim_end()));
    if !args.dry_run {
        write(&path, &edited)?;
    }
    load(args, Some(edited))
}

/// In one step: never half a configuration.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot write {}: {e}", path.display());
    let new = path.with_extension("json.new");
    let mut file = std::fs::File::create(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    if let Ok(metadata) = std::fs::metadata(path) {
        std::fs::set_permissions(&new, metadata.permissions()).map_err(failed)?;
    }
    std::fs::rename(&new, path).map_err(failed)
}
