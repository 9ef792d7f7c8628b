//! What this machine can do, found out by doing it in a process that ends afterwards.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::groups::Groups;
use crate::jail::Jail;
use crate::layer::{Layer, Layers};
use crate::namespaces::{flag, unshare};
use crate::sandbox::Sandbox;
use crate::{files, filter, privileges, root};

/// The first of two arguments with which the launcher is to call [`probe_here`]; it takes the second.
pub const PROBE: &str = "probe";

/// With a user namespace anybody may make the others; without, only root. Half a user namespace, as some
/// containers give it, is of no use and spoils the rest: hence two attempts.
const WITH_USERS: &str = "with-users";
const WITHOUT_USERS: &str = "without-users";

/// Tries all layers on this process, prints those that hold and waits for the end of its standard input. The process must
/// end afterwards.
pub fn probe_here(how: &str) {
    let layers = try_all(how == WITH_USERS);
    println!("{}", serde_json::to_string(&layers).unwrap_or_default());
    let _ = std::io::stdin().read(&mut [0]);
}

fn try_all(with_users: bool) -> Option<Layers> {
    let mut works = Layers::new();
    if with_users {
        unshare(flag(Layer::UserNamespace)).ok()?;
        works.insert(Layer::UserNamespace);
    }
    let others = Layer::ALL.into_iter().filter(|layer| layer.is_namespace());
    for layer in others.filter(|layer| *layer != Layer::UserNamespace) {
        // A mount namespace counts only if it can be used: some systems take the rights away again.
        let tried = unshare(flag(layer)).and_then(|()| match layer {
            Layer::MountNamespace => try_root(),
            _ => Ok(()),
        });
        if tried.is_ok() {
            works.insert(layer);
        }
    }
    if privileges::limit_resources().and_then(|()| privileges::drop_all()).is_ok() {
        works.insert(Layer::Privileges);
    }
    if skep_intercept::install(&[]).is_ok() {
        works.insert(Layer::Connections);
    }
    let open = Jail { read: vec!["/".into()], write: vec!["/".into()], ..Jail::default() };
    if files::restrict(&open).is_ok() {
        works.insert(Layer::Landlock);
    }
    if filter::restrict(true).is_ok() {
        works.insert(Layer::Seccomp);
    }
    Some(works)
}

fn try_root() -> Result<(), crate::JailError> {
    let program = std::env::current_exe().unwrap_or_default();
    let folder = std::env::temp_dir();
    root::change(&Jail { read: vec![program.clone()], program, write: vec![folder], ..Jail::default() })
}

/// What [`probe_here`] says in a process of its own, and what `engine` needs.
pub(crate) fn probe(launcher: &Path, command: &str, engine: &Path) -> std::io::Result<Sandbox> {
    for how in [WITH_USERS, WITHOUT_USERS] {
        let mut probing = Command::new(launcher);
        probing.args([command, PROBE, how]);
        let mut child = probing.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        let seen = sees_into(&child);
        let layers = serde_json::from_str::<Option<Layers>>(&said);
        let groups = matches!(layers, Ok(Some(_))).then(|| Groups::find(child.id()));
        drop(child.stdin.take());
        child.wait()?;
        if let (Ok(Some(mut layers)), Some(groups)) = (layers, groups) {
            groups.settle();
            if !seen {
                layers.remove(&Layer::Connections);
            }
            return Ok(Sandbox::new(layers, groups, engine.to_owned(), linked(engine)?));
        }
    }
    // Trying killed it: nothing is known to hold.
    Ok(Sandbox::new(Layers::new(), Groups::none(), engine.to_owned(), linked(engine)?))
}

/// Whether we get at the memory and the sockets of a process in a jail, which opening connections for it takes.
fn sees_into(child: &Child) -> bool {
    let memory = std::fs::File::open(format!("/proc/{}/mem", child.id()));
    let stdin = pidfd_open(Pid::from_child(child), PidfdFlags::empty())
        .and_then(|process| pidfd_getfd(process, 0, PidfdGetfdFlags::empty()));
    memory.is_ok() && stdin.is_ok()
}

/// The files that the dynamic linker loads for `program`, as it says itself; it does not run the program for that.
fn linked(program: &Path) -> std::io::Result<Vec<PathBuf>> {
    let output = Command::new(program).env_clear().env("LD_TRACE_LOADED_OBJECTS", "1").output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(parse_linked(&said))
}

/// `libc.so.6 => /lib/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`
fn parse_linked(said: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let path = line.split_once("=>").map_or(line, |(_, path)| path).trim();
        let path = path.rsplit_once(" (").map_or(path, |(path, _)| path);
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    said.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_linker_says_is_understood() {
        let said = "\tlinux-vdso.so.1 (0x00007f748cded000)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x00007f7485b20000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f748cdef000)\n\tlibz.so => not found\n";
        let paths = [PathBuf::from("/lib/x/libm.so.6"), PathBuf::from("/lib64/ld-linux-x86-64.so.2")];
        assert_eq!(parse_linked(said), paths);
    }

    #[test]
    fn a_program_of_this_machine_links_to_something() {
        let files = linked(Path::new("/bin/sh")).unwrap();
        assert!(!files.is_empty() && files.iter().all(|file| file.exists()), "{files:?}");
    }
}
