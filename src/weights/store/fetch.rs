//! Filling the cache from a source: which source, which files, and who of several processes fetches which of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::super::WeightsError;
use super::super::cache::{BlobClaim, Claim, Filling};
use super::super::choose::{Choice, Listed};
use super::super::progress::{FileProgress, Phase};
use super::super::remote::{Listing, RemoteFile, Source};
use super::super::transfer::{self, Job, Whole, transfer};
use super::runtime::Fetching;
use super::{Fetched, MirrorFill, Origin, Query, Store, local, read};

/// Between two looks at what another process fetches.
const POLL: Duration = Duration::from_millis(200);

impl Store {
    /// Asks the sources in order until one has it.
    pub(super) fn fetch_anew(
        &self,
        query: &Query<'_>,
        fetching: &Fetching,
    ) -> Result<Fetched, WeightsError> {
        if let Some(mirror) = query.place.mirror(&self.options)? {
            let repository = &query.place.repository;
            let found = fetching.wait(mirror.find(repository, &query.place.revision));
            let fetched = found.and_then(|source| match source {
                Some(source) => self.fetch_from(Arc::new(source), query, fetching).map(Some),
                None => Ok(None),
            });
            match fetched {
                Ok(Some((fetched, _))) => return Ok(fetched),
                Ok(None) => tracing::debug!(repository, "the mirror does not have it"),
                Err(WeightsError::Stopped) => return Err(WeightsError::Stopped),
                Err(error @ (WeightsError::Disk { .. } | WeightsError::Cache { .. })) => {
                    return Err(error);
                }
                Err(error) => tracing::warn!(%error, "the mirror is of no use; the hub is asked"),
            }
        }
        let source = query.place.source(&self.options)?;
        let (mut fetched, listing) = self.fetch_from(source, query, fetching)?;
        fetched.mirror = MirrorFill::new(query, &self.options, &fetched, listing)?;
        Ok(fetched)
    }

    /// Brings the wanted files of a source into the cache; gives back what was fetched, and the listing of these files.
    fn fetch_from(
        &self,
        source: Arc<dyn Source>,
        query: &Query<'_>,
        fetching: &Fetching,
    ) -> Result<(Fetched, Listing), WeightsError> {
        query.ask.progress.enter(Phase::Resolving);
        let mut listing = fetching.wait(source.list())?;
        let place = &query.place;
        if let Some(fetched) = self.here_at(query, &listing.commit)? {
            query
                .cache
                .point(&place.folder, &place.revision, &listing.commit)?;
            return Ok((fetched, listing));
        }
        let (choice, files) = choose(&source, &listing, query, fetching)?;
        tracing::info!(
            source = source.name(),
            commit = listing.commit,
            files = files.len(),
            bytes = files.iter().map(|file| file.size).sum::<u64>(),
            "fetching"
        );
        let filling = query.cache.fill(&place.folder, &listing, files.clone())?;
        query.ask.arrivals.expect(&filling.dir(), &files);
        let fill = Fill {
            source: source.clone(),
            filling: Arc::new(filling),
            query,
            options: self.transfer_options(),
        };
        fill.all(&files, fetching)?;
        query.ask.progress.enter(Phase::Verifying);
        let (found, in_use) = fill.filling.finish(Some(&place.revision))?;
        listing.files = files;
        let mut fetched = local::fetched(found, &choice, Arc::new(in_use));
        fetched.origin = Origin::Source(source.name());
        Ok((fetched, listing))
    }

    fn transfer_options(&self) -> transfer::Options {
        let usual = transfer::Options::default();
        transfer::Options {
            connections: self.options.connections.unwrap_or(usual.connections),
            read_timeout: self.options.stall,
            ..usual
        }
    }
}

/// Which files of a listing are wanted.
pub(super) fn choose(
    source: &Arc<dyn Source>,
    listing: &Listing,
    query: &Query<'_>,
    fetching: &Fetching,
) -> Result<(Choice, Vec<RemoteFile>), WeightsError> {
    let listed = listing.files.iter().map(|file| Listed {
        path: &file.path,
        size: file.size,
    });
    let listed: Vec<Listed<'_>> = listed.collect();
    let mut read = BTreeMap::new();
    for path in query.rule.undecided(&listed) {
        if let Some(file) = listing.files.iter().find(|file| file.path == path) {
            read.insert(path, fetching.wait(read::whole(source.as_ref(), file))?);
        }
    }
    let choice = query
        .rule
        .choose(&listed, &|path| read.get(path).cloned())?;
    let mut files = Vec::with_capacity(choice.files.len());
    for path in &choice.files {
        files.extend(
            listing
                .files
                .iter()
                .find(|file| file.path == *path)
                .cloned(),
        );
    }
    Ok((choice, files))
}

/// One snapshot that is being filled.
struct Fill<'a> {
    source: Arc<dyn Source>,
    filling: Arc<Filling>,
    query: &'a Query<'a>,
    options: transfer::Options,
}

/// A file that is ours to fetch.
type Claimed = (Open, BlobClaim);

/// A file that is not here yet, and its counters.
type Open = (RemoteFile, Arc<FileProgress>);

impl Fill<'_> {
    /// Fetches what is free, waits for what others fetch, and takes over what they leave behind, until everything is here.
    fn all(&self, files: &[RemoteFile], fetching: &Fetching) -> Result<(), WeightsError> {
        let progress = &self.query.ask.progress;
        let mut open: Vec<Open> = files
            .iter()
            .map(|file| (file.clone(), progress.add(&file.path, file.size)))
            .collect();
        loop {
            let (mine, theirs) = self.claim(open)?;
            if !mine.is_empty() {
                progress.enter(Phase::Transferring);
                self.fetch(mine, fetching)?;
            }
            if theirs.is_empty() {
                return Ok(());
            }
            if fetching.stop().is_set() {
                return Err(WeightsError::Stopped);
            }
            progress.enter(Phase::Waiting);
            fetching.sleep(POLL)?;
            open = theirs;
        }
    }

    /// Sorts what is not here into what is ours to fetch and what is not.
    fn claim(&self, open: Vec<Open>) -> Result<(Vec<Claimed>, Vec<Open>), WeightsError> {
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for (file, counter) in open {
            match self.filling.claim(&file)? {
                Claim::Here => {
                    counter.reset(file.size);
                    self.query.ask.arrivals.arrive(&file.path);
                }
                Claim::Mine(claim) => mine.push(((file, counter), claim)),
                Claim::Theirs => theirs.push((file, counter)),
            }
        }
        Ok((mine, theirs))
    }

    fn fetch(&self, mine: Vec<Claimed>, fetching: &Fetching) -> Result<(), WeightsError> {
        let mut claims: BTreeMap<PathBuf, BlobClaim> = BTreeMap::new();
        let mut jobs = Vec::with_capacity(mine.len());
        for ((file, progress), claim) in mine {
            let partial = claim.partial().to_owned();
            jobs.push(Job {
                file,
                partial: partial.clone(),
                progress,
            });
            claims.insert(partial, claim);
        }
        let (claims, filling) = (Mutex::new(claims), self.filling.clone());
        let arrivals = self.query.ask.arrivals.clone();
        let whole: Whole = Arc::new(move |job: &Job| {
            let claim = claims
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&job.partial);
            if let Some(claim) = claim {
                filling.put(claim)?;
            }
            arrivals.arrive(&job.file.path);
            Ok(())
        });
        let (source, stop) = (self.source.clone(), fetching.stop());
        fetching.finish(transfer(source, jobs, &self.options, stop, whole))
    }
}
