//! Is this machine fit to work? The checks that the official SDK makes before it takes jobs (contract, section 2.8), with the
//! same switches and names. Of the GPU nothing is asked here: loading the model onto it is the better check.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

/// What is asked of the machine.
#[derive(Debug, Clone)]
pub struct Checks {
    /// Nothing is.
    pub(super) skipped: bool,
    pub(super) memory_gib: f64,
    pub(super) disk_percent: f64,
    /// How long a connection to the outside may take.
    pub(super) network: Duration,
}

/// Why the machine will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Which check says so.
    pub check: &'static str,
    /// What it found.
    pub reason: String,
}

/// A name server that every data center reaches; the SDK asks the same one.
const OUTSIDE: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(8, 8, 8, 8)),
    53,
);

impl Checks {
    pub(super) const MEMORY_GIB: f64 = 4.0;
    pub(super) const DISK_PERCENT: f64 = 10.0;
    pub(super) const NETWORK: Duration = Duration::from_secs(5);

    /// What can be told at once. Asked before the model takes its memory.
    pub(super) fn of_the_machine(&self) -> Result<(), Unfit> {
        if self.skipped {
            return Ok(());
        }
        // Why passed over where it cannot be read: what is not known is no reason to turn a worker away.
        if let Ok(meminfo) = std::fs::read_to_string("/proc/meminfo") {
            self.memory(&meminfo)?;
        }
        match rustix::fs::statvfs("/") {
            Ok(disk) => self.disk(disk.f_bavail, disk.f_blocks),
            Err(error) => {
                tracing::warn!(%error, "the disk was not checked");
                Ok(())
            }
        }
    }

    /// Whether the world outside can be reached.
    pub(super) async fn of_the_network(&self) -> Result<(), Unfit> {
        if self.skipped {
            return Ok(());
        }
        self.network(OUTSIDE).await
    }

    fn memory(&self, meminfo: &str) -> Result<(), Unfit> {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line.and_then(|line| {
            line.trim()
                .trim_end_matches(" kB")
                .trim()
                .parse::<f64>()
                .ok()
        });
        let Some(gib) = kib.map(|kib| kib / f64::from(1 << 20)) else {
            return Ok(());
        };
        if gib >= self.memory_gib {
            return Ok(());
        }
        Err(Unfit {
            check: "memory",
            reason: format!(
                "{gib:.2} GB of memory are free and {:.2} GB are asked for (RUNPOD_MIN_MEMORY_GB)",
                self.memory_gib
            ),
        })
    }

    fn disk(&self, free: u64, total: u64) -> Result<(), Unfit> {
        let percent = 100.0 * free as f64 / total.max(1) as f64;
        if percent >= self.disk_percent {
            return Ok(());
        }
        Err(Unfit {
            check: "disk",
            reason: format!(
                "{percent:.1} % of the disk are free and {:.1} % are asked for (RUNPOD_MIN_DISK_PERCENT)",
                self.disk_percent
            ),
        })
    }

    async fn network(&self, address: SocketAddr) -> Result<(), Unfit> {
        let failed = |why: String| Unfit {
            check: "network",
            reason: format!("{address} cannot be reached: {why} (RUNPOD_NETWORK_CHECK_TIMEOUT)"),
        };
        match tokio::time::timeout(self.network, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer within {:?}", self.network))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKS: Checks = Checks {
        skipped: false,
        memory_gib: 4.0,
        disk_percent: 10.0,
        network: Duration::from_millis(500),
    };

    #[test]
    fn little_memory_and_little_disk_are_told() {
        let enough = "MemTotal:       8388608 kB\nMemAvailable:    4194304 kB\n";
        assert_eq!(CHECKS.memory(enough), Ok(()));
        let unfit = CHECKS.memory("MemAvailable:    3145728 kB\n").unwrap_err();
        assert_eq!(unfit.check, "memory");
        assert!(unfit.reason.contains("3.00 GB") && unfit.reason.contains("RUNPOD_MIN_MEMORY_GB"));
        assert_eq!(CHECKS.memory("nothing of the kind"), Ok(()));
        assert_eq!(CHECKS.disk(10, 100), Ok(()));
        assert_eq!(CHECKS.disk(9, 100).unwrap_err().check, "disk");
    }

    #[tokio::test]
    async fn a_network_that_does_not_answer_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(CHECKS.network(address).await, Ok(()));
        drop(listener);
        let unfit = CHECKS.network(address).await.unwrap_err();
        assert_eq!(unfit.check, "network");
    }

    #[tokio::test]
    async fn switched_off_nothing_is_asked() {
        let impossible = Checks {
            skipped: true,
            memory_gib: 1e9,
            disk_percent: 101.0,
            network: Duration::ZERO,
        };
        assert_eq!(impossible.of_the_machine(), Ok(()));
        assert_eq!(impossible.of_the_network().await, Ok(()));
        let asked = Checks {
            skipped: false,
            ..impossible
        };
        assert_eq!(asked.of_the_machine().unwrap_err().check, "memory");
    }
}
