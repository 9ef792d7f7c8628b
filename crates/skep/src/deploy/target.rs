//! Where a deploy goes, and with which credentials.

use serde_json::Value as Json;
use skep_deploy::http::Proxies;
use skep_deploy::{Client, RetryPolicy, Settings};

use super::args::DeployArgs;
use crate::serve::Credentials;

/// Cloudflare's own API.
const CLOUDFLARE: &str = "https://api.cloudflare.com/client/v4";

/// Kinds of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node of one's own.
    Skep,
    /// Cloudflare.
    Cloudflare,
    /// Whatever is at a URL.
    Url,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it is.
    pub kind: Kind,
    base: String,
    token: String,
    account: Option<String>,
}

impl Target {
    /// The target that the command line and the environment say.
    pub fn find(
        args: &DeployArgs,
        settings: &Settings,
        config: &Json,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let base = set("CLOUDFLARE_API_BASE_URL");
        let name = Self::name(args, &variable);
        if name == "skep" {
            return Self::skep(args);
        }
        let profile = settings.targets.get(&name);
        let (kind, base) = match (profile, name.as_str()) {
            (Some(own), _) => (Kind::Url, with_path(&own.api)),
            (None, "cloudflare") => (Kind::Cloudflare, base.unwrap_or_else(|| CLOUDFLARE.to_owned())),
            (None, url) if url.starts_with("http://") || url.starts_with("https://") => {
                (Kind::Url, with_path(url))
            }
            (None, other) => {
                let own: String = settings.targets.keys().map(|name| format!("{name}, ")).collect();
                return Err(format!(
                    "there is no target \"{other}\": expected {own}skep, cloudflare or a URL"
                ));
            }
        };
        let variable = profile.and_then(|own| own.token_env.as_deref()).unwrap_or("CLOUDFLARE_API_TOKEN");
        let token = set(variable)
            .ok_or_else(|| format!("{variable} is not set: it has to hold a token of the API"))?;
        let own = profile.and_then(|own| own.account.clone());
        let configured = config["account_id"].as_str().filter(|_| profile.is_none()).map(str::to_owned);
        let account = own.or_else(|| set("CLOUDFLARE_ACCOUNT_ID")).or(configured);
        Ok(Self { kind, base, token, account })
    }

    /// The target's word on the command line, or what stands for it.
    pub fn name(args: &DeployArgs, variable: impl Fn(&str) -> Option<String>) -> String {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let has_token = set("CLOUDFLARE_API_TOKEN").is_some();
        args.target.clone().unwrap_or_else(|| match (set("CLOUDFLARE_API_BASE_URL"), has_token) {
            (Some(base), true) => base,
            (None, true) => "cloudflare".to_owned(),
            (_, false) => "skep".to_owned(),
        })
    }

    fn skep(args: &DeployArgs) -> Result<Self, String> {
        let file = args.data.join("credentials.json");
        let text = std::fs::read(&file).map_err(|e| {
            format!(
                "cannot read {}: {e}\nStart a node with `skep serve`, name its data folder with --data, or choose \
                 another --target",
                file.display()
            )
        })?;
        let known: Credentials =
            serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        let Credentials { api_base_url: base, account_id, api_token: token } = known;
        Ok(Self { kind: Kind::Skep, base, token, account: Some(account_id) })
    }

    /// A client for it. Without an account, the token's only one is taken.
    pub async fn client(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Client, String> {
        let proxies = Proxies::from_env(variable)?;
        let open = |account: &str| {
            Client::new(&self.base, &self.token, account, proxies.clone(), RetryPolicy::default())
        };
        if let Some(account) = &self.account {
            return open(account);
        }
        let found = open("unknown")?.get("/accounts?page=1&per_page=50").await;
        let found = found.map_err(|error| error.to_string())?.result;
        let accounts: Vec<&Json> = found.as_array().into_iter().flatten().collect();
        match accounts.as_slice() {
            [only] => open(only["id"].as_str().unwrap_or_default()),
            [] => Err("the token has no account: set CLOUDFLARE_ACCOUNT_ID".to_owned()),
            several => {
                let names = several.iter().map(|a| {
                    format!(
                        "\n  {} ({})",
                        a["id"].as_str().unwrap_or_default(),
                        a["name"].as_str().unwrap_or_default()
                    )
                });
                let names: String = names.collect();
                Err(format!("the token has several accounts: set CLOUDFLARE_ACCOUNT_ID to one of{names}"))
            }
        }
    }

    /// The registry of container images of a node of one's own: it is where its API is.
    pub fn registry(&self) -> Option<String> {
        let (_, rest) = self.base.split_once("://").filter(|_| self.kind == Kind::Skep)?;
        rest.split('/').next().map(str::to_owned)
    }

    /// For people.
    pub fn title(&self) -> String {
        match self.kind {
            Kind::Skep => format!("Skep at {}", self.base),
            Kind::Cloudflare => "Cloudflare".to_owned(),
            Kind::Url => self.base.clone(),
        }
    }
}

/// A URL without a path is completed.
fn with_path(url: &str) -> String {
    let url = url.trim_end_matches('/');
    match url.split_once("://").is_some_and(|(_, rest)| rest.contains('/')) {
        true => url.to_owned(),
        false => format!("{url}/client/v4"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn find(args: &[&str], variables: &[(&str, &str)]) -> Result<Target, String> {
        let cli = Cli::parse_from(["skep", "deploy"].iter().chain(args));
        let Command::Deploy(args) = cli.command else { panic!() };
        let config = serde_json::json!({ "account_id": "own" });
        let staging = serde_json::json!({ "api": "https://staging.test", "account": "s", "token_env": "STAGING_TOKEN" });
        let settings = Settings::read(serde_json::json!({ "targets": { "staging": staging } })).unwrap();
        Target::find(&args, &settings, &config, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_target_follows_the_command_line_then_the_environment() {
        let token = ("CLOUDFLARE_API_TOKEN", "t");
        let base = ("CLOUDFLARE_API_BASE_URL", "http://here/client/v4");
        let account = ("CLOUDFLARE_ACCOUNT_ID", "a");
        let there = find(&[], &[token]).unwrap();
        assert_eq!(
            (there.kind, there.base.as_str(), there.account.as_deref()),
            (Kind::Cloudflare, CLOUDFLARE, Some("own"))
        );
        let there = find(&[], &[token, base, account]).unwrap();
        assert_eq!(
            (there.kind, there.base.as_str(), there.account.as_deref()),
            (Kind::Url, base.1, Some("a"))
        );
        let there = find(&["--target", "https://skep.example.com/"], &[token]).unwrap();
        assert_eq!(there.base, "https://skep.example.com/client/v4");
        assert!(
            find(&["--target", "cloudflare"], &[]).unwrap_err().contains("CLOUDFLARE_API_TOKEN is not set")
        );
        let there = find(&["--target", "staging"], &[("STAGING_TOKEN", "st"), token]).unwrap();
        assert_eq!((there.base.as_str(), there.token.as_str()), ("https://staging.test/client/v4", "st"));
        assert!(find(&["--target", "staging"], &[token]).unwrap_err().contains("STAGING_TOKEN is not set"));
        let unknown = find(&["--target", "moon"], &[]).unwrap_err();
        assert!(unknown.contains("\"moon\": expected staging, skep, cloudflare"), "{unknown}");
        assert!(find(&["--data", "/nowhere"], &[]).unwrap_err().contains("/nowhere/credentials.json"));
    }

    #[test]
    fn the_data_folder_of_a_node_has_its_credentials() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            r#"{ "api_base_url": "http://127.0.0.1:1/client/v4", "account_id": "x", "api_token": "y" }"#;
        std::fs::write(dir.path().join("credentials.json"), text).unwrap();
        let found = find(&["--target", "skep", "--data", dir.path().to_str().unwrap()], &[]).unwrap();
        assert_eq!(
            (found.kind, found.token.as_str(), found.account.as_deref()),
            (Kind::Skep, "y", Some("x"))
        );
    }
}
