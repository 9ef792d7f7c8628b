//! How large an instance of a container is: Cloudflare's names for sizes. Pure.
//! <https://developers.cloudflare.com/containers/platform-details/limits/>

use serde_json::{Value as Json, json};

/// What an instance has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Processors.
    pub vcpu: f64,
    /// MiB of memory.
    pub memory_mib: u64,
    /// MB of disk.
    pub disk_mb: u64,
}

impl Size {
    /// One with these figures.
    pub const fn new(vcpu: f64, memory_mib: u64, disk_mb: u64) -> Self {
        Self { vcpu, memory_mib, disk_mb }
    }

    /// As `instance_type` of a configuration.
    pub fn to_json(self) -> Json {
        let Self { vcpu, memory_mib, disk_mb } = self;
        // Whole numbers are written as such.
        let vcpu = if vcpu.fract() == 0.0 { json!(vcpu as u64) } else { json!(vcpu) };
        json!({ "vcpu": vcpu, "memory_mib": memory_mib, "disk_mb": disk_mb })
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { vcpu, memory_mib, disk_mb } = self;
        write!(f, "{vcpu} vCPU, {memory_mib} MiB, {disk_mb} MB")
    }
}

/// The smallest one: what a limit is that is not set.
pub const LITE: Size = Size::new(0.0625, 256, 2000);

/// Cloudflare's names. `dev` and `standard` are old ones for `lite` and `standard-1`.
pub const NAMED: [(&str, Size); 8] = [
    ("lite", LITE),
    ("dev", LITE),
    ("basic", Size::new(0.25, 1024, 4000)),
    ("standard", Size::new(0.5, 4096, 4000)),
    ("standard-1", Size::new(0.5, 4096, 8000)),
    ("standard-2", Size::new(1.0, 6144, 12_000)),
    ("standard-3", Size::new(2.0, 8192, 16_000)),
    ("standard-4", Size::new(4.0, 12_288, 20_000)),
];

/// The size that Cloudflare means by a name.
pub fn named(name: &str) -> Option<Size> {
    NAMED.iter().find(|(known, _)| *known == name).map(|(_, size)| *size)
}
