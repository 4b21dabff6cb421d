//! Filling a snapshot: who of many processes fetches which blob, and how its bytes become part of the snapshot. The bytes
//! themselves come from [`super::super`]'s transfer.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::super::remote::{Listing, RemoteFile};
use super::super::{WeightsError, names};
use super::find::{self, FileSize, Found, Record};
use super::in_use::{self, InUse};
use super::layout::{self, Place};
use super::link::Link;
use super::lock::{Guard, Kind, Tried};
use super::{Cache, Folder, tree};

/// Removing something from a folder takes moments; who wants to fill it waits for so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A snapshot that is being filled. While it lives, nobody removes anything from its folder.
#[derive(Debug)]
pub struct Filling {
    cache: Cache,
    place: Place,
    commit: String,
    files: Vec<RemoteFile>,
    /// Blobs that this filling has claimed and not put yet.
    claimed: Arc<Mutex<BTreeSet<String>>>,
    in_use: InUse,
    _folder: Guard,
}

/// Whose it is to fetch a file.
#[derive(Debug)]
pub enum Claim {
    /// Nobody's: it is there and linked, or comes with another file of this filling that has the same bytes.
    Here,
    /// Ours.
    Mine(BlobClaim),
    /// A living process's: it will be there, or can be claimed after that process has ended. Ask again in a while.
    Theirs,
}

/// The right to fetch a blob. Dropping it gives it up, and leaves what has come for whoever claims it next.
#[derive(Debug)]
pub struct BlobClaim {
    blob: String,
    size: u64,
    partial: PathBuf,
    guard: Guard,
    claimed: Arc<Mutex<BTreeSet<String>>>,
}

impl BlobClaim {
    /// Where the bytes go. May be there already, from a process that ended.
    pub fn partial(&self) -> &Path {
        &self.partial
    }
}

impl Drop for BlobClaim {
    fn drop(&mut self) {
        locked(&self.claimed).remove(&self.blob);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    /// Begins to fill a snapshot with `files` of the listing, and writes down what the whole commit has.
    ///
    /// # Errors
    /// [`WeightsError::BadName`] for names that lead anywhere else, [`WeightsError::Disk`] where the root cannot be written.
    pub fn fill(
        &self,
        folder: &Folder,
        listing: &Listing,
        files: Vec<RemoteFile>,
    ) -> Result<Filling, WeightsError> {
        layout::commit(&listing.commit)?;
        for file in listing.files.iter().chain(&files) {
            names::file_path(&file.path)?;
            layout::blob_name(&file.blob)?;
        }
        let place = self.place(folder);
        let (lock, in_use) = self.enter(&place, &listing.commit)?;
        tree::write(&place, listing)?;
        record(&place, &listing.commit, &files)?;
        Ok(Filling {
            cache: self.clone(),
            place,
            commit: listing.commit.clone(),
            files,
            claimed: Arc::default(),
            in_use,
            _folder: lock,
        })
    }

    /// Makes the folder's directories and keeps whoever removes things out of it.
    fn enter(&self, place: &Place, commit: &str) -> Result<(Guard, InUse), WeightsError> {
        let mut tries = 3;
        loop {
            tries -= 1;
            place.make_dir(&place.own())?;
            layout::tag(self.root())?;
            let entered = self.try_to_enter(place, commit);
            match entered {
                // The folder was removed after its directories were made.
                Err(WeightsError::Disk { source, .. })
                    if tries > 0 && source.kind() == io::ErrorKind::NotFound => {}
                entered => return entered,
            }
        }
    }

    fn try_to_enter(&self, place: &Place, commit: &str) -> Result<(Guard, InUse), WeightsError> {
        let lock = self.locker().wait(&place.lock(), Kind::Shared, PATIENCE)?;
        let Some(lock) = lock else {
            return Err(WeightsError::Cache {
                path: place.dir.clone(),
                reason: "another process is removing files from it, and takes long: try again"
                    .to_owned(),
            });
        };
        let in_use = in_use::mark(self, place, commit)?;
        for dir in [place.blobs(), place.snapshot(commit), place.refs()] {
            place.make_dir(&dir)?;
        }
        Ok((lock, in_use))
    }

    /// Makes a branch or tag mean this commit, for those who look it up with no network. Nothing where the root cannot be
    /// written: then the ref is only older than it could be.
    ///
    /// # Errors
    /// [`WeightsError::BadName`].
    pub fn point(&self, folder: &Folder, revision: &str, commit: &str) -> Result<(), WeightsError> {
        names::revision(revision)?;
        layout::commit(commit)?;
        let place = self.place(folder);
        if !place.snapshot(commit).is_dir() {
            return Ok(()); // a ref to what is not here makes the folder unreadable to Python
        }
        if let Err(error) = write_ref(&place, revision, commit) {
            tracing::debug!(%error, "the ref stays as it was");
        }
        Ok(())
    }
}

fn write_ref(place: &Place, revision: &str, commit: &str) -> Result<(), WeightsError> {
    let path = place.refs().join(revision);
    if revision == commit || fs::read_to_string(&path).is_ok_and(|text| text == commit) {
        return Ok(());
    }
    place.write(&path, commit.as_bytes())
}

/// Adds to what is wanted of a commit: two runs may want two variants.
fn record(place: &Place, commit: &str, files: &[RemoteFile]) -> Result<(), WeightsError> {
    let before = find::recorded(place, commit).unwrap_or_default();
    let mut wanted: BTreeSet<String> = before.iter().cloned().collect();
    wanted.extend(files.iter().map(|file| file.path.clone()));
    if wanted.len() == before.len() {
        return Ok(());
    }
    let record = Record {
        wanted: wanted.into_iter().collect(),
    };
    let path = place.record(commit);
    let text =
        serde_json::to_vec(&record).map_err(|error| WeightsError::disk(&path)(error.into()))?;
    place.write(&path, &text)
}

impl Filling {
    /// The snapshot's directory, in which the files appear one after another.
    pub fn dir(&self) -> PathBuf {
        self.place.snapshot(&self.commit)
    }

    /// Whose it is to fetch this file.
    ///
    /// # Errors
    /// [`WeightsError::Disk`].
    pub fn claim(&self, file: &RemoteFile) -> Result<Claim, WeightsError> {
        names::file_path(&file.path)?;
        layout::blob_name(&file.blob)?;
        if locked(&self.claimed).contains(&file.blob) || self.take(file)? {
            return Ok(Claim::Here);
        }
        let path = self.place.blob_lock(&file.blob);
        self.place
            .make_dir(path.parent().unwrap_or(&self.place.root))?;
        let Tried::Locked(guard) = self.cache.locker().attempt(&path, Kind::Alone)? else {
            return Ok(Claim::Theirs);
        };
        if self.take(file)? {
            return Ok(Claim::Here); // came between the look and the lock
        }
        let partial = self.place.partial(&file.blob);
        match fs::symlink_metadata(&partial) {
            Ok(metadata) if !metadata.is_file() => {
                fs::remove_file(&partial).map_err(WeightsError::disk(&partial))?
            }
            _ => {}
        }
        if !locked(&self.claimed).insert(file.blob.clone()) {
            return Ok(Claim::Here); // another thread of this filling
        }
        Ok(Claim::Mine(BlobClaim {
            blob: file.blob.clone(),
            size: file.size,
            partial,
            guard,
            claimed: self.claimed.clone(),
        }))
    }

    /// Takes a file that is here already into the snapshot.
    fn take(&self, file: &RemoteFile) -> Result<bool, WeightsError> {
        let link = self.link(file);
        let blob = fs::metadata(self.place.blob(&file.blob));
        if blob.is_ok_and(|metadata| metadata.is_file() && metadata.len() == file.size) {
            // Whoever was killed right after the blob had its name has left them.
            self.remove_journals(&file.blob)?;
            link.make(self.cache.symlinks(), &[])?;
            return Ok(true);
        }
        Ok(link.there())
    }

    /// The notes of a transfer that is over.
    fn remove_journals(&self, blob: &str) -> Result<(), WeightsError> {
        for journal in [self.place.journal(blob), self.place.new_journal(blob)] {
            let gone = fs::remove_file(&journal).or_else(super::remove::absent);
            gone.map_err(WeightsError::disk(&journal))?;
        }
        Ok(())
    }

    fn link<'a>(&'a self, file: &'a RemoteFile) -> Link<'a> {
        Link {
            place: &self.place,
            commit: &self.commit,
            path: &file.path,
            blob: &file.blob,
            size: file.size,
        }
    }

    /// Makes what was fetched a blob, and links it into the snapshot. The bytes have been checked by whoever fetched them.
    ///
    /// # Errors
    /// [`WeightsError::Cache`] when the partial file has not the size of the whole, or the claim was lost.
    pub fn put(&self, claim: BlobClaim) -> Result<(), WeightsError> {
        let partial = &claim.partial;
        let metadata = fs::symlink_metadata(partial).map_err(WeightsError::disk(partial))?;
        if !metadata.is_file() || metadata.len() != claim.size {
            return Err(WeightsError::Cache {
                path: partial.clone(),
                reason: format!(
                    "it has {} bytes and should have {}",
                    metadata.len(),
                    claim.size
                ),
            });
        }
        if !claim.guard.still_held() {
            return Err(WeightsError::Cache {
                path: partial.clone(),
                reason:
                    "this process was silent for so long that another has taken over: try again"
                        .to_owned(),
            });
        }
        if self.cache.0.options.sync {
            let synced = File::open(partial).and_then(|file| file.sync_data());
            synced.map_err(WeightsError::disk(partial))?;
        }
        let blob = self.place.blob(&claim.blob);
        fs::rename(partial, &blob).map_err(WeightsError::disk(&blob))?;
        self.remove_journals(&claim.blob)?;
        let mut made = Vec::new();
        for file in self.files.iter().filter(|file| file.blob == claim.blob) {
            self.link(file).make(self.cache.symlinks(), &made)?;
            made.push(self.place.snapshot(&self.commit).join(&file.path));
        }
        Ok(())
    }

    /// Checks that all wanted files are there, and then makes the revision mean this commit. The guard keeps it in the cache.
    ///
    /// # Errors
    /// [`WeightsError::Cache`], naming what is missing.
    pub fn finish(&self, revision: Option<&str>) -> Result<(Found, InUse), WeightsError> {
        let missing = self.files.iter().find(|file| !self.link(file).there());
        let dir = self.place.snapshot(&self.commit);
        if let Some(file) = missing {
            return Err(WeightsError::Cache {
                path: dir.join(&file.path),
                reason: format!("it is missing, or has not {} bytes", file.size),
            });
        }
        if let Some(revision) = revision {
            names::revision(revision)?;
            // The model is here and can be served; only a start without network would look for it in vain.
            if let Err(error) = write_ref(&self.place, revision, &self.commit) {
                tracing::warn!(%error, revision, "the cache does not know the revision by its name");
            }
        }
        let size = |file: &RemoteFile| FileSize {
            path: file.path.clone(),
            size: file.size,
        };
        let found = Found {
            dir,
            commit: self.commit.clone(),
            files: self.files.iter().map(size).collect(),
            place: self.place.clone(),
        };
        Ok((found, self.in_use.clone()))
    }
}
