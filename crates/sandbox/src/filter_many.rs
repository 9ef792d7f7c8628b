//! The system calls of a program of many processes that has a network of its own: those of an engine, and what it takes to be
//! several.

use libc::{AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_STREAM};
use seccompiler::{
    BackendError, BpfProgram, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, SeccompCmpOp::MaskedEq,
    SeccompCondition as Condition, SeccompRule,
};

use crate::filter::{ALWAYS, ALWAYS_HERE, NAMESPACES, Rules, compile};
use crate::jail::{JailError, Step};

/// Restricts this process and what it becomes.
pub(crate) fn restrict() -> Result<(), JailError> {
    let program = program().step("seccomp")?;
    seccompiler::apply_filter(&program).step("seccomp")
}

fn program() -> Result<BpfProgram, BackendError> {
    let all = ALWAYS.iter().chain(ALWAYS_HERE).chain(MORE).chain(MORE_HERE);
    let mut rules: Rules = all.map(|call| (*call, Vec::new())).collect();
    let is = |arg, value: i32| Condition::new(arg, Dword, Eq, u64::from(value.unsigned_abs()));
    let mut sockets = vec![SeccompRule::new(vec![is(0, AF_UNIX)?])?];
    for family in [AF_INET, AF_INET6] {
        for kind in [SOCK_STREAM, SOCK_DGRAM] {
            // The upper bits are flags.
            let kind = Condition::new(1, Dword, MaskedEq(0xf), u64::from(kind.unsigned_abs()))?;
            sockets.push(SeccompRule::new(vec![is(0, family)?, kind])?);
        }
    }
    // Threads and processes, but no namespaces.
    let none = Condition::new(0, Dword, MaskedEq(u64::from(NAMESPACES.unsigned_abs())), 0)?;
    rules.extend([
        (libc::SYS_socket, sockets),
        (libc::SYS_socketpair, vec![SeccompRule::new(vec![is(0, AF_UNIX)?])?]),
        (libc::SYS_clone, vec![SeccompRule::new(vec![none])?]),
    ]);
    compile(rules, libc::ENOSYS)
}

/// `kill` reaches who is in the same namespace of process ids, `ioctl` what is on the list of files; there are no terminals.
const MORE: &[i64] = &[
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_waitid,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    // They have none to give up, and gain none.
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_ioctl,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    // To whom is left to the network, in which nobody else is.
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_memfd_create,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_symlinkat,
    libc::SYS_renameat,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_copy_file_range,
    libc::SYS_readahead,
    libc::SYS_sync_file_range,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_timer_getoverrun,
];

#[cfg(target_arch = "x86_64")]
const MORE_HERE: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_creat,
    libc::SYS_symlink,
    libc::SYS_getpgrp,
    libc::SYS_inotify_init,
    libc::SYS_epoll_create,
    libc::SYS_eventfd,
    libc::SYS_getdents,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_chown,
    libc::SYS_alarm,
    libc::SYS_pause,
];
#[cfg(not(target_arch = "x86_64"))]
const MORE_HERE: &[i64] = &[];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::NEVER;

    #[test]
    fn the_filter_compiles_and_is_short_enough_for_the_kernel() {
        let length = program().unwrap().len();
        assert!((200..4096).contains(&length), "{length}");
    }

    #[test]
    fn what_leads_out_is_not_on_the_list() {
        let all: Vec<&i64> = ALWAYS.iter().chain(ALWAYS_HERE).chain(MORE).chain(MORE_HERE).collect();
        for call in NEVER {
            assert!(!all.contains(&call), "{call}");
        }
    }
}
