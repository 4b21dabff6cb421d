//! The partial file on the disk: made as large as it will be, written at any offset, and what of an earlier run is still right
//! in it. Apart from its bookkeeping, which knows no system call.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use bytes::Bytes;
use crc32fast::Hasher;

use super::Job;
use super::journal::Record;
use crate::weights::WeightsError;

/// Bytes that are read at once, to be checked or digested: they stay in a core's own cache.
pub(super) const READ: usize = 256 << 10;
/// A file up to this size has no blocks laid aside and no journal: to write it costs less than that.
pub(super) const SMALL: u64 = 1 << 20;
/// Buffers of one write.
const BUFFERS: usize = 64;

/// Says at once when the files cannot all have room, before a byte is fetched.
pub(super) fn room(jobs: &[Job]) -> Result<(), WeightsError> {
    let mut wanted: HashMap<u64, (u64, &Path)> = HashMap::new();
    for job in jobs {
        let directory = match job.partial.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let device = fs::metadata(directory).map_err(WeightsError::disk(directory))?;
        // What an earlier run has taken is not asked for again.
        let taken = fs::metadata(&job.partial).map_or(0, |file| file.blocks() * 512);
        let entry = wanted.entry(device.dev()).or_insert((0, directory));
        entry.0 = entry.0.saturating_add(job.file.size.saturating_sub(taken));
    }
    for (bytes, directory) in wanted.into_values() {
        let space = rustix::fs::statvfs(directory)
            .map_err(|error| WeightsError::disk(directory)(error.into()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        // Some network file systems say that they have no blocks at all.
        if space.f_blocks > 0 && bytes > free {
            let reason = format!("{bytes} bytes are wanted, and {free} are free");
            let error = io::Error::new(io::ErrorKind::StorageFull, reason);
            return Err(WeightsError::disk(directory)(error));
        }
    }
    Ok(())
}

/// Opens or makes the partial file, with all its blocks where the file system can do that; a small one grows as it is written.
pub(super) fn open(path: &Path, size: u64) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let before = file.metadata()?.len();
    if before > size {
        file.set_len(size)?;
    }
    if size > SMALL
        && let Err(error) = allocate(&file, size)
    {
        // Whatever it has taken of a disk that has not enough is given back.
        file.set_len(before.min(size))?;
        return Err(error);
    }
    Ok(file)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, size: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, size) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return file.set_len(size),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, size: u64) -> io::Result<()> {
    file.set_len(size)
}

/// Writes the buffers one after the other at an offset, in as few system calls as it takes.
pub(super) fn write(file: &File, buffers: &[Bytes], mut offset: u64) -> io::Result<()> {
    for buffers in buffers.chunks(BUFFERS) {
        let mut slices: Vec<IoSlice<'_>> = buffers.iter().map(|b| IoSlice::new(b)).collect();
        let mut left = slices.as_mut_slice();
        IoSlice::advance_slices(&mut left, 0); // drops empty ones
        while !left.is_empty() {
            match rustix::io::pwritev(file, left, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Those of the journal's pieces whose bytes are there as they were written; `None` when asked to stop.
pub(super) fn still_right(
    file: &File,
    records: Vec<Record>,
    stopped: &dyn Fn() -> bool,
) -> io::Result<Option<Vec<Record>>> {
    let mut buffer = vec![0; READ];
    let mut right = Vec::with_capacity(records.len());
    for record in records {
        let (mut at, end) = (record.start, record.start + record.length);
        let mut crc = Hasher::new();
        while at < end {
            if stopped() {
                return Ok(None);
            }
            let part = &mut buffer[..READ.min((end - at) as usize)];
            match file.read_exact_at(part, at) {
                // The file is shorter than the journal says.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                other => other?,
            }
            crc.update(part);
            at += part.len() as u64;
        }
        if at == end && crc.finalize() == record.crc {
            right.push(record);
        }
    }
    Ok(Some(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_its_size_at_once_and_keeps_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("partial");
        fs::write(&path, "abc").unwrap();
        let large = SMALL + 1;
        let file = open(&path, large).unwrap();
        assert_eq!(file.metadata().unwrap().len(), large);
        assert!(file.metadata().unwrap().blocks() * 512 >= large);
        assert!(fs::read(&path).unwrap().starts_with(b"abc\0"));
        // One that is longer than it may be is cut, and a small one is not made longer.
        for (size, content) in [(2, &b"ab"[..]), (10, b"ab"), (0, b"")] {
            open(&path, size).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        // More than any disk has: said at once, and nothing is taken.
        let error = open(&path, 1 << 55).unwrap_err();
        let told = [io::ErrorKind::StorageFull, io::ErrorKind::FileTooLarge];
        assert!(told.contains(&error.kind()), "{error}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn buffers_are_written_in_order_however_many_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("partial");
        let file = open(&path, 400).unwrap();
        let buffers: Vec<Bytes> = (0..200u8)
            .map(|at| Bytes::from(vec![at; usize::from(at % 3)]))
            .collect();
        write(&file, &buffers, 7).unwrap();
        let all: Vec<u8> = buffers.concat();
        assert_eq!(fs::read(&path).unwrap()[7..7 + all.len()], all);
    }

    #[test]
    fn only_pieces_that_are_as_written_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("partial");
        fs::write(&path, b"hello world").unwrap();
        let file = open(&path, 11).unwrap();
        let record = |start: u64, bytes: &[u8]| Record {
            start,
            length: bytes.len() as u64,
            crc: crc32fast::hash(bytes),
        };
        let records = vec![
            record(0, b"hello"),
            record(5, b"-"),
            record(6, b"world"),
            record(6, b"world beyond"),
        ];
        let right = still_right(&file, records.clone(), &|| false).unwrap();
        assert_eq!(right, Some(vec![records[0], records[2]]));
        assert_eq!(still_right(&file, records, &|| true).unwrap(), None);
    }
}
