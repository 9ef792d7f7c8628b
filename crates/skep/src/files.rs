//! Files and connections that this process may have open.

/// Lets this process have as many files and connections open as the system allows. What service managers begin with, 1,024, is for
/// programs that use `select`; processes of scripts have a limit of their own.
pub fn open_many() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit of open files stays what it is");
    }
}
