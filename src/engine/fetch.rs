//! Bringing a model's files while its engine counts as loading: the store works on a thread beside, and here its counters
//! become the engine's stage, and a drain becomes the store's end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use chandler_core::LoadError;

use super::{Download, LoadProgress, Stage};
use crate::weights::progress::{Phase, Progress};
use crate::weights::store::{Arrivals, Ask, Fetched, Store};
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

/// A fetch under way, on a thread of its own.
pub struct Coming {
    done: Receiver<Result<Fetched, WeightsError>>,
    ask: Ask,
    name: String,
}

/// Looks at a fetch while something else is done with what is there.
pub struct Watch(Ask);

/// How a model comes.
pub enum Brought {
    /// It is all there.
    Whole(Box<Fetched>),
    /// Enough is there to begin with, in this directory.
    Begun(PathBuf, Coming),
}

impl Fetch {
    /// Brings a model or an adapter whole, and tells how far that is.
    ///
    /// # Errors
    /// What the store says.
    pub fn bring(
        &self,
        wanted: &Wanted,
        progress: &LoadProgress<'_>,
    ) -> Result<Fetched, LoadError> {
        self.start(wanted, progress)?.whole(progress)
    }

    /// Brings a model, and returns as soon as loading may begin.
    ///
    /// # Errors
    /// What the store says.
    pub fn begin(
        &self,
        wanted: &Wanted,
        progress: &LoadProgress<'_>,
    ) -> Result<Brought, LoadError> {
        let coming = self.start(wanted, progress)?;
        loop {
            if let Some(fetched) = coming.tick(progress)? {
                return Ok(Brought::Whole(Box::new(fetched)));
            }
            if let Some(dir) = coming.ask.arrivals.begun() {
                return Ok(Brought::Begun(dir, coming));
            }
        }
    }

    fn start(&self, wanted: &Wanted, progress: &LoadProgress<'_>) -> Result<Coming, LoadError> {
        progress.stage(Stage::Resolving);
        let ask = Ask {
            refresh: self.refresh,
            progress: self.progress.clone(),
            ..Ask::default()
        };
        let (sender, done) = channel();
        let work = {
            let (store, wanted, ask) = (self.store.clone(), wanted.clone(), ask.clone());
            // Why ignored: whoever waited has given up.
            move || drop(sender.send(store.fetch(&wanted, &ask)))
        };
        let spawned = std::thread::Builder::new().name("fetch".into()).spawn(work);
        spawned.map_err(|error| LoadError::context("the fetch did not start", error))?;
        Ok(Coming {
            done,
            ask,
            name: wanted.location.to_string(),
        })
    }
}

impl Coming {
    /// What tells of each file.
    pub fn arrivals(&self) -> &Arc<Arrivals> {
        &self.ask.arrivals
    }

    /// Waits for all of it.
    ///
    /// # Errors
    /// What the store says.
    pub fn whole(self, progress: &LoadProgress<'_>) -> Result<Fetched, LoadError> {
        loop {
            if let Some(fetched) = self.tick(progress)? {
                return Ok(fetched);
            }
        }
    }

    /// What tells how far it is from another thread.
    pub fn watch(&self) -> Watch {
        Watch(self.ask.clone())
    }

    /// Looks once, for a moment.
    fn tick(&self, progress: &LoadProgress<'_>) -> Result<Option<Fetched>, LoadError> {
        let fetched = self.done.recv_timeout(TICK);
        match self.watch().count(progress) {
            Phase::Resolving => progress.stage(Stage::Resolving),
            Phase::Waiting => progress.stage(Stage::Waiting),
            Phase::Transferring => progress.stage(Stage::Downloading),
            Phase::Verifying => progress.stage(Stage::Verifying),
            Phase::Done => {}
        }
        match fetched {
            Ok(fetched) => {
                let fetched = fetched.map_err(|error| LoadError(error.to_string()))?;
                Ok(Some(self.settle(fetched)))
            }
            Err(RecvTimeoutError::Timeout) => {
                if progress.stopped() {
                    self.ask.stop.set();
                }
                Ok(None)
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(LoadError("the fetch ended without an answer".to_owned()))
            }
        }
    }

    fn settle(&self, mut fetched: Fetched) -> Fetched {
        tracing::info!(
            model = self.name,
            origin = %fetched.origin,
            commit = fetched.commit,
            directory = %fetched.dir.display(),
            "files are here"
        );
        if let Some(mirror) = fetched.mirror.take() {
            mirror.in_background();
        }
        fetched
    }
}

impl Watch {
    /// Tells how far it is while something else is done with what is there, until `over` has no sender any more.
    pub fn follow(&self, progress: &LoadProgress<'_>, over: &Receiver<()>) {
        let mut interrupted = None;
        while over.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            self.count(progress);
            let awaited = self.0.arrivals.is_awaited();
            match (awaited, interrupted) {
                (true, None) => {
                    interrupted = progress.now();
                    progress.stage(Stage::Downloading);
                }
                (false, Some(stage)) => {
                    interrupted = None;
                    progress.stage(stage);
                }
                _ => {}
            }
            if progress.stopped() {
                self.0.stop.set();
            }
        }
    }

    fn count(&self, progress: &LoadProgress<'_>) -> Phase {
        let totals = self.0.progress.totals();
        progress.download(Download {
            files: totals.files,
            total_bytes: totals.size,
            received_bytes: totals.received,
            verified_bytes: totals.verified,
        });
        totals.phase
    }
}
