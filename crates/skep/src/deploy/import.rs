//! `skep import` and `skep export`: one account into another, or into a folder.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value as Json;
use skep_deploy::{Client, Copy, Settings, Wanted};

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
    /// Only these: `kv`, `r2`, `d1`, `queue`, `hyperdrive`, `vectorize`, `worker`, `dispatch`, or one by its name, such as `kv/settings`; several
    /// times for several
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
    /// Only these: `kv`, `r2`, `d1`, `vectorize`, `worker`, `dispatch`, or one by its name, such as `kv/settings`; several times for
    /// several
    #[arg(long, value_name = "WHAT", value_parser = parse_what)]
    only: Vec<String>,
}

fn parse_what(text: &str) -> Result<String, String> {
    match text.split('/').next().is_some_and(|kind| Wanted::KINDS.contains(&kind)) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected one of {}, or one of them with a name", Wanted::KINDS.join(", "))),
    }
}

/// What was left behind, or is to be done.
fn tell(notes: &[String]) {
    notes.iter().for_each(|note| say(&paint(Style::Yellow, &format!("▲ {}", printable(note)))));
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
    let done = skep_deploy::export(&from, &args.dir, &Wanted(args.only), print).await;
    let notes =
        done.map_err(|error| format!("{}\n  the same command goes on from here", printable(&error)))?;
    tell(&notes);
    Ok(())
}

/// Runs `skep import`.
pub async fn run(args: ImportArgs) -> Result<(), String> {
    let (from, to) = (client(&args.from, &args.data).await?, client("skep", &args.data).await?);
    let mut copy = Copy::open(&from, &to, &args.state)?;
    copy.variable = |name| std::env::var(name).ok();
    let wanted = Wanted(args.only);
    let done = copy.run(&wanted, |line| say(&printable(line))).await;
    tell(&copy.notes);
    done.map_err(|error| {
        format!(
            "{}\n  the same command goes on from here; the progress is in {}",
            printable(&error),
            args.state.display()
        )
    })
}
