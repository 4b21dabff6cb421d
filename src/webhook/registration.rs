//! Tells a gateway what this worker offers, for as long as it does. Apart from `readiness`, which tells of events once, because
//! this tells of a state: the latest is what counts, it is told again and again, and the end takes it back.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::courier::{Courier, Errand};
use super::place::Place;
use super::readiness::{event_id, now};
use crate::engine::{Engine, Status};

/// What a gateway has to know of a worker to send requests to it, as far as it does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// This process's own: one that is started anew is another worker.
    pub worker_id: String,
    /// Where the gateway reaches it.
    pub url: String,
    /// How: `http` for the routes below, `runpod` for jobs (`/run`, `/runsync`).
    pub endpoint_kind: &'static str,
    /// Where it runs.
    pub worker: Place,
    /// The program's version.
    pub version: String,
    /// What it takes.
    pub limits: Limits,
    /// Paths below the address.
    pub routes: Routes,
    /// The model's name for clients.
    #[serde(skip)]
    pub model: String,
    /// Its further names.
    #[serde(skip)]
    pub aliases: Vec<String>,
}

/// Bounds of what a worker takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Answers that are worked on at once.
    pub concurrency: usize,
    /// Requests that may wait besides; the next gets 429.
    pub queue: usize,
    /// Bytes of a JSON body.
    pub body_bytes: u64,
    /// Bytes of an uploaded file.
    pub upload_bytes: u64,
    /// Seconds that an answer may take.
    pub request_timeout_s: u64,
}

/// Where a worker is asked what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Routes {
    /// 200 exactly when a request would be served.
    pub health: String,
    /// 200 as long as the process answers.
    pub live: String,
    /// Vertex's way in.
    pub predict: String,
    /// What OpenAI's routes are below.
    pub openai: String,
}

/// A worker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Loading,
    Ready,
    Draining,
    Failed,
    Gone,
}

/// A model that is served, or an adapter of it.
#[derive(Debug, Serialize)]
struct Served<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    aliases: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a str>,
    /// Once it is loaded.
    task: Option<&'static str>,
    /// Tokens of prompt and answer; once it is loaded, of a model that has such a bound.
    context_length: Option<usize>,
}

/// One message.
#[derive(Debug, Serialize)]
struct Message<'a> {
    id: &'a str,
    status: State,
    /// Higher with each message of this worker: what comes late is known by it.
    sequence: u64,
    created: u64,
    /// A worker that says nothing for several times as long is gone.
    every_s: f64,
    #[serde(flatten)]
    offer: &'a Offer,
    models: Vec<Served<'a>>,
    tasks: Vec<&'static str>,
}

/// How far the worker is with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Gone {
        /// Whether it has drained before.
        drained: bool,
    },
}

/// The task that tells.
pub struct Registration {
    phase: watch::Sender<Phase>,
    task: JoinHandle<Courier>,
}

impl Registration {
    /// Starts to tell.
    pub fn start(engine: &Engine, courier: Courier, offer: Offer, every: Duration) -> Self {
        let (phase, phases) = watch::channel(Phase::Serving);
        let teller = Teller {
            engine: engine.clone(),
            courier,
            offer,
            every,
            sequence: 0,
        };
        Self {
            phase,
            task: tokio::spawn(teller.tell(phases)),
        }
    }

    /// The worker takes nothing new from now on. Returns at once.
    pub fn draining(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Takes the worker off, and waits until the gateway knows, for `grace` at most. `false` when it does not.
    pub async fn finish(self, grace: Duration) -> bool {
        let end = Instant::now() + grace;
        let drained = *self.phase.borrow() == Phase::Draining;
        self.phase.send_replace(Phase::Gone { drained });
        match tokio::time::timeout(grace, self.task).await {
            Ok(Ok(courier)) => {
                let left = end.saturating_duration_since(Instant::now());
                courier.finish(left).await
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

struct Teller {
    engine: Engine,
    courier: Courier,
    offer: Offer,
    every: Duration,
    sequence: u64,
}

impl Teller {
    /// Until the worker is gone.
    async fn tell(mut self, mut phase: watch::Receiver<Phase>) -> Courier {
        let mut status = self.engine.watch();
        let mut tick = tokio::time::interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset(); // what is told first is told at once
        let (mut told, mut last) = (None, None);
        loop {
            let phase_now = *phase.borrow_and_update();
            if let Phase::Gone { drained } = phase_now {
                // Where nothing was left to finish, the end may be there before the drain was seen here.
                if drained && !matches!(last, Some(State::Draining | State::Failed)) {
                    self.send(State::Draining, Errand::News);
                }
                self.send(State::Gone, Errand::Farewell(self.offer.worker_id.clone()));
                return self.courier;
            }
            let state = match &*status.borrow_and_update() {
                Status::Failed(_) => State::Failed,
                Status::Draining | Status::Stopped => State::Draining,
                _ if phase_now == Phase::Draining => State::Draining,
                Status::Loading(_) => State::Loading,
                Status::Ready => State::Ready,
            };
            if told != Some(state) {
                (told, last) = (Some(state), Some(state));
                self.send(state, Errand::News);
                tick.reset();
            }
            tokio::select! {
                // Why ignored: the engine is held here, and its state's sender with it.
                _ = status.changed() => {}
                changed = phase.changed() => if changed.is_err() {
                    return self.courier;
                },
                _ = tick.tick() => told = None,
            }
        }
    }

    fn send(&mut self, status: State, errand: Errand) {
        self.sequence += 1;
        let info = self.engine.info();
        let task = info.as_ref().map(|info| info.task.tag());
        let length = info.as_ref().map(|info| info.context_length);
        let context_length = length.filter(|tokens| *tokens > 0);
        let served = |id, aliases, parent| Served {
            id,
            aliases,
            parent,
            task,
            context_length,
        };
        let model = self.offer.model.as_str();
        let adapters = info.as_ref().map_or(&[][..], |info| &info.adapters[..]);
        let mut models = vec![served(model, &self.offer.aliases[..], None)];
        models.extend(adapters.iter().map(|name| served(name, &[], Some(model))));
        let id = event_id();
        let message = Message {
            id: &id,
            status,
            sequence: self.sequence,
            created: now(),
            every_s: self.every.as_secs_f64(),
            offer: &self.offer,
            models,
            tasks: task.into_iter().collect(),
        };
        self.courier.post(id.clone(), &message, errand);
    }
}
