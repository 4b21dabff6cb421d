//! Whether the bytes in the cache still are those that their names promise. Reads every byte; changes nothing unless asked to
//! remove what is broken, so that the next fetch brings it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::progress::{FileProgress, Phase, Progress};
use super::super::remote::Digest;
use super::super::{WeightsError, names};
use super::hash::{self, Hasher};
use super::scan::{self, Inode, Scan};
use super::tree::{self, Tree};
use super::{Cache, Folder, find, remove, shared};

/// What to verify.
#[derive(Debug)]
pub struct Verify<'a> {
    /// One model, or all.
    pub folder: Option<&'a Folder>,
    /// One revision of it, or all.
    pub revision: Option<&'a str>,
    /// Files that are read at once.
    pub threads: usize,
    /// Whether what is broken is removed.
    pub remove: bool,
}

/// What came of it.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub struct Verified {
    /// Files whose bytes were read.
    pub files: usize,
    /// Those bytes.
    pub bytes: u64,
    /// Files of which no digest is known: only their size was looked at.
    pub unchecked: usize,
    /// What is wrong.
    pub broken: Vec<Broken>,
}

/// Something that is wrong.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Broken {
    /// The model.
    pub model: String,
    /// The file or link on the disk.
    pub path: PathBuf,
    /// The files of snapshots that it is, as `commit/path`.
    pub files: Vec<String>,
    /// What is wrong with it.
    pub reason: String,
    /// Whether it was removed.
    pub removed: bool,
}

/// One file to look at.
struct Check<'a> {
    scan: &'a Scan,
    path: PathBuf,
    /// The blob's name, unless it is a file of the snapshot's own.
    blob: Option<String>,
    files: BTreeSet<String>,
    /// `None` where the link leads nowhere.
    size: Option<u64>,
    wanted_size: Option<u64>,
    digest: Option<Digest>,
}

impl Cache {
    /// Reads and compares; `progress` gets a file for each that is read.
    ///
    /// # Errors
    /// [`WeightsError::NotFound`] for a model or revision that is not there, [`WeightsError::Disk`] when removing fails.
    pub fn verify(&self, what: &Verify<'_>, progress: &Progress) -> Result<Verified, WeightsError> {
        progress.enter(Phase::Verifying);
        let scans = self.to_verify(what)?;
        let mut checks: Vec<Check<'_>> = Vec::new();
        for scan in &scans {
            checks.extend(checks_of(scan, what.revision)?);
        }
        checks.sort_by_key(|check| std::cmp::Reverse(check.size)); // the largest first: nobody waits for one at the end
        let add = |check: &Check<'_>| {
            progress.add(&check.path.to_string_lossy(), check.size.unwrap_or(0))
        };
        let counted: Vec<(Check<'_>, Arc<FileProgress>)> = checks
            .into_iter()
            .map(|check| (add(&check), check))
            .map(|(file, check)| (check, file))
            .collect();
        let results = hash::each(what.threads, &counted, |(check, file)| look(check, file));
        let mut verified = Verified::default();
        for ((check, file), result) in counted.iter().zip(results) {
            match check.digest {
                Some(_) => verified.files += 1,
                None => verified.unchecked += 1,
            }
            verified.bytes += file.verified();
            if let Err(reason) = result {
                let removed = what.remove && self.remove_broken(check)?;
                verified.broken.push(Broken {
                    model: check.scan.folder.title(),
                    path: check.path.clone(),
                    files: check.files.iter().cloned().collect(),
                    reason,
                    removed,
                });
            }
        }
        progress.enter(Phase::Done);
        Ok(verified)
    }

    fn to_verify(&self, what: &Verify<'_>) -> Result<Vec<Scan>, WeightsError> {
        let mut scans = scan::everything(self);
        let Some(folder) = what.folder else {
            return Ok(scans);
        };
        scans.retain(|scan| scan.folder.name().eq_ignore_ascii_case(folder.name()));
        if let Some(revision) = what.revision {
            names::revision(revision)?;
            scans.retain(|scan| {
                let commit = find::commit_of(&scan.place, revision);
                commit.is_some_and(|commit| {
                    scan.snapshots
                        .iter()
                        .any(|snapshot| snapshot.commit == commit)
                })
            });
        }
        match scans.is_empty() {
            false => Ok(scans),
            true => Err(WeightsError::NotFound {
                place: format!("the cache at {}", self.root().display()),
                what: format!("{} is not there", folder.title()),
                wanted: "`chandler cache ls` shows what is".to_owned(),
            }),
        }
    }

    /// Removes a broken file and the links that lead to it, unless somebody is fetching it anew.
    fn remove_broken(&self, check: &Check<'_>) -> Result<bool, WeightsError> {
        let place = &check.scan.place;
        if !place.writable {
            return Ok(false);
        }
        let name = check.blob.clone().unwrap_or_else(|| "none".to_owned());
        let Some(_lock) = remove::lock_blob(self, place, &name)? else {
            return Ok(false);
        };
        for file in &check.files {
            let path = place.snapshots().join(file);
            fs::remove_file(&path)
                .or_else(remove::absent)
                .map_err(WeightsError::disk(&path))?;
        }
        if check.blob.is_some() {
            shared::remove_blob(self, &place.root, &place.blob(&name))?;
        }
        Ok(true)
    }
}

/// Each blob once, and each file of a snapshot that is none.
fn checks_of<'a>(scan: &'a Scan, revision: Option<&str>) -> Result<Vec<Check<'a>>, WeightsError> {
    let only = revision.and_then(|revision| find::commit_of(&scan.place, revision));
    let mut blobs: BTreeMap<&'a str, Check<'a>> = BTreeMap::new();
    let mut others = Vec::new();
    if only.is_none() {
        for (name, blob) in &scan.blobs {
            let size = blob.payload.as_ref().map(|payload| payload.size);
            blobs.insert(name, blob_check(scan, name, size));
        }
    }
    // A hard link is the blob under another name.
    let inode =
        |(name, blob): (&'a String, &'a scan::Blob)| Some((blob.payload.as_ref()?.inode, name));
    let inodes: BTreeMap<Inode, &String> = scan.blobs.iter().filter_map(inode).collect();
    let wanted = scan
        .snapshots
        .iter()
        .filter(|snapshot| only.as_ref().is_none_or(|only| *only == snapshot.commit));
    for snapshot in wanted {
        let tree = tree::read(&scan.place, &snapshot.commit).unwrap_or_default();
        for (path, file) in &snapshot.files {
            let named = format!("{}/{path}", snapshot.commit);
            let entry = tree.get(path);
            let size = file.payload.as_ref().map(|payload| payload.size);
            let hard = || inodes.get(&file.payload.as_ref()?.inode).copied();
            let right_blob =
                |blob: &&String| entry.is_none_or(|entry| entry.blob() == blob.as_str());
            match file.blob.as_ref().or_else(hard).filter(right_blob) {
                Some(blob) => {
                    let new = || blob_check(scan, blob, size);
                    let check = blobs.entry(blob).or_insert_with(new);
                    check.files.insert(named);
                    check.wanted_size = check.wanted_size.or(entry.map(|entry| entry.size));
                }
                None => others.push(own_check(scan, named, size, (path, &tree))),
            }
        }
    }
    Ok(blobs.into_values().chain(others).collect())
}

fn blob_check<'a>(scan: &'a Scan, name: &str, size: Option<u64>) -> Check<'a> {
    Check {
        scan,
        path: scan.place.blob(name),
        blob: Some(name.to_owned()),
        files: BTreeSet::new(),
        size,
        wanted_size: None,
        digest: Digest::parse(name),
    }
}

fn own_check<'a>(
    scan: &'a Scan,
    named: String,
    size: Option<u64>,
    (path, tree): (&str, &Tree),
) -> Check<'a> {
    let entry = tree.get(path);
    Check {
        scan,
        path: scan.place.snapshots().join(&named),
        blob: None,
        files: BTreeSet::from([named]),
        size,
        wanted_size: entry.map(|entry| entry.size),
        digest: entry.and_then(|entry| Digest::parse(entry.blob())),
    }
}

fn look(check: &Check<'_>, progress: &FileProgress) -> Result<(), String> {
    let Some(size) = check.size else {
        return Err("the link leads nowhere".to_owned());
    };
    if let Some(wanted) = check.wanted_size.filter(|wanted| *wanted != size) {
        return Err(format!("it has {size} bytes and should have {wanted}"));
    }
    let Some(wanted) = check.digest else {
        return Ok(());
    };
    let found = digest(&check.path, &wanted, size, progress)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    match found == wanted {
        true => Ok(()),
        false => Err(format!("its digest is {found} and should be {wanted}")),
    }
}

fn digest(
    path: &Path,
    like: &Digest,
    size: u64,
    progress: &FileProgress,
) -> std::io::Result<Digest> {
    let mut file = hash::open_quietly(path)?;
    let mut hashers = [Hasher::like(like, size)];
    let count = |bytes| {
        progress.receive(bytes);
        progress.verify(bytes);
    };
    hash::read_through(&mut file, &mut hashers, None, &count)?;
    let [hasher] = hashers;
    Ok(hasher.finish())
}
