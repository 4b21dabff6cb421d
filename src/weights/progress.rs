//! How far a transfer is: counters that the transfer counts up, and that whoever shows them looks at when it wants to. No
//! callbacks, so that no terminal and no log line ever holds up a byte.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What is being done for the files as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Which files there are, and which of them are wanted and not here.
    Resolving,
    /// Another process fetches them.
    Waiting,
    /// Bytes come in, and are checked on the way.
    Transferring,
    /// The last digests are finished, links and records are made.
    Verifying,
    /// Everything is here.
    Done,
}

/// One file's counters.
#[derive(Debug)]
pub struct FileProgress {
    /// Its path in the snapshot.
    pub path: String,
    /// Bytes in all.
    pub size: u64,
    received: AtomicU64,
    verified: AtomicU64,
}

impl FileProgress {
    /// Further bytes are in the file. What is found to be wrong is taken back with [`FileProgress::reset`].
    pub fn receive(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that are in the file.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Further bytes went through the digest.
    pub fn verify(&self, bytes: u64) {
        self.verified.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that went through the digest.
    pub fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    /// The file is fetched anew, beginning with so many bytes that are there.
    pub fn reset(&self, received: u64) {
        self.received.store(received, Ordering::Relaxed);
        self.verified.store(0, Ordering::Relaxed);
    }
}

/// All files of a transfer.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    files: Mutex<Vec<Arc<FileProgress>>>,
}

/// All counters at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// What is being done.
    pub phase: Phase,
    /// Files that are fetched.
    pub files: usize,
    /// Their bytes.
    pub size: u64,
    /// Bytes of them that are here.
    pub received: u64,
    /// Bytes of them that went through the digest.
    pub verified: u64,
}

impl Progress {
    /// A new phase has begun.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// A file that is to be fetched.
    pub fn add(&self, path: &str, size: u64) -> Arc<FileProgress> {
        let file = Arc::new(FileProgress {
            path: path.to_owned(),
            size,
            received: AtomicU64::new(0),
            verified: AtomicU64::new(0),
        });
        self.files().push(file.clone());
        file
    }

    /// The files, for a bar each.
    pub fn each(&self) -> Vec<Arc<FileProgress>> {
        self.files().clone()
    }

    /// Everything together.
    pub fn totals(&self) -> Totals {
        let phase = match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Resolving,
            1 => Phase::Waiting,
            2 => Phase::Transferring,
            3 => Phase::Verifying,
            _ => Phase::Done,
        };
        let files = self.files();
        let sum = |of: fn(&FileProgress) -> u64| files.iter().map(|file| of(file)).sum();
        Totals {
            phase,
            files: files.len(),
            size: sum(|file| file.size),
            received: sum(FileProgress::received),
            verified: sum(FileProgress::verified),
        }
    }

    fn files(&self) -> std::sync::MutexGuard<'_, Vec<Arc<FileProgress>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
