//! The cold start from outside: waits for the model, and speaks up before the platform's
//! start limit does.

use std::time::{Duration, Instant};

use crate::engine::{ColdStart, Engine, Status};

/// Of the platform's start limit, when it is time to warn: 5 of its 7 minutes.
const WARN_AT: f64 = 5.0 / 7.0;

/// Why there is no model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoModel {
    /// Somebody has ended the engine.
    Stopped,
    /// It did not load.
    Failed(String),
}

/// Waits until the model can serve.
pub(super) async fn ready(
    engine: &Engine,
    started: Instant,
    limit: Duration,
) -> Result<ColdStart, NoModel> {
    let mut status = engine.watch();
    let warning = warn(started, limit);
    tokio::pin!(warning);
    loop {
        match status.borrow_and_update().clone() {
            Status::Ready => return Ok(engine.cold_start()),
            Status::Failed(reason) => return Err(NoModel::Failed(reason)),
            Status::Draining | Status::Stopped => return Err(NoModel::Stopped),
            Status::Loading(_) => {}
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() {
                return Err(NoModel::Stopped);
            },
            () = &mut warning => {}
        }
    }
}

/// Warns before the limit and at it, and then never resolves.
async fn warn(started: Instant, limit: Duration) {
    let until = |part: f64| (started + limit.mul_f64(part)).into();
    tokio::time::sleep_until(until(WARN_AT)).await;
    let limit_s = limit.as_secs();
    tracing::warn!(
        limit_s,
        loading_s = started.elapsed().as_secs(),
        "the model is still loading; RunPod gives up a worker that takes no job within {limit_s} s: set RUNPOD_INIT_TIMEOUT to \
         more seconds, or load from a network volume"
    );
    tokio::time::sleep_until(until(1.0)).await;
    tracing::error!(
        limit_s,
        "the start limit is over and the model is still loading; see RUNPOD_INIT_TIMEOUT"
    );
    std::future::pending().await
}
