//! `--browser`: what `browser` bindings lead to.

use std::path::PathBuf;
use std::sync::Arc;

use skep_browser::{BrowserError, Browsers, Program, Provide, installed, unpack};
use skep_config::WorkerConfig;
use skep_fleet::{Binding, CellSpec};
use skep_toolchain::Toolchain;

/// Browsers at a time. Each takes some hundred megabytes; Cloudflare has 3 on its free plan, 120 on the paid one.
const MOST: usize = 10;

/// The service that all `browser` bindings of a cell lead to.
const SERVICE: &str = "browser";

/// The browsers of a session: of the program `given`, else of the pinned one, else of one that is installed.
pub fn open(given: Option<PathBuf>, tools: &Toolchain) -> Arc<Browsers> {
    let tools = tools.clone();
    let provide: Provide = Arc::new(move || match &given {
        Some(path) if path.is_file() => Ok(Program { path: path.clone(), environment: Vec::new() }),
        Some(path) => Err(BrowserError::NoProgram(format!(
            "{}, given by --browser or SKEP_BROWSER, is not a file",
            path.display()
        ))),
        None => fetched_or_installed(&tools),
    });
    Browsers::new(provide, MOST)
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

/// Adds a worker's `browser` bindings to its cell. What a person may want to know of them: name, kind and backing.
pub fn add(browsers: &Arc<Browsers>, config: &WorkerConfig, spec: &mut CellSpec) -> Vec<[String; 3]> {
    if config.browsers.is_empty() {
        return Vec::new();
    }
    spec.services.insert(SERVICE.into(), Arc::new(browsers.binding()));
    let row = |name: &String| {
        spec.bindings.insert(name.clone(), Binding::Fetcher { service: SERVICE.into() });
        [format!("env.{name}"), "Browser Rendering".to_owned(), "a browser on this machine".to_owned()]
    };
    config.browsers.iter().map(row).collect()
}
