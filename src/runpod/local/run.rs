//! What happens to one job of the local API from its queue to its oblivion.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::StreamExt;
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::record::{Record, Status};
use super::{Local, Notice};
use crate::engine::Status as EngineStatus;
use crate::runpod::job::Job;
use crate::runpod::work::Piece;

/// Besides the job itself.
pub(super) struct Plan {
    pub(super) webhook: Option<String>,
    /// How long it may run.
    pub(super) execution: Duration,
    /// When it is forgotten, ended or not.
    pub(super) expires: Instant,
    /// How long it can be asked for once it has ended.
    pub(super) kept: Duration,
}

/// Does the job, tells its webhook, and forgets it when its time is over.
pub(super) async fn run(local: Arc<Local>, record: Arc<Record>, job: Job, plan: Plan) {
    let over = tokio::select! {
        // Cancelled, which drops the work.
        () = record.is_over() => true,
        done = timeout_at(plan.expires, work(&local, &record, job, plan.execution)) => done.is_ok(),
    };
    if over {
        local.store.trim();
        if let (Some(url), Some(hook)) = (plan.webhook, &local.options.hook) {
            let body = record.shown();
            hook(Notice { url, body });
        }
        sleep_until(plan.expires.min(Instant::now() + plan.kept)).await;
    } else {
        let message = "the job's time to live is over";
        record.end(Status::TimedOut, None, Some(json!(message)));
    }
    local.store.remove(&record.id);
}

/// A job in the queue; counted until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn work(local: &Local, record: &Record, job: Job, execution: Duration) {
    let waiting = Waiting::new(&local.options.waiting);
    let mut status = local.engine.watch();
    // Why ignored: an engine that will never be ready has an answer to each request that says so.
    let _ = status
        .wait_for(|status| !matches!(status, EngineStatus::Loading(_)))
        .await;
    // Why ignored: nobody closes the semaphore.
    let _slot = local.slots.acquire().await;
    drop(waiting);
    record.begin();
    let pieces = async {
        let mut pieces = local.work.start(job);
        while let Some(piece) = pieces.next().await {
            match piece {
                Piece::Progress(value) => record.progress(value),
                Piece::Chunk(value) => record.chunk(value),
                Piece::Done(outcome) => return record.done(outcome),
            }
        }
        record.end(
            Status::Failed,
            None,
            Some(json!("the work ended without an outcome")),
        );
    };
    if timeout(execution, pieces).await.is_err() {
        let message = format!(
            "the job ran longer than the {} s of its policy.executionTimeout",
            execution.as_secs_f64()
        );
        record.end(Status::TimedOut, None, Some(json!(message)));
    }
}
