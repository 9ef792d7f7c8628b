//! Control groups: what a process may use of memory, CPU and threads, kept by the kernel. Version 2 or version 1 of
//! them, as the machine has it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::jail::{JailError, Step};
use crate::layer::Layer;

/// What one group may use.
#[derive(Clone, Copy, Debug)]
pub struct GroupLimits {
    /// Bytes of memory, without swap. What is over it ends the process.
    pub memory: u64,
    /// Threads.
    pub threads: u32,
    /// Cores that it may keep busy at once, if it is not to have all of them.
    pub cores: Option<u32>,
}

/// One kind of limit, and the folder below which groups for it are made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    folder: PathBuf,
    unified: bool,
    layers: Vec<Layer>,
}

/// The groups of this process's children.
#[derive(Debug)]
pub struct Groups {
    hierarchies: Vec<Hierarchy>,
    next: AtomicU64,
}

/// A group for one process; removed when dropped, which takes effect when the process is gone.
#[derive(Debug)]
pub struct Group {
    /// One in each hierarchy.
    folders: Vec<PathBuf>,
    // What it is in is not removed before it.
    groups: Arc<Groups>,
}

const CONTROLLERS: [(&str, Layer); 3] =
    [("memory", Layer::MemoryGroup), ("cpu", Layer::CpuGroup), ("pids", Layer::ThreadGroup)];
const PREFIX: &str = "skep-";
/// The group that shows whether groups take processes.
const TRIAL: &str = "trial";
/// The length of the time slices in which a limit of cores counts, in microseconds.
const PERIOD: u64 = 100_000;

impl Groups {
    /// Makes the group that the others will be in, as far as this machine lets us. What a group can be made in may still be
    /// closed to processes (from a namespace of control groups, where the mount is another one's): `child` is put in each, and
    /// has to end afterwards, before [`Self::settle`].
    pub fn find(child: u32) -> Arc<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let places = places(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let hierarchies = places.into_iter().filter_map(|place| match place.unified {
            true => prepare_unified(place, child),
            false => prepare_controller(place),
        });
        let open = hierarchies.filter(|hierarchy| hierarchy.takes(child));
        Arc::new(Self { hierarchies: open.collect(), next: AtomicU64::new(0) })
    }

    /// The child has ended.
    pub(crate) fn settle(&self) {
        for hierarchy in &self.hierarchies {
            let _ = std::fs::remove_dir(hierarchy.folder.join(TRIAL));
        }
    }

    /// None at all.
    pub fn none() -> Arc<Self> {
        Arc::new(Self { hierarchies: Vec::new(), next: AtomicU64::new(0) })
    }

    /// What can be limited.
    pub(crate) fn layers(&self) -> impl Iterator<Item = Layer> {
        self.hierarchies.iter().flat_map(|hierarchy| hierarchy.layers.iter().copied())
    }

    /// Makes a group for one process, without limits.
    pub fn make(self: &Arc<Self>) -> io::Result<Group> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let mut group = Group { folders: Vec::new(), groups: self.clone() };
        for hierarchy in &self.hierarchies {
            let folder = hierarchy.folder.join(&name);
            std::fs::create_dir(&folder)?;
            group.folders.push(folder);
        }
        Ok(group)
    }
}

impl Hierarchy {
    /// Whether a process can be put in a group here; if not, nothing is left of it.
    fn takes(&self, child: u32) -> bool {
        let trial = self.folder.join(TRIAL);
        let entered = std::fs::create_dir(&trial)
            .and_then(|()| std::fs::write(trial.join("cgroup.procs"), child.to_string()));
        if entered.is_err() {
            let _ = std::fs::remove_dir(&trial);
            let _ = std::fs::remove_dir(&self.folder);
        }
        entered.is_ok()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for hierarchy in &self.hierarchies {
            let _ = std::fs::remove_dir(&hierarchy.folder);
        }
    }
}

impl Group {
    /// Sets these limits, once, as far as they can be had.
    pub fn limit(&self, limits: &GroupLimits) -> io::Result<()> {
        for (folder, hierarchy) in self.folders.iter().zip(&self.groups.hierarchies) {
            for layer in &hierarchy.layers {
                limit(folder, hierarchy.unified, *layer, limits)?;
            }
        }
        Ok(())
    }

    /// The files that a process writes to in order to enter.
    pub fn entrances(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// Has its processes run only when no others want to, or as others do. Not every kernel can.
    pub fn run_last(&self, last: bool) {
        for folder in &self.folders {
            let file = folder.join("cpu.idle");
            if file.exists() {
                let _ = std::fs::write(file, if last { "1" } else { "0" });
            }
        }
    }

    /// Whether the kernel has ended a process in it for want of memory.
    pub fn ran_out_of_memory(&self) -> bool {
        let files = self.folders.iter().flat_map(|f| [f.join("memory.events"), f.join("memory.oom_control")]);
        let counts = files.filter_map(|file| std::fs::read_to_string(file).ok());
        counts.into_iter().any(|text| {
            text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
        })
    }
}

/// Puts this process into groups, by their [entrances](Group::entrances).
pub(crate) fn enter(entrances: &[PathBuf]) -> Result<(), JailError> {
    entrances.iter().try_for_each(|group| std::fs::write(group, "0").step("the control group"))
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Where a group for this process's children may be made: the group that it is in itself.
fn places(mounts: &str, own: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let unified = names.is_empty();
        let layers: Vec<Layer> = CONTROLLERS
            .into_iter()
            .filter(|(name, _)| unified || names.split(',').any(|n| n == *name))
            .map(|(_, layer)| layer)
            .collect();
        // A mount of what our own group is not below leads to others' groups.
        let mounted = mounts.lines().find_map(|mount| {
            let (root, point) = mount_of(mount, unified, names)?;
            Some((Path::new(path).strip_prefix(root).ok()?, point))
        });
        if let (false, Some((below, point))) = (layers.is_empty(), mounted) {
            found.push(Hierarchy { folder: Path::new(point).join(below), unified, layers });
        }
    }
    found
}

/// The root and the mount point of a line of `/proc/self/mountinfo`, if it is the hierarchy of `names`.
fn mount_of<'a>(line: &'a str, unified: bool, names: &str) -> Option<(&'a str, &'a str)> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut fields = after.split(' ');
    let (kind, options) = (fields.next()?, fields.nth(1)?);
    let has_all = || names.split(',').all(|name| options.split(',').any(|option| option == name));
    let matches = match unified {
        true => kind == "cgroup2",
        false => kind == "cgroup" && has_all(),
    };
    matches.then_some((root, point))
}

fn own_name() -> String {
    format!("{PREFIX}{}", std::process::id())
}

/// Removes groups of those who died without doing it.
fn remove_stale(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !is_alive(pid)) {
            for child in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(child.path());
            }
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

/// Whether there is such a process and it has not ended; one that nobody has waited for yet has.
fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

/// A process, its parent, and so on, as far as can be seen.
fn line_of_descent(pid: u32) -> Vec<String> {
    let parent = |pid: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.to_owned();
        (parent != "0").then_some(parent)
    };
    std::iter::successors(Some(pid.to_string()), parent).take(64).collect()
}

/// Version 1: a hierarchy per controller.
fn prepare_controller(place: Hierarchy) -> Option<Hierarchy> {
    remove_stale(&place.folder);
    let folder = place.folder.join(own_name());
    std::fs::create_dir(&folder).ok()?;
    Some(Hierarchy { folder, ..place })
}

/// Version 2: one hierarchy, in which only groups without processes hand controllers on.
fn prepare_unified(place: Hierarchy, child: u32) -> Option<Hierarchy> {
    remove_stale(&place.folder);
    let listed = std::fs::read_to_string(place.folder.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| listed.split_whitespace().any(|listed| listed == name);
    let (names, layers): (Vec<&str>, Vec<Layer>) =
        CONTROLLERS.into_iter().filter(|(name, _)| has(name)).unzip();
    if names.is_empty() {
        return None;
    }
    let all = names.iter().map(|name| format!("+{name} ")).collect::<String>();
    let folder = place.folder.join(own_name());
    std::fs::create_dir(&folder).ok()?;
    let hand_on = |group: &Path| std::fs::write(group.join("cgroup.subtree_control"), all.trim_end());
    let here = place.folder.join("cgroup.procs");
    // A child of ours is in the same group as we are.
    let own = line_of_descent(child);
    let handed_on = hand_on(&place.folder).or_else(|_| {
        // We are in the way ourselves, and who started us and waits, such as a shell or a container's first process.
        let node = place.folder.join(format!("{}-node", own_name()));
        std::fs::create_dir(&node)?;
        let there = std::fs::read_to_string(&here)?;
        for pid in there.lines().filter(|pid| own.iter().any(|own| own == pid)) {
            std::fs::write(node.join("cgroup.procs"), pid)?;
        }
        hand_on(&place.folder)
    });
    match handed_on.and_then(|()| hand_on(&folder)) {
        Ok(()) => Some(Hierarchy { folder, layers, ..place }),
        Err(_) => {
            // As it was: others are in the way too.
            let node = place.folder.join(format!("{}-node", own_name())).join("cgroup.procs");
            for pid in std::fs::read_to_string(node).unwrap_or_default().lines() {
                let _ = std::fs::write(&here, pid);
            }
            let _ = std::fs::remove_dir(place.folder.join(format!("{}-node", own_name())));
            let _ = std::fs::remove_dir(&folder);
            None
        }
    }
}

fn limit(folder: &Path, unified: bool, layer: Layer, limits: &GroupLimits) -> io::Result<()> {
    let write = |file: &str, value: String| std::fs::write(folder.join(file), value);
    match (layer, unified) {
        (Layer::MemoryGroup, true) => {
            write("memory.max", limits.memory.to_string())?;
            // Not every kernel counts swap.
            let _ = write("memory.swap.max", "0".into());
            Ok(())
        }
        (Layer::MemoryGroup, false) => {
            write("memory.limit_in_bytes", limits.memory.to_string())?;
            let _ = write("memory.memsw.limit_in_bytes", limits.memory.to_string());
            Ok(())
        }
        (Layer::CpuGroup, true) => match limits.cores {
            Some(cores) => write("cpu.max", format!("{} {PERIOD}", u64::from(cores) * PERIOD)),
            None => Ok(()),
        },
        (Layer::CpuGroup, false) => match limits.cores {
            Some(cores) => {
                write("cpu.cfs_period_us", PERIOD.to_string())?;
                write("cpu.cfs_quota_us", (u64::from(cores) * PERIOD).to_string())
            }
            None => Ok(()),
        },
        _ => write("pids.max", limits.threads.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn the_groups_of_version_1_are_found_where_they_are_mounted() {
        let own = "4:memory:/docker/x/in\n2:cpu,cpuacct:/a\n9:name=systemd:/b\n0::/";
        let found = places(V1, own);
        let folders: Vec<&str> = found.iter().map(|h| h.folder.to_str().unwrap()).collect();
        let expected =
            ["/sys/fs/cgroup/memory/in", "/sys/fs/cgroup/cpu,cpuacct/a", "/sys/fs/cgroup/unified/"];
        assert_eq!(folders, expected);
        assert_eq!(found[0].layers, [Layer::MemoryGroup]);
        assert_eq!(found[1].layers, [Layer::CpuGroup]);
    }

    #[test]
    fn a_mount_of_others_groups_is_not_ours() {
        // As it is in a namespace of control groups that the mount is older than.
        let mounts = "41 31 0:38 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                      42 31 0:38 / /run/own rw - cgroup2 cgroup2 rw";
        let folders: Vec<_> = places(mounts, "0::/").into_iter().map(|place| place.folder).collect();
        assert_eq!(folders, [Path::new("/run/own/")]);
        assert_eq!(places(mounts.lines().next().unwrap(), "0::/"), []);
    }

    #[test]
    fn a_place_that_takes_no_process_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        std::fs::create_dir(&own).unwrap();
        let hierarchy = Hierarchy { folder: own.clone(), unified: true, layers: Vec::new() };
        assert!(hierarchy.takes(std::process::id()));
        std::fs::remove_dir_all(&own).unwrap();
        assert!(!hierarchy.takes(std::process::id()));
        // Only a folder can be made, as in a group that processes cannot be moved to.
        std::fs::create_dir_all(own.join(TRIAL).join("cgroup.procs")).unwrap();
        assert!(!hierarchy.takes(std::process::id()));
    }

    #[test]
    fn who_started_us_is_in_our_line() {
        let line = line_of_descent(std::process::id());
        assert_eq!(line[0], std::process::id().to_string());
        assert!(line.len() > 1 && !line.contains(&"0".to_owned()), "{line:?}");
    }

    #[test]
    fn version_2_hands_its_controllers_on_and_takes_limits() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cgroup.controllers"), "cpuset cpu io memory pids").unwrap();
        let mount = format!("41 31 0:38 / {} rw - cgroup2 cgroup2 rw", folder.path().display());
        let [place] = &places(&mount, "0::/")[..] else { panic!("not found") };
        let hierarchy = prepare_unified(place.clone(), std::process::id()).unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&folder.path().join("cgroup.subtree_control")), "+memory +cpu +pids");
        let groups = Arc::new(Groups { hierarchies: vec![hierarchy.clone()], next: AtomicU64::new(0) });
        let group = groups.make().unwrap();
        let own = hierarchy.folder.join("0");
        assert!(!own.join("memory.max").exists(), "not yet");
        group.limit(&GroupLimits { memory: 1 << 20, threads: 9, cores: Some(2) }).unwrap();
        assert_eq!(read(&own.join("memory.max")), "1048576");
        assert_eq!(read(&own.join("pids.max")), "9");
        assert_eq!(read(&own.join("cpu.max")), "200000 100000");
        assert_eq!(group.entrances(), [own.join("cgroup.procs")]);
        assert!(!group.ran_out_of_memory());
        std::fs::write(own.join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        assert!(group.ran_out_of_memory());
        group.run_last(true);
        assert!(!own.join("cpu.idle").exists(), "this kernel cannot");
        std::fs::write(own.join("cpu.idle"), "0").unwrap();
        group.run_last(true);
        assert_eq!(read(&own.join("cpu.idle")), "1");
    }

    #[test]
    fn groups_of_the_dead_are_removed_and_those_of_the_living_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        let name = |pid: u32| format!("{PREFIX}{pid}");
        for group in [name(dead.id()), format!("{}-node", name(dead.id())), own_name(), "other".into()] {
            std::fs::create_dir_all(folder.path().join(group).join("0")).unwrap();
        }
        while is_alive(dead.id()) {
            std::thread::yield_now();
        }
        // Not waited for: a zombie.
        remove_stale(folder.path());
        dead.wait().unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["other".into(), std::ffi::OsString::from(own_name())]);
    }

    #[test]
    fn a_machine_without_controllers_gives_no_groups() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cgroup.controllers"), "hugetlb").unwrap();
        let mount = format!("41 31 0:38 / {} rw - cgroup2 cgroup2 rw", folder.path().display());
        assert_eq!(
            places(&mount, "0::/").into_iter().filter_map(|place| prepare_unified(place, 0)).count(),
            0
        );
        assert_eq!(Groups::none().layers().count(), 0);
    }
}
