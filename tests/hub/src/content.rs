//! A file's bytes, wherever they come from: memory, a file on disk, or a seed. A synthetic file of any size takes one
//! mebibyte of memory, and any part of it can be had without the part before it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::random::Random;

/// What a synthetic file repeats, each time behind another mark.
const TILE: u64 = 1 << 20;
/// The repetition's number, as often as it fits: what lands in the wrong place is told by it.
const MARK: u64 = 16;
/// The most that is handed out at once.
const PIECE: u64 = 1 << 20;

/// A file's bytes; cheap to clone.
#[derive(Debug, Clone)]
pub struct Content(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    size: u64,
    sha256: OnceLock<String>,
    git_sha1: OnceLock<String>,
}

#[derive(Debug)]
enum Place {
    Memory(Bytes),
    Disk(File),
    Synthetic(Bytes),
}

impl Content {
    fn new(place: Place, size: u64) -> Self {
        Self(Arc::new(Inner {
            place,
            size,
            sha256: OnceLock::new(),
            git_sha1: OnceLock::new(),
        }))
    }

    /// Pseudo-random bytes, which need no disk.
    pub fn synthetic(seed: u64, size: u64) -> Self {
        let mut random = Random::new(seed);
        let tile: Vec<u8> = (0..TILE / 8)
            .flat_map(|_| random.next().to_le_bytes())
            .collect();
        Self::new(Place::Synthetic(tile.into()), size)
    }

    /// A file on disk, which must not change.
    ///
    /// # Errors
    /// As the file system has it.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self::new(Place::Disk(file), size))
    }

    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// The next bytes from an offset: at least one and at most `most`, or none at the end.
    ///
    /// # Errors
    /// As the file system has it.
    pub fn piece(&self, at: u64, most: u64) -> io::Result<Bytes> {
        let most = most.min(PIECE).min(self.size().saturating_sub(at));
        let whole = |length: u64| length as usize; // at most PIECE
        match &self.0.place {
            Place::Memory(bytes) => Ok(bytes.slice(at as usize..(at + most) as usize)),
            Place::Disk(file) => {
                let mut buffer = BytesMut::zeroed(whole(most));
                file.read_exact_at(&mut buffer, at)?;
                Ok(buffer.freeze())
            }
            Place::Synthetic(tile) => {
                let within = at % TILE;
                if within >= MARK {
                    let most = most.min(TILE - within);
                    return Ok(tile.slice(whole(within)..whole(within + most)));
                }
                let most = most.min(MARK - within);
                let number = (at / TILE).to_le_bytes();
                let mark = (within..within + most).map(|i| tile[whole(i)] ^ number[whole(i % 8)]);
                Ok(mark.collect())
            }
        }
    }

    /// All bytes in one piece.
    ///
    /// # Errors
    /// As the file system has it.
    pub fn bytes(&self) -> io::Result<Bytes> {
        let mut all = BytesMut::with_capacity(self.size() as usize);
        self.each(|piece| all.extend_from_slice(piece))?;
        Ok(all.freeze())
    }

    fn each(&self, mut with: impl FnMut(&[u8])) -> io::Result<()> {
        let mut at = 0;
        while at < self.size() {
            let piece = self.piece(at, PIECE)?;
            with(&piece);
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// SHA-256, in hexadecimal; reckoned once.
    pub fn sha256(&self) -> &str {
        self.0.sha256.get_or_init(|| {
            let mut digest = Sha256::new();
            // A file that cannot be read has a digest that no bytes have.
            match self.each(|piece| digest.update(piece)) {
                Ok(()) => hex(&digest.finalize()),
                Err(_) => "0".repeat(64),
            }
        })
    }

    /// SHA-1 as git names a blob, in hexadecimal; reckoned once.
    pub fn git_sha1(&self) -> &str {
        self.0.git_sha1.get_or_init(|| {
            let mut digest = Sha1::new();
            digest.update(format!("blob {}\0", self.size()));
            match self.each(|piece| digest.update(piece)) {
                Ok(()) => hex(&digest.finalize()),
                Err(_) => "0".repeat(40),
            }
        })
    }
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(bytes: T) -> Self {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        Self::new(Place::Memory(bytes), size)
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synthetic_file_is_the_same_from_any_offset() {
        let content = Content::synthetic(7, 3 * TILE + 5);
        let all = content.bytes().unwrap();
        assert_eq!(all.len() as u64, content.size());
        for at in [0, 1, 15, 16, TILE - 1, TILE, TILE + 3, 3 * TILE + 4] {
            let piece = content.piece(at, 100).unwrap();
            assert!(!piece.is_empty());
            assert_eq!(piece, all.slice(at as usize..at as usize + piece.len()));
        }
        assert!(content.piece(content.size(), 1).unwrap().is_empty());
        assert_ne!(all[..16], all[TILE as usize..TILE as usize + 16]);
        assert_ne!(
            content.sha256(),
            Content::synthetic(8, 3 * TILE + 5).sha256()
        );
    }

    #[test]
    fn digests_are_those_of_git_and_of_sha256sum() {
        let empty = Content::from("");
        assert_eq!(empty.git_sha1(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert!(
            empty
                .sha256()
                .starts_with("e3b0c44298fc1c149afbf4c8996fb924")
        );
        let hello = Content::from("hello\n");
        assert_eq!(hello.git_sha1(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
