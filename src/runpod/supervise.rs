//! The cold start from outside: waits for the model, notes how long each stage took, and speaks up before the platform's
//! start limit does.

use std::fmt;
use std::time::{Duration, Instant};

use crate::engine::{Engine, Stage, Status};

/// Of the platform's start limit, when it is time to warn: 5 of its 7 minutes.
const WARN_AT: f64 = 5.0 / 7.0;

/// How long it took until the model could serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdStart {
    /// The stages that were seen, in order.
    pub stages: Vec<(Stage, Duration)>,
    /// From the start of the process.
    pub total: Duration,
}

impl fmt::Display for ColdStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (stage, took)) in self.stages.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{stage} {} ms", took.as_millis())?;
        }
        Ok(())
    }
}

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
    let mut stages: Vec<(Stage, Instant)> = Vec::new();
    let warning = warn(started, limit);
    tokio::pin!(warning);
    loop {
        match status.borrow_and_update().clone() {
            Status::Ready => return Ok(measured(&stages, started)),
            Status::Failed(reason) => return Err(NoModel::Failed(reason)),
            Status::Draining | Status::Stopped => return Err(NoModel::Stopped),
            Status::Loading(now) => {
                if stages.last().is_none_or(|(last, _)| *last != now.stage) {
                    stages.push((now.stage, Instant::now()));
                }
            }
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() {
                return Err(NoModel::Stopped);
            },
            () = &mut warning => {}
        }
    }
}

fn measured(stages: &[(Stage, Instant)], started: Instant) -> ColdStart {
    let now = Instant::now();
    let ends = stages.iter().skip(1).map(|(_, at)| *at).chain([now]);
    let stages = stages.iter().zip(ends);
    ColdStart {
        stages: stages
            .map(|((stage, begun), end)| (*stage, end - *begun))
            .collect(),
        total: now - started,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_start_says_how_long_each_stage_took() {
        let now = Instant::now();
        let ago = |ms| now - Duration::from_millis(ms);
        let stages = [
            (Stage::Starting, ago(900)),
            (Stage::ReadingWeights, ago(800)),
        ];
        let cold = measured(&stages, ago(1000));
        assert_eq!(
            cold.stages[0],
            (Stage::Starting, Duration::from_millis(100))
        );
        assert!(cold.total >= Duration::from_secs(1));
        assert!(
            cold.to_string()
                .starts_with("starting 100 ms, reading weights 8"),
            "{cold}"
        );
    }
}
