//! What a platform is started with. Apart from `faults`, which may be changed while it runs.

use std::path::PathBuf;
use std::time::Duration;

/// How the platform is set up. The defaults are those of a well-behaved one.
#[derive(Debug, Clone)]
pub struct Options {
    /// 0 chooses a free port.
    pub port: u16,
    /// The endpoint's id, as it stands in every path.
    pub endpoint: String,
    /// What clients must send as `Authorization`, with or without `Bearer `.
    pub client_key: String,
    /// What workers must send as `Authorization`, exactly.
    pub worker_key: String,
    /// How long a take or stop poll is held when there is nothing to hand out.
    pub hold: Duration,
    /// A result with a longer body is refused with `too_large_status`, as production does.
    pub result_limit: usize,
    /// 400 is what production answers; 413 is what a proxy before it may.
    pub too_large_status: u16,
    /// The value of `gpu=` in the URL templates, as it stands on the wire.
    pub gpu: String,
    /// How often workers are told to ping.
    pub ping_interval: Duration,
    /// Whether every wire message is kept in memory for `Platform::wire`.
    pub keep_wire: bool,
    /// Where every wire message is written, a line of JSON each.
    pub log_file: Option<PathBuf>,
    /// Seeds the faults and the job ids.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            endpoint: "fake-endpoint".into(),
            client_key: "client-key".into(),
            worker_key: "worker-key".into(),
            hold: Duration::from_secs(5),
            result_limit: 20 << 20,
            too_large_status: 400,
            gpu: "NVIDIA+RTX+A5000".into(),
            ping_interval: Duration::from_secs(10),
            keep_wire: false,
            log_file: None,
            seed: 1,
        }
    }
}
