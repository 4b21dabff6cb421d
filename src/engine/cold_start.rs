//! The cold start as it was: which stage took how long, and how many bytes came. One record, kept where the stages happen, and
//! read by the log, `/health`, `/metrics`, the webhook and the RunPod worker alike.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::status::Stage;

/// A cold start, over or under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColdStart {
    /// The stages in the order in which they began, with the time that each took in all; the one that runs as far as it is.
    pub stages: Vec<(Stage, Duration)>,
    /// From the start of the process until the model could serve, or until now.
    pub total: Duration,
    /// Bytes that came over the network.
    pub fetched_bytes: u64,
    /// Bytes of weights that were read into memory.
    pub weights_bytes: u64,
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

/// Takes the times.
#[derive(Debug)]
pub(super) struct Stopwatch(Mutex<Laps>);

#[derive(Debug)]
struct Laps {
    started: Instant,
    /// The stage that runs, and since when; none after the end.
    running: Option<(Stage, Instant)>,
    done: Vec<(Stage, Duration)>,
    total: Option<Duration>,
    fetched_bytes: u64,
    weights_bytes: u64,
}

impl Stopwatch {
    /// Runs since the process has.
    pub(super) fn new(started: Instant) -> Self {
        Self(Mutex::new(Laps {
            started,
            running: Some((Stage::Starting, started)),
            done: Vec::new(),
            total: None,
            fetched_bytes: 0,
            weights_bytes: 0,
        }))
    }

    /// Another stage begins, perhaps one that was interrupted.
    pub(super) fn enter(&self, stage: Stage) {
        let mut laps = self.laps();
        if laps.running.is_some_and(|(running, _)| running != stage) {
            laps.lap();
            laps.running = Some((stage, Instant::now()));
        }
    }

    /// So many bytes of weights are in memory.
    pub(super) fn read(&self, bytes: u64) {
        let mut laps = self.laps();
        laps.weights_bytes = laps.weights_bytes.max(bytes);
    }

    /// So many bytes have come over the network.
    pub(super) fn fetched(&self, bytes: u64) {
        let mut laps = self.laps();
        laps.fetched_bytes = laps.fetched_bytes.max(bytes);
    }

    /// The model can serve, or never will.
    pub(super) fn stop(&self) {
        let mut laps = self.laps();
        laps.lap();
        if laps.total.is_none() {
            laps.total = Some(laps.started.elapsed());
        }
    }

    /// As it stands.
    pub(super) fn record(&self) -> ColdStart {
        let laps = self.laps();
        let mut stages = laps.done.clone();
        if let Some((stage, since)) = laps.running {
            add(&mut stages, stage, since.elapsed());
        }
        ColdStart {
            stages,
            total: laps.total.unwrap_or_else(|| laps.started.elapsed()),
            fetched_bytes: laps.fetched_bytes,
            weights_bytes: laps.weights_bytes,
        }
    }

    fn laps(&self) -> MutexGuard<'_, Laps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Laps {
    fn lap(&mut self) {
        if let Some((stage, since)) = self.running.take() {
            add(&mut self.done, stage, since.elapsed());
        }
    }
}

fn add(stages: &mut Vec<(Stage, Duration)>, stage: Stage, took: Duration) {
    match stages.iter_mut().find(|(other, _)| *other == stage) {
        Some((_, total)) => *total += took,
        None => stages.push((stage, took)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_start_says_how_long_each_stage_took() {
        let started = Instant::now() - Duration::from_millis(900);
        let watch = Stopwatch::new(started);
        for stage in [
            Stage::Downloading,
            Stage::ReadingWeights,
            Stage::Downloading,
        ] {
            watch.enter(stage);
            std::thread::sleep(Duration::from_millis(3));
        }
        watch.fetched(70);
        watch.read(50);
        watch.stop();
        let cold = watch.record();
        let stages: Vec<Stage> = cold.stages.iter().map(|(stage, _)| *stage).collect();
        // What came twice stands there once, with the time of both.
        assert_eq!(
            stages,
            [Stage::Starting, Stage::Downloading, Stage::ReadingWeights]
        );
        assert!(cold.stages[0].1 >= Duration::from_millis(900));
        assert!(cold.stages[1].1 >= Duration::from_millis(6), "{cold}");
        assert_eq!((cold.fetched_bytes, cold.weights_bytes), (70, 50));
        assert!(cold.to_string().starts_with("starting 9"), "{cold}");
        std::thread::sleep(Duration::from_millis(3));
        watch.enter(Stage::WarmingUp);
        assert_eq!(watch.record(), cold, "what is over stays as it was");
    }
}
