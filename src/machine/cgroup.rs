//! The limits that cgroups set, version 1 and 2, at every level between this process and the root that it can see.
//!
//! `std::thread::available_parallelism` reads processor quotas too, but looks for a version 2 group only where the group's path
//! says, and in a container that shares the host's cgroup namespace (`--cgroupns=host`, many Kubernetes nodes) that path is the
//! host's and does not exist inside. So the mount table is read here, which says what part of the tree is seen where.

use std::path::{Component, Path, PathBuf};

use super::Machine;

/// Version 1 says "no limit" with a number near 2^63; nothing real is larger than an exbibyte.
const UNLIMITED: u64 = 1 << 60;

/// Which hierarchy the limits were found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One for all.
    V2,
}

impl Version {
    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "cgroup v1",
            Self::V2 => "cgroup v2",
        }
    }
}

/// A limit on memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes at most.
    pub bytes: u64,
    /// Bytes in use, without file pages that are given back when they are needed.
    pub used: u64,
}

impl MemoryLimit {
    /// Bytes that are left.
    pub fn left(&self) -> u64 {
        self.bytes.saturating_sub(self.used)
    }
}

/// The limits on this process; the tightest of all levels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Processors' worth of time, such as 1.5.
    pub cpus: Option<f64>,
    /// The smallest limit on memory.
    pub memory: Option<MemoryLimit>,
    /// What is left under the limit that leaves least, which need not be the smallest.
    pub memory_left: Option<u64>,
    /// The hierarchy that the processors' or else the memory's limit is in.
    pub version: Option<Version>,
}

/// A group's directory and those above it, as far as they are seen here; the process's own comes first.
struct Levels {
    version: Version,
    directories: Vec<PathBuf>,
}

pub(super) fn read(machine: &Machine) -> Limits {
    let cpu = levels(machine, "cpu");
    let memory = levels(machine, "memory");
    let cpus = cpu.as_ref().and_then(|levels| cpus(machine, levels));
    let limits = memory
        .as_ref()
        .map(|levels| memory_limits(machine, levels))
        .unwrap_or_default();
    let of = |levels: &Option<Levels>| levels.as_ref().map(|levels| levels.version);
    Limits {
        cpus,
        memory: limits.iter().copied().min_by_key(|limit| limit.bytes),
        memory_left: limits.iter().map(MemoryLimit::left).min(),
        version: if cpus.is_some() || limits.is_empty() {
            of(&cpu)
        } else {
            of(&memory)
        },
    }
}

/// Where this process's group for a controller is.
fn levels(machine: &Machine, controller: &str) -> Option<Levels> {
    let groups = machine.text("/proc/self/cgroup")?;
    let mounts = machine.text("/proc/self/mountinfo").unwrap_or_default();
    // A version 1 hierarchy says which controllers are its own, and a controller is in one hierarchy only.
    let (version, group) = group(&groups, Some(controller))
        .map(|group| (Version::V1, group))
        .or_else(|| group(&groups, None).map(|group| (Version::V2, group)))?;
    let (point, directory) = mounts
        .lines()
        .filter_map(Mount::read)
        .find(|mount| mount.holds(version, controller))
        .map(|mount| (mount.point.clone(), mount.place(&group)))
        .unwrap_or_else(|| usual(version, controller, &group));
    // A path that leads out of what is mounted here is the host's: what is seen is the group itself.
    let directory = match machine.below(&directory).is_dir() {
        true => directory,
        false => point.clone(),
    };
    let directories = directory
        .ancestors()
        .take_while(|level| level.starts_with(&point))
        .map(Path::to_owned)
        .collect();
    Some(Levels {
        version,
        directories,
    })
}

/// The path of a controller's group in /proc/self/cgroup (`4:cpu,cpuacct:/path`), or of version 2's (`0::/path`).
fn group(text: &str, controller: Option<&str>) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let ours = match controller {
            Some(name) => controllers.split(',').any(|other| other == name),
            None => controllers.is_empty(),
        };
        ours.then(|| PathBuf::from(path))
    })
}

/// Where the mounts are when nothing says so.
fn usual(version: Version, controller: &str, group: &Path) -> (PathBuf, PathBuf) {
    let point = match version {
        Version::V1 => Path::new("/sys/fs/cgroup").join(controller),
        Version::V2 => PathBuf::from("/sys/fs/cgroup"),
    };
    let below = group.strip_prefix("/").unwrap_or(group);
    (point.clone(), point.join(below))
}

/// A line of /proc/self/mountinfo.
struct Mount<'a> {
    /// What part of the file system is mounted.
    root: &'a Path,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let (root, point) = (front.next()?, front.next()?);
        let mut back = back.split(' ');
        let kind = back.next()?;
        Some(Self {
            root: Path::new(root),
            point: PathBuf::from(point),
            kind,
            options: back.nth(1).unwrap_or_default(),
        })
    }

    fn holds(&self, version: Version, controller: &str) -> bool {
        match version {
            Version::V1 => {
                self.kind == "cgroup" && self.options.split(',').any(|name| name == controller)
            }
            Version::V2 => self.kind == "cgroup2",
        }
    }

    /// Where a group is seen.
    fn place(&self, group: &Path) -> PathBuf {
        let outside = group
            .components()
            .any(|part| matches!(part, Component::ParentDir));
        match group.strip_prefix(self.root) {
            Ok(below) if !outside => self.point.join(below),
            _ => self.point.clone(),
        }
    }
}

fn cpus(machine: &Machine, levels: &Levels) -> Option<f64> {
    let quota = |level: &PathBuf| {
        let (quota, period) = match levels.version {
            Version::V2 => {
                let text = machine.text(level.join("cpu.max"))?;
                let mut words = text.split_whitespace();
                (number(words.next()?)?, number(words.next()?)?)
            }
            Version::V1 => (
                number(&machine.text(level.join("cpu.cfs_quota_us"))?)?,
                number(&machine.text(level.join("cpu.cfs_period_us"))?)?,
            ),
        };
        (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
    };
    levels
        .directories
        .iter()
        .filter_map(quota)
        .min_by(f64::total_cmp)
}

fn memory_limits(machine: &Machine, levels: &Levels) -> Vec<MemoryLimit> {
    let (limit, usage, inactive) = match levels.version {
        Version::V2 => ("memory.max", "memory.current", "inactive_file"),
        Version::V1 => (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    };
    let of = |level: &PathBuf| {
        let bytes = number(&machine.text(level.join(limit))?).filter(|bytes| *bytes < UNLIMITED)?;
        let used = machine
            .text(level.join(usage))
            .and_then(|text| number(&text));
        let pages = machine
            .text(level.join("memory.stat"))
            .and_then(|text| named(&text, inactive));
        Some(MemoryLimit {
            bytes,
            used: used.unwrap_or(0).saturating_sub(pages.unwrap_or(0)),
        })
    };
    levels.directories.iter().filter_map(of).collect()
}

/// A number; `max` and `-1`, which say that there is no limit, are none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The value of a line `name value`.
fn named(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| number(value)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Tree, V2_MOUNT};
    use super::*;

    #[test]
    fn version_2_in_a_namespace_of_its_own() {
        let tree = Tree::new();
        tree.put("proc/self/cgroup", "0::/\n");
        tree.put("proc/self/mountinfo", V2_MOUNT);
        tree.put("sys/fs/cgroup/cpu.max", "250000 100000\n");
        tree.put("sys/fs/cgroup/memory.max", "1073741824\n");
        tree.put("sys/fs/cgroup/memory.current", "700000000\n");
        tree.put(
            "sys/fs/cgroup/memory.stat",
            "anon 5\ninactive_file 200000000\n",
        );
        let limits = read(&tree.machine());
        assert_eq!(limits.cpus, Some(2.5));
        let memory = limits.memory.unwrap();
        assert_eq!((memory.bytes, memory.used), (1 << 30, 500_000_000));
        assert_eq!(limits.version, Some(Version::V2));
    }

    #[test]
    fn the_tightest_of_nested_groups_counts() {
        let tree = Tree::new();
        tree.put("proc/self/cgroup", "0::/kubepods/pod1/app\n");
        tree.put("proc/self/mountinfo", V2_MOUNT);
        tree.put("sys/fs/cgroup/kubepods/pod1/app/cpu.max", "max 100000\n");
        tree.put("sys/fs/cgroup/kubepods/pod1/cpu.max", "150000 100000\n");
        tree.put("sys/fs/cgroup/kubepods/cpu.max", "800000 100000\n");
        tree.put("sys/fs/cgroup/kubepods/pod1/app/memory.max", "4294967296\n");
        tree.put("sys/fs/cgroup/kubepods/pod1/app/memory.current", "1000\n");
        tree.put("sys/fs/cgroup/kubepods/pod1/memory.max", "8589934592\n");
        tree.put("sys/fs/cgroup/kubepods/pod1/memory.current", "8589000000\n");
        let limits = read(&tree.machine());
        assert_eq!(limits.cpus, Some(1.5));
        assert_eq!(limits.memory.map(|limit| limit.bytes), Some(4 << 30));
        // The pod's neighbours have left less than this container's own limit would.
        assert_eq!(limits.memory_left, Some(8_589_934_592 - 8_589_000_000));
    }

    #[test]
    fn the_hosts_namespace_names_a_path_that_is_not_seen() {
        let tree = Tree::new();
        tree.put("proc/self/cgroup", "0::/system.slice/docker-1.scope\n");
        // What is mounted is the container's part of the tree.
        let mount =
            "35 30 0:30 /system.slice/docker-1.scope /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        tree.put("proc/self/mountinfo", mount);
        tree.put("sys/fs/cgroup/cpu.max", "400000 100000\n");
        assert_eq!(read(&tree.machine()).cpus, Some(4.0));
        // The same, from a group that the mount does not hold, and from one above the namespace.
        for path in ["0::/elsewhere\n", "0::/../sibling\n"] {
            tree.put("proc/self/cgroup", path);
            assert_eq!(read(&tree.machine()).cpus, Some(4.0), "{path}");
        }
    }

    #[test]
    fn version_1_has_a_mount_for_each_controller() {
        let tree = Tree::new();
        let groups =
            "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n1:name=systemd:/docker/1\n0::/\n";
        tree.put("proc/self/cgroup", groups);
        tree.put(
            "proc/self/mountinfo",
            "31 30 0:31 /docker/1 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
             32 30 0:32 /docker/1 /sys/fs/cgroup/memory ro master:1 - cgroup cgroup rw,memory\n",
        );
        tree.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
        tree.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        tree.put("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
        tree.put("sys/fs/cgroup/memory/memory.usage_in_bytes", "100\n");
        tree.put(
            "sys/fs/cgroup/memory/memory.stat",
            "inactive_file 7\ntotal_inactive_file 30\n",
        );
        let limits = read(&tree.machine());
        assert_eq!(
            (limits.cpus, limits.version),
            (Some(0.5), Some(Version::V1))
        );
        let memory = limits.memory.unwrap();
        assert_eq!((memory.bytes, memory.used), (512 << 20, 70));
    }

    #[test]
    fn no_limit_is_told_in_each_versions_way() {
        let tree = Tree::new();
        tree.put("proc/self/cgroup", "5:memory:/\n4:cpu:/\n");
        let mounts = "31 30 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        tree.put("proc/self/mountinfo", mounts);
        tree.put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
        tree.put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
        // No mount of the memory controller in the table: the usual place is looked at.
        tree.put(
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        let limits = read(&tree.machine());
        assert_eq!((limits.cpus, limits.memory), (None, None));
        let tree = Tree::new();
        tree.put("proc/self/cgroup", "0::/\n");
        tree.put("sys/fs/cgroup/cpu.max", "max 100000\n");
        tree.put("sys/fs/cgroup/memory.max", "max\n");
        let limits = read(&tree.machine());
        assert_eq!((limits.cpus, limits.memory), (None, None));
        assert_eq!(read(&Tree::new().machine()), Limits::default());
    }

    #[test]
    fn quotas_of_version_1_count_beside_a_version_2_that_has_no_controllers() {
        let tree = Tree::new();
        tree.put("proc/self/cgroup", "2:cpu:/a\n0::/b\n");
        let mounts = "31 30 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        tree.put("proc/self/mountinfo", mounts);
        tree.put("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "300000\n");
        tree.put("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
        tree.put("sys/fs/cgroup/unified/b/memory.max", "1048576\n");
        let limits = read(&tree.machine());
        assert_eq!(limits.cpus, Some(3.0));
        assert_eq!(limits.memory.map(|limit| limit.bytes), Some(1 << 20));
    }
}
