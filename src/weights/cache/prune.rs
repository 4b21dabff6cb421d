//! Keeping the cache within its budget: first what nobody needs (old unfinished files, blobs without a snapshot), then snapshots,
//! the least recently used first, never one that is in use or being filled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use super::super::WeightsError;
use super::remove::{self, Removed};
use super::scan::{self, Inode, Leftover, Scan};
use super::{Cache, in_use, shared};

/// What may stay.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Bytes that the root may have; `None` removes only what nobody needs.
    pub budget: Option<u64>,
    /// How old an unfinished file must be.
    pub partial_age: Duration,
    /// How old a blob without a snapshot must be: whoever fetched it may be about to link it.
    pub orphan_age: Duration,
    /// Only say what would go.
    pub dry_run: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            budget: None,
            partial_age: Duration::from_secs(7 * 24 * 3600),
            orphan_age: Duration::from_secs(3600),
            dry_run: false,
        }
    }
}

/// What went, or would go.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub struct Pruned {
    /// Bytes before.
    pub before: u64,
    /// Bytes after.
    pub after: u64,
    /// Snapshots, in the order in which they went.
    pub removed: Vec<Removed>,
    /// Unfinished files.
    pub partials: u64,
    /// Blobs without a snapshot.
    pub orphans: u64,
    /// Bytes of both.
    pub leftover_bytes: u64,
    /// Snapshots that would have been next and are in use.
    pub in_use: Vec<String>,
}

/// What every payload of the root is needed by.
struct Needs {
    sizes: BTreeMap<Inode, u64>,
    users: BTreeMap<Inode, BTreeSet<(usize, usize)>>,
    /// In the shared store, and needed by links that are not looked after here.
    elsewhere: BTreeSet<Inode>,
}

impl Cache {
    /// Removes what nobody needs, and snapshots until the budget is kept.
    ///
    /// # Errors
    /// [`WeightsError::Disk`].
    pub fn prune(&self, options: &PruneOptions) -> Result<Pruned, WeightsError> {
        if !self.root().is_dir() {
            return Ok(Pruned::default());
        }
        if !options.dry_run {
            self.writable()?;
        }
        let folders = scan::folders(self.root(), true);
        let scans: Vec<Scan> = folders
            .into_iter()
            .map(|(folder, place)| scan::scan(folder, place))
            .collect();
        let mut pruned = Pruned::default();
        pruned.before = total(&scans);
        pruned.after = pruned.before;
        for scan in &scans {
            self.prune_leftovers(scan, options, &mut pruned)?;
        }
        if let Some(budget) = options.budget {
            self.prune_snapshots(&scans, budget, options.dry_run, &mut pruned)?;
        }
        Ok(pruned)
    }

    fn prune_leftovers(
        &self,
        scan: &Scan,
        options: &PruneOptions,
        pruned: &mut Pruned,
    ) -> Result<(), WeightsError> {
        let old = |leftover: &&Leftover| scan::age(leftover.modified) >= options.partial_age;
        let partials: Vec<&Leftover> = scan.leftovers.iter().filter(old).collect();
        let aged = |(name, blob): (&String, &scan::Blob)| {
            // A link's own age: what it leads to may be older, or gone.
            let metadata = fs::symlink_metadata(scan.place.blob(name)).ok()?;
            let old = scan::age(metadata.modified().ok()?) >= options.orphan_age;
            old.then(|| {
                (
                    name.clone(),
                    blob.payload.as_ref().map_or(0, |payload| payload.size),
                )
            })
        };
        let orphans: Vec<(String, u64)> = scan.orphans().filter_map(aged).collect();
        if partials.is_empty() && orphans.is_empty() {
            return Ok(());
        }
        let _lock = match options.dry_run {
            true => None,
            false => match remove::lock_folder(self, &scan.place)? {
                Some(lock) => Some(lock),
                None => return Ok(()), // being filled: the next time will do
            },
        };
        let mut bytes = 0;
        for (orphan, size) in orphans {
            bytes += match options.dry_run {
                true => size,
                false => remove::remove_if_free(self, &scan.place, &orphan)?,
            };
            pruned.orphans += 1;
        }
        for partial in partials {
            if options.dry_run || self.remove_leftover(scan, partial)? {
                pruned.partials += 1;
                bytes += partial.size;
            }
        }
        pruned.leftover_bytes += bytes;
        pruned.after = pruned.after.saturating_sub(bytes);
        Ok(())
    }

    fn remove_leftover(&self, scan: &Scan, leftover: &Leftover) -> Result<bool, WeightsError> {
        let lock = match &leftover.blob {
            Some(blob) => match remove::lock_blob(self, &scan.place, blob)? {
                Some(lock) => Some(lock),
                None => return Ok(false),
            },
            None => None,
        };
        let path = &leftover.path;
        let removed = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
            _ => fs::remove_file(path),
        };
        drop(lock);
        removed
            .or_else(remove::absent)
            .map_err(WeightsError::disk(path))?;
        Ok(true)
    }

    fn prune_snapshots(
        &self,
        scans: &[Scan],
        budget: u64,
        dry_run: bool,
        pruned: &mut Pruned,
    ) -> Result<(), WeightsError> {
        let mut needs = Needs::of(scans);
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (folder, scan) in scans.iter().enumerate() {
            order.extend((0..scan.snapshots.len()).map(|snapshot| (folder, snapshot)));
        }
        let snapshot = |(folder, at): (usize, usize)| {
            Some((scans.get(folder)?, scans.get(folder)?.snapshots.get(at)?))
        };
        order.sort_by_key(|at| snapshot(*at).map(|(_, snapshot)| snapshot.last_used));
        for at in order {
            if pruned.after <= budget {
                break;
            }
            let Some((scan, of)) = snapshot(at) else {
                continue;
            };
            let frees = needs.alone(at);
            if frees == 0 && !of.files.is_empty() {
                continue; // all that it has is needed by others
            }
            let name = format!("{}@{}", scan.folder.title(), of.commit);
            match self.prune_snapshot(scan, &of.commit, dry_run)? {
                Gone::InUse => pruned.in_use.push(name),
                Gone::Before => {}
                Gone::Now(bytes) => {
                    let bytes = if dry_run { frees } else { bytes };
                    needs.drop(at);
                    pruned.after = pruned.after.saturating_sub(bytes);
                    pruned.removed.push(Removed {
                        model: scan.folder.title(),
                        commit: of.commit.clone(),
                        bytes,
                        last_used: of.last_used,
                    });
                }
            }
        }
        Ok(())
    }

    fn prune_snapshot(
        &self,
        scan: &Scan,
        commit: &str,
        dry_run: bool,
    ) -> Result<Gone, WeightsError> {
        let place = &scan.place;
        if dry_run {
            let used = in_use::used(self, place, commit);
            return Ok(if used { Gone::InUse } else { Gone::Now(0) });
        }
        // The mark first: it tells at once, and whoever fills the folder marks what it fills.
        let Some(mark) = in_use::alone(self, place, commit)? else {
            return Ok(Gone::InUse);
        };
        let Some(lock) = remove::lock_folder(self, place)? else {
            return Ok(Gone::InUse);
        };
        // Python asks for no folder's lock, but it holds that of the blob that it fetches.
        for blob in scan::unfinished_blobs(place) {
            if remove::lock_blob(self, place, &blob)?.is_none() {
                return Ok(Gone::InUse);
            }
        }
        let removed = remove::snapshot(self, place, commit, (&lock, &mark))?;
        Ok(removed.map_or(Gone::Before, |removed| Gone::Now(removed.bytes)))
    }
}

enum Gone {
    InUse,
    Before,
    Now(u64),
}

/// Bytes of all folders, each payload once, with what is unfinished.
pub fn total(scans: &[Scan]) -> u64 {
    let mut sizes = BTreeMap::new();
    let mut partial = 0;
    for scan in scans {
        let files = scan
            .snapshots
            .iter()
            .flat_map(|snapshot| snapshot.files.values());
        let payloads = files.filter_map(|file| file.payload.as_ref());
        for payload in payloads.chain(scan.blobs.values().filter_map(|blob| blob.payload.as_ref()))
        {
            sizes.insert(payload.inode, payload.size);
        }
        partial += scan
            .leftovers
            .iter()
            .map(|leftover| leftover.size)
            .sum::<u64>();
    }
    sizes.values().sum::<u64>() + partial
}

impl Needs {
    fn of(scans: &[Scan]) -> Self {
        let mut needs = Self {
            sizes: BTreeMap::new(),
            users: BTreeMap::new(),
            elsewhere: BTreeSet::new(),
        };
        for (folder, scan) in scans.iter().enumerate() {
            for (at, snapshot) in scan.snapshots.iter().enumerate() {
                for file in snapshot.files.values() {
                    if let Some(payload) = &file.payload {
                        needs.sizes.insert(payload.inode, payload.size);
                        needs
                            .users
                            .entry(payload.inode)
                            .or_default()
                            .insert((folder, at));
                    }
                }
            }
            needs.pin(scan);
        }
        needs
    }

    /// Copies in the shared store that something else links to, or that nobody can say it of, stay whatever goes here.
    fn pin(&mut self, scan: &Scan) {
        for (name, blob) in &scan.blobs {
            let Some(payload) = &blob.payload else {
                continue;
            };
            let Some(copy) = shared::target(&scan.place.root, &scan.place.blob(name)) else {
                continue;
            };
            let ours = |link: &std::path::PathBuf| {
                let folder = link
                    .parent()
                    .and_then(|blobs| blobs.parent())
                    .and_then(|folder| folder.file_name());
                folder.is_some_and(|folder| {
                    super::Folder::on_disk(&folder.to_string_lossy()).is_some()
                })
            };
            let all_ours = shared::references(&scan.place.root, &copy)
                .is_some_and(|links| links.iter().all(ours));
            if !all_ours {
                self.elsewhere.insert(payload.inode);
            }
        }
    }

    /// Bytes that only this snapshot needs.
    fn alone(&self, at: (usize, usize)) -> u64 {
        let only = self.users.iter().filter(|(inode, users)| {
            users.len() == 1 && users.contains(&at) && !self.elsewhere.contains(inode)
        });
        only.filter_map(|(inode, _)| self.sizes.get(inode)).sum()
    }

    fn drop(&mut self, at: (usize, usize)) {
        self.users.values_mut().for_each(|users| {
            users.remove(&at);
        });
    }
}
