//! One safetensors file: mapped or compiled in, with its header checked, giving out tensors and read ahead on request.
//! Apart from `directory`, which knows several of them, and from `safetensors`, which knows only headers.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::Mmap;
use rayon::prelude::*;

use super::HostTensor;
use super::host_tensor::Backing;
use super::safetensors::Header;
use super::text::clip;
use crate::error::{NnError, Result};

/// How much is read ahead between two reports of progress, in bytes.
const CHUNK_BYTES: usize = 16 << 20;
/// The smallest page there is: touching one byte in each of these touches every page.
const PAGE_BYTES: usize = 4096;

/// A checked safetensors file.
pub(super) struct WeightFile {
    label: PathBuf,
    backing: Backing,
    header: Header,
}

impl WeightFile {
    /// Maps a file read-only and checks its header.
    pub(super) fn map(path: &Path) -> Result<Self> {
        let io = |source| NnError::Io {
            file: path.to_owned(),
            source,
        };
        // Asked before opening, because opening a named pipe would wait for somebody to write into it.
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            return Err(NnError::WeightFile {
                file: path.to_owned(),
                reason: "it is not a file".to_owned(),
            });
        }
        let file = File::open(path).map_err(io)?;
        // SAFETY: a mapping may be read as `&[u8]` as long as nobody changes the file meanwhile. A snapshot's files are whole
        // before they get their names and are never written again: a new revision is a new file under another name, also when
        // two workers share the volume. Somebody who writes into one all the same changes numbers, which are valid whatever
        // they are; the header was copied when it was checked, and no offset is read from the mapping again. Somebody who
        // truncates it makes the next touch of the lost pages end the process with SIGBUS: there is no defence in a mapping, and
        // that it cannot become wrong output or a wrong address is why it is accepted for files of many gigabytes.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Self::new(path.to_owned(), Backing::Mapped(Arc::new(map)))
    }

    /// Checks the header of a file that is compiled in.
    pub(super) fn embedded(label: PathBuf, bytes: &'static [u8]) -> Result<Self> {
        Self::new(label, Backing::Static(bytes))
    }

    fn new(label: PathBuf, backing: Backing) -> Result<Self> {
        let bytes = backing.bytes();
        let file_bytes = bytes.len() as u64;
        let needed = Header::bytes_needed(&label, bytes, file_bytes)?;
        // A copy, so that what is checked as UTF-8 and JSON cannot change in between.
        let start = bytes.get(..needed).unwrap_or(bytes).to_vec();
        let header = Header::parse(&label, &start, file_bytes)?;
        Ok(Self {
            label,
            backing,
            header,
        })
    }

    /// The tensor of that name, if this file has it.
    pub(super) fn tensor(&self, name: &str) -> Option<Result<HostTensor>> {
        let (name, entry) = self.header.get(name)?;
        let Some(dtype) = entry.dtype else {
            return Some(Err(NnError::DType {
                name: name.to_string(),
                found: entry.stored.to_owned(),
            }));
        };
        if entry.range.is_empty() {
            // Allowed by the format and of use to no model, so that it is an error only for who asks for it.
            return Some(Err(NnError::WeightFile {
                file: self.label.clone(),
                reason: format!(
                    "tensor `{}` of shape {:?} holds no numbers",
                    clip(name),
                    entry.shape
                ),
            }));
        }
        Some(HostTensor::over(
            name.clone(),
            dtype,
            entry.shape.clone(),
            self.backing.clone(),
            entry.range.clone(),
        ))
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.header.get(name).is_some()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.header.names()
    }

    pub(super) fn data_bytes(&self) -> u64 {
        self.header.data().len() as u64
    }

    /// Has all of the tensors' bytes in memory, telling `read` how many more are after each chunk.
    fn read_ahead(&self, read: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let data = self.header.data();
        let chunks = data.len().div_ceil(CHUNK_BYTES);
        // Several threads, because a network volume answers several reads faster than one.
        (0..chunks).into_par_iter().try_for_each(|chunk| {
            let start = data.start + chunk * CHUNK_BYTES;
            let len = CHUNK_BYTES.min(data.end - start);
            match &self.backing {
                Backing::Mapped(map) => populate(map, start, len),
                other => {
                    touch(other.bytes(), start, len);
                    Ok(())
                }
            }
            .map_err(|source| NnError::Io {
                file: self.label.clone(),
                source,
            })?;
            read(len as u64);
            Ok(())
        })
    }
}

/// Reads all these files ahead, and reports over them together as [`super::TensorSource::prefetch`] promises.
pub(super) fn prefetch(files: &[WeightFile], progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
    let total = files.iter().map(WeightFile::data_bytes).sum();
    progress(0, total);
    // Held while reporting, so that no report overtakes a later one.
    let done = Mutex::new(0);
    let read = |bytes: u64| {
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        *done += bytes;
        progress(*done, total);
    };
    files.iter().try_for_each(|file| file.read_ahead(&read))
}

/// Has these bytes of a mapping read and mapped. Unlike a touch, the system call answers a failing disk or a file that was cut
/// short with an error instead of a signal.
#[cfg(target_os = "linux")]
fn populate(map: &Mmap, start: usize, len: usize) -> io::Result<()> {
    use memmap2::Advice;

    // Starts the whole chunk's reads at once; faults alone read ahead 128 KiB at a time. Only advice: a failure is no news.
    let _ = map.advise_range(Advice::WillNeed, start, len);
    match map.advise_range(Advice::PopulateRead, start, len) {
        Err(error) if not_offered(&error) => {
            touch(map, start, len);
            Ok(())
        }
        other => other,
    }
}

#[cfg(not(target_os = "linux"))]
fn populate(map: &Mmap, start: usize, len: usize) -> io::Result<()> {
    touch(map, start, len);
    Ok(())
}

/// Linux before 5.14, gVisor and seccomp profiles do not offer MADV_POPULATE_READ.
#[cfg(target_os = "linux")]
fn not_offered(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
    )
}

/// Reads one byte of every page.
fn touch(bytes: &[u8], start: usize, len: usize) {
    let bytes = bytes.get(start..start + len).unwrap_or(&[]);
    let sum = bytes
        .iter()
        .step_by(PAGE_BYTES)
        .fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    std::hint::black_box(sum);
}
