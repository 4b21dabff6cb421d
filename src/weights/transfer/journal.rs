//! The journal beside a partial file: which of its bytes are there, with a checksum of each piece, so that the next process
//! goes on where this one was killed. Pieces are of any length: what came of a range before the line was cut counts.
//!
//! Layout, all numbers little-endian: `CHNDJRNL`, version (u32), length of the blob's name (u32), size of the file (u64), the
//! name, CRC-32 of all that (u32); then records of 24 bytes: start (u64), length (u64), CRC-32 of the piece's bytes (u32),
//! CRC-32 of the record, begun with the header's (u32), so that no record of another journal passes for one of this.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;

const MAGIC: &[u8; 8] = b"CHNDJRNL";
const VERSION: u32 = 1;
const RECORD: usize = 24;
/// No journal that we wrote gets this long: a record stands for a megabyte, or a tenth of a second of one connection.
const LONGEST: u64 = 256 << 20;

/// Where the journal of a partial file is.
pub fn journal_path(partial: &Path) -> PathBuf {
    if partial.extension().is_some_and(|e| e == "chandler-partial") {
        return partial.with_extension("chandler-journal");
    }
    let mut name = partial.as_os_str().to_owned();
    name.push(".chandler-journal");
    name.into()
}

/// A piece of the file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub start: u64,
    pub length: u64,
    /// CRC-32 of its bytes.
    pub crc: u32,
}

impl Record {
    fn write(&self, seed: u32) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.crc.to_le_bytes());
        let own = checksum(seed, &bytes[..20]);
        bytes[20..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8; RECORD], seed: u32) -> Option<Self> {
        if checksum(seed, &bytes[..20]) != number(&bytes[20..]) as u32 {
            return None;
        }
        Some(Self {
            start: number(&bytes[..8]),
            length: number(&bytes[8..16]),
            crc: number(&bytes[16..20]) as u32,
        })
    }
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    end: u64,
    seed: u32,
}

/// What a journal must be of to count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub blob: &'a str,
    pub size: u64,
}

impl Subject<'_> {
    fn header(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(28 + self.blob.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.blob.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(self.blob.as_bytes());
        let crc = checksum(0, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// What the journal says is there; nothing where there is none, or one of another file, another version, or torn.
    pub fn read(&self, path: &Path) -> io::Result<Vec<Record>> {
        let bytes = match fs::metadata(path) {
            Ok(metadata) if metadata.len() > LONGEST => return Ok(Vec::new()),
            Ok(_) => fs::read(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let header = self.header();
        let Some(records) = bytes.strip_prefix(header.as_slice()) else {
            return Ok(Vec::new());
        };
        let seed = number(&header[header.len() - 4..]) as u32;
        let (records, _torn) = records.as_chunks::<RECORD>();
        let good = |record: &Record| {
            record.length > 0
                && record
                    .start
                    .checked_add(record.length)
                    .is_some_and(|end| end <= self.size)
        };
        // Each record answers for itself: one that is torn says nothing about the next.
        let records = records.iter().filter_map(|bytes| Record::read(bytes, seed));
        Ok(records.filter(good).collect())
    }

    /// Begins a journal with what is there already, in the place of an older one.
    pub fn begin(&self, path: &Path, records: &[Record]) -> io::Result<Journal> {
        let mut bytes = self.header();
        let seed = number(&bytes[bytes.len() - 4..]) as u32;
        for record in records {
            bytes.extend_from_slice(&record.write(seed));
        }
        // Why not in place: killed in between, the old one would be gone and the new one not there.
        let new = rewritten(path);
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        fs::rename(&new, path)?;
        Ok(Journal {
            file,
            end: bytes.len() as u64,
            seed,
        })
    }
}

impl Journal {
    /// A further piece is there.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        self.file.write_all_at(&record.write(self.seed), self.end)?;
        self.end += RECORD as u64;
        Ok(())
    }
}

/// Removes a journal, where there is one.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    // Who was killed while rewriting it has left the rewritten one.
    for file in [path.to_owned(), rewritten(path)] {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Where a journal is rewritten before it takes the place of the old one.
fn rewritten(path: &Path) -> PathBuf {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    new.into()
}

fn checksum(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SUBJECT: Subject<'_> = Subject {
        blob: "0123abcd",
        size: 1 << 20,
    };

    fn records(count: u64) -> Vec<Record> {
        let record = |at: u64| Record {
            start: at * 4096,
            length: 4096,
            crc: (at as u32).wrapping_mul(2_654_435_761),
        };
        (0..count).map(record).collect()
    }

    #[test]
    fn what_was_written_is_read_and_only_for_the_same_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.chandler-journal");
        assert_eq!(SUBJECT.read(&path).unwrap(), []);
        let mut journal = SUBJECT.begin(&path, &records(2)).unwrap();
        for record in &records(5)[2..] {
            journal.append(record).unwrap();
        }
        assert_eq!(SUBJECT.read(&path).unwrap(), records(5));
        for other in [
            Subject {
                blob: "0123abce",
                ..SUBJECT
            },
            Subject {
                size: SUBJECT.size + 1,
                ..SUBJECT
            },
        ] {
            assert_eq!(other.read(&path).unwrap(), []);
        }
        // Another version.
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] += 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(SUBJECT.read(&path).unwrap(), []);
        // What leads out of the file is no record.
        let wild = Record {
            start: u64::MAX,
            length: 2,
            crc: 0,
        };
        SUBJECT.begin(&path, &[wild]).unwrap();
        assert_eq!(SUBJECT.read(&path).unwrap(), []);
    }

    #[test]
    fn a_journal_torn_at_any_byte_keeps_its_whole_records() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        SUBJECT.begin(&path, &records(9)).unwrap();
        let bytes = fs::read(&path).unwrap();
        let header = SUBJECT.header().len();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let whole = length.saturating_sub(header) / RECORD;
            assert_eq!(
                SUBJECT.read(&path).unwrap(),
                records(whole as u64),
                "{length}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_costs_its_record_and_no_other(at in 0usize..9 * RECORD, flip in 1u8..) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("journal");
            SUBJECT.begin(&path, &records(9)).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            let header = SUBJECT.header().len();
            bytes[header + at] ^= flip;
            fs::write(&path, &bytes).unwrap();
            let mut left = records(9);
            left.remove(at / RECORD);
            prop_assert_eq!(SUBJECT.read(&path).unwrap(), left);
        }
    }

    #[test]
    fn the_journal_is_beside_its_file() {
        let path = |partial: &str| journal_path(Path::new(partial));
        assert_eq!(
            path("/b/1.2.chandler-partial"),
            Path::new("/b/1.2.chandler-journal")
        );
        assert_eq!(path("/b/x.bin"), Path::new("/b/x.bin.chandler-journal"));
    }
}
