//! The system calls that an engine needs, and no others: what is not on the list does not exist (`ENOSYS`), which is
//! what libraries expect of an older kernel.

use std::collections::BTreeMap;

use libc::{
    AF_INET, AF_INET6, AF_UNIX, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID,
    CLONE_NEWUSER, CLONE_NEWUTS, CLONE_THREAD, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpArgLen::Qword,
    SeccompCmpOp::Eq, SeccompCmpOp::MaskedEq, SeccompCondition as Condition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::jail::{JailError, Step};

pub(crate) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Restricts this process and what it becomes. `exec` itself is possible; of what, Landlock and the root folder say.
pub(crate) fn restrict(network: bool) -> Result<(), JailError> {
    let program = program(network, std::process::id()).step("seccomp")?;
    seccompiler::apply_filter(&program).step("seccomp")
}

fn program(network: bool, pid: u32) -> Result<BpfProgram, BackendError> {
    let mut rules: Rules = ALWAYS.iter().chain(ALWAYS_HERE).map(|call| (*call, Vec::new())).collect();
    rules.extend(conditional(network, pid)?);
    compile(rules, libc::ENOSYS)
}

/// The program that allows what `rules` have; all else fails with the error `missing`.
pub(crate) fn compile(rules: Rules, missing: libc::c_int) -> Result<BpfProgram, BackendError> {
    let missing = SeccompAction::Errno(missing.unsigned_abs());
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, missing, SeccompAction::Allow, arch)?.try_into()
}

/// The namespaces that a new thread or process may not have of its own.
pub(crate) const NAMESPACES: libc::c_int =
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

/// Calls that are dangerous with the wrong arguments.
fn conditional(network: bool, pid: u32) -> Result<Rules, BackendError> {
    let is = |arg, value: i32| Condition::new(arg, Dword, Eq, u64::from(value.unsigned_abs()));
    let one_of = |arg, values: &[i32]| -> Result<Vec<SeccompRule>, BackendError> {
        values.iter().map(|value| SeccompRule::new(vec![is(arg, *value)?])).collect()
    };
    let pid = pid.cast_signed();
    let mut sockets = one_of(0, &[AF_UNIX])?;
    if network {
        for family in [AF_INET, AF_INET6] {
            for kind in [SOCK_STREAM, SOCK_DGRAM] {
                // The upper bits are flags.
                let kind = Condition::new(1, Dword, MaskedEq(0xf), u64::from(kind.unsigned_abs()))?;
                // No protocol that is connected otherwise than by `connect`.
                for protocol in [0, IPPROTO_TCP, IPPROTO_UDP] {
                    sockets.push(SeccompRule::new(vec![is(0, family)?, kind.clone(), is(2, protocol)?])?);
                }
            }
        }
    }
    // Threads only: no processes, no namespaces.
    let kinds = NAMESPACES | CLONE_THREAD;
    let thread = u64::from(CLONE_THREAD.unsigned_abs());
    let threads = Condition::new(0, Dword, MaskedEq(u64::from(kinds.unsigned_abs())), thread)?;
    Ok(BTreeMap::from([
        (libc::SYS_socket, sockets),
        // To whom the socket is connected; an address would be a way around `connect`. So would be those of `sendmsg` and
        // `sendmmsg`, which are in memory: these calls are not there.
        (libc::SYS_sendto, vec![SeccompRule::new(vec![Condition::new(4, Qword, Eq, 0)?])?]),
        (libc::SYS_socketpair, one_of(0, &[AF_UNIX])?),
        (libc::SYS_clone, vec![SeccompRule::new(vec![threads])?]),
        // Signals to itself, as `abort` sends them.
        (libc::SYS_kill, one_of(0, &[pid])?),
        (libc::SYS_tgkill, one_of(0, &[pid])?),
        (libc::SYS_prlimit64, one_of(0, &[0, pid])?),
        (libc::SYS_sched_getaffinity, Vec::new()),
        (
            libc::SYS_prctl,
            one_of(0, &[libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_GET_DUMPABLE])?,
        ),
        (libc::SYS_ioctl, one_of(1, IOCTLS)?),
    ]))
}

/// Of pipes and sockets, and whether something is a terminal.
const IOCTLS: &[i32] = &[0x5401, 0x541b, 0x5421, 0x5450, 0x5451];

pub(crate) const ALWAYS: &[i64] = &[
    // Files.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_umask,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // V8 guards its generated code with them.
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    // Threads and signals.
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getcpu,
    libc::SYS_sched_yield,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_restart_syscall,
    libc::SYS_wait4,
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_delete,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // Events and sockets.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    // The machine.
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    libc::SYS_times,
];

/// Older forms of the same, which newer architectures do without.
#[cfg(target_arch = "x86_64")]
pub(crate) const ALWAYS_HERE: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_time,
    libc::SYS_getrlimit,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
];
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const ALWAYS_HERE: &[i64] = &[];

/// What no program gets.
#[cfg(test)]
pub(crate) const NEVER: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_clone3,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_init_module,
    libc::SYS_setuid,
    libc::SYS_seccomp,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    libc::SYS_shmget,
    libc::SYS_msgget,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_is_short_enough_for_the_kernel() {
        for network in [false, true] {
            let length = program(network, 1).unwrap().len();
            assert!((200..4096).contains(&length), "{length}");
        }
    }

    #[test]
    fn what_leads_out_is_not_on_the_list() {
        // A program of one process needs none of these either.
        let more = [
            libc::SYS_memfd_create,
            libc::SYS_capset,
            // They take addresses that no filter can see.
            libc::SYS_sendmsg,
            libc::SYS_sendmmsg,
        ];
        for call in NEVER.iter().copied().chain(more) {
            assert!(!ALWAYS.contains(&call) && !ALWAYS_HERE.contains(&call), "{call}");
            assert!(!conditional(true, 1).unwrap().contains_key(&call), "{call}");
        }
    }
}
