//! What of a range has come and is on its way to the file: a few of the network's own buffers, written together, and settled
//! in the journal every few megabytes. Apart from the requests, which may be many for one range.

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crc32fast::Hasher;

use super::active::{Active, Unwritten};
use super::journal::Record;

/// Bytes that are written together. Over TLS they come in records of 16 KiB, and a system call for each would be felt.
const GATHER: usize = 256 << 10;
/// Pieces come to the file after this long at the latest, however few bytes they are.
const GATHER_TIME: Duration = Duration::from_millis(100);
/// Bytes of one journal record, at most about. A record costs 24 bytes and a microsecond.
const SETTLE: u64 = 1 << 20;
/// On a slow link a record is written after this long: a process that is killed loses no more than that.
const SETTLE_TIME: Duration = GATHER_TIME;

/// See the module.
pub(super) struct Piece<'a> {
    active: &'a Active,
    /// Where the next byte of the network belongs.
    at: u64,
    end: u64,
    gathered: Vec<Bytes>,
    bytes: usize,
    gathered_since: Instant,
    /// Written, and not in the journal.
    record: Record,
    crc: Hasher,
    settled: Instant,
}

impl<'a> Piece<'a> {
    pub fn new(active: &'a Active, range: &Range<u64>) -> Self {
        let now = Instant::now();
        Self {
            active,
            at: range.start,
            end: range.end,
            gathered: Vec::new(),
            bytes: 0,
            gathered_since: now,
            record: Record {
                start: range.start,
                length: 0,
                crc: 0,
            },
            crc: Hasher::new(),
            settled: now,
        }
    }

    /// What is still to come.
    pub fn rest(&self) -> Range<u64> {
        self.at..self.end
    }

    /// Takes what has come; what goes beyond the end is dropped. Says how many bytes were taken.
    pub fn take(&mut self, mut bytes: Bytes) -> Result<usize, Unwritten> {
        bytes.truncate((self.end - self.at).min(usize::MAX as u64) as usize);
        if bytes.is_empty() {
            return Ok(0);
        }
        let taken = bytes.len();
        if self.gathered.is_empty() {
            self.gathered_since = Instant::now();
        }
        self.at += taken as u64;
        self.bytes += taken;
        self.gathered.push(bytes);
        if self.bytes >= GATHER
            || self.at == self.end
            || self.gathered_since.elapsed() >= GATHER_TIME
        {
            self.flush(self.at == self.end)?;
        }
        Ok(taken)
    }

    /// The attempt is over: everything goes to the file and into the journal.
    pub fn settle(&mut self) -> Result<(), Unwritten> {
        self.flush(true)
    }

    fn flush(&mut self, last: bool) -> Result<(), Unwritten> {
        let new = self.bytes as u64;
        if new > 0 {
            self.active.write(&self.gathered, self.at - new)?;
            for bytes in self.gathered.drain(..) {
                self.crc.update(&bytes);
            }
            self.bytes = 0;
            self.record.length += new;
            self.record.crc = self.crc.clone().finalize();
        }
        let length = self.record.length;
        let settled = last || length >= SETTLE || self.settled.elapsed() >= SETTLE_TIME;
        if length == 0 || (new == 0 && !settled) {
            return Ok(());
        }
        self.active.note(self.record, new, settled)?;
        if settled {
            self.record = Record {
                start: self.at,
                length: 0,
                crc: 0,
            };
            self.crc = Hasher::new();
            self.settled = Instant::now();
        }
        Ok(())
    }
}
