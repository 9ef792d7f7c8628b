//! The first account and its token: made at the first start, written where only their owner can read them.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skep_catalog::{Registry, Terms};
use skep_runtime::Clock;

use crate::terminal::{Style, paint, say};

/// `credentials.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// What `CLOUDFLARE_API_BASE_URL` must be.
    pub api_base_url: String,
    /// What `CLOUDFLARE_ACCOUNT_ID` must be.
    pub account_id: String,
    /// What `CLOUDFLARE_API_TOKEN` must be.
    pub api_token: String,
}

fn path(data: &Path) -> PathBuf {
    data.join("credentials.json")
}

/// Makes the first account where there is none, and writes the credentials where they are missing, worthless or for
/// another address.
pub async fn establish(
    data: &Path,
    registry: &Registry,
    api_base_url: &str,
    clock: &Clock,
) -> Result<Credentials, String> {
    let now = i64::try_from(clock.now_ms()).unwrap_or(i64::MAX);
    let text = |e: skep_catalog::CatalogError| e.to_string();
    let account = match registry.accounts().map_err(text)?.into_iter().next() {
        Some(account) => account,
        None => registry.add_account("Skep", "main", now).await.map_err(text)?,
    };
    let known =
        std::fs::read(path(data)).ok().and_then(|bytes| serde_json::from_slice::<Credentials>(&bytes).ok());
    let token = match &known {
        Some(known) if known.account_id == account.id => {
            registry.token(&known.api_token, now).map_err(text)?.map(|_| known.api_token.clone())
        }
        _ => None,
    };
    let api_token = match token {
        Some(token) => token,
        None => registry.add_token(&account.id, Terms::everything("first"), now).await.map_err(text)?.1,
    };
    let credentials =
        Credentials { api_base_url: api_base_url.to_owned(), account_id: account.id, api_token };
    if known.as_ref() != Some(&credentials) {
        write(&path(data), &credentials)?;
    }
    Ok(credentials)
}

/// In one step: never half a file, never readable by others.
fn write(path: &Path, credentials: &Credentials) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot write {}: {e}", path.display());
    let mut text = serde_json::to_vec_pretty(credentials).map_err(|e| e.to_string())?;
    text.push(b'\n');
    let new = path.with_extension("json.new");
    let _ = std::fs::remove_file(&new);
    let mut file =
        std::fs::File::options().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

impl Credentials {
    /// Says what to export. The token is on the terminal only where nobody else reads along.
    pub fn announce(&self, data: &Path) {
        let file = path(data);
        say(&format!("  API      {}", paint(Style::Bold, &self.api_base_url)));
        say(&format!("  Account  {}", self.account_id));
        say(&format!("  Token    in {}", file.display()));
        say("");
        say("  To deploy with wrangler:");
        say(&format!("  export CLOUDFLARE_API_BASE_URL={}", self.api_base_url));
        say(&format!("  export CLOUDFLARE_ACCOUNT_ID={}", self.account_id));
        match crate::terminal::is_interactive() {
            true => say(&format!("  export CLOUDFLARE_API_TOKEN={}", self.api_token)),
            false => say(&format!(
                "  export CLOUDFLARE_API_TOKEN=$(node -p 'require(\"{}\").api_token')",
                file.display()
            )),
        }
        say("");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn credentials_are_made_once_and_follow_the_address() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&dir.path().join("r.sqlite")).unwrap();
        let clock = Clock::system();
        let first = establish(dir.path(), &registry, "http://a", &clock).await.unwrap();
        let mode = std::fs::metadata(path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(establish(dir.path(), &registry, "http://a", &clock).await.unwrap(), first);
        let moved = establish(dir.path(), &registry, "http://b", &clock).await.unwrap();
        assert_eq!((&moved.api_token, moved.api_base_url.as_str()), (&first.api_token, "http://b"));
        std::fs::remove_file(path(dir.path())).unwrap();
        let again = establish(dir.path(), &registry, "http://a", &clock).await.unwrap();
        assert_ne!(again.api_token, first.api_token);
    }
}
