//! `--browser`, `--browsers`: what `browser` bindings lead to.

use std::path::PathBuf;
use std::sync::Arc;

use http::StatusCode;
use skep_browser::{BrowserError, Browsers, Host, Program, Provide, installed, unpack};
use skep_config::WorkerConfig;
use skep_fleet::{Binding, CellSpec};
use skep_toolchain::Toolchain;
use skep_wire::{BoxFuture, Request, Response, Service, full, reply};

/// Browsers at a time. Each takes some hundred megabytes; Cloudflare has 3 on its free plan, 120 on the paid one.
const MOST: usize = 10;

/// The service that all `browser` bindings of a cell lead to.
const SERVICE: &str = "browser";

/// What `browser` bindings of a node lead to.
#[derive(Clone, Debug, clap::Args)]
pub struct BrowserArgs {
    /// Run up to N browsers at a time, each in a jail of its own, for `browser` bindings; an account gets half of them
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    pub browsers: u16,
    /// The memory that a browser may use with all of its pages and files, in MiB
    #[arg(long, value_name = "MIB", default_value = "1024", value_parser = clap::value_parser!(u32).range(256..))]
    pub browser_memory: u32,
    /// The browser, of the Chrome family [default: one that is fetched when the node starts, on Linux on x86-64; elsewhere the one that
    /// is installed]
    #[arg(long, value_name = "FILE", env = "SKEP_BROWSER")]
    pub browser: Option<PathBuf>,
}

/// The browsers of a session: of the program `given`, else of the pinned one, else of one that is installed.
pub fn open(given: Option<PathBuf>, tools: &Toolchain) -> Arc<Browsers> {
    Host::new(provide(given, tools.clone()), None, MOST).account(MOST)
}

/// What finds the program `given`, else the pinned one, else one that is installed.
pub fn provide(given: Option<PathBuf>, tools: Toolchain) -> Provide {
    Arc::new(move || match &given {
        Some(path) if path.is_file() => Ok(Program { path: path.clone(), environment: Vec::new() }),
        Some(path) => Err(BrowserError::NoProgram(format!(
            "{}, given by --browser or SKEP_BROWSER, is not a file",
            path.display()
        ))),
        None => fetched_or_installed(&tools),
    })
}

fn fetched_or_installed(tools: &Toolchain) -> Result<Program, BrowserError> {
    let fetched = tools.browser().map_err(|error| error.to_string());
    let why = match fetched {
        Ok(Some((package, into))) => match unpack(&package, &into) {
            Ok(program) => return Ok(program),
            Err(error) => format!("the browser in {} cannot be used: {error}", into.display()),
        },
        Ok(None) => "there is none to be fetched for this machine".to_owned(),
        Err(error) => error,
    };
    let own = installed(std::env::var_os("PATH").as_deref());
    own.map(|path| Program { path, environment: Vec::new() }).ok_or_else(|| {
        BrowserError::NoProgram(format!(
            "there is no browser: install Chrome or Chromium, or name one with --browser or SKEP_BROWSER ({why})"
        ))
    })
}

/// Answers for browsers where none run.
struct NoBrowsers;

impl Service for NoBrowsers {
    fn call(&self, _: Request) -> BoxFuture<'_, Response> {
        let text = "this node runs no browsers: its operator starts it with `skep serve --browsers N`";
        Box::pin(async move { reply(StatusCode::SERVICE_UNAVAILABLE, full(text)) })
    }
}

/// Adds a worker's `browser` bindings to its cell. What a person may want to know of them: name, kind and backing.
pub fn add(browsers: Option<&Arc<Browsers>>, config: &WorkerConfig, spec: &mut CellSpec) -> Vec<[String; 3]> {
    if config.browsers.is_empty() {
        return Vec::new();
    }
    match browsers {
        Some(browsers) => spec.services.insert(SERVICE.into(), Arc::new(browsers.binding())),
        None => spec.services.insert(SERVICE.into(), Arc::new(NoBrowsers)),
    };
    let row = |name: &String| {
        spec.bindings.insert(name.clone(), Binding::Fetcher { service: SERVICE.into() });
        [format!("env.{name}"), "Browser Rendering".to_owned(), "a browser on this machine".to_owned()]
    };
    config.browsers.iter().map(row).collect()
}
