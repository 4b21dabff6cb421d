//! Bringing a model's files while its engine counts as loading: the store works on a thread beside, and here its counters
//! become the engine's stage, and a drain becomes the store's end.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use chandler_core::LoadError;

use super::{Download, LoadProgress, Stage};
use crate::weights::progress::{Phase, Progress};
use crate::weights::store::{Ask, Fetched, Store};
use crate::weights::{Wanted, WeightsError};

/// Between two looks at the counters, and at whether somebody wants the end.
const TICK: Duration = Duration::from_millis(50);

/// What brings files that are elsewhere.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Where they come from and where they are kept.
    pub store: Store,
    /// Whether the source is asked although everything is here.
    pub refresh: bool,
    /// Counts what comes, for whoever shows it file by file.
    pub progress: Arc<Progress>,
}

impl Fetch {
    /// Brings a model or an adapter, and tells how far that is.
    ///
    /// # Errors
    /// What the store says.
    pub fn bring(
        &self,
        wanted: &Wanted,
        progress: &LoadProgress<'_>,
    ) -> Result<Fetched, LoadError> {
        progress.stage(Stage::Resolving);
        let ask = Ask {
            refresh: self.refresh,
            progress: self.progress.clone(),
            ..Ask::default()
        };
        let (sender, done) = channel();
        let work = {
            let (store, wanted, ask) = (self.store.clone(), wanted.clone(), ask.clone());
            // Why ignored: whoever waited is gone only after a panic here.
            move || drop(sender.send(store.fetch(&wanted, &ask)))
        };
        let spawned = std::thread::Builder::new().name("fetch".into()).spawn(work);
        spawned.map_err(|error| LoadError::context("the fetch did not start", error))?;
        let fetched = loop {
            let fetched = done.recv_timeout(TICK);
            self.tell(progress);
            match fetched {
                Ok(fetched) => break fetched,
                Err(RecvTimeoutError::Timeout) if progress.stopped() => ask.stop.set(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(LoadError("the fetch ended without an answer".to_owned()));
                }
            }
        };
        let mut fetched = fetched.map_err(|error: WeightsError| LoadError(error.to_string()))?;
        tracing::info!(
            model = %wanted.location,
            origin = %fetched.origin,
            commit = fetched.commit,
            directory = %fetched.dir.display(),
            "files are here"
        );
        if let Some(mirror) = fetched.mirror.take() {
            mirror.in_background();
        }
        Ok(fetched)
    }

    fn tell(&self, progress: &LoadProgress<'_>) {
        let totals = self.progress.totals();
        match totals.phase {
            Phase::Resolving => progress.stage(Stage::Resolving),
            Phase::Waiting => progress.stage(Stage::Waiting),
            Phase::Transferring => progress.stage(Stage::Downloading),
            Phase::Verifying => progress.stage(Stage::Verifying),
            Phase::Done => {}
        }
        progress.download(Download {
            files: totals.files,
            total_bytes: totals.size,
            received_bytes: totals.received,
            verified_bytes: totals.verified,
        });
    }
}
