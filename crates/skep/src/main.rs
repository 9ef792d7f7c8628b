//! Skep: runs Cloudflare Workers applications on machines you own.
//!
//! `main` parses the command line; each command has one composition root that wires the parts.

mod acme;
mod ai;
mod args;
mod assets;
mod backups;
mod browser;
mod bundling;
mod dates;
mod deploy;
mod dev;
mod dispatch;
mod events;
mod files;
mod gates;
mod images;
mod inspector;
mod keys;
mod limits;
mod mail;
mod named;
mod namespaces;
mod reports;
mod searches;
mod serve;
mod signals;
mod site;
mod stand_ins;
mod stores;
mod terminal;
mod types;
mod watch;
mod wiring;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Not commands for people, and in the way of every cold start.
    let mut args = std::env::args_os().skip(1);
    let first = args.next();
    if first.as_ref().is_some_and(|first| first == images::COMMAND) {
        return images::become_worker();
    }
    if first.as_ref().is_some_and(|first| first == searches::COMMAND) {
        return searches::become_searcher(&args.collect::<Vec<_>>());
    }
    if first.as_ref().is_some_and(|first| first == skep_browser::COMMAND) {
        let error = skep_browser::become_browser(&args.collect::<Vec<_>>());
        eprintln!("skep: cannot start the browser: {error}");
        return ExitCode::FAILURE;
    }
    if first.is_some_and(|first| first == skep_fleet::LAUNCHER_COMMAND) {
        let error = skep_fleet::become_cell(&args.collect::<Vec<_>>());
        eprintln!("skep: cannot start the engine: {error}");
        return ExitCode::FAILURE;
    }
    // Where the kernel gives them to everybody. What this starts has none either; the launcher gives them back to the engine. A kernel
    // without the call gives none.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let command = Cli::parse().command;
    // These only say what they find.
    if !matches!(command, Command::Check(_) | Command::Types(_)) {
        start_log();
    }
    match command {
        Command::Dev(args) => run(dev::run(args)),
        Command::Deploy(args) => run(deploy::run(args)),
        Command::Check(args) => run(deploy::check(args)),
        Command::Export(args) => run(deploy::export(args)),
        Command::Import(args) => run(deploy::import(args)),
        Command::Rollback(args) => run(deploy::rollback(args)),
        Command::Types(args) => run(types::run(args)),
        Command::Serve(args) => run(serve::run(*args)),
        Command::Backup(args) => run(serve::backup(args)),
        Command::Secrets(args::SecretsCommand::Rotate(args)) => run(serve::rotate(args)),
        Command::Backups(args) => run(backups::list(args)),
        Command::Restore(args) => run(serve::restore(args)),
    }
}

/// How long work that nobody waits for any more may hold up the end.
const LAST_WORK: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs a command on a runtime of its own; an error is printed as it is.
///
/// One thread: a visitor's connection, the cell's and the binding's then share one event loop, and no request
/// wakes another thread (`ARCHITECTURE.md` has the figures). Visitors get more loops when this one
/// is full. Disks are written by threads of their own.
fn run(command: impl Future<Output = Result<(), String>>) -> ExitCode {
    let result = match skep_runtime::loops::runtime() {
        Ok(runtime) => {
            let result = runtime.block_on(async {
                skep_runtime::loops::start();
                command.await
            });
            // What reads for a caller who is gone need not come to its end; what writes for one leaves what a crash leaves.
            runtime.shutdown_timeout(LAST_WORK);
            result
        }
        Err(error) => Err(format!("cannot start: {error}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", terminal::error(&message));
            ExitCode::FAILURE
        }
    }
}

/// Skep's own messages, on standard error: warnings, or what `SKEP_LOG` asks for (`error` to `trace`).
fn start_log() {
    let asked: Option<LevelFilter> = std::env::var("SKEP_LOG").ok().and_then(|level| level.parse().ok());
    // It warns of each stream that a visitor resets, which is the visitor's business.
    let usual = Targets::new().with_default(LevelFilter::WARN).with_target("h2", LevelFilter::ERROR);
    tracing_subscriber::fmt()
        .with_max_level(asked.unwrap_or(LevelFilter::WARN))
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .finish()
        .with(asked.map_or(usual, |asked| Targets::new().with_default(asked)))
        .init();
}
