//! What a fetch would do, without doing it: `chandler pull --dry-run`.

use std::sync::Arc;

use serde::Serialize;

use super::super::cache::Lookup;
use super::super::choose::Skipped;
use super::super::remote::{Listing, Source};
use super::super::{Wanted, WeightsError};
use super::runtime::Fetching;
use super::{Ask, Query, Store, fetch};

/// What would be fetched.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Where from; nowhere, when everything is here and nobody was asked.
    pub source: Option<String>,
    /// The commit.
    pub commit: String,
    /// What is wanted.
    pub files: Vec<PlannedFile>,
    /// What is not.
    pub skipped: Vec<Skipped>,
}

/// A wanted file.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedFile {
    /// Its path.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Whether it is in the cache.
    pub here: bool,
}

impl Plan {
    /// Bytes that would come over the network.
    pub fn bytes(&self) -> u64 {
        let missing = self.files.iter().filter(|file| !file.here);
        missing.map(|file| file.size).sum()
    }
}

impl Store {
    /// What a fetch would bring. The source is asked for its listing, unless the network stays alone.
    ///
    /// # Errors
    /// As [`Store::fetch`].
    pub fn plan(&self, wanted: &Wanted, ask: &Ask) -> Result<Plan, WeightsError> {
        let query = self.query(wanted, ask)?;
        if self.options().offline {
            return self.plan_offline(&query);
        }
        let fetching = Fetching::start(ask.stop.clone())?;
        let planned = self.plan_online(&query, &fetching);
        planned.map_err(|error| error.with_hint(&wanted.hint))
    }

    fn plan_offline(&self, query: &Query<'_>) -> Result<Plan, WeightsError> {
        let Some(here) = self.here(query)? else {
            return Err(self.why_not_here(query)?);
        };
        let files = here.files.iter().map(|file| PlannedFile {
            path: file.path.clone(),
            size: file.size,
            here: true,
        });
        Ok(Plan {
            source: None,
            files: files.collect(),
            commit: here.commit,
            skipped: Vec::new(),
        })
    }

    fn plan_online(&self, query: &Query<'_>, fetching: &Fetching) -> Result<Plan, WeightsError> {
        let (source, listing) = self.listed(query, fetching)?;
        let (choice, files) = fetch::choose(&source, &listing, query, fetching)?;
        let names: Vec<String> = choice.files.clone();
        let wants = |_: &super::super::cache::Candidate<'_>| Some(names.clone());
        let looked = query
            .cache
            .look(&query.place.folder, &listing.commit, &wants)?;
        let here = |path: &String| match &looked {
            Lookup::Found(_) => true,
            Lookup::Incomplete { missing, .. } => !missing.contains(path),
            Lookup::Absent => false,
        };
        let files = files.into_iter().map(|file| PlannedFile {
            here: here(&file.path),
            path: file.path,
            size: file.size,
        });
        Ok(Plan {
            source: Some(source.name()),
            files: files.collect(),
            commit: listing.commit,
            skipped: choice.skipped,
        })
    }

    /// The first source that has it, as a fetch would ask them.
    pub(super) fn listed(
        &self,
        query: &Query<'_>,
        fetching: &Fetching,
    ) -> Result<(Arc<dyn Source>, Listing), WeightsError> {
        if let Some(mirror) = query.place.mirror(self.options())? {
            let found = mirror.find(&query.place.repository, &query.place.revision);
            match fetching.wait(found) {
                Ok(Some(source)) => {
                    let listing = fetching.wait(source.list())?;
                    return Ok((Arc::new(source), listing));
                }
                Ok(None) => {}
                Err(WeightsError::Stopped) => return Err(WeightsError::Stopped),
                Err(error) => tracing::warn!(%error, "the mirror is of no use; the hub is asked"),
            }
        }
        let source = query.place.source(self.options())?;
        let listing = fetching.wait(source.list())?;
        Ok((source, listing))
    }
}
