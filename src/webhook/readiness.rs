//! Watches the engine and tells what becomes of it. It only listens: nothing waits for it but the process's end, and that
//! for a small grace.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use uuid::Uuid;

use super::courier::Courier;
use super::notice::{ColdStart, Event, Notice, StageTime, Subject};
use crate::engine::{Engine, Loading, Stage, Status};

/// The task that watches.
pub struct Readiness {
    task: JoinHandle<Courier>,
}

impl Readiness {
    /// Starts to watch; `started` is when the process did.
    pub fn announce(engine: &Engine, courier: Courier, subject: Subject, started: Instant) -> Self {
        let teller = Teller {
            engine: engine.clone(),
            courier,
            subject,
            stopwatch: Stopwatch::new(started),
        };
        Self {
            task: tokio::spawn(teller.tell()),
        }
    }

    /// Waits until the last message is delivered, for `grace` at most. `false` when one was not.
    pub async fn finish(self, grace: Duration) -> bool {
        let end = Instant::now() + grace;
        let mut task = self.task;
        match tokio::time::timeout(grace, &mut task).await {
            Ok(Ok(courier)) => {
                let left = end.saturating_duration_since(Instant::now());
                courier.finish(left).await
            }
            Ok(Err(_)) => false,
            // The engine still serves: its end was no drain and no failure.
            Err(_) => {
                task.abort();
                false
            }
        }
    }
}

struct Teller {
    engine: Engine,
    courier: Courier,
    subject: Subject,
    stopwatch: Stopwatch,
}

impl Teller {
    /// Until the engine serves nobody any more.
    async fn tell(mut self) -> Courier {
        let mut status = self.engine.watch();
        self.send(Event::Loading, None);
        let mut ready = false;
        loop {
            let now = status.borrow_and_update().clone();
            match now {
                Status::Loading(loading) => self.stopwatch.at(loading),
                Status::Ready if !ready => {
                    ready = true;
                    self.stopwatch.stop();
                    self.send(Event::Ready, None);
                }
                Status::Ready => {}
                Status::Draining | Status::Stopped => {
                    self.send(Event::Stopping, None);
                    return self.courier;
                }
                Status::Failed(reason) => {
                    self.send(Event::Failed, Some(&reason));
                    return self.courier;
                }
            }
            if status.changed().await.is_err() {
                self.send(Event::Stopping, None);
                return self.courier;
            }
        }
    }

    fn send(&self, event: Event, error: Option<&str>) {
        let created = SystemTime::now().duration_since(UNIX_EPOCH);
        let info = self.engine.info();
        let notice = Notice {
            id: format!("evt_{}", Uuid::new_v4().simple()),
            status: event,
            created: created.map_or(0, |since| since.as_secs()),
            subject: self.subject.clone(),
            device: info.as_ref().map(|info| info.device.clone()),
            dtype: info.map(|info| info.dtype),
            cold_start: self.stopwatch.read(),
            error: None,
        };
        self.courier.send(&match error {
            Some(reason) => notice.with_error(reason),
            None => notice,
        });
    }
}

/// How long each stage took.
struct Stopwatch {
    started: Instant,
    /// The stage that runs, and since when.
    running: Option<(Stage, Instant)>,
    stages: Vec<StageTime>,
    weights_bytes: u64,
    /// From start to ready.
    total: Option<Duration>,
}

impl Stopwatch {
    fn new(started: Instant) -> Self {
        Self {
            started,
            running: Some((Stage::Starting, started)),
            stages: Vec::new(),
            weights_bytes: 0,
            total: None,
        }
    }

    fn at(&mut self, loading: Loading) {
        self.weights_bytes = self.weights_bytes.max(loading.done_bytes);
        if self.running.is_none_or(|(stage, _)| stage != loading.stage) {
            self.lap();
            self.running = Some((loading.stage, Instant::now()));
        }
    }

    fn lap(&mut self) {
        if let Some((stage, since)) = self.running.take() {
            let ms = since.elapsed().as_millis() as u64;
            let stage = name(stage);
            self.stages.push(StageTime { stage, ms });
        }
    }

    fn stop(&mut self) {
        self.lap();
        self.total = Some(self.started.elapsed());
    }

    /// With the stage that runs, as far as it is.
    fn read(&self) -> ColdStart {
        let mut stages = self.stages.clone();
        if let Some((stage, since)) = self.running {
            let ms = since.elapsed().as_millis() as u64;
            let stage = name(stage);
            stages.push(StageTime { stage, ms });
        }
        let total = self.total.unwrap_or_else(|| self.started.elapsed());
        ColdStart {
            total_ms: total.as_millis() as u64,
            stages,
            weights_bytes: self.weights_bytes,
        }
    }
}

/// A stage's name for programs; what people read is the stage's own `Display`.
fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Starting => "starting",
        Stage::ReadingWeights => "reading_weights",
        Stage::Quantizing => "quantizing",
        Stage::BuildingModel => "building_model",
        Stage::WarmingUp => "warming_up",
    }
}
