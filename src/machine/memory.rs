//! How much memory there is and how much is left, where /proc/meminfo tells of the host only.

use super::Machine;

/// Memory that this process may count on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in all: the container's limit where it is below what the machine has.
    pub total: u64,
    /// Bytes that can be had now.
    pub available: u64,
    /// Whether the container has a limit below what the machine has.
    pub limited: bool,
}

impl Memory {
    pub(super) fn of(machine: &Machine) -> Option<Self> {
        let text = machine.text("/proc/meminfo")?;
        let (total, available) = (bytes(&text, "MemTotal:")?, bytes(&text, "MemAvailable:")?);
        let limits = machine.limits();
        let limit = limits.memory.filter(|limit| limit.bytes < total);
        Some(Self {
            total: limit.map_or(total, |limit| limit.bytes),
            available: limits
                .memory_left
                .map_or(available, |left| left.min(available)),
            limited: limit.is_some(),
        })
    }
}

fn bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Tree, V2_MOUNT};

    #[test]
    fn a_containers_limit_comes_before_what_the_host_has() {
        let tree = Tree::new();
        let meminfo = "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n";
        tree.put("proc/meminfo", meminfo);
        let memory = tree.machine().memory().unwrap();
        assert_eq!(
            (memory.total >> 30, memory.available >> 30, memory.limited),
            (16, 8, false)
        );
        tree.put("proc/self/cgroup", "0::/\n");
        tree.put("proc/self/mountinfo", V2_MOUNT);
        tree.put("sys/fs/cgroup/memory.max", "4294967296\n");
        tree.put("sys/fs/cgroup/memory.current", "1073741824\n");
        let memory = tree.machine().memory().unwrap();
        assert_eq!(
            (memory.total >> 30, memory.available >> 30, memory.limited),
            (4, 3, true)
        );
        // A limit above what the machine has limits nothing.
        tree.put("sys/fs/cgroup/memory.max", "42949672960\n");
        let memory = tree.machine().memory().unwrap();
        assert_eq!((memory.total >> 30, memory.limited), (16, false));
    }
}
