//! How `serve` comes to its end: which of the things that run has ended first, and in what order the others follow. Apart
//! from the start, which only wires them together.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::exit::Exit;
use super::queue::Queue;
use super::signals::{Signals, exit_code};
use crate::api;
use crate::engine::Engine;
use crate::webhook::{Readiness, Registration};

/// After the engine's end: time for the answers that tell of it to reach their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The engine looks at its grace between two steps, so that it may end a little later.
const LAST_STEP: Duration = Duration::from_millis(250);
/// From the signal or the failure on: time for the webhook to take its last message.
const WEBHOOK_GRACE: Duration = Duration::from_secs(2);

/// What has ended, or asks for the end.
pub enum Ended {
    /// A person or a platform.
    Signal(&'static str),
    /// The engine can serve nobody.
    Failure(Exit),
    /// The port.
    Server(io::Result<()>),
    /// The job loop, by itself.
    Queue(Result<ExitCode, Exit>),
}

/// The HTTP server on its task.
pub struct Server {
    task: JoinHandle<io::Result<()>>,
    stop: oneshot::Sender<()>,
}

impl Server {
    /// Answers on a port until it is told to end.
    pub fn start(listener: TcpListener, router: Router, write_stall: Duration) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            let _ = stopped.await; // a dropped sender means the same
        };
        Self {
            task: tokio::spawn(api::serve(listener, router, write_stall, until)),
            stop,
        }
    }

    /// Takes no more connections; whether those that are open came to their end in time.
    async fn finish(self, grace: Duration) -> bool {
        drop(self.stop);
        tokio::time::timeout(grace, self.task).await.is_ok()
    }
}

/// Everything of a worker that has an end of its own.
pub struct Serving {
    /// Runs the model.
    pub engine: Engine,
    /// The port.
    pub server: Server,
    /// RunPod's job loop, where there is one.
    pub queue: Option<Queue>,
    /// Told of the end, where there is one.
    pub webhook: Option<Readiness>,
    /// Knows this worker, where there is one.
    pub registration: Option<Registration>,
}

impl Serving {
    /// Resolves when the server or the job loop has ended by itself.
    pub async fn ended(&mut self) -> Ended {
        tokio::select! {
            joined = &mut self.server.task => Ended::Server(joined.unwrap_or_else(|error| Err(io::Error::other(error)))),
            done = taken(&mut self.queue) => Ended::Queue(done),
        }
    }

    /// Ends the rest in order.
    ///
    /// # Errors
    /// What the process is to end with.
    pub async fn end(
        self,
        ended: Ended,
        grace: Duration,
        signals: &mut Signals,
    ) -> anyhow::Result<ExitCode> {
        match ended {
            Ended::Signal(name) => {
                tracing::info!(signal = name, grace_s = grace.as_secs_f64(), "draining");
                let drained = tokio::select! {
                    drained = self.drain(grace) => drained,
                    second = signals.next() => return Ok(ExitCode::from(exit_code(second))),
                };
                if drained {
                    tracing::info!("drained");
                } else {
                    tracing::warn!("the grace is over; what still ran was cut off");
                }
                Ok(ExitCode::SUCCESS)
            }
            Ended::Failure(exit) => {
                if let Some(queue) = self.queue {
                    queue.report().await;
                }
                let told = told(self.webhook);
                let off = taken_off(self.registration, LAST_WORDS);
                tokio::join!(self.server.finish(LAST_WORDS), told, off);
                Err(exit.into())
            }
            Ended::Queue(done) => {
                self.engine.drain(); // nobody else is to begin anything, and the webhook tells of the end
                let told = told(self.webhook);
                let off = taken_off(self.registration, LAST_WORDS);
                tokio::join!(self.server.finish(LAST_WORDS), told, off);
                Ok(done?)
            }
            Ended::Server(result) => {
                taken_off(self.registration, LAST_WORDS).await;
                result
                    .map(|()| ExitCode::SUCCESS)
                    .context("the HTTP server ended")
            }
        }
    }

    /// `false` when something was cut off.
    async fn drain(self, grace: Duration) -> bool {
        let end = Instant::now() + grace;
        // Before anything ends: what the gateway sends from now on, it sends elsewhere.
        if let Some(registration) = &self.registration {
            registration.draining();
        }
        let draining = async {
            // Jobs first: a draining engine would refuse those that have come but not begun.
            let answered = match self.queue {
                Some(queue) => queue.drain(grace).await,
                None => true,
            };
            let left = end.saturating_duration_since(Instant::now());
            let off = |left| taken_off(self.registration, left);
            drain(&self.engine, self.server, left, off).await && answered
        };
        // Together: the webhook's grace must not come on top of a drain that the platform's patience is set for.
        tokio::join!(draining, told(self.webhook)).0
    }
}

/// Resolves when the job loop has ended by itself; never where there is none.
async fn taken(queue: &mut Option<Queue>) -> Result<ExitCode, Exit> {
    match queue {
        Some(queue) => queue.ended().await,
        None => std::future::pending().await,
    }
}

/// Waits a little for the webhook to take its last message.
async fn told(webhook: Option<Readiness>) {
    if let Some(webhook) = webhook {
        webhook.finish(WEBHOOK_GRACE).await;
    }
}

/// Takes the worker off at its gateway, and waits a little for that.
async fn taken_off(registration: Option<Registration>, grace: Duration) {
    if let Some(registration) = registration {
        registration.finish(grace.min(WEBHOOK_GRACE)).await;
    }
}

/// Lets the engine finish while the port still answers (a client that meets a closed port does not know that it may try
/// again), and then the server; whatever else belongs to its end is done meanwhile. `false` when something was cut off.
async fn drain<F: Future<Output = ()>>(
    engine: &Engine,
    server: Server,
    grace: Duration,
    meanwhile: impl FnOnce(Duration) -> F,
) -> bool {
    let end = Instant::now() + grace;
    engine.drain();
    // Nothing runs on a model that has never been there, and its loading is not to be waited for.
    if engine.info().is_some() {
        let _ = tokio::time::timeout(grace + LAST_STEP, engine.stopped()).await;
    }
    let left = end.saturating_duration_since(Instant::now());
    let words = left.max(LAST_WORDS);
    let (finished, ()) = tokio::join!(server.finish(words), meanwhile(words));
    finished && !left.is_zero()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiSettings;
    use crate::engine::Status;

    #[tokio::test]
    async fn a_drain_answers_until_its_end_and_its_last_error_arrives() {
        use chandler_core::mock::{MockOptions, MockPipeline};
        let mock = MockOptions {
            step: Duration::from_millis(100), // 16 of them: more than the grace
            ..MockOptions::default()
        };
        let grace = Duration::from_millis(800);
        let options = crate::engine::EngineOptions {
            drain_grace: grace,
            ..Default::default()
        };
        let engine = Engine::start(options, move |_| Ok(MockPipeline::new(mock)));
        let mut status = engine.watch();
        status.wait_for(|s| *s == Status::Ready).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = api::router(ApiSettings::default(), engine.clone());
        let server = Server::start(listener, router, Duration::from_secs(60));
        let ask = || {
            let body = serde_json::json!({"messages": [{"role": "user", "content": "a"}]});
            let request = reqwest::Client::new().post(format!("{url}/v1/chat/completions"));
            tokio::spawn(request.json(&body).send())
        };
        let running = ask();
        while engine.counters().running == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let late = async {
            tokio::time::sleep(grace / 4).await;
            ask().await.unwrap().unwrap()
        };
        let (drained, late) = tokio::join!(drain(&engine, server, grace, |_| async {}), late);
        assert!(!drained);
        assert_eq!(late.status(), 503);
        assert!(late.headers().contains_key("retry-after"));
        let cut_off = running.await.unwrap().unwrap();
        assert_eq!(cut_off.status(), 503);
        let said = cut_off.text().await.unwrap();
        assert!(said.contains("the worker is stopping"), "{said}");
    }
}
