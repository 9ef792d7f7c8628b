//! `skep deploy`: reads a project, says what a deploy would do, and does it.

mod args;
mod import;
mod project;
mod report;
mod surroundings;
mod target;
mod templates;

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value as Json, json};
use skep_deploy::{Deploy, DeployOptions, Docker, Failure, Outcome, Tools};

use crate::signals::Signals;
use crate::terminal::say;
pub use args::{CheckArgs, DeployArgs, RollbackArgs};
pub use import::{ExportArgs, ImportArgs, export, run as import};
use report::Terminal;
use target::{Kind, Target};

/// Runs `skep deploy`.
pub async fn run(args: DeployArgs) -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok();
    let loaded = project::load(&args, None)?;
    let settings = surroundings::settings(&loaded.config.path)?;
    let target = Target::find(&args, &settings, &loaded.raw, variable)?;
    let client = target.client(variable).await?;
    project::check_containers(&loaded, &args, &client).await?;
    let quiet = args.json;
    let print = |line: &str| {
        if !quiet {
            say(line)
        }
    };
    let loaded = surroundings::with_domain(loaded, &args, &settings, &client, variable, print).await?;
    let mut project = project::build(loaded, &args, &settings, variable, print).await?;
    let published = match settings.templates.as_ref().filter(|_| args.templates) {
        None => None,
        Some(own) => Some(templates::read(own, &project.config.dir).await?),
    };
    // The clone, if there is one, lives as long as this.
    let _clone = published.map(|(files, clone)| {
        project.templates = Some(files);
        clone
    });
    let options = DeployOptions {
        dispatch_namespace: args.dispatch_namespace.clone(),
        keep_vars: args.keep_vars,
        message: args.message.clone(),
        tag: args.tag.clone(),
        force: args.force,
        strict_ids: target.kind == Kind::Cloudflare,
        take_over_domains: args.take_over_domains,
        tools: tools(variable, target.registry()),
        rollout: args.containers_rollout.unwrap_or_default(),
        smoke: !args.no_smoke,
        undo: args.undo,
    };
    let deploy = Deploy::prepare(&client, &project, options, &target.title()).await?;
    let plan = deploy.plan().clone();
    if !args.json {
        say(&plan.tree());
    }
    if args.dry_run {
        if args.json {
            say(&json!({ "plan": plan.to_json() }).to_string());
        }
        return Ok(());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let listening = listen(stop.clone())?;
    let reporter = Terminal::new(plan.steps.len(), args.json);
    let result = deploy.run(&reporter, &stop).await;
    listening.abort();
    reporter.finish();
    if args.json {
        say(&shown(&plan.to_json(), &result).to_string());
    } else if let Ok(outcome) = &result {
        report::outcome(outcome);
    }
    result.map(drop).map_err(|failure| report::failure(&failure))
}

/// What images of containers are built and pushed with, named as for wrangler; `registry` is the target's own, if it has one.
fn tools(variable: impl Fn(&str) -> Option<String>, registry: Option<String>) -> Tools {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let (program, path) = (set("WRANGLER_DOCKER_BIN"), std::env::var_os("PATH"));
    let docker = Docker::find(program.as_deref().map(OsStr::new), path.as_deref());
    Tools {
        docker,
        registry: set("CLOUDFLARE_CONTAINER_REGISTRY")
            .or(registry)
            .unwrap_or_else(|| Tools::default().registry),
    }
}

/// Runs `skep check`: everything that can be known before a deploy, without a server.
pub async fn check(args: CheckArgs) -> Result<(), String> {
    let args = args.as_deploy();
    let loaded = project::load(&args, None)?;
    let settings = surroundings::settings(&loaded.config.path)?;
    let variable = |name: &str| std::env::var(name).ok();
    let project = project::build(loaded, &args, &settings, variable, say).await?;
    let problems = skep_deploy::check::problems(&project);
    if !problems.is_empty() {
        return Err(format!("this project cannot be deployed yet:\n  {}", problems.join("\n  ")));
    }
    say(&format!("{} can be deployed.", project.name()));
    Ok(())
}

/// Runs `skep rollback`.
pub async fn rollback(args: RollbackArgs) -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok();
    let deploy = args.as_deploy();
    let loaded = project::load(&deploy, None)?;
    let settings = surroundings::settings(&loaded.config.path)?;
    let target = Target::find(&deploy, &settings, &loaded.raw, variable)?;
    let client = target.client(variable).await?;
    let version = args.version.as_deref();
    let version = skep_deploy::rollback(&client, &loaded.config.name, version, &args.message).await?;
    say(&format!("Current version: {version}"));
    Ok(())
}

/// The first Ctrl-C ends the deploy at the next step's boundary, the second one at once.
fn listen(stop: Arc<AtomicBool>) -> Result<tokio::task::JoinHandle<()>, String> {
    let mut signals = Signals::listen()?;
    Ok(tokio::spawn(async move {
        signals.any().await;
        stop.store(true, Ordering::Relaxed);
        eprintln!("Stopping after this step. Once more to stop at once.");
        signals.any().await;
        std::process::exit(130);
    }))
}

fn shown(plan: &Json, result: &Result<Outcome, Failure>) -> Json {
    match result {
        Ok(outcome) => json!({
            "success": true, "plan": plan, "done": outcome.done, "version_id": outcome.version, "urls": outcome.urls,
        }),
        Err(failure) => json!({
            "success": false, "plan": plan, "done": failure.done, "not_done": failure.open,
            "failed": failure.failed.as_ref().map(|(step, error)| json!({ "step": step, "error": error })),
        }),
    }
}
