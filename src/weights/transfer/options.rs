//! What a transfer may take, how patient it is, and how it is stopped: apart from the transfer itself, because whoever makes
//! settings of it needs nothing else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How a transfer goes about it. The default is good for a cloud's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Requests at once, at most; fewer while more gain nothing.
    pub connections: usize,
    /// Requests at once in the beginning.
    pub first_connections: usize,
    /// Bytes of one request, at most. 16 MiB is the upper end of what AWS recommends; towards the end of a transfer they get
    /// smaller, so that all connections finish at about the same time.
    pub range_bytes: u64,
    /// Attempts in a row that bring no byte of a range before the transfer gives up.
    pub tries: u32,
    /// How often a file is fetched whose digest is wrong.
    pub fetches: u32,
    /// Without a byte for so long, a connection is abandoned.
    pub read_timeout: Duration,
    /// The longest first pause after a failure; it doubles with each further one.
    pub backoff: Duration,
    /// The longest pause of our own choice.
    pub longest_backoff: Duration,
    /// The longest pause that a source may ask for. The hub's window is five minutes.
    pub longest_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 32,
            first_connections: 8,
            range_bytes: 16 << 20,
            tries: 10,
            fetches: 3,
            read_timeout: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
            longest_backoff: Duration::from_secs(20),
            longest_wait: Duration::from_secs(310),
        }
    }
}

/// Asks a transfer to end; may be set from any thread, once and for all.
#[derive(Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Default)]
struct Inner {
    set: AtomicBool,
    told: Notify,
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.is_set()).finish()
    }
}

impl Stop {
    /// One that nobody has set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The transfer ends; what has come is kept.
    pub fn set(&self) {
        self.0.set.store(true, Ordering::Release);
        self.0.told.notify_waiters();
    }

    /// Whether somebody has set it.
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// Until somebody sets it.
    pub async fn wait(&self) {
        let mut told = std::pin::pin!(self.0.told.notified());
        // Why first: what is set between the look at the flag and the wait would be missed.
        told.as_mut().enable();
        if !self.is_set() {
            told.await;
        }
    }
}
