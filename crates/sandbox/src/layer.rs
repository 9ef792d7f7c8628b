//! The layers of a jail: each holds by itself, so that a hole in one is not a way out.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// One way to hold a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// No capabilities, no way to gain any, no core dumps.
    Privileges,
    /// Users of its own: what it is allowed there means nothing outside.
    UserNamespace,
    /// A root folder of its own, in which only its files are.
    MountNamespace,
    /// System V IPC of its own.
    IpcNamespace,
    /// A host name of its own.
    UtsNamespace,
    /// A network of its own, in which nobody else is: for processes that need none.
    NetworkNamespace,
    /// Rules on files, ports and signals, kept by the kernel's Landlock.
    Landlock,
    /// A list of the system calls that it may make.
    Seccomp,
    /// Connections that the process which made the jail opens for it, where it finds the address allowed.
    Connections,
    /// A limit of memory that the kernel keeps.
    MemoryGroup,
    /// A share of the CPU.
    CpuGroup,
    /// A limit of threads.
    ThreadGroup,
}

/// Some layers.
pub type Layers = BTreeSet<Layer>;

impl Layer {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Privileges,
        Self::UserNamespace,
        Self::MountNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::NetworkNamespace,
        Self::Landlock,
        Self::Seccomp,
        Self::Connections,
        Self::MemoryGroup,
        Self::CpuGroup,
        Self::ThreadGroup,
    ];

    /// What it is called, and why it may be missing.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Privileges => "capabilities cannot be dropped",
            Self::UserNamespace => {
                "no user namespaces (a container's seccomp profile or a sysctl forbids them)"
            }
            Self::MountNamespace => "no mount namespaces: the file system is not hidden",
            Self::IpcNamespace => "no IPC namespaces",
            Self::UtsNamespace => "no UTS namespaces",
            Self::NetworkNamespace => "no network namespaces",
            Self::Landlock => "no Landlock (Linux 5.13 with `landlock` among its security modules has it)",
            Self::Seccomp => "no seccomp filters",
            Self::Connections => {
                "Skep cannot open connections for workers (Linux 5.6 can; a container's seccomp profile or the right to \
                 trace its own children may be in the way): only the engine checks addresses"
            }
            Self::MemoryGroup => "no control group for memory: limits are kept by looking, some 100 ms late",
            Self::CpuGroup => "no control group for the CPU",
            Self::ThreadGroup => "no control group for threads",
        }
    }

    /// Whether it is a namespace.
    pub(crate) fn is_namespace(self) -> bool {
        matches!(
            self,
            Self::UserNamespace
                | Self::MountNamespace
                | Self::IpcNamespace
                | Self::UtsNamespace
                | Self::NetworkNamespace
        )
    }
}
