//! What every job's task and the taker look at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::client::Client;
use super::environment::Environment;
use super::hand::Hand;
use super::outputs::Outputs;
use super::phase::Watched;
use super::report::{Failure, Reporter};
use super::{Outcome, Work};

/// How the loop behaves; from the settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows that the engine works on at once; jobs are taken to fill them.
    pub rows: usize,
    /// Jobs taken ahead of that; `None`: one, as long as jobs are short.
    pub prefetch: Option<usize>,
    /// Bytes of a result that the platform takes; `None`: what it says of itself.
    pub output_limit: Option<u64>,
    /// How long jobs may go on after the end was asked for.
    pub drain_grace: Duration,
    /// When the process began.
    pub started: Instant,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rows: 1,
            prefetch: None,
            output_limit: None,
            drain_grace: Duration::from_secs(25),
            started: Instant::now(),
        }
    }
}

pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) environment: Environment,
    pub(super) hand: Arc<Hand>,
    pub(super) watched: Watched,
    pub(super) work: Arc<dyn Work>,
    pub(super) outputs: Option<Arc<dyn Outputs>>,
    pub(super) options: Options,
    pub(super) reporter: Reporter,
    /// A job has asked for a new worker.
    pub(super) refresh: Notify,
}

impl Shared {
    pub(super) fn failure(&self, failure: Failure, message: &str) -> Outcome {
        Outcome {
            body: self.reporter.failure(failure, message),
            is_stream: false,
            stop_pod: false,
        }
    }
}
