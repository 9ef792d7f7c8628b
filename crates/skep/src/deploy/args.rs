//! The command line of `skep deploy`.

use std::path::PathBuf;

use clap::Args;
use skep_deploy::Rollout;

use crate::args::parse_var;

/// Which project.
#[derive(Clone, Debug, Default, Args)]
pub struct ProjectArgs {
    /// The project: its folder, or its entry file in place of the configuration's `main`
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// The configuration file [default: wrangler.json, .jsonc or .toml in the folder]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The environment of the configuration to use
    #[arg(short, long, value_name = "NAME")]
    pub env: Option<String>,
}

/// `skep deploy`
#[derive(Clone, Debug, Default, Args)]
pub struct DeployArgs {
    #[command(flatten)]
    pub project: ProjectArgs,
    /// Where to: `skep` (the node whose data folder is --data), `cloudflare`, a target of skep.deploy.toml, or the URL of an API. The account and the
    /// token come from CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN, for `skep` from the data folder
    /// [default: CLOUDFLARE_API_BASE_URL, or `cloudflare` if there is a token, else `skep`]
    #[arg(short, long, value_name = "TARGET")]
    pub target: Option<String>,
    /// The data folder of `skep serve`, whose credentials are used
    #[arg(long, value_name = "DIR", default_value = "skep-data")]
    pub data: PathBuf,
    /// Deploy into this dispatch namespace
    #[arg(long, value_name = "NAME")]
    pub dispatch_namespace: Option<String>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the plan and the result as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// A file with secrets, as NAME=value lines or as a JSON object; they are uploaded with the code
    #[arg(long, value_name = "FILE")]
    pub secrets_file: Option<PathBuf>,
    /// A variable as NAME:VALUE; goes before those of the configuration
    #[arg(long = "var", value_name = "NAME:VALUE", value_parser = parse_var)]
    pub vars: Vec<(String, String)>,
    /// Publish the templates of skep.deploy.toml to their bucket
    #[arg(long)]
    pub templates: bool,
    /// Keep variables that were set elsewhere
    #[arg(long)]
    pub keep_vars: bool,
    /// A text that the version is known by
    #[arg(long, value_name = "TEXT")]
    pub message: Option<String>,
    /// A tag that the version is known by
    #[arg(long, value_name = "TEXT")]
    pub tag: Option<String>,
    /// Upload the code also if it is there already
    #[arg(long)]
    pub force: bool,
    /// Do not ask the deployed worker for an answer
    #[arg(long)]
    pub no_smoke: bool,
    /// Go back to the version before if the deployed worker does not answer
    #[arg(long, conflicts_with = "no_smoke")]
    pub undo: bool,
    /// Install the project's npm dependencies without asking, where a lock file but no node_modules is there
    #[arg(long)]
    pub yes: bool,
    /// How containers get what is new: `gradual`, in the steps of the configuration, `immediate`, or `none`: not at all
    #[arg(long, value_name = "HOW", value_parser = parse_rollout)]
    pub containers_rollout: Option<Rollout>,
    /// Take custom domains over from the Workers or DNS records that have them
    #[arg(long)]
    pub take_over_domains: bool,
}

fn parse_rollout(text: &str) -> Result<Rollout, String> {
    match text {
        "gradual" => Ok(Rollout::Gradual),
        "immediate" => Ok(Rollout::Immediate),
        "none" => Ok(Rollout::None),
        _ => Err("expected gradual, immediate or none".to_owned()),
    }
}

/// `skep check`
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Where it would go, as for `skep deploy`: what is not there is said
    #[arg(short, long, value_name = "TARGET")]
    target: Option<String>,
    /// A file with secrets
    #[arg(long, value_name = "FILE")]
    secrets_file: Option<PathBuf>,
    /// A variable as NAME:VALUE
    #[arg(long = "var", value_name = "NAME:VALUE", value_parser = parse_var)]
    vars: Vec<(String, String)>,
    /// Install the project's npm dependencies without asking
    #[arg(long)]
    yes: bool,
}

impl CheckArgs {
    /// The deploy that is checked.
    pub fn as_deploy(&self) -> DeployArgs {
        let Self { project, target, secrets_file, vars, yes } = self.clone();
        DeployArgs { project, target, secrets_file, vars, yes, ..DeployArgs::default() }
    }
}

/// `skep rollback`
#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// As for `skep deploy`
    #[arg(short, long, value_name = "TARGET")]
    target: Option<String>,
    /// The data folder of `skep serve`, whose credentials are used
    #[arg(long, value_name = "DIR", default_value = "skep-data")]
    data: PathBuf,
    /// The version to put in force [default: the one before the present one]
    #[arg(long, value_name = "ID")]
    pub version: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "Rollback")]
    pub message: String,
}

impl RollbackArgs {
    /// The deploy that would go to the same place.
    pub fn as_deploy(&self) -> DeployArgs {
        let Self { project, target, data, .. } = self.clone();
        DeployArgs { project, target, data, ..DeployArgs::default() }
    }
}
