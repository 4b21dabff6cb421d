//! Filling a mirror: what it lacks goes up, each file looked at first, then the manifest, then the ref. Several may fill at
//! once: they write the same bytes under the same keys, and the manifest only ever grows.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Mirror, Scope, digest, layout, unless};
use crate::storage::{Condition, Sending};
use crate::weights::WeightsError;
use crate::weights::manifest::{Manifest, is_commit};
use crate::weights::names;
use crate::weights::progress::Progress;
use crate::weights::remote::{Listing, RemoteFile};
use crate::weights::s3::Place;

/// Files up to this size go several at a time; larger ones one after another, in parts that go several at a time.
const SMALL: u64 = 16 << 20;
/// How often a manifest is written anew because somebody else wrote it in between.
const TURNS: usize = 8;

/// What a mirror is to be filled with.
pub struct Fill {
    /// `org/name`.
    pub repository: String,
    /// The branch or tag that stood for the commit.
    pub revision: Option<String>,
    /// The commit, and those of its files that lie on the disk.
    pub listing: Listing,
    /// Where they lie.
    pub snapshot: PathBuf,
    /// Is told of the files that go up.
    pub progress: Arc<Progress>,
    /// Requests at the same time; two in the background.
    pub at_once: usize,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// Nothing may be written there.
    Off,
    /// Everything was there.
    Already,
    /// So much went up.
    Wrote {
        /// Files.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// It was given up; what went up stays, and is not sent again.
    Cancelled,
}

impl Mirror {
    /// Sends up what the mirror lacks. `cancelled` is looked at many times a second.
    ///
    /// # Errors
    /// A store that refuses, and files on the disk that are not what the listing says: those go nowhere.
    pub async fn fill(
        &self,
        fill: &Fill,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Filled, WeightsError> {
        // Why here, before everything: no later change may write to a mirror that others share.
        if self.scope != Scope::Private {
            return Ok(Filled::Off);
        }
        match self.filled(fill, cancelled).await {
            Err(WeightsError::Stopped) => Ok(Filled::Cancelled),
            other => other,
        }
    }

    async fn filled(
        &self,
        fill: &Fill,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Filled, WeightsError> {
        let commit = &fill.listing.commit;
        names::repository(&fill.repository)?;
        if !is_commit(commit) {
            return Err(WeightsError::Malformed {
                place: self.name(),
                reason: format!(
                    "`{commit}` is no commit, so that nobody could find the model by it"
                ),
            });
        }
        let up = Up {
            place: &self.place,
            base: self.place.key(&layout::folder(&fill.repository)),
            fill,
            cancelled,
        };
        let key = format!("{}/{}", up.base, layout::manifest(commit));
        let old = unless(cancelled, self.place.manifest(&key)).await?;
        if let Some((manifest, _)) = &old {
            self.is_of(manifest, &fill.repository, commit)?;
        }
        let missing = missing(old.as_ref().map(|(manifest, _)| manifest), fill);
        let (sent, files, bytes) = up.files(&missing).await?;
        let recorded = async {
            if !sent.is_empty() {
                up.manifest(&key, old, sent).await?;
            }
            match &fill.revision {
                Some(revision) => up.reference(revision).await,
                None => Ok(()),
            }
        };
        unless(cancelled, recorded).await?;
        Ok(match missing.is_empty() {
            true => Filled::Already,
            false => Filled::Wrote { files, bytes },
        })
    }
}

/// What a manifest does not name yet.
fn missing<'a>(manifest: Option<&Manifest>, fill: &'a Fill) -> Vec<&'a RemoteFile> {
    let named = manifest.map_or_else(HashMap::new, by_path);
    let files = fill.listing.files.iter();
    files
        .filter(|file| !named.contains_key(file.path.as_str()))
        .collect()
}

fn by_path(manifest: &Manifest) -> HashMap<&str, &RemoteFile> {
    let files = manifest.files.iter();
    files.map(|file| (file.path.as_str(), file)).collect()
}

/// One filling.
struct Up<'a> {
    place: &'a Place,
    base: String,
    fill: &'a Fill,
    cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Up<'_> {
    /// Looks at the files and sends those that are not there; all of them, and how many and how large those that went up.
    async fn files(
        &self,
        missing: &[&RemoteFile],
    ) -> Result<(Vec<RemoteFile>, usize, u64), WeightsError> {
        if missing.is_empty() {
            return Ok((Vec::new(), 0, 0));
        }
        let snapshot = format!("{}/snapshots/{}/", self.base, self.fill.listing.commit);
        // Objects appear whole or not at all, so that one of the right size is one that somebody sent.
        let stored = unless(self.cancelled, self.place.list(&snapshot)).await?;
        let there: HashMap<String, u64> = stored
            .into_iter()
            .map(|object| (object.key, object.size))
            .collect();
        let (small, large): (Vec<&RemoteFile>, Vec<&RemoteFile>) =
            missing.iter().partition(|file| file.size <= SMALL);
        let mut sent = Vec::new();
        for (files, at_once) in [(small, self.fill.at_once.max(1)), (large, 1)] {
            let one = |file| self.file(file, &snapshot, &there);
            let done = stream::iter(files.into_iter().map(one)).buffer_unordered(at_once);
            let done: Vec<(RemoteFile, bool)> = done.try_collect().await?;
            sent.extend(done);
        }
        let new = || sent.iter().filter(|(_, new)| *new);
        let (files, bytes) = (new().count(), new().map(|(file, _)| file.size).sum());
        let all = sent.into_iter().map(|(file, _)| file).collect();
        Ok((all, files, bytes))
    }

    async fn file(
        &self,
        file: &RemoteFile,
        snapshot: &str,
        there: &HashMap<String, u64>,
    ) -> Result<(RemoteFile, bool), WeightsError> {
        names::file_path(&file.path)?;
        let checked = digest::checked(&self.fill.snapshot, file);
        let checked = unless(self.cancelled, checked).await?;
        let key = format!("{snapshot}{}", file.path);
        let progress = self.fill.progress.add(&file.path, file.size);
        if there.get(&key) == Some(&file.size) {
            progress.receive(file.size);
            return Ok((checked, false));
        }
        let sending = Sending {
            key: &key,
            path: &self.fill.snapshot.join(&file.path),
            at_once: self.fill.at_once,
            sent: &|bytes| progress.receive(bytes),
            cancelled: self.cancelled,
        };
        self.place.send(&sending).await?;
        Ok((checked, true))
    }

    /// Writes the manifest with what it had and what has come; again, if somebody wrote it in between.
    async fn manifest(
        &self,
        key: &str,
        mut old: Option<(Manifest, Option<String>)>,
        sent: Vec<RemoteFile>,
    ) -> Result<(), WeightsError> {
        for _ in 0..TURNS {
            let (before, version) = old.unwrap_or_default();
            let condition = match &version {
                Some(etag) => Condition::IfStill(etag),
                None if before.files.is_empty() => Condition::IfNew,
                None => Condition::Always, // a store without ETags
            };
            let mut files = before.files.clone();
            let named = by_path(&before);
            let new = sent
                .iter()
                .filter(|file| !named.contains_key(file.path.as_str()));
            files.extend(new.cloned());
            if files.len() == before.files.len() {
                return Ok(()); // somebody else has sent the same
            }
            files.sort_by(|a, b| a.path.cmp(&b.path));
            let manifest = Manifest {
                repository: Some(self.fill.repository.clone()),
                commit: Some(self.fill.listing.commit.clone()),
                files,
            };
            if self.place.put(key, manifest.written(), condition).await? {
                return Ok(());
            }
            old = self.place.manifest(key).await?;
        }
        Err(WeightsError::Changed {
            place: self.place.name(),
            file: "the manifest".to_owned(),
        })
    }

    async fn reference(&self, revision: &str) -> Result<(), WeightsError> {
        names::revision(revision)?;
        let commit = &self.fill.listing.commit;
        if revision == commit {
            return Ok(());
        }
        let key = format!("{}/refs/{revision}", self.base);
        let found = self.place.read(&key, super::REF).await?;
        if found.is_some_and(|(bytes, _)| bytes == commit.as_bytes()) {
            return Ok(());
        }
        let body = commit.clone().into_bytes();
        self.place.put(&key, body, Condition::Always).await?;
        Ok(())
    }
}
