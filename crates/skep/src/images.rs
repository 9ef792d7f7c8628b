//! The process that works on an image, and how it is locked up.

use std::ffi::OsString;
use std::process::ExitCode;

use skep_images::{Images, Worker};
use skep_sandbox::Sealed;

/// The hidden subcommand under which `main` calls [`become_worker`].
pub const COMMAND: &str = "__image";

/// What one process may use. The largest image of 100 megapixels has 400 MB, and becomes another one. CPU time bounds what a
/// few bytes can ask for.
const LIMITS: Sealed = Sealed { memory: 1 << 30, cpu_secs: 10, nice: 10 };
/// Processes at once: as many as there are cores, but no more, for their memory.
const MOST: usize = 4;

/// For our allocator: what it takes ahead counts as used.
const ENVIRONMENT: [(&str, &str); 1] = [("MIMALLOC_ARENA_RESERVE", "0")];

/// The binding's servers, whose processes are this program.
pub fn open() -> Result<Images, String> {
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let env = ENVIRONMENT.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let worker = Worker { program, args: vec![COMMAND.into()], env: env.into() };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Images::new(worker, cores.min(MOST)))
}

/// Locks this process up and does what it is told on its standard input.
pub fn become_worker() -> ExitCode {
    // Nobody reads what a panic has to say, and it looks for files to say it.
    std::panic::set_hook(Box::new(|_| {}));
    let sealed = skep_sandbox::seal(LIMITS).map_err(|error| error.to_string());
    let done = sealed.and_then(|()| {
        skep_images::work(std::io::stdin().lock(), std::io::stdout().lock())
            .map_err(|error| error.to_string())
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skep: no image: {error}");
            ExitCode::FAILURE
        }
    }
}
