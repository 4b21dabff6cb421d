//! `chandler serve` as a RunPod queue worker: the job loop beside the HTTP server, in the same process and on the same engine.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::exit::{DEVICE_LOST, Exit, FAILED, USAGE};
use super::outward;
use crate::config::Settings;
use crate::engine::Engine;
use crate::runpod::{End, Environment, EnvironmentError, Options, Setup, Variables, Work, run};

/// Beyond its grace the loop needs no more than the platform's own last word.
const OVERTIME: Duration = Duration::from_secs(4);

/// The loop, on its own task.
pub struct Queue {
    task: JoinHandle<Result<End, EnvironmentError>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Queue {
    /// Starts it.
    ///
    /// # Errors
    /// A variable of the platform's that makes no sense.
    pub fn start(
        settings: &Settings,
        engine: &Engine,
        work: Arc<dyn Work>,
        started: Instant,
    ) -> Result<Self, Exit> {
        let environment = Environment::read(&variables()).map_err(unusable)?;
        tracing::info!(worker = environment.worker_id(), "a RunPod queue worker");
        let setup = Setup {
            environment,
            engine: engine.clone(),
            work,
            outputs: Some(Arc::new(outward::outputs(settings)?)),
            options: Options {
                rows: settings.max_rows.get(),
                prefetch: settings.runpod_prefetch.value,
                output_limit: None,
                drain_grace: *settings.drain_grace,
                started,
            },
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            let _ = stopped.await; // a dropped sender means the same
        };
        Ok(Self {
            task: tokio::spawn(run(setup, until)),
            stop: Some(stop),
        })
    }

    /// Resolves when the loop has ended by itself.
    pub async fn ended(&mut self) -> Result<ExitCode, Exit> {
        match (&mut self.task).await {
            Ok(Ok(End::Drained { .. })) => Ok(ExitCode::SUCCESS),
            Ok(Ok(End::Refresh)) => {
                tracing::info!("a job asked for a new worker; all jobs are answered");
                Ok(ExitCode::SUCCESS)
            }
            Ok(Ok(End::Failed(reason))) => Err(Exit::new(DEVICE_LOST, reason)),
            Ok(Ok(End::Unfit(unfit))) => Err(Exit::new(
                FAILED,
                format!(
                    "this machine is not fit to work: {}: {}; RUNPOD_SKIP_AUTO_SYSTEM_CHECKS=true takes it all the same",
                    unfit.check, unfit.reason
                ),
            )),
            Ok(Err(error)) => Err(unusable(error)),
            Err(join) => Err(Exit::new(
                FAILED,
                format!("the job loop was cut off: {join}"),
            )),
        }
    }

    /// Takes no more jobs, and waits until those in hand are answered.
    pub async fn drain(mut self, grace: Duration) -> bool {
        drop(self.stop.take());
        match tokio::time::timeout(grace + OVERTIME, &mut self.task).await {
            Ok(Ok(Ok(End::Drained { lost }))) => lost == 0,
            Ok(_) => true,
            Err(_) => false,
        }
    }

    /// After the engine's end: lets the platform be told.
    pub async fn report(mut self) {
        // Why ignored: the process ends for a reason that is known already.
        let _ = tokio::time::timeout(OVERTIME * 2, &mut self.task).await;
    }
}

fn unusable(error: EnvironmentError) -> Exit {
    Exit::new(USAGE, error.to_string())
}

/// The process's variables; one that is no text cannot be the platform's.
fn variables() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
