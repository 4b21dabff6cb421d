//! Filling the mirror after a fetch from the hub: by whoever waits for it (`chandler pull`), or behind a model that is served.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::mirror::{Fill, Filled, Mirror, Scope};
use super::super::progress::Progress;
use super::super::remote::Listing;
use super::super::{StoreOptions, WeightsError};
use super::{Fetched, InUse, Query};

/// Requests at once behind a model that is served, and where somebody waits.
const BEHIND: usize = 2;
const WAITED_FOR: usize = 8;

/// What is to be put into the mirror.
#[derive(Clone)]
pub struct MirrorFill {
    mirror: Mirror,
    repository: String,
    revision: String,
    listing: Listing,
    snapshot: std::path::PathBuf,
    /// The files must stay until they are there.
    in_use: Arc<InUse>,
}

impl fmt::Debug for MirrorFill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorFill")
            .field("mirror", &self.mirror.name())
            .field("repository", &self.repository)
            .finish_non_exhaustive()
    }
}

impl MirrorFill {
    /// What was fetched from the hub is put into a private mirror.
    pub(super) fn new(
        query: &Query<'_>,
        options: &StoreOptions,
        fetched: &Fetched,
        listing: Listing,
    ) -> Result<Option<Self>, WeightsError> {
        let Some(mirror) = query.place.mirror(options)? else {
            return Ok(None);
        };
        if mirror.scope() != Scope::Private {
            return Ok(None);
        }
        Ok(Some(Self {
            mirror,
            repository: query.place.repository.clone(),
            revision: query.place.revision.clone(),
            listing,
            snapshot: fetched.dir.clone(),
            in_use: fetched._in_use.clone(),
        }))
    }

    /// Where it goes.
    pub fn name(&self) -> String {
        self.mirror.name()
    }

    /// Sends up what the mirror lacks, and waits for it.
    ///
    /// # Errors
    /// What the store says.
    pub fn run(
        &self,
        progress: Arc<Progress>,
        cancelled: &AtomicBool,
    ) -> Result<Filled, WeightsError> {
        let stopped = || cancelled.load(Ordering::Relaxed);
        self.send(progress, &stopped, WAITED_FOR)
    }

    /// Sends it up behind everything else; that this fails costs the next worker time, and nobody else anything. It ends with
    /// the process at the latest: the manifest comes last, and without it nobody takes the mirror for filled.
    pub fn in_background(self) {
        let name = self.name();
        let work = move || match self.send(Arc::default(), &|| false, BEHIND) {
            Ok(filled) => tracing::info!(mirror = self.name(), ?filled, "the mirror is filled"),
            Err(error) => {
                tracing::warn!(%error, mirror = self.name(), "the mirror could not be filled")
            }
        };
        let spawned = std::thread::Builder::new()
            .name("mirror".into())
            .spawn(work);
        if let Err(error) = spawned {
            tracing::warn!(%error, mirror = name, "the mirror is not filled: its thread did not start");
        }
    }

    fn send(
        &self,
        progress: Arc<Progress>,
        stopped: &(dyn Fn() -> bool + Sync),
        at_once: usize,
    ) -> Result<Filled, WeightsError> {
        let _held = &self.in_use;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(WeightsError::disk(&self.snapshot))?;
        let fill = Fill {
            repository: self.repository.clone(),
            revision: Some(self.revision.clone()),
            listing: self.listing.clone(),
            snapshot: self.snapshot.clone(),
            progress,
            at_once,
        };
        runtime.block_on(self.mirror.fill(&fill, stopped))
    }
}
