//! What the engine counts: plain atomics for `/health`, and the same through the `metrics` facade for `/metrics`.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chandler_core::{Footprint, Occupancy, Step, Tally, Usage};

/// Histograms of seconds that want the buckets of time to first token.
pub const BUCKETED_HISTOGRAMS: [&str; 5] = [
    "chandler_time_to_first_token_seconds",
    "chandler_inter_token_seconds",
    "chandler_queue_seconds",
    "chandler_request_seconds",
    "chandler_wake_seconds",
];

/// A reading of all counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests that wait for a place in the batch.
    pub queued: usize,
    /// Requests in the batch.
    pub running: usize,
    /// Their rows.
    pub rows: usize,
    /// Cache blocks in use.
    pub blocks_used: usize,
    /// Cache blocks that nobody uses and whose contents are kept for reuse.
    pub blocks_kept: usize,
    /// Cache blocks there are.
    pub blocks_total: usize,
    /// Requests answered.
    pub completed: u64,
    /// Requests that ended with an error.
    pub failed: u64,
    /// Requests whose caller went away.
    pub cancelled: u64,
    /// Requests refused because the queue was full.
    pub rejected: u64,
    /// Requests that ran again alone after their batch failed.
    pub retried: u64,
    /// Passes through the model.
    pub steps: u64,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Of these, found in the cache.
    pub cached_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// Milliseconds of audio heard.
    pub audio_ms: u64,
    /// Pictures drawn.
    pub images: u64,
    /// Bytes on the device.
    pub device_bytes: u64,
    /// Bytes on the host.
    pub host_bytes: u64,
    /// Whether the model is parked: the next request brings it back.
    pub parked: bool,
    /// What the pipeline itself has counted.
    pub tally: Tally,
}

#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) queued: AtomicUsize,
    running: AtomicUsize,
    rows: AtomicUsize,
    blocks_used: AtomicUsize,
    blocks_kept: AtomicUsize,
    blocks_total: AtomicUsize,
    completed: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    rejected: AtomicU64,
    retried: AtomicU64,
    steps: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    audio_ms: AtomicU64,
    images: AtomicU64,
    device_bytes: AtomicU64,
    host_bytes: AtomicU64,
    parked: AtomicBool,
    tally: Mutex<Tally>,
}

impl Stats {
    pub(super) fn read(&self) -> Counters {
        Counters {
            queued: self.queued.load(Relaxed),
            running: self.running.load(Relaxed),
            rows: self.rows.load(Relaxed),
            blocks_used: self.blocks_used.load(Relaxed),
            blocks_kept: self.blocks_kept.load(Relaxed),
            blocks_total: self.blocks_total.load(Relaxed),
            completed: self.completed.load(Relaxed),
            failed: self.failed.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            retried: self.retried.load(Relaxed),
            steps: self.steps.load(Relaxed),
            prompt_tokens: self.prompt_tokens.load(Relaxed),
            cached_tokens: self.cached_tokens.load(Relaxed),
            completion_tokens: self.completion_tokens.load(Relaxed),
            audio_ms: self.audio_ms.load(Relaxed),
            images: self.images.load(Relaxed),
            device_bytes: self.device_bytes.load(Relaxed),
            host_bytes: self.host_bytes.load(Relaxed),
            parked: self.parked.load(Relaxed),
            tally: *self.tally.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    pub(super) fn stepped(&self, step: Step) {
        self.steps.fetch_add(1, Relaxed);
        metrics::counter!("chandler_steps_total").increment(1);
        metrics::histogram!("chandler_batch_rows").record(step.rows as f64);
    }

    pub(super) fn occupied(&self, now: Occupancy) {
        self.running.store(now.requests, Relaxed);
        self.rows.store(now.rows, Relaxed);
        self.blocks_used.store(now.blocks_used, Relaxed);
        self.blocks_kept.store(now.blocks_kept, Relaxed);
        self.blocks_total.store(now.blocks_total, Relaxed);
    }

    /// What the pipeline has counted so far.
    pub(super) fn tallied(&self, now: Tally) {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(super) fn holds(&self, footprint: Footprint) {
        self.device_bytes.store(footprint.device_bytes, Relaxed);
        self.host_bytes.store(footprint.host_bytes, Relaxed);
    }

    pub(super) fn parked(&self, now: bool) {
        self.parked.store(now, Relaxed);
    }

    /// The model has come back to its device.
    pub(super) fn woken(&self, took: Duration) {
        metrics::histogram!("chandler_wake_seconds").record(took.as_secs_f64());
    }

    pub(super) fn completed(&self, usage: Usage, took: Duration) {
        self.completed.fetch_add(1, Relaxed);
        self.prompt_tokens
            .fetch_add(usage.prompt_tokens.into(), Relaxed);
        self.cached_tokens
            .fetch_add(usage.cached_tokens.into(), Relaxed);
        self.completion_tokens
            .fetch_add(usage.completion_tokens.into(), Relaxed);
        self.audio_ms.fetch_add(usage.audio_ms, Relaxed);
        self.images.fetch_add(usage.images.into(), Relaxed);
        metrics::counter!("chandler_prompt_tokens_total").increment(usage.prompt_tokens.into());
        metrics::counter!("chandler_completion_tokens_total")
            .increment(usage.completion_tokens.into());
        metrics::counter!("chandler_images_total").increment(usage.images.into());
        outcome("completed", took);
    }

    pub(super) fn failed(&self, took: Duration) {
        self.failed.fetch_add(1, Relaxed);
        outcome("failed", took);
    }

    pub(super) fn cancelled(&self, took: Duration) {
        self.cancelled.fetch_add(1, Relaxed);
        outcome("cancelled", took);
    }

    pub(super) fn rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
        metrics::counter!("chandler_requests_total", "outcome" => "rejected").increment(1);
    }

    /// A request that could not be served as it was written; no job has failed.
    pub(super) fn refused(&self) {
        metrics::counter!("chandler_requests_total", "outcome" => "refused").increment(1);
    }

    pub(super) fn retried(&self) {
        self.retried.fetch_add(1, Relaxed);
        metrics::counter!("chandler_retries_total").increment(1);
    }
}

fn outcome(outcome: &'static str, took: Duration) {
    metrics::counter!("chandler_requests_total", "outcome" => outcome).increment(1);
    metrics::histogram!("chandler_request_seconds").record(took.as_secs_f64());
}

/// One request's own clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeline {
    submitted: Instant,
    admitted: bool,
    last_text: Option<Instant>,
}

impl Timeline {
    pub(super) fn start() -> Self {
        Self {
            submitted: Instant::now(),
            admitted: false,
            last_text: None,
        }
    }

    pub(super) fn admitted(&mut self) {
        if !std::mem::replace(&mut self.admitted, true) {
            metrics::histogram!("chandler_queue_seconds").record(self.elapsed().as_secs_f64());
        }
    }

    pub(super) fn text_arrived(&mut self) {
        let now = Instant::now();
        match self.last_text.replace(now) {
            None => metrics::histogram!("chandler_time_to_first_token_seconds")
                .record((now - self.submitted).as_secs_f64()),
            Some(before) => {
                metrics::histogram!("chandler_inter_token_seconds")
                    .record((now - before).as_secs_f64());
            }
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.submitted.elapsed()
    }
}
