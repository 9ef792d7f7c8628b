//! `skep import`: the data of one account into another.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value as Json;
use skep_deploy::{Copy, Settings};

use super::args::DeployArgs;
use super::target::Target;
use crate::terminal::{Style, paint, printable, say};

/// `skep import`
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Where from: `cloudflare` or the URL of an API, with CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN
    #[arg(long, value_name = "TARGET")]
    from: String,
    /// The data folder of the node that it goes to
    #[arg(long, value_name = "DIR", default_value = "skep-data")]
    data: PathBuf,
    /// Only these: `kv`, `r2`, `d1`, or one by its name, such as `kv/settings`; several times for several
    #[arg(long, value_name = "WHAT", value_parser = parse_what)]
    only: Vec<String>,
    /// Where the progress is written down: the same command goes on from there
    #[arg(long, value_name = "FILE", default_value = "skep-import.json")]
    state: PathBuf,
}

fn parse_what(text: &str) -> Result<String, String> {
    match text.split('/').next() {
        Some("kv" | "r2" | "d1") => Ok(text.to_owned()),
        _ => Err("expected kv, r2 or d1, or one of them with a name".to_owned()),
    }
}

/// Runs `skep import`.
pub async fn run(args: ImportArgs) -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok();
    let client = async |target: &str| {
        let args =
            DeployArgs { target: Some(target.to_owned()), data: args.data.clone(), ..DeployArgs::default() };
        Target::find(&args, &Settings::default(), &Json::Null, variable)?.client(variable).await
    };
    let (from, to) = (client(&args.from).await?, client("skep").await?);
    let is_wanted = |name: &str| {
        let kind = name.split('/').next();
        args.only.is_empty() || args.only.iter().any(|only| only == name || Some(only.as_str()) == kind)
    };
    let copy = Copy::open(&from, &to, &args.state)?;
    let notes = copy.run(is_wanted, |line| say(&printable(line))).await.map_err(|error| {
        format!(
            "{}\n  the same command goes on from here; the progress is in {}",
            printable(&error),
            args.state.display()
        )
    })?;
    notes.iter().for_each(|note| say(&paint(Style::Yellow, &format!("▲ {}", printable(note)))));
    say(
        "Deploy the Workers themselves from their projects: `skep deploy`. Secrets cannot be read, so give them anew.",
    );
    Ok(())
}
