//! What the workers did, added up: the numbers that a test or a benchmark asserts on.

use std::time::Duration;

use serde::Serialize;

/// Something that a worker must not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Violation {
    /// Two results that are not the same bytes.
    TwoResults {
        /// The job.
        job: String,
        /// The first.
        first: String,
        /// The other.
        second: String,
    },
    /// Progress for a job that has a result.
    ProgressAfterResult {
        /// The job.
        job: String,
    },
    /// A chunk for a job that has a result.
    ChunkAfterResult {
        /// The job.
        job: String,
    },
    /// A result, progress or chunk for a job that this worker does not have.
    NotItsJob {
        /// The job.
        job: String,
        /// Who posted.
        worker: String,
    },
    /// A body that is no JSON object, or neither a result nor progress.
    BadBody {
        /// The job.
        job: String,
        /// What was sent.
        body: String,
    },
    /// More jobs asked for than makes sense, or a query that lacks what must be there.
    BadQuery {
        /// The request's path and query.
        request: String,
    },
}

/// Quantiles of a duration, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50_ms: f64,
    /// Nine in ten are shorter.
    pub p90_ms: f64,
    /// Ninety-nine in a hundred are shorter.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Latency {
    /// Of any number of durations, in any order.
    pub fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |share: f64| {
            let index = (all.len() as f64 * share) as usize;
            let found = all.get(index.min(all.len().saturating_sub(1)));
            found.map_or(0.0, |duration| duration.as_secs_f64() * 1000.0)
        };
        Self {
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: at(1.0),
        }
    }
}

/// Everything added up.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Account {
    /// Jobs that clients gave.
    pub submitted: u64,
    /// In the queue now.
    pub in_queue: u64,
    /// With a worker now.
    pub in_progress: u64,
    /// Ended well.
    pub completed: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Cancelled by a client, or stopped by a fault.
    pub cancelled: u64,
    /// Ran too long.
    pub timed_out: u64,
    /// Put back into the queue by a client's retry.
    pub retried: u64,
    /// Results that came once more, byte by byte the same.
    pub repeats: u64,
    /// Results that came for a job which the platform had ended before.
    pub late_results: u64,
    /// Results that were refused for their size.
    pub too_large: u64,
    /// Results with `stopPod`.
    pub stop_pod: u64,
    /// Polls for jobs.
    pub takes: u64,
    /// Jobs that went back to the queue since the answer that handed them out was cut.
    pub undelivered: u64,
    /// Answers that were no proper job.
    pub malformed: u64,
    /// Faults that were injected, by their name.
    pub faults: std::collections::BTreeMap<&'static str, u64>,
    /// What workers must not do.
    pub violations: Vec<Violation>,
    /// From a job's take to its result.
    pub service: Latency,
    /// From a job's submission to its result.
    pub total: Latency,
    /// Seconds from the first take to the last result.
    pub busy_seconds: f64,
}
