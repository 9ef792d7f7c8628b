//! A process that computes: it reads and writes what it has open, and does nothing else.

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use seccompiler::{
    BackendError, BpfProgram, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, SeccompCondition, SeccompRule,
};

use crate::filter::{Rules, compile};
use crate::jail::{JailError, Step};
use crate::privileges;

/// What a sealed process may use.
#[derive(Clone, Copy, Debug)]
pub struct Sealed {
    /// Bytes of memory that it may write to (`RLIMIT_DATA`). What is over it is refused, which ends most programs.
    pub memory: u64,
    /// Seconds of CPU time; then it is killed.
    pub cpu_secs: u64,
    /// How far it stands back behind others that want the CPU: 0 to 19.
    pub nice: i32,
}

/// Seals this process for good. No files, sockets, other processes or threads from here on, and no way to gain any right: the
/// kernel keeps it, by a list of system calls that is far shorter than that of a cell. On an error it is partly sealed and
/// must end.
pub fn seal(limits: Sealed) -> Result<(), JailError> {
    nice(limits.nice).step("the priority")?;
    let set = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    set(Resource::Core, 0).step("core dumps")?;
    set(Resource::Fsize, 0).step("files")?;
    set(Resource::Data, limits.memory).step("memory")?;
    set(Resource::Cpu, limits.cpu_secs).step("CPU time")?;
    privileges::drop_all()?;
    let program = program(std::process::id()).step("seccomp")?;
    seccompiler::apply_filter(&program).step("seccomp")
}

fn program(pid: u32) -> Result<BpfProgram, BackendError> {
    let mut rules: Rules = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    // `abort` signals itself.
    let own = SeccompCondition::new(0, Dword, Eq, pid.into())?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![own])?]);
    compile(rules, libc::EPERM)
}

const ALWAYS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles() {
        assert!((20..500).contains(&program(1).unwrap().len()));
    }

    #[test]
    fn nothing_can_be_opened_or_started() {
        for call in [
            libc::SYS_openat,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_execve,
            libc::SYS_kill,
            libc::SYS_ptrace,
            libc::SYS_prctl,
            libc::SYS_prlimit64,
            libc::SYS_ioctl,
            libc::SYS_io_uring_setup,
            libc::SYS_memfd_create,
        ] {
            assert!(!ALWAYS.contains(&call), "{call}");
        }
    }
}
