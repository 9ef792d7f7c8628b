//! The step between us and the engine: our own binary, started again, which makes sure that the engine
//! cannot outlive us and then becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The hidden subcommand under which the binary must call [`become_cell`].
pub const LAUNCHER_COMMAND: &str = "__cell";

/// Ties this process to its parent's life and replaces it by the engine. `args`: the parent's process id,
/// the engine's path, the engine's arguments. Returns only if that failed.
pub fn become_cell(args: &[OsString]) -> std::io::Error {
    let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidInput, what.to_owned());
    let [parent, engine, args @ ..] = args else { return invalid("a parent and an engine are needed") };
    let parent = parent.to_str().and_then(|p| p.parse().ok()).and_then(Pid::from_raw);
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The parent may have died before the line above: then nobody would ever end this process.
    if parent.is_none() || getppid() != parent {
        return invalid("the parent is gone");
    }
    Command::new(engine).args(args).exec()
}
