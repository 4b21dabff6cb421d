//! The digest of a file while it arrives: a thread follows the file's front and reads back what is there, out of the page
//! cache. Apart from the ranges' tasks, which finish out of order, and which digesting would hold up.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::active::{Active, Unwritten};
use super::disk::READ;
use crate::weights::remote::Digest;

enum Running {
    Sha256(Sha256),
    Git(Sha1),
}

impl Running {
    fn new(expected: Digest, size: u64) -> Self {
        match expected {
            Digest::Sha256(_) => Self::Sha256(Sha256::new()),
            Digest::GitSha1(_) => Self::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(digest) => digest.update(bytes),
            Self::Git(digest) => digest.update(bytes),
        }
    }

    fn finish(self) -> Digest {
        match self {
            Self::Sha256(digest) => Digest::Sha256(digest.finalize().into()),
            Self::Git(digest) => Digest::GitSha1(digest.finalize().into()),
        }
    }
}

/// Follows the file to its end, and says what its bytes give.
pub(super) fn follow(active: &Active, expected: Digest) -> Result<Digest, Unwritten> {
    let size = active.job.file.size;
    let mut running = Running::new(expected, size);
    let mut buffer = vec![0; READ.min(size as usize)];
    let mut at = 0;
    while at < size {
        let Ok(frontier) = active.wait_beyond(at) else {
            return Err(Unwritten::Closed);
        };
        while at < frontier {
            // In whole buffers as long as there are any.
            let part = (READ as u64).min(frontier - at) as usize;
            active.read(&mut buffer[..part], at)?;
            running.update(&buffer[..part]);
            active.job.progress.verify(part as u64);
            at += part as u64;
        }
    }
    Ok(running.finish())
}
