//! Removing snapshots: with the blobs that nothing else needs, never one that is in use, and in an order in which a reader finds
//! either all of it or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::WeightsError;
use super::layout::Place;
use super::lock::{Guard, Kind, Tried};
use super::scan::{self, Scan, Snapshot};
use super::{Cache, Folder, find, in_use, shared};

/// Others who remove something take moments.
const PATIENCE: Duration = Duration::from_secs(5);

/// A snapshot that was removed, or would be.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Removed {
    /// The model.
    pub model: String,
    /// The commit.
    pub commit: String,
    /// Bytes that became free.
    pub bytes: u64,
    /// When it was last used.
    #[serde(serialize_with = "super::list::seconds")]
    pub last_used: SystemTime,
}

impl Cache {
    /// Removes a model, or one revision of it, from the root that is written. `dry_run` only says what would go.
    ///
    /// # Errors
    /// [`WeightsError::NotFound`], and [`WeightsError::Cache`] for one that is in use.
    pub fn remove(
        &self,
        folder: &Folder,
        revision: Option<&str>,
        dry_run: bool,
    ) -> Result<Vec<Removed>, WeightsError> {
        let place = self.place(folder);
        if !place.dir.is_dir() {
            return Err(self.not_here(folder, None));
        }
        let commits = match revision {
            Some(revision) => {
                super::super::names::revision(revision)?;
                let commit = find::commit_of(&place, revision)
                    .filter(|commit| place.snapshot(commit).is_dir());
                vec![commit.ok_or_else(|| self.not_here(folder, Some(revision)))?]
            }
            None => scan::scan(folder.clone(), place.clone())
                .snapshots
                .into_iter()
                .map(|snapshot| snapshot.commit)
                .collect(),
        };
        if dry_run {
            return Ok(would_go(&scan::scan(folder.clone(), place), &commits));
        }
        self.writable()?;
        let lock = lock_folder(self, &place)?
            .ok_or_else(|| busy(&place.dir, "another process is filling it"))?;
        let mut marks = Vec::new();
        for commit in &commits {
            let mark = in_use::alone(self, &place, commit)?;
            marks.push(mark.ok_or_else(|| {
                busy(
                    &place.snapshot(commit),
                    "it is in use: stop the worker that serves it",
                )
            })?);
        }
        let mut removed = Vec::new();
        for (commit, mark) in commits.iter().zip(&marks) {
            removed.extend(snapshot(self, &place, commit, (&lock, mark))?);
        }
        if revision.is_none() {
            remove_folder(self, &place, &lock)?;
        }
        Ok(removed)
    }

    fn not_here(&self, folder: &Folder, revision: Option<&str>) -> WeightsError {
        let elsewhere = self
            .roots()
            .find(|(root, writable)| !writable && root.join(folder.name()).is_dir());
        WeightsError::NotFound {
            place: format!("the cache at {}", self.root().display()),
            what: match revision {
                Some(revision) => format!("{} has no revision {revision}", folder.title()),
                None => format!("{} is not there", folder.title()),
            },
            wanted: match elsewhere {
                Some((root, _)) => {
                    format!("it is in {}, where nothing is ever removed", root.display())
                }
                None => "`chandler cache ls` shows what is".to_owned(),
            },
        }
    }
}

fn busy(path: &Path, reason: &str) -> WeightsError {
    WeightsError::Cache {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Keeps everybody out who would fill the folder; `None` while somebody fills it.
pub fn lock_folder(cache: &Cache, place: &Place) -> Result<Option<Guard>, WeightsError> {
    place.make_dir(&place.own())?;
    cache.locker().wait(&place.lock(), Kind::Alone, PATIENCE)
}

/// What removing these would free.
fn would_go(scan: &Scan, commits: &[String]) -> Vec<Removed> {
    let (going, staying): (Vec<&Snapshot>, Vec<&Snapshot>) = scan
        .snapshots
        .iter()
        .partition(|snapshot| commits.contains(&snapshot.commit));
    let payloads = |snapshot: &Snapshot| {
        let files = snapshot
            .files
            .values()
            .filter_map(|file| file.payload.clone());
        files
            .map(|payload| (payload.inode, payload.size))
            .collect::<BTreeSet<_>>()
    };
    let mut kept: BTreeSet<_> = staying.into_iter().flat_map(payloads).collect();
    let mut removed = Vec::new();
    for snapshot in going {
        let own = payloads(snapshot);
        removed.push(Removed {
            model: scan.folder.title(),
            commit: snapshot.commit.clone(),
            bytes: own.difference(&kept).map(|(_, size)| size).sum(),
            last_used: snapshot.last_used,
        });
        kept.extend(own);
    }
    removed
}

/// Removes a snapshot. The caller holds the locks of the folder and of the snapshot's mark, both alone.
pub fn snapshot(
    cache: &Cache,
    place: &Place,
    commit: &str,
    _held: (&Guard, &Guard),
) -> Result<Option<Removed>, WeightsError> {
    let Some(folder) = Folder::on_disk(&place.name) else {
        return Ok(None);
    };
    let before = scan::scan(folder.clone(), place.clone());
    let Some(gone) = before
        .snapshots
        .iter()
        .find(|snapshot| snapshot.commit == commit)
    else {
        return Ok(None); // another process was faster
    };
    for name in &gone.refs {
        let path = place.refs().join(name);
        fs::remove_file(&path).map_err(WeightsError::disk(&path))?;
        remove_empty(path.parent(), &place.refs());
    }
    let trash = place.temporary();
    let dir = place.snapshot(commit);
    fs::rename(&dir, &trash).map_err(WeightsError::disk(&dir))?;
    let mut bytes = own_bytes(&trash);
    fs::remove_dir_all(&trash).map_err(WeightsError::disk(&trash))?;
    for blob in unneeded(place, &folder, gone) {
        bytes += remove_if_free(cache, place, &blob)?;
    }
    forget(place, commit)?;
    Ok(Some(Removed {
        model: folder.title(),
        commit: commit.to_owned(),
        bytes,
        last_used: gone.last_used,
    }))
}

/// What removing a snapshot's files that are not links frees: those that have no name anywhere else.
fn own_bytes(dir: &Path) -> u64 {
    let paths = find::files_in(dir).into_keys();
    let metadata = paths.filter_map(|path| fs::symlink_metadata(dir.join(path)).ok());
    let mut names: BTreeMap<scan::Inode, (u64, fs::Metadata)> = BTreeMap::new();
    for metadata in metadata.filter(fs::Metadata::is_file) {
        names
            .entry((metadata.dev(), metadata.ino()))
            .or_insert((0, metadata))
            .0 += 1;
    }
    let last = names
        .values()
        .filter(|(here, metadata)| metadata.nlink() <= *here);
    last.map(|(_, metadata)| metadata.len()).sum()
}

/// The blobs of a snapshot that no snapshot that is there now leads to. Looked up anew: Python asks for none of our locks.
fn unneeded(place: &Place, folder: &Folder, gone: &Snapshot) -> Vec<String> {
    let now = scan::scan(folder.clone(), place.clone());
    let inodes: BTreeSet<_> = gone
        .files
        .values()
        .filter_map(|file| Some(file.payload.as_ref()?.inode))
        .collect();
    let named: BTreeSet<_> = gone
        .files
        .values()
        .filter_map(|file| file.blob.as_deref())
        .collect();
    let of_this = |name: &str, inode: Option<_>| {
        named.contains(name) || inode.is_some_and(|inode| inodes.contains(&inode))
    };
    let orphans = now
        .orphans()
        .filter(|(name, blob)| of_this(name, blob.payload.as_ref().map(|payload| payload.inode)));
    orphans.map(|(name, _)| name.clone()).collect()
}

/// Removes a blob unless another process is at it; gives the bytes that this frees.
pub fn remove_if_free(cache: &Cache, place: &Place, blob: &str) -> Result<u64, WeightsError> {
    match lock_blob(cache, place, blob)? {
        Some(_lock) => shared::remove_blob(cache, &place.root, &place.blob(blob)),
        None => Ok(0),
    }
}

/// The lock of a blob, which whoever fetches it holds, Python too.
pub fn lock_blob(cache: &Cache, place: &Place, blob: &str) -> Result<Option<Guard>, WeightsError> {
    let lock = place.blob_lock(blob);
    place.make_dir(lock.parent().unwrap_or(&place.root))?;
    match cache.locker().attempt(&lock, Kind::Alone)? {
        Tried::Locked(guard) => Ok(Some(guard)),
        Tried::Taken | Tried::Silent => Ok(None),
    }
}

/// Removes what was written down of a snapshot.
fn forget(place: &Place, commit: &str) -> Result<(), WeightsError> {
    let none = place.dir.join(".no_exist").join(commit);
    for (path, dir) in [(place.tree(commit), false), (none, true)] {
        let removed = if dir {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.or_else(absent).map_err(WeightsError::disk(&path))?;
    }
    let own = fs::read_dir(place.own()).map_err(WeightsError::disk(&place.own()))?;
    for entry in own.flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(&format!("{commit}."))
        {
            fs::remove_file(entry.path())
                .or_else(absent)
                .map_err(WeightsError::disk(&entry.path()))?;
        }
    }
    Ok(())
}

/// It is gone, and that was wanted.
pub fn absent(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

fn remove_empty(dir: Option<&Path>, up_to: &Path) {
    let mut dir = dir;
    while let Some(path) = dir.filter(|path| path.starts_with(up_to) && *path != up_to) {
        if fs::remove_dir(path).is_err() {
            return; // not empty
        }
        dir = path.parent();
    }
}

/// Removes the rest of a folder whose snapshots are gone, unless somebody is fetching into it.
fn remove_folder(cache: &Cache, place: &Place, _lock: &Guard) -> Result<(), WeightsError> {
    let Some(folder) = Folder::on_disk(&place.name) else {
        return Ok(());
    };
    let rest = scan::scan(folder, place.clone());
    let mut locks = Vec::new();
    let unfinished = rest
        .leftovers
        .iter()
        .filter_map(|leftover| leftover.blob.as_ref());
    for blob in rest.blobs.keys().chain(unfinished).collect::<BTreeSet<_>>() {
        match lock_blob(cache, place, blob)? {
            Some(lock) => locks.push(lock),
            None => return Ok(()),
        }
    }
    if !rest.snapshots.is_empty() {
        return Ok(());
    }
    for blob in rest.blobs.keys() {
        shared::remove_blob(cache, &place.root, &place.blob(blob))?;
    }
    fs::remove_dir_all(&place.dir)
        .or_else(absent)
        .map_err(WeightsError::disk(&place.dir))
}
