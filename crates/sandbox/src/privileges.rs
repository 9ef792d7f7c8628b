//! Capabilities, the promise not to gain any, and resource limits.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set, remove_capability_from_bounding_set,
    set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
};

use crate::jail::{JailError, Step};

/// Sockets, connections and SQLite files: three of them per live object.
const OPEN_FILES: u64 = 1 << 16;

/// Bytes of a file, and so of an object's storage: Cloudflare's 10 GB.
/// <https://developers.cloudflare.com/durable-objects/platform/limits/>
const FILE: u64 = 10_000_000_000;

/// No core dumps, as many open files as there may be, and none too large.
pub(crate) fn limit_resources() -> Result<(), JailError> {
    skep_intercept::survive_large_files().step("large files")?;
    setrlimit(Resource::Fsize, Rlimit { current: Some(FILE), maximum: Some(FILE) }).step("large files")?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).step("core dumps")?;
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: Some(hard) }).step("open files")
}

/// Lets the process `pid` write no file beyond `bytes` of it from now on; `None`: as large as cells may at most. What it
/// has open is no exception.
pub fn limit_files(pid: u32, bytes: Option<u64>) -> std::io::Result<()> {
    let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).ok_or_else(gone)?;
    let limit = Rlimit { current: Some(bytes.unwrap_or(FILE).min(FILE)), maximum: Some(FILE) };
    rustix::process::prlimit(Some(pid), Resource::Fsize, limit)?;
    Ok(())
}

/// What setting up namespaces takes, and giving it up afterwards.
const SETUP: [CapabilitySet; 3] =
    [CapabilitySet::SYS_ADMIN, CapabilitySet::NET_ADMIN, CapabilitySet::SETPCAP];

/// Keeps them for what this process becomes or starts by `exec`, which takes them from whoever is not root. In a user namespace of one's own
/// they mean nothing outside.
pub(crate) fn keep_for_setup() -> Result<(), JailError> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let held = capabilities(None).step("capabilities")?;
    set_capabilities(None, CapabilitySets { inheritable: held.permitted, ..held }).step("capabilities")?;
    SETUP
        .iter()
        .try_for_each(|one| configure_capability_in_ambient_set(*one, true).step("ambient capabilities"))
}

/// Gives up all capabilities of this process and of what it will become.
pub(crate) fn drop_all() -> Result<(), JailError> {
    let held = capabilities(None).step("capabilities")?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        // Being root gives no capabilities back at `exec`, also where it is a file's.
        set_capabilities_secure_bits(
            CapabilitiesSecureBits::NO_ROOT
                | CapabilitiesSecureBits::NO_ROOT_LOCKED
                | CapabilitiesSecureBits::NO_SETUID_FIXUP
                | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
                | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
                | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
        )
        .step("secure bits")?;
        for bit in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            match capability_is_in_bounding_set(one) {
                Ok(true) => remove_capability_from_bounding_set(one).step("the bounding set")?,
                Ok(false) => {}
                // The kernel knows no more.
                Err(_) => break,
            }
        }
        clear_ambient_capability_set().step("ambient capabilities")?;
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).step("capabilities")?;
    set_no_new_privs(true).step("no_new_privs")
}
