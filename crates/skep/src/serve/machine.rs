//! What the machine has, and how much of it is for what, where the command line does not say.

use skep_runtime::Bounds;

const MIB: u64 = 1 << 20;

/// How many processes half of the memory holds, at what an idle one and its share of work take.
pub fn cells_that_fit() -> usize {
    usize::try_from(memory() / 2 / (40 * MIB)).unwrap_or(usize::MAX).max(8)
}

/// What objects may take to be awake, where a script may have `mib` MiB or else an eighth of the memory: all scripts together a
/// quarter of it.
pub fn object_room(mib: Option<u32>) -> Bounds {
    object_room_in(memory(), mib)
}

fn object_room_in(memory: u64, mib: Option<u32>) -> Bounds {
    const LITTLE: u64 = 256 * MIB;
    let own = mib.map_or((memory / 8).max(LITTLE), |mib| u64::from(mib) * MIB);
    let [own, all, little] =
        [own, own.max(memory / 4), own.min(LITTLE)].map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    Bounds { own, all, little }
}

/// Cores that there are.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Bytes of memory that there are: the machine's, or what a container may have of it. A gigabyte if that is not known.
fn memory() -> u64 {
    const GROUPS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let group = GROUPS.iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    machine.unwrap_or(1 << 30).min(group.unwrap_or(u64::MAX))
}

/// Of the text of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let total =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))?;
    Some(total.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_a_part_of_the_memory_or_what_is_said() {
        let room = |gib: u64, mib| {
            let Bounds { own, all, little } = object_room_in(gib << 30, mib);
            [own, all, little].map(|bytes| bytes >> 20)
        };
        assert_eq!(room(24, None), [3072, 6144, 256]);
        assert_eq!(room(1, None), [256, 256, 256]);
        assert_eq!(room(24, Some(64)), [64, 6144, 64]);
        assert_eq!(room(8, Some(4096)), [4096, 4096, 256]);
    }

    #[test]
    fn the_memory_is_known() {
        assert_eq!(total("MemFree:  5 kB\nMemTotal:       24683724 kB\n"), Some(24_683_724 << 10));
        assert_eq!(total("MemTotal: much\n"), None);
        assert!(memory() > 64 * MIB && memory() < 1 << 50);
    }
}
