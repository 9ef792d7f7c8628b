//! Calls of the kernel that have no safe form anywhere: most of them let one process decide on system calls of another.
//!
//! A process [`install`]s a filter for some calls and passes the [`Listener`] on. Whoever has it learns of each such call,
//! by whatever thread of that process and of what it becomes by `exec`, and says what the call returns; the kernel
//! itself does nothing. Linux 5.5 and newer, seccomp_unotify(2).
//!
//! This is the one crate with unsafe code: neither the standard library nor rustix has these calls. All of it is below.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// `SECCOMP_IOCTL_NOTIF_RECV`, `…_SEND` and `…_ID_VALID` of <linux/seccomp.h>.
const RECEIVE: libc::Ioctl = ioctl_number(3, 0, size_of::<libc::seccomp_notif>());
const SEND: libc::Ioctl = ioctl_number(3, 1, size_of::<libc::seccomp_notif_resp>());
const ID_VALID: libc::Ioctl = ioctl_number(1, 2, size_of::<u64>());

/// `_IOC(direction, '!', number, size)` of <asm-generic/ioctl.h>, which x86-64 and arm64 use.
const fn ioctl_number(direction: u32, number: u32, size: usize) -> libc::Ioctl {
    ((direction << 30) | ((size as u32) << 16) | ((b'!' as u32) << 8) | number) as libc::Ioctl
}

/// The architecture's name in filters: system calls have other numbers elsewhere.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Waits for calls, and answers them. When it is closed, the calls return `ENOSYS`.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// By which to answer it.
    pub id: u64,
    /// Which system call.
    pub number: i64,
    /// Its arguments. Pointers are into the caller's memory.
    pub args: [u64; 6],
}

/// What [`Listener::next`] found.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// A call.
    Call(Call),
    /// Nothing at the moment.
    Nothing,
    /// The process and all that it became have ended.
    Ended,
}

/// Has this process, and what it becomes by `exec`, live on when it writes beyond `RLIMIT_FSIZE`: the write fails.
pub fn survive_large_files() -> io::Result<()> {
    // SAFETY: signal(2) with `SIG_IGN` installs no code.
    match unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether the calling thread is scheduled as threads usually are (`SCHED_OTHER`): nobody has chosen anything else for it.
pub fn is_scheduled_as_usual() -> bool {
    // SAFETY: sched_getscheduler(2) takes no pointer.
    let policy = unsafe { libc::sched_getscheduler(0) };
    policy == libc::SCHED_OTHER
}

/// Whether the calling thread leaves others the processor when it wakes up (`SCHED_BATCH`), or may take it from them
/// (`SCHED_OTHER`); sched(7). What it starts begins as it is itself.
pub fn give_way(gives: bool) -> io::Result<()> {
    let policy = if gives { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: sched_setscheduler(2) reads the parameters, which outlive the call, and writes nothing.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Hands `calls` of this process, whatever it becomes and its future children to the listener. It must have one thread and
/// have given up gaining privileges (`no_new_privs`).
pub fn install(calls: &[i64]) -> io::Result<Listener> {
    let program = program(calls)?;
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let install = |flags: libc::c_ulong| {
        // SAFETY: seccomp(2) reads `program` and the instructions it points to, which both outlive the call, and writes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                std::ptr::from_ref(&program),
            )
        }
    };
    let listen = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // A call that was received is not taken back for a signal that does not end the process; since Linux 5.19.
    let mut descriptor = install(listen | WAIT_KILLABLE);
    if descriptor < 0 {
        descriptor = install(listen);
    }
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
    Ok(Listener(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
const WAIT_KILLABLE: libc::c_ulong = 1 << 5;

fn program(calls: &[i64]) -> io::Result<Vec<libc::sock_filter>> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |offset: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let end = |action: u32| statement(libc::BPF_RET | libc::BPF_K, action);
    let unless = |k: u32| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: 1,
        k,
    };
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    // The architecture is at 4 in seccomp_data, the call's number at 0.
    let is_ours = libc::sock_filter { jt: 1, jf: 0, ..unless(ARCHITECTURE) };
    let mut program = vec![load(4), is_ours, end(missing), load(0)];
    for call in calls {
        program.push(unless(u32::try_from(*call).map_err(io::Error::other)?));
        program.push(end(libc::SECCOMP_RET_USER_NOTIF));
    }
    program.push(end(libc::SECCOMP_RET_ALLOW));
    Ok(program)
}

impl Listener {
    /// The listener in a descriptor that came from another process.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The next call that waits. Does not block; when the descriptor is readable, there is one.
    pub fn next(&self) -> io::Result<Next> {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        let ready = polled.first().map_or(PollFlags::empty(), PollFd::revents);
        if !ready.contains(PollFlags::IN) {
            let ended = ready.intersects(PollFlags::HUP | PollFlags::ERR);
            return Ok(if ended { Next::Ended } else { Next::Nothing });
        }
        // SAFETY: all bytes zero is a value of this structure of integers; the kernel asks for it.
        let mut call: libc::seccomp_notif = unsafe { zeroed() };
        match self.control(RECEIVE, std::ptr::from_mut(&mut call).cast()) {
            Ok(()) => {}
            // Its thread ended in the meantime, or a signal came.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                return Ok(Next::Nothing);
            }
            Err(error) => return Err(error),
        }
        Ok(Next::Call(Call { id: call.id, number: call.data.nr.into(), args: call.data.args }))
    }

    /// Whether the call still waits: otherwise its thread has ended, and what was read of its memory may be somebody else's.
    pub fn waits(&self, call: &Call) -> bool {
        let mut id = call.id;
        self.control(ID_VALID, std::ptr::from_mut(&mut id).cast()).is_ok()
    }

    /// Lets the call return `value`, or fail with an error number. One that no longer waits is no error.
    pub fn answer(&self, call: &Call, result: Result<i64, i32>) -> io::Result<()> {
        let (val, error) = match result {
            Ok(value) => (value, 0),
            Err(number) => (0, -number),
        };
        let mut response = libc::seccomp_notif_resp { id: call.id, val, error, flags: 0 };
        match self.control(SEND, std::ptr::from_mut(&mut response).cast()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// `argument` points to what `request` takes.
    fn control(&self, request: libc::Ioctl, argument: *mut libc::c_void) -> io::Result<()> {
        // SAFETY: all three callers pass a pointer to a live structure of the size that is in their request's number, which is
        // all that the kernel reads and writes.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_numbers_of_the_kernel() {
        assert_eq!(RECEIVE as u32, 0xc050_2100);
        assert_eq!(SEND as u32, 0xc018_2101);
        assert_eq!(ID_VALID as u32, 0x4008_2102);
    }

    #[test]
    fn the_filter_names_each_call() {
        let program = program(&[1, 42]).unwrap();
        assert_eq!(program.len(), 4 + 2 * 2 + 1);
        assert_eq!(program.iter().filter(|i| i.k == libc::SECCOMP_RET_USER_NOTIF).count(), 2);
    }
}
