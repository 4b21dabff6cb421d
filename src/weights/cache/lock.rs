//! Locks between processes. `flock` on the very file that Python's `filelock` takes, so that Python and this program wait for
//! each other; it ends with its process, however that ends. Where a file system has no `flock`, leases ([`super::lease`]).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::super::WeightsError;
use super::Locks;
use super::lease::{Held, Leases};

/// How often a lock that another holds is tried.
pub const POLL: Duration = Duration::from_millis(50);
/// Python's mode for its lock files: users of one group share a cache.
const MODE: u32 = 0o664;

/// With whom a lock is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With others who share it.
    Shared,
    /// With nobody.
    Alone,
}

/// A lock that is held. Dropping it gives it back.
#[derive(Debug)]
pub enum Guard {
    /// The open file holds it.
    Flock(#[allow(dead_code, reason = "held, not read")] File),
    /// A lease, kept alive by a thread.
    Lease(Held),
}

impl Guard {
    /// Whether it is held still: a process that slept for too long loses a lease.
    pub fn still_held(&self) -> bool {
        match self {
            Self::Flock(_) => true,
            Self::Lease(held) => held.still_held(),
        }
    }
}

/// What came of trying.
#[derive(Debug)]
pub enum Tried {
    /// It is held now.
    Locked(Guard),
    /// A living process holds it.
    Taken,
    /// A lease is there whose owner may be dead; it takes time to see.
    Silent,
}

/// Takes locks.
#[derive(Debug)]
pub struct Locker {
    no_flock: AtomicBool,
    leases: Leases,
}

impl Locker {
    pub fn new(locks: Locks, silence: Duration) -> Self {
        Self {
            no_flock: AtomicBool::new(locks == Locks::Leases),
            leases: Leases::new(silence),
        }
    }

    /// Tries once. The lock's directory is there.
    pub fn attempt(&self, path: &Path, kind: Kind) -> Result<Tried, WeightsError> {
        if !self.no_flock.load(Ordering::Relaxed) {
            match flock(path, kind).map_err(WeightsError::disk(path))? {
                Flocked::Locked(file) => return Ok(Tried::Locked(Guard::Flock(file))),
                Flocked::Taken => return Ok(Tried::Taken),
                Flocked::Unsupported => {
                    tracing::info!(path = %path.display(), "the file system has no flock; leases keep processes apart");
                    self.no_flock.store(true, Ordering::Relaxed);
                }
            }
        }
        self.leases
            .attempt(path, kind)
            .map_err(WeightsError::disk(path))
    }

    /// Tries until it is held or a living process is known to hold it; a silent lease is watched until it is clear.
    pub fn decide(&self, path: &Path, kind: Kind) -> Result<Option<Guard>, WeightsError> {
        loop {
            match self.attempt(path, kind)? {
                Tried::Locked(guard) => return Ok(Some(guard)),
                Tried::Taken => return Ok(None),
                Tried::Silent => std::thread::sleep(POLL),
            }
        }
    }

    /// Tries until it is held, for as long as `patience`, and longer only to see whether the holder of a lease is dead.
    pub fn wait(
        &self,
        path: &Path,
        kind: Kind,
        patience: Duration,
    ) -> Result<Option<Guard>, WeightsError> {
        let begun = Instant::now();
        loop {
            if let Some(guard) = self.decide(path, kind)? {
                return Ok(Some(guard));
            }
            if begun.elapsed() >= patience {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }
}

enum Flocked {
    Locked(File),
    Taken,
    Unsupported,
}

fn flock(path: &Path, kind: Kind) -> io::Result<Flocked> {
    loop {
        let file = open(path)?;
        let operation = match kind {
            Kind::Shared => FlockOperation::NonBlockingLockShared,
            Kind::Alone => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&file, operation) {
            // Why compared: it may have been removed between opening and locking, and then guards nothing.
            Ok(()) if same(&file, path)? => return Ok(Flocked::Locked(file)),
            Ok(()) | Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK | Errno::ACCESS) => return Ok(Flocked::Taken),
            Err(Errno::NOSYS | Errno::NOTSUP | Errno::NOLCK | Errno::INVAL) => {
                return Ok(Flocked::Unsupported);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .custom_flags(flags);
    match options.open(path) {
        // Another user's: reading is enough to lock it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.exists() => {
            OpenOptions::new().read(true).custom_flags(flags).open(path)
        }
        opened => opened,
    }
}

fn same(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(named.ino() == held.ino() && named.dev() == held.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lockers() -> [Locker; 2] {
        let silence = Duration::from_secs(20);
        [
            Locker::new(Locks::Auto, silence),
            Locker::new(Locks::Leases, silence),
        ]
    }

    fn locked(locker: &Locker, path: &Path, kind: Kind) -> Option<Guard> {
        match locker.attempt(path, kind).unwrap() {
            Tried::Locked(guard) => Some(guard),
            Tried::Taken | Tried::Silent => None,
        }
    }

    #[test]
    fn one_alone_or_many_together() {
        for locker in lockers() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.lock");
            let alone = locked(&locker, &path, Kind::Alone).unwrap();
            assert!(alone.still_held());
            assert!(locked(&locker, &path, Kind::Alone).is_none());
            assert!(locked(&locker, &path, Kind::Shared).is_none());
            drop(alone);
            let one = locked(&locker, &path, Kind::Shared).unwrap();
            let two = locked(&locker, &path, Kind::Shared).unwrap();
            assert!(locked(&locker, &path, Kind::Alone).is_none());
            drop(one);
            assert!(locked(&locker, &path, Kind::Alone).is_none());
            drop(two);
            let again = locked(&locker, &path, Kind::Alone).unwrap();
            assert!(again.still_held());
        }
    }

    #[test]
    fn a_lock_that_was_removed_meanwhile_guards_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let locker = Locker::new(Locks::Auto, Duration::from_secs(20));
        let first = locked(&locker, &path, Kind::Alone).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(locked(&locker, &path, Kind::Alone).is_some());
        drop(first);
    }

    #[test]
    fn a_link_in_the_locks_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let victim = dir.path().join("victim");
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        let locker = Locker::new(Locks::Auto, Duration::from_secs(20));
        assert!(locker.attempt(&path, Kind::Alone).is_err());
        assert!(!victim.exists());
    }
}
