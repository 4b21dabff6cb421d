//! How many threads compute: as many as this process has processors' worth of time.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use super::Machine;

/// Processors, from the machine's down to this process's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Processors {
    /// That the machine has.
    pub host: Option<usize>,
    /// That this process may run on, as the standard library sees it: its affinity, and the quotas that it finds.
    pub usable: usize,
    /// Processors' worth of time that the container's quota allows.
    pub quota: Option<f64>,
}

impl Processors {
    pub(super) fn of(machine: &Machine) -> Self {
        let count = |text: String| {
            let lines = text.lines().filter(|line| line.starts_with("processor"));
            Some(lines.count()).filter(|count| *count > 0)
        };
        Self {
            host: machine.text("/proc/cpuinfo").and_then(count),
            usable: available_parallelism().map_or(1, NonZeroUsize::get),
            quota: machine.limits().cpus,
        }
    }

    /// Threads that compute when nobody says how many.
    ///
    /// A quota is rounded down, as the standard library does it: kernels meet at a barrier many times a step, and a thread whose
    /// time is used up keeps all the others waiting there until the next period, up to 100 ms later.
    pub fn threads(&self) -> usize {
        let quota = self.quota.map_or(usize::MAX, |cpus| cpus as usize);
        self.usable.min(quota).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Tree, V2_MOUNT};
    use super::*;

    #[test]
    fn a_quota_is_rounded_down_but_never_to_nothing() {
        let threads = |quota| {
            Processors {
                host: Some(64),
                usable: 8,
                quota,
            }
            .threads()
        };
        assert_eq!(threads(None), 8);
        assert_eq!(threads(Some(0.5)), 1);
        assert_eq!(threads(Some(1.5)), 1);
        assert_eq!(threads(Some(3.9)), 3);
        assert_eq!(threads(Some(16.0)), 8);
    }

    #[test]
    fn the_containers_quota_counts_and_not_the_hosts_processors() {
        let tree = Tree::new();
        tree.put(
            "proc/cpuinfo",
            &"processor\t: 0\nmodel name\t: x\n".repeat(64),
        );
        tree.put("proc/self/cgroup", "0::/\n");
        tree.put("proc/self/mountinfo", V2_MOUNT);
        tree.put("sys/fs/cgroup/cpu.max", "100000 100000\n");
        let processors = tree.machine().processors();
        assert_eq!((processors.host, processors.quota), (Some(64), Some(1.0)));
        assert_eq!(processors.threads(), 1);
    }
}
