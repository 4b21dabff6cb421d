//! The runtime that a fetch runs on: its own, so that neither the front doors' tasks nor the model's thread ever stand behind
//! a write to a slow disk, and gone when the fetch is.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::super::WeightsError;
use super::super::transfer::Stop;

/// Blocked writes are made on these threads: fewer than two would stop the network while one is made, and more than eight
/// gain nothing that a disk could take.
const THREADS: (usize, usize) = (2, 8);
/// A read of the disk that hangs must not hold up the end of the process.
const PATIENCE: Duration = Duration::from_millis(200);

/// A fetch under way.
pub struct Fetching {
    /// Always there until the drop.
    runtime: Option<Runtime>,
    stop: Stop,
}

impl Fetching {
    /// Starts its threads.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(stop: Stop) -> Result<Self, WeightsError> {
        let cores = std::thread::available_parallelism().map_or(THREADS.0, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores.clamp(THREADS.0, THREADS.1))
            .thread_name("weights")
            .enable_all()
            .build()
            .map_err(|error| WeightsError::Unreachable {
                place: "the network".to_owned(),
                reason: format!("its threads did not start: {error}"),
            })?;
        Ok(Self {
            runtime: Some(runtime),
            stop,
        })
    }

    /// Waits for something asynchronous, and no longer than until the fetch is stopped.
    ///
    /// # Errors
    /// Its own, or [`WeightsError::Stopped`].
    pub fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, WeightsError>>,
    ) -> Result<T, WeightsError> {
        let Some(runtime) = &self.runtime else {
            return Err(WeightsError::Stopped);
        };
        runtime.block_on(async {
            tokio::select! {
                biased;
                done = work => done,
                () = self.stop.wait() => Err(WeightsError::Stopped),
            }
        })
    }

    /// Waits for something that looks at the stop itself, and ends in its own order.
    ///
    /// # Errors
    /// Its own.
    pub fn finish<T>(
        &self,
        work: impl Future<Output = Result<T, WeightsError>>,
    ) -> Result<T, WeightsError> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(work),
            None => Err(WeightsError::Stopped),
        }
    }

    /// Sleeps a while.
    ///
    /// # Errors
    /// [`WeightsError::Stopped`].
    pub fn sleep(&self, time: Duration) -> Result<(), WeightsError> {
        self.wait(async {
            tokio::time::sleep(time).await;
            Ok(())
        })
    }

    /// What ends it.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}
