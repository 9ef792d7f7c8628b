//! Namespaces of process ids: a cell is the first process of its own and sees no other.
//!
//! The first process of such a namespace is the next child of the thread that makes it. So the thread that starts cells
//! makes one for each and goes back to its own, and nobody has to stand between it and the cell: it remains the cell's
//! parent. That takes the right to administrate the system; an ordinary user could make one only in a user namespace, which a
//! process of several threads cannot enter.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// The way back to a thread's own namespace.
#[derive(Debug)]
pub(crate) struct Pids(File);

impl Pids {
    /// For the calling thread, where namespaces of process ids can be made and left.
    pub fn of_this_thread() -> Option<Self> {
        let pids = Self(File::open("/proc/thread-self/ns/pid").ok()?);
        pids.within(|| ()).is_ok().then_some(pids)
    }

    /// Calls `start`, whose first child is in a namespace of its own.
    pub fn within<T>(&self, start: impl FnOnce() -> T) -> io::Result<T> {
        // The safe form is deprecated because of flags that unshare file descriptors; this is another.
        #[expect(deprecated, reason = "only the namespace of children is unshared")]
        rustix::thread::unshare(UnshareFlags::NEWPID)?;
        let started = start();
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
        Ok(started)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_the_first_of_its_namespace_and_the_next_one_of_another() {
        let Some(pids) = Pids::of_this_thread() else {
            eprintln!("this machine lets nobody make a namespace of process ids: not tested");
            return;
        };
        let own = || {
            let output = Command::new("/bin/sh").args(["-c", "echo $$"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        for _ in 0..2 {
            assert_eq!(pids.within(own).unwrap(), "1\n");
        }
        assert_ne!(own(), "1\n");
    }
}
