//! A platform and a worker of ours on it, and the few ways in which tests look at both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use chandler::engine::{Engine, EngineOptions};
use chandler::runpod::{self, End, Environment, Options, Outputs, Setup};
use chandler_core::mock::{MockOptions, MockPipeline};
use runpod_platform::{Platform, Snapshot};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::work::{Seen, Told};

pub const SOON: Duration = Duration::from_secs(20);

pub struct Worker {
    pub platform: Platform,
    pub engine: Engine,
    pub seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<End>,
}

/// What to start; tests change what they are about.
pub struct Start {
    pub platform: runpod_platform::Options,
    pub options: Options,
    pub variables: Vec<(&'static str, &'static str)>,
    pub outputs: Option<Arc<dyn Outputs>>,
    /// The model loads until its sender is dropped, or says why it cannot.
    pub loading: Option<Receiver<String>>,
    /// A pass through the model.
    pub step: Duration,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            platform: runpod_platform::Options {
                keep_wire: true,
                ..Default::default()
            },
            options: Options::default(),
            variables: Vec::new(),
            outputs: None,
            loading: None,
            step: Duration::ZERO,
        }
    }
}

impl Start {
    pub fn rows(rows: usize) -> Self {
        let mut start = Self::default();
        start.options.rows = rows;
        start
    }

    pub async fn start(self) -> Worker {
        let platform = Platform::start(self.platform.clone()).await.unwrap();
        self.on(platform, |_| {})
    }

    /// On a platform that has something waiting for its first worker.
    pub async fn after(self, prepare: impl FnOnce(&Platform)) -> Worker {
        let platform = Platform::start(self.platform.clone()).await.unwrap();
        self.on(platform, prepare)
    }

    pub fn on(self, platform: Platform, prepare: impl FnOnce(&Platform)) -> Worker {
        prepare(&platform);
        let mut variables: BTreeMap<String, String> =
            platform.environment("w1").into_iter().collect();
        for (name, value) in &self.variables {
            variables.insert((*name).into(), (*value).into());
        }
        let loading = self.loading;
        let (rows, step) = (self.options.rows, self.step);
        let engine = Engine::start(EngineOptions::default(), move |_| {
            if let Some(why) = loading.and_then(|loading| loading.recv().ok()) {
                return Err(chandler_core::LoadError(why));
            }
            Ok(MockPipeline::new(MockOptions {
                rows,
                step,
                ..MockOptions::default()
            }))
        });
        let work = Told::default();
        let seen = work.seen.clone();
        let setup = Setup {
            environment: Environment::read(&variables).unwrap(),
            engine: engine.clone(),
            work: Arc::new(work),
            outputs: self.outputs,
            options: self.options,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let until = async {
                let _ = stopped.await;
            };
            runpod::run(setup, until).await.unwrap()
        });
        Worker {
            platform,
            engine,
            seen,
            stop: Some(stop),
            task,
        }
    }
}

impl Worker {
    /// Gives a job and waits for its end.
    pub async fn does(&self, input: Value) -> Snapshot {
        let id = self.platform.submit(input);
        self.ended(&id).await
    }

    pub async fn ended(&self, id: &str) -> Snapshot {
        self.platform
            .ended(id, SOON)
            .await
            .unwrap_or_else(|| panic!("{id} does not end: {:?}", self.platform.account()))
    }

    pub async fn taken(&self, id: &str) {
        assert!(self.platform.taken(id, SOON).await);
    }

    /// As SIGTERM does.
    pub fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits for its end, which comes by itself or has been asked for.
    pub async fn end_with_platform(self) -> (Platform, End) {
        let end = tokio::time::timeout(SOON, self.task)
            .await
            .unwrap()
            .unwrap();
        drop(self.stop);
        (self.platform, end)
    }

    /// Stops it and sees that no rule of the platform's was broken.
    pub async fn stop(mut self) -> End {
        self.tell_to_stop();
        let end = tokio::time::timeout(SOON, self.task)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(self.platform.account().violations, []);
        end
    }
}

/// Waits until something holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What the JSON in an `error` says.
pub fn error_of(job: &Snapshot) -> Value {
    let text = job.view["error"]
        .as_str()
        .unwrap_or_else(|| panic!("{}", job.view));
    serde_json::from_str(text).unwrap()
}
