//! A file that is being fetched: its bytes on the disk, the book of what is there, and the journal. The ranges' tasks write to
//! it, the digest follows it. Apart from both, because it alone decides when nothing may be written any more: once it is
//! closed, and at the latest when the transfer's future is dropped, no late task touches the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;

use super::disk;
use super::extents::Extents;
use super::journal::{Journal, Record, Subject, journal_path};
use super::{Job, journal};
use crate::weights::WeightsError;

/// How far the file's front has to come before the digest is woken: a wakeup costs nothing beside digesting so much.
const STRIDE: u64 = 2 << 20;

/// How this file is fetched this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Manner {
    /// In one piece to the end, since the server does not answer ranges.
    pub whole: bool,
    /// Without `If-Match`: the source's mark has changed, and the digest tells whether the bytes have.
    pub unmarked: bool,
}

/// See the module.
pub(super) struct Active {
    pub job: Arc<Job>,
    pub manner: Manner,
    /// Why a lock that many may hold: writes go on at once, and closing waits for those that have begun.
    file: RwLock<Option<File>>,
    book: Mutex<Book>,
    moved: Condvar,
}

struct Book {
    have: Extents,
    /// What of ranges under way is written and not in the journal, by its start.
    loose: BTreeMap<u64, Record>,
    journal: Option<Journal>,
    /// Where the digest wants to be woken.
    awaited: u64,
    closed: bool,
}

/// The file is closed: whoever works on it should end without a word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// Why something was not written.
pub(super) enum Unwritten {
    Closed,
    Disk(WeightsError),
}

impl Active {
    /// Opens the partial file, with what an earlier run left of it. `None` when asked to stop meanwhile.
    pub fn open(
        job: &Arc<Job>,
        manner: Manner,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, WeightsError> {
        let path = journal_path(&job.partial);
        let size = job.file.size;
        let failed = || WeightsError::disk(&job.partial);
        let file = disk::open(&job.partial, size).map_err(failed())?;
        let mut have = Extents::default();
        let mut journal = None;
        if size > disk::SMALL {
            let subject = Subject {
                blob: &job.file.blob,
                size,
            };
            let records = subject.read(&path).map_err(WeightsError::disk(&path))?;
            let right = disk::still_right(&file, records, stopped).map_err(failed())?;
            let Some(records) = right else {
                return Ok(None);
            };
            for record in &records {
                have.insert(record.start..record.start + record.length);
            }
            let begun = subject.begin(&path, &records);
            journal = Some(begun.map_err(WeightsError::disk(&path))?);
        }
        job.progress.reset(have.bytes());
        Ok(Some(Self {
            job: job.clone(),
            manner,
            file: RwLock::new(Some(file)),
            book: Mutex::new(Book {
                have,
                loose: BTreeMap::new(),
                journal,
                awaited: 0,
                closed: false,
            }),
            moved: Condvar::new(),
        }))
    }

    /// What is to be fetched.
    pub fn missing(&self) -> Vec<Range<u64>> {
        let mut missing = self.book().have.missing(self.job.file.size);
        if self.manner.whole
            && let Some(first) = missing.first().map(|range| range.start)
        {
            missing = std::iter::once(first..self.job.file.size).collect();
        }
        missing
    }

    /// Whether every byte is there.
    pub fn is_complete(&self) -> bool {
        self.book().have.frontier() == self.job.file.size
    }

    /// Writes to the disk. It does not count before it is noted.
    pub fn write(&self, buffers: &[Bytes], offset: u64) -> Result<(), Unwritten> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let file = file.as_ref().ok_or(Unwritten::Closed)?;
        disk::write(file, buffers, offset).map_err(|error| self.disk(error))
    }

    /// The piece is written up to here. `settled`: it goes to the journal, and the next one begins behind it.
    pub fn note(&self, piece: Record, new: u64, settled: bool) -> Result<(), Unwritten> {
        let mut book = self.book();
        if book.closed {
            return Err(Unwritten::Closed);
        }
        let end = piece.start + piece.length;
        let new = book.have.insert(end - new..end);
        self.job.progress.receive(new);
        if settled {
            book.loose.remove(&piece.start);
            if let Some(journal) = &mut book.journal {
                journal.append(&piece).map_err(|error| self.disk(error))?;
            }
        } else {
            book.loose.insert(piece.start, piece);
        }
        if book.have.frontier() >= book.awaited {
            self.moved.notify_all();
        }
        Ok(())
    }

    /// Reads what is there.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Unwritten> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let file = file.as_ref().ok_or(Unwritten::Closed)?;
        file.read_exact_at(buffer, offset)
            .map_err(|error| self.disk(error))
    }

    /// Waits until the file is there without a gap for some way beyond an offset, or to its end; says how far.
    pub fn wait_beyond(&self, offset: u64) -> Result<u64, Closed> {
        let mut book = self.book();
        book.awaited = (offset + STRIDE).min(self.job.file.size);
        while !book.closed {
            let frontier = book.have.frontier();
            if frontier >= book.awaited {
                return Ok(frontier);
            }
            let woken = self.moved.wait(book);
            book = woken.unwrap_or_else(PoisonError::into_inner);
        }
        Err(Closed)
    }

    /// Looks once more at the file's size.
    pub fn check_size(&self) -> Result<(), Unwritten> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let file = file.as_ref().ok_or(Unwritten::Closed)?;
        let length = file.metadata().map_err(|error| self.disk(error))?.len();
        if length != self.job.file.size {
            let reason = format!(
                "is {length} bytes long instead of {}: somebody else has changed it",
                self.job.file.size
            );
            return Err(self.disk(io::Error::other(reason)));
        }
        Ok(())
    }

    /// Nothing is written from now on. What has come of ranges under way goes to the journal.
    pub fn close(&self) {
        self.file
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut book = self.book();
        book.closed = true;
        let loose = std::mem::take(&mut book.loose);
        if let Some(mut journal) = book.journal.take() {
            for record in loose.values() {
                if let Err(error) = journal.append(record) {
                    // The bytes of this piece will come once more; there is nobody left to be told otherwise.
                    tracing::warn!(%error, file = %self.job.file.path, "cannot write the journal");
                    break;
                }
            }
        }
        drop(book);
        self.moved.notify_all();
    }

    /// Closes it, and forgets what has come: the next time begins from zero.
    pub fn forget(&self) -> Result<(), WeightsError> {
        self.close();
        let path = journal_path(&self.job.partial);
        journal::remove(&path).map_err(WeightsError::disk(&path))?;
        self.job.progress.reset(0);
        Ok(())
    }

    fn disk(&self, error: io::Error) -> Unwritten {
        Unwritten::Disk(WeightsError::disk(&self.job.partial)(error))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.close();
    }
}
