//! Watches the engine and tells what becomes of it. It only listens: nothing waits for it but the process's end, and that
//! for a small grace.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use uuid::Uuid;

use super::courier::Courier;
use super::notice::{ColdStart, Event, Notice, StageTime, Subject};
use crate::engine::{Engine, Status};

/// The task that watches.
pub struct Readiness {
    task: JoinHandle<Courier>,
}

impl Readiness {
    /// Starts to watch.
    pub fn announce(engine: &Engine, courier: Courier, subject: Subject) -> Self {
        let teller = Teller {
            engine: engine.clone(),
            courier,
            subject,
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
}

impl Teller {
    /// Until the engine serves nobody any more.
    async fn tell(self) -> Courier {
        let mut status = self.engine.watch();
        self.send(Event::Loading, None);
        let mut ready = false;
        loop {
            let now = status.borrow_and_update().clone();
            match now {
                Status::Loading(_) => {}
                Status::Ready if !ready => {
                    ready = true;
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
        let info = self.engine.info();
        let notice = Notice {
            id: event_id(),
            status: event,
            created: now(),
            subject: self.subject.clone(),
            device: info.as_ref().map(|info| info.device.clone()),
            dtype: info.map(|info| info.dtype),
            cold_start: cold_start(&self.engine),
            error: None,
        };
        self.courier.send(&match error {
            Some(reason) => notice.with_error(reason),
            None => notice,
        });
    }
}

/// A message's own name.
pub(super) fn event_id() -> String {
    format!("evt_{}", Uuid::new_v4().simple())
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The engine's record, as messages have it.
fn cold_start(engine: &Engine) -> ColdStart {
    let record = engine.cold_start();
    let ms = |time: Duration| time.as_millis() as u64;
    ColdStart {
        total_ms: ms(record.total),
        stages: record
            .stages
            .iter()
            .map(|(stage, took)| StageTime {
                stage: stage.name(),
                ms: ms(*took),
            })
            .collect(),
        fetched_bytes: record.fetched_bytes,
        weights_bytes: record.weights_bytes,
    }
}
