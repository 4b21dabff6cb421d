//! Digests of files that are here already, many files at once. Apart from the transfer, which computes them while bytes come.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::super::remote::Digest;

/// Large enough that the disk is asked seldom, small enough to stay in the processor's cache.
const BUFFER: usize = 1 << 20;

/// What is computed over a file's bytes.
#[derive(Debug, Clone)]
pub enum Hasher {
    Sha256(Sha256),
    GitSha1(Sha1),
}

impl Hasher {
    pub fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    /// The one that may give this digest, for a file of this size.
    pub fn like(digest: &Digest, size: u64) -> Self {
        match digest {
            Digest::Sha256(_) => Self::sha256(),
            Digest::GitSha1(_) => {
                let mut hash = Sha1::new();
                hash.update(format!("blob {size}\0"));
                Self::GitSha1(hash)
            }
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitSha1(hash) => hash.update(bytes),
        }
    }

    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hash) => Digest::Sha256(hash.finalize().into()),
            Self::GitSha1(hash) => Digest::GitSha1(hash.finalize().into()),
        }
    }
}

/// Reads a file through the hashers, and into `copy`. `count` is told of every piece.
pub fn read_through(
    from: &mut File,
    hashers: &mut [Hasher],
    mut copy: Option<&mut File>,
    count: &dyn Fn(u64),
) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let length = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return Ok(total);
        };
        hashers.iter_mut().for_each(|hasher| hasher.update(bytes));
        if let Some(copy) = copy.as_deref_mut() {
            copy.write_all(bytes)?;
        }
        total += length as u64;
        count(length as u64);
    }
}

/// Opens a file for reading without making it look used: looking through the cache must not change what is thrown out of it
/// first. Only the file's owner may ask for that.
pub fn open_quietly(path: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOATIME.bits() as i32;
        let quiet = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path);
        if quiet.is_ok() {
            return quiet;
        }
    }
    File::open(path)
}

/// Does `work` for each item on so many threads, and gives the results in the items' order.
pub fn each<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while let at = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(item) = items.get(at)
                {
                    let result = work(item);
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
