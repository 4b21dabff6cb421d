//! The bytes of one weight file: mapped or compiled in, and read ahead on request.
//! Apart from what the bytes mean (`file` for safetensors, `gguf` for the other), because both are mapped the same way.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::Mmap;
use rayon::prelude::*;

use super::host_tensor::Backing;
use crate::error::{NnError, Result};

/// How much is read ahead between two reports of progress, in bytes.
const CHUNK_BYTES: usize = 16 << 20;
/// The smallest page there is: touching one byte in each of these touches every page.
const PAGE_BYTES: usize = 4096;

/// The bytes of a weight file.
#[derive(Clone)]
pub(super) struct Mapping {
    label: PathBuf,
    backing: Backing,
    /// Size and time of change, when it was mapped.
    stamp: String,
}

impl Mapping {
    /// Maps a file read-only.
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
        let changed = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
            .unwrap_or_default();
        Ok(Self {
            label: path.to_owned(),
            stamp: format!("{} {}", map.len(), changed.as_nanos()),
            backing: Backing::Mapped(Arc::new(map)),
        })
    }

    /// Bytes that are compiled in; `label` stands for the file in errors.
    pub(super) fn embedded(label: PathBuf, bytes: &'static [u8]) -> Self {
        Self {
            label,
            backing: Backing::Static(bytes),
            stamp: bytes.len().to_string(),
        }
    }

    /// Stands for the file in errors.
    pub(super) fn label(&self) -> &Path {
        &self.label
    }

    /// The file's name, size and time of change.
    pub(super) fn stamp(&self) -> String {
        let name = self.label.file_name().unwrap_or_default();
        format!("{} {}\n", name.to_string_lossy(), self.stamp)
    }

    /// All of the bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.backing.bytes()
    }

    /// What keeps them alive.
    pub(super) fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Has a range of the bytes in memory, telling `read` how many more are after each chunk.
    fn read_ahead(&self, data: Range<usize>, read: &(dyn Fn(u64) + Sync)) -> Result<()> {
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

/// Reads these parts of files ahead, and reports over them together as [`super::TensorSource::prefetch`] promises.
pub(super) fn prefetch(
    parts: &[(&Mapping, Range<usize>)],
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<()> {
    let total = parts.iter().map(|(_, range)| range.len() as u64).sum();
    progress(0, total);
    // Held while reporting, so that no report overtakes a later one.
    let done = Mutex::new(0);
    let read = |bytes: u64| {
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        *done += bytes;
        progress(*done, total);
    };
    parts
        .iter()
        .try_for_each(|(mapping, range)| mapping.read_ahead(range.clone(), &read))
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
