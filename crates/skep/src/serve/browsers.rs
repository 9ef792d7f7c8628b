//! Browsers of a node: which it runs, and how many of them an account gets.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use skep_browser::{Hold, Host};
use skep_fleet::Egress;
use skep_sandbox::Sandbox;
use skep_toolchain::Toolchain;

use super::machine;
use crate::args::ServeArgs;
use crate::terminal::{Style, paint, say};

/// The browsers of all accounts.
pub struct Browsers {
    host: Arc<Host>,
    /// How many an account gets.
    most: usize,
    accounts: Mutex<HashMap<String, Arc<skep_browser::Browsers>>>,
}

/// What `--browsers` asks for; fails if no browser can be held here. `egress` is whom worker code may reach.
pub async fn open(
    args: &ServeArgs,
    launcher: &Path,
    sandbox: &Sandbox,
    egress: &[String],
) -> Result<Option<Arc<Browsers>>, String> {
    let most = usize::from(args.browsers.browsers);
    if most == 0 {
        return Ok(None);
    }
    let memory = u64::from(args.browsers.browser_memory) << 20;
    // One alone does not keep all cores busy.
    let cores = u32::try_from(machine::cores() / 2).unwrap_or(u32::MAX).max(1);
    let egress = Egress::parse(egress)?;
    let reach = move |address| egress.allows(address);
    let hold = Hold::new(launcher.to_owned(), sandbox.clone(), memory, cores, reach);
    let hold = hold.map_err(|e| format!("cannot start a thread for browsers: {e}"))?;
    let tools = Toolchain::locate(args.workerd.clone()).map_err(|e| e.to_string())?;
    let host = Host::new(crate::browser::provide(args.browsers.browser.clone(), tools), Some(hold), most);
    host.try_out().await.map_err(|e| format!("--browsers: {e}"))?;
    say(&format!("{} Browsers: {most} at a time", paint(Style::Green, "⬢")));
    Ok(Some(Arc::new(Browsers { host, most: most.div_ceil(2), accounts: Mutex::default() })))
}

impl Browsers {
    fn accounts(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<skep_browser::Browsers>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of an account.
    pub fn of(&self, account: &str) -> Arc<skep_browser::Browsers> {
        let mut accounts = self.accounts();
        accounts.entry(account.to_owned()).or_insert_with(|| self.host.account(self.most)).clone()
    }

    /// Ends them all.
    pub async fn stop(&self) {
        let all: Vec<_> = self.accounts().values().cloned().collect();
        futures_util::future::join_all(all.iter().map(|browsers| browsers.close_all())).await;
    }
}
