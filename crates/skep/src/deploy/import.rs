//! `skep import` and `skep export`: the data of one account into another, or into a folder.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value as Json;
use skep_deploy::{Client, Copy, Settings};

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

/// `skep export`
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// The folder to write to
    dir: PathBuf,
    /// Where from: `skep`, `cloudflare` or the URL of an API
    #[arg(long, value_name = "TARGET", default_value = "skep")]
    from: String,
    /// The data folder of the node, whose credentials are used
    #[arg(long, value_name = "DIR", default_value = "skep-data")]
    data: PathBuf,
    /// Only these: `kv`, `r2`, `d1`, or one by its name, such as `kv/settings`; several times for several
    #[arg(long, value_name = "WHAT", value_parser = parse_what)]
    only: Vec<String>,
}

fn parse_what(text: &str) -> Result<String, String> {
    match text.split('/').next() {
        Some("kv" | "r2" | "d1") => Ok(text.to_owned()),
        _ => Err("expected kv, r2 or d1, or one of them with a name".to_owned()),
    }
}

/// Whether `name` is one of those that the command line asks for.
fn is_wanted(only: &[String], name: &str) -> bool {
    let kind = name.split('/').next();
    only.is_empty() || only.iter().any(|only| only == name || Some(only.as_str()) == kind)
}

async fn client(target: &str, data: &Path) -> Result<Client, String> {
    let variable = |name: &str| std::env::var(name).ok();
    let args = DeployArgs { target: Some(target.to_owned()), data: data.to_owned(), ..DeployArgs::default() };
    Target::find(&args, &Settings::default(), &Json::Null, variable)?.client(variable).await
}

/// Runs `skep export`.
pub async fn export(args: ExportArgs) -> Result<(), String> {
    let from = client(&args.from, &args.data).await?;
    let print = |line: &str| say(&printable(line));
    let done = skep_deploy::export(&from, &args.dir, |name| is_wanted(&args.only, name), print).await;
    done.map_err(|error| format!("{}\n  the same command goes on from here", printable(&error)))
}

/// Runs `skep import`.
pub async fn run(args: ImportArgs) -> Result<(), String> {
    let (from, to) = (client(&args.from, &args.data).await?, client("skep", &args.data).await?);
    let copy = Copy::open(&from, &to, &args.state)?;
    let wanted = |name: &str| is_wanted(&args.only, name);
    let notes = copy.run(wanted, |line| say(&printable(line))).await.map_err(|error| {
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
