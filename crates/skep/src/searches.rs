//! The process that searches full-text indexes of a D1 database, and what it may use.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use skep_d1::Apart;

/// The hidden subcommand under which `main` calls [`become_searcher`].
pub const COMMAND: &str = "__search";

/// Bytes of memory that it may write to: what a query that takes long may take, and its result.
const MEMORY: u64 = 384 << 20;
/// Bytes of a file, which is a temporary one.
const FILE: u64 = 1 << 30;
/// Seconds of CPU time for each statement. Skep ends it sooner by the clock; this is for one whose Skep was killed.
const CPU: u64 = 40;
/// Others have the processor first.
const NICE: i32 = 10;
/// What it is told of the environment: where temporary files may be. The allocator's is as in [`crate::images`].
const TOLD: [&str; 2] = ["SQLITE_TMPDIR", "TMPDIR"];

/// Processes that are this program.
pub fn apart() -> Result<Apart, String> {
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let mut env = vec![(OsString::from("MIMALLOC_ARENA_RESERVE"), OsString::from("0"))];
    env.extend(TOLD.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))));
    Ok(Apart { program, args: vec![COMMAND.into()], env })
}

/// Searches for whoever writes to its standard input.
pub fn become_searcher(args: &[OsString]) -> ExitCode {
    match search(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skep: no search: {error}");
            ExitCode::FAILURE
        }
    }
}

fn search(args: &[OsString]) -> io::Result<()> {
    let [file, log] = args else { return Err(io::Error::other("a database and what becomes of its log")) };
    // Where that may not be, it is as any other.
    let _ = nice(NICE);
    let set = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    set(Resource::Core, 0)?;
    set(Resource::Data, MEMORY)?;
    set(Resource::Fsize, FILE)?;
    let stdin = io::stdin().lock();
    skep_d1::work(Path::new(file), log == "keep", give_time, stdin, io::stdout().lock())
}

/// From now on it may use as much CPU time again.
fn give_time() {
    let used = u64::try_from(clock_gettime(ClockId::ProcessCPUTime).tv_sec).unwrap_or(0);
    let limit = Rlimit { current: Some(used + CPU), maximum: None };
    // It had a limit before, which is nearer.
    let _ = setrlimit(Resource::Cpu, limit);
}
