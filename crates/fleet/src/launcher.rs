//! The step between us and the engine: our own binary, started again, which makes sure that the engine
//! cannot outlive us, goes into its jail and then becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, getpid, getppid};
use rustix::thread::disable_transparent_huge_pages;
use skep_sandbox::Jail;

/// The hidden subcommand under which the binary must call [`become_cell`].
pub const LAUNCHER_COMMAND: &str = "__cell";

/// Puts this process into its jail, which ties it to its parent's life, and replaces it by the engine. `args`: the
/// parent's process id, the jail as JSON, the engine's path, the engine's arguments. Or
/// [`PROBE`](skep_sandbox::PROBE) and how: says which jails are possible here. Returns only if it failed.
pub fn become_cell(args: &[OsString]) -> std::io::Error {
    let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidInput, what.to_owned());
    if let [what, how] = args
        && what == skep_sandbox::PROBE
    {
        skep_sandbox::probe_here(&how.to_string_lossy());
        std::process::exit(0);
    }
    let [parent, jail, engine, args @ ..] = args else {
        return invalid("a parent, a jail and an engine are needed");
    };
    let parent = parent.to_str().and_then(|p| p.parse().ok()).and_then(Pid::from_raw);
    let jail = jail.to_str().and_then(|jail| serde_json::from_str::<Jail>(jail).ok());
    let Some(jail) = jail else { return invalid("the jail is not understood") };
    // Skep has turned huge pages off for itself, and so for this process and what it becomes.
    if let Err(error) = disable_transparent_huge_pages(false) {
        return error.into();
    }
    if let Err(error) = jail.enter() {
        return std::io::Error::other(format!("the sandbox cannot be set up: {error}"));
    }
    // The parent may have died before the lines above: then nobody would ever end this process. From a namespace of process
    // ids no parent is seen; but what a process has open is closed before its children are told of its end.
    let orphaned = match getpid().is_init() {
        true => hung_up(),
        false => parent.is_none() || getppid() != parent,
    };
    if orphaned {
        return invalid("the parent is gone");
    }
    Command::new(engine).args(args).exec()
}

/// Whether nobody has the other end of standard input any more.
fn hung_up() -> bool {
    let stdin = std::io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let found = poll(&mut polled, Some(&at_once));
    found.is_err() || polled.iter().any(|one| one.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}
