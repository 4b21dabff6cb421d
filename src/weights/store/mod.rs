//! The one resolver: from what somebody wants to a directory that holds it. The local cache first; then the mirror, the hub or
//! the bucket; and where the network fails, what the cache has of an older day.
//!
//! Everything here blocks the thread that asks, which is the model's own or a command's. What is asynchronous runs on a
//! runtime that lives as long as the fetch ([`runtime`]).

mod arrivals;
mod budget;
mod fetch;
mod local;
mod mirror;
mod peek;
mod plan;
mod read;
mod runtime;
mod sources;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use arrivals::Arrivals;
pub use mirror::MirrorFill;
pub use peek::Peek;
pub use plan::{Plan, PlannedFile};

use super::cache::{Cache, CacheOptions, FileSize, InUse};
use super::choose::Rule;
use super::progress::{Phase, Progress};
use super::transfer::Stop;
use super::{StoreOptions, Wanted, WeightsError};
use runtime::Fetching;
use sources::Place;

/// Where weights come from and where they are kept.
#[derive(Debug, Clone)]
pub struct Store {
    options: Arc<StoreOptions>,
}

/// How a fetch goes about it.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Whether the source is asked although everything is here: the branch may have moved on.
    pub refresh: bool,
    /// Counts what comes.
    pub progress: Arc<Progress>,
    /// Ends the fetch; what has come is kept.
    pub stop: Stop,
    /// Is told of every file that is there, for whoever begins before the last one is.
    pub arrivals: Arc<Arrivals>,
}

/// A snapshot that is here, and stays as long as this lives.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Its directory.
    pub dir: PathBuf,
    /// Its commit.
    pub commit: String,
    /// Its files that are wanted.
    pub files: Vec<FileSize>,
    /// The model's one file, or the first of a split GGUF, where it is one.
    pub file: Option<PathBuf>,
    /// Where it came from.
    pub origin: Origin,
    /// What remains to be done for the mirror.
    pub mirror: Option<MirrorFill>,
    _in_use: Arc<InUse>,
}

/// Where a snapshot came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It was in the cache.
    Cache,
    /// It was in the cache; the source could not be asked whether there is a newer one.
    Stale,
    /// From this source.
    Source(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cache => f.write_str("the cache"),
            Self::Stale => f.write_str("the cache, perhaps stale"),
            Self::Source(name) => f.write_str(name),
        }
    }
}

/// One question to the store, with everything that its answer takes.
pub(super) struct Query<'a> {
    pub wanted: &'a Wanted,
    pub ask: &'a Ask,
    pub rule: Rule,
    pub cache: Cache,
    pub place: Place,
}

impl Store {
    /// A store with these options. Touches nothing.
    pub fn new(options: StoreOptions) -> Self {
        Self {
            options: Arc::new(options),
        }
    }

    /// Its options.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// Brings what is wanted. A whole snapshot in the cache is taken without any network, unless `ask` wants it anew.
    ///
    /// # Errors
    /// [`WeightsError`]; [`WeightsError::Stopped`] when somebody has asked for the end.
    pub fn fetch(&self, wanted: &Wanted, ask: &Ask) -> Result<Fetched, WeightsError> {
        let fetched = self.fetched(wanted, ask);
        let end = fetched.as_ref().map(drop);
        ask.arrivals.end(end.map_err(ToString::to_string));
        fetched
    }

    fn fetched(&self, wanted: &Wanted, ask: &Ask) -> Result<Fetched, WeightsError> {
        let query = self.query(wanted, ask)?;
        ask.progress.enter(Phase::Resolving);
        let hinted = |error: WeightsError| error.with_hint(&wanted.hint);
        if (!ask.refresh || self.options.offline)
            && let Some(fetched) = self.here(&query)?
        {
            ask.progress.enter(Phase::Done);
            return Ok(fetched);
        }
        if self.options.offline {
            return Err(self.why_not_here(&query)?);
        }
        if self.options.cache.is_none() {
            return Err(WeightsError::NoCache(wanted.location.to_string()));
        }
        let fetching = Fetching::start(ask.stop.clone())?;
        let fetched = match self.fetch_anew(&query, &fetching) {
            Ok(fetched) => fetched,
            Err(error) if ask.refresh && error.is_of_the_network() => {
                let Some(mut fetched) = self.here(&query)? else {
                    return Err(hinted(error));
                };
                tracing::warn!(%error, commit = fetched.commit, "what is in the cache is served, and may be stale");
                fetched.origin = Origin::Stale;
                fetched
            }
            Err(error) => return Err(hinted(error)),
        };
        ask.progress.enter(Phase::Done);
        self.keep_to_budget(&query);
        Ok(fetched)
    }

    fn query<'a>(&self, wanted: &'a Wanted, ask: &'a Ask) -> Result<Query<'a>, WeightsError> {
        let place = Place::of(&wanted.location, &self.options)?;
        Ok(Query {
            wanted,
            ask,
            rule: Rule::new(wanted, &self.options),
            cache: self.cache(),
            place,
        })
    }

    /// The cache. Without a place to write, the first that is only read stands in for it, and nothing is ever put there.
    fn cache(&self) -> Cache {
        let options = &self.options;
        let root = options.cache.as_ref().or(options.read_caches.first());
        Cache::open(CacheOptions {
            read_only: options.read_caches.clone(),
            symlinks: options.symlinks,
            ..CacheOptions::new(root.cloned().unwrap_or_default())
        })
    }
}
