//! `--ai`: where the models of `ai` bindings run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Request, Response};
use http_body_util::BodyExt;
use skep_ai::{Ai, Http, Models, Upstream};
use skep_config::WorkerConfig;
use skep_deploy::http::{Proxies, Transport};
use skep_fleet::{Binding, CellSpec};
use skep_wire::{Body, BoxFuture};
use url::Url;

const CLOUDFLARE: &str = "https://api.cloudflare.com/client/v4";

/// Where models run.
#[derive(Clone, Debug, Args)]
pub struct AiArgs {
    /// Where the models of `ai` bindings run: the URL of a server with OpenAI's API, such as http://127.0.0.1:11434 (Ollama), or
    /// `cloudflare` [default: nowhere]
    #[arg(long, value_name = "URL", env = "SKEP_AI", hide_env_values = true)]
    pub ai: Option<String>,
    /// A file (JSON) that says which of the server's models stands for which of Cloudflare's [default: the one of the same name]
    #[arg(long, value_name = "FILE", requires = "ai")]
    pub ai_models: Option<PathBuf>,
    /// The file with the server's key, or with the token for Cloudflare [default: SKEP_AI_KEY, for Cloudflare also
    /// CLOUDFLARE_API_TOKEN]
    #[arg(long, value_name = "FILE", requires = "ai")]
    pub ai_key_file: Option<PathBuf>,
    /// The account for `--ai cloudflare` [default: CLOUDFLARE_ACCOUNT_ID]
    #[arg(long, value_name = "ID", requires = "ai")]
    pub ai_account: Option<String>,
    /// The API for `--ai cloudflare`
    #[arg(long, value_name = "URL", requires = "ai", default_value = CLOUDFLARE)]
    pub ai_api: String,
    /// A model that does not begin to answer for so long, or not go on, has failed
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub ai_timeout: Duration,
    /// So many calls of models a script may have under way
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub ai_calls: u16,
}

impl AiArgs {
    /// What answers `ai` bindings. `variable` is the environment.
    pub fn open(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Arc<Ai>, String> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(place) = self.ai.as_deref().filter(|place| !place.is_empty()) else {
            return Ok(Ai::nowhere());
        };
        let upstream = match place {
            "cloudflare" => self.cloudflare(&set)?,
            url => self.server(url, &set)?,
        };
        let http = Arc::new(Outgoing(Transport::new(Proxies::from_env(set)?)));
        Ok(Ai::new(upstream, http, self.ai_timeout, usize::from(self.ai_calls)))
    }

    fn server(&self, url: &str, set: &impl Fn(&str) -> Option<String>) -> Result<Upstream, String> {
        let expected = "--ai: expected the URL of a server with OpenAI's API, such as http://127.0.0.1:11434, or `cloudflare`";
        let parsed = Url::parse(url).map_err(|e| format!("{expected}: {e}"))?;
        if !matches!(parsed.scheme(), "http" | "https")
            || parsed.query().is_some()
            || parsed.fragment().is_some()
        {
            return Err(expected.to_owned());
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("--ai: a key does not go into the URL: put it into a file for --ai-key-file, or into SKEP_AI_KEY".into());
        }
        let path = match parsed.path().trim_end_matches('/') {
            "" => "/v1",
            path => path,
        };
        let base = format!("{}{path}", parsed.origin().ascii_serialization());
        let models = match &self.ai_models {
            None => Models::default(),
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text = text.map_err(|e| format!("cannot read {}: {e}", file.display()))?;
                Models::parse(&text).map_err(|e| format!("{}: {e}", file.display()))?
            }
        };
        let key = self.key_file()?.or_else(|| set("SKEP_AI_KEY"));
        Ok(Upstream::OpenAi { base, key: key.map(|key| Upstream::bearer(&key)).transpose()?, models })
    }

    fn cloudflare(&self, set: &impl Fn(&str) -> Option<String>) -> Result<Upstream, String> {
        if self.ai_models.is_some() {
            return Err(
                "--ai-models means nothing with `--ai cloudflare`: models have their own names there".into(),
            );
        }
        // Where wrangler's variables lead to a node, its token is the node's and nobody else's.
        let elsewhere =
            set("CLOUDFLARE_API_BASE_URL").is_some_and(|base| base.trim_end_matches('/') != CLOUDFLARE);
        let theirs = |name: &str| set(name).filter(|_| !elsewhere);
        let why = match elsewhere {
            true => {
                " (CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN do not count: CLOUDFLARE_API_BASE_URL leads elsewhere)"
            }
            false => "",
        };
        let account = self.ai_account.clone().or_else(|| theirs("CLOUDFLARE_ACCOUNT_ID"));
        let account = account.ok_or_else(|| {
            format!("`--ai cloudflare` needs an account: say --ai-account, or set CLOUDFLARE_ACCOUNT_ID{why}")
        })?;
        if account.is_empty()
            || !account.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        {
            return Err("--ai-account: that is no account's id".into());
        }
        let key = self.key_file()?.or_else(|| set("SKEP_AI_KEY")).or_else(|| theirs("CLOUDFLARE_API_TOKEN"));
        let key = key.ok_or_else(|| {
            format!(
                "`--ai cloudflare` needs a token that may run Workers AI: name its file with --ai-key-file, or set SKEP_AI_KEY \
                 or CLOUDFLARE_API_TOKEN{why}"
            )
        })?;
        let api = Url::parse(&self.ai_api).map_err(|e| format!("--ai-api: {e}"))?;
        let account = format!("{}/accounts/{account}", api.as_str().trim_end_matches('/'));
        Ok(Upstream::Cloudflare { account, key: Upstream::bearer(&key)? })
    }

    fn key_file(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.ai_key_file else { return Ok(None) };
        let text =
            std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        match text.trim() {
            "" => Err(format!("{} has no key", file.display())),
            key => Ok(Some(key.to_owned())),
        }
    }
}

/// The service that all `ai` bindings of a cell lead to.
const SERVICE: &str = "ai";

/// Adds a worker's `ai` bindings to its cell; `owner` says whose calls they are, and is nobody else's name. What a person may
/// want to know of them: name, kind and backing.
pub fn add(ai: &Arc<Ai>, owner: &str, config: &WorkerConfig, spec: &mut CellSpec) -> Vec<[String; 3]> {
    if config.ai.is_empty() {
        return Vec::new();
    }
    spec.services.insert(SERVICE.into(), Arc::new(ai.binding(owner)));
    let backing = if ai.is_there() { "--ai" } else { "nothing: start with --ai" };
    let row = |name: &String| {
        spec.bindings.insert(name.clone(), Binding::Ai { service: SERVICE.into() });
        [format!("env.{name}"), "Workers AI".to_owned(), backing.to_owned()]
    };
    config.ai.iter().map(row).collect()
}

/// Requests over the client that deploys use, proxies included.
struct Outgoing(Transport);

impl Http for Outgoing {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, String>> {
        Box::pin(async move {
            let url = Url::parse(&request.uri().to_string()).map_err(|e| e.to_string())?;
            let answer = self.0.begin_answer(&url, request).await.map_err(|e| e.to_string())?;
            Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        ai: AiArgs,
    }

    fn upstream(line: &[&str], variables: &[(&str, &str)]) -> Result<Upstream, String> {
        let args = Line::try_parse_from(["skep"].iter().chain(line)).map_err(|e| e.to_string())?.ai;
        let set =
            |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        match args.ai.as_deref() {
            Some("cloudflare") => args.cloudflare(&set),
            Some(url) => args.server(url, &set),
            None => Err("nowhere".into()),
        }
    }

    #[test]
    fn a_server_is_named_with_or_without_its_path() {
        let base = |url: &str| match upstream(&["--ai", url], &[]) {
            Ok(Upstream::OpenAi { base, .. }) => base,
            other => format!("{other:?}"),
        };
        assert_eq!(base("http://127.0.0.1:11434"), "http://127.0.0.1:11434/v1");
        assert_eq!(base("https://api.example.com/v1/"), "https://api.example.com/v1");
        assert_eq!(base("https://host/openai/v1"), "https://host/openai/v1");
        for wrong in ["ollama", "ftp://x", "http://x?a=b", "http://me:secret@x"] {
            let said = upstream(&["--ai", wrong], &[]).unwrap_err();
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn a_nodes_token_is_not_sent_to_cloudflare() {
        let own = [("CLOUDFLARE_ACCOUNT_ID", "a1"), ("CLOUDFLARE_API_TOKEN", "t")];
        let found = upstream(&["--ai", "cloudflare"], &own).unwrap();
        let Upstream::Cloudflare { account, key } = found else { panic!("{found:?}") };
        assert_eq!(
            (account.as_str(), key.to_str().unwrap()),
            ("https://api.cloudflare.com/client/v4/accounts/a1", "Bearer t")
        );
        let node = [own[0], own[1], ("CLOUDFLARE_API_BASE_URL", "http://127.0.0.1:8788/client/v4")];
        assert!(upstream(&["--ai", "cloudflare"], &node).unwrap_err().contains("leads elsewhere"));
        let told = upstream(&["--ai", "cloudflare", "--ai-account", "a2"], &[node[2], ("SKEP_AI_KEY", "k")]);
        assert!(told.is_ok());
        assert!(upstream(&["--ai", "cloudflare", "--ai-account", "../x"], &own).is_err());
        assert!(!format!("{told:?}").contains("Bearer"), "a key is not shown");
    }
}
