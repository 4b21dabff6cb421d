//! The cache on disk: the Hugging Face hub's layout, shared with Python. What Python wrote is read here, what is written here
//! Python reads (1.x and 2.x, offline too). Apart from the sources and the transfer: it knows names, sizes and locks, no network.
//!
//! ```text
//! {root}/models--org--name/refs/main                     a commit
//!                         /snapshots/{commit}/{path}     -> ../../blobs/{blob}
//!                         /blobs/{blob}                  the bytes, or a link into {root}/blobs (Python 2.x's shared store)
//!                         /blobs/{blob}.chandler-partial bytes that are still coming; its journal beside it
//!                         /trees/{commit}.json           what files the commit has, as Python 2.x writes it
//!                         /.chandler/                    ours: marks of use, what was wanted, files that are being made
//! {root}/.locks/models--org--name/{blob}.lock            the file that Python locks, too
//! ```
//!
//! Nobody ever sees half of anything: every file is made elsewhere and renamed. A reader needs no lock; a read-only root none at all.

mod bake;
mod fill;
mod find;
mod folder;
mod hash;
mod in_use;
mod layout;
mod lease;
mod link;
mod list;
mod lock;
mod prune;
mod remove;
mod scan;
mod shared;
#[cfg(test)]
mod tests;
mod tree;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use bake::{Bake, Baked, BakedFile};
pub use fill::{BlobClaim, Claim, Filling};
pub use find::{Candidate, FileSize, Found, Lookup, Rule};
pub use folder::Folder;
pub use in_use::InUse;
pub use list::{Model, Revision, State};
pub use prune::{PruneOptions, Pruned};
pub use remove::Removed;
pub use verify::{Broken, Verified, Verify};

use super::WeightsError;
use layout::Place;
use lock::Locker;

/// How processes keep out of each other's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// `flock`, and leases on file systems that have none.
    Auto,
    /// Always leases: files that their owner keeps changing.
    Leases,
}

/// Where the cache is and how it is treated.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// The root that is written.
    pub root: PathBuf,
    /// Roots that are looked at before it and never written.
    pub read_only: Vec<PathBuf>,
    /// Whether snapshots may be made of symbolic links, where the file system has them.
    pub symlinks: bool,
    /// Whether a file's bytes are forced onto the disk before it gets its name. Not needed against a killed process; against a
    /// power cut it is, and costs as much time as the disk takes.
    pub sync: bool,
    /// How processes keep out of each other's way.
    pub locks: Locks,
    /// How long a lease may stay unchanged before its owner is taken for dead.
    pub silence: Duration,
}

impl CacheOptions {
    /// The defaults, with this root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            read_only: Vec::new(),
            symlinks: true,
            sync: false,
            locks: Locks::Auto,
            silence: Duration::from_secs(20),
        }
    }
}

/// The cache. Cheap to clone. All calls block: they are for threads that may.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: CacheOptions,
    locker: Locker,
    symlinks: OnceLock<bool>,
}

impl Cache {
    /// The cache with these options. Touches nothing.
    pub fn open(options: CacheOptions) -> Self {
        Self(Arc::new(Inner {
            locker: Locker::new(options.locks, options.silence),
            options,
            symlinks: OnceLock::new(),
        }))
    }

    /// The root that is written.
    pub fn root(&self) -> &Path {
        &self.0.options.root
    }

    /// Whether the root can be written, by trying.
    ///
    /// # Errors
    /// [`WeightsError::Disk`], which says why not.
    pub fn writable(&self) -> Result<(), WeightsError> {
        let root = self.root();
        std::fs::create_dir_all(root).map_err(WeightsError::disk(root))?;
        let probe = root.join(layout::temporary_name());
        let made = layout::create_new(&probe);
        let _ = std::fs::remove_file(&probe); // Why ignored: it is not there when it could not be made.
        made.map(drop).map_err(WeightsError::disk(root))
    }

    /// All roots in the order in which they are looked at, and whether each may be written.
    fn roots(&self) -> impl Iterator<Item = (&Path, bool)> {
        let options = &self.0.options;
        let read_only = options
            .read_only
            .iter()
            .filter(|root| **root != options.root);
        let read_only = read_only.map(|root| (root.as_path(), false));
        read_only.chain(std::iter::once((options.root.as_path(), true)))
    }

    /// The folder in the root that is written.
    fn place(&self, folder: &Folder) -> Place {
        Place::new(self.root(), folder.name(), true)
    }

    fn locker(&self) -> &Locker {
        &self.0.locker
    }

    /// Whether snapshots are made of symbolic links here; tried once.
    fn symlinks(&self) -> bool {
        let options = &self.0.options;
        *self
            .0
            .symlinks
            .get_or_init(|| options.symlinks && link::symlinks_work(&options.root))
    }
}
