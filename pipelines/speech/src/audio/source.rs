//! Where the bytes come from: memory or a file, read from any thread, never held twice. A few bytes may be read
//! otherwise than they are stored, which is how a header that lies is put right before a demuxer sees it.

use std::fs::File;
use std::io::{Cursor, Read, Result, Seek, SeekFrom};

use symphonia::core::io::MediaSource;

/// Anything that can be read, sought and moved between threads.
trait ReadSeek: Read + Seek + Send + Sync {}
impl<T: Read + Seek + Send + Sync> ReadSeek for T {}

/// The bytes of one audio file.
pub struct Source {
    inner: Box<dyn ReadSeek>,
    length: u64,
    position: u64,
    patches: Vec<(u64, [u8; 4])>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the bytes.
        f.debug_struct("Source")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// From memory: a `Vec<u8>`, an `Arc<[u8]>`, a `Bytes`.
    pub fn from_memory(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let length = bytes.as_ref().len() as u64;
        Self {
            inner: Box::new(Cursor::new(bytes)),
            length,
            position: 0,
            patches: Vec::new(),
        }
    }

    /// From a file, which is read as it is needed.
    ///
    /// # Errors
    /// The file cannot be sought, as a pipe cannot.
    pub fn from_file(file: File) -> Result<Self> {
        Self::from_reader(file)
    }

    /// From anything that can be sought; its length is what seeking to its end says, and it must not grow meanwhile.
    ///
    /// # Errors
    /// It cannot be sought.
    pub fn from_reader(mut inner: impl Read + Seek + Send + Sync + 'static) -> Result<Self> {
        let length = inner.seek(SeekFrom::End(0))?;
        inner.rewind()?;
        Ok(Self {
            inner: Box::new(inner),
            length,
            position: 0,
            patches: Vec::new(),
        })
    }

    /// Bytes in all.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads these four bytes at this offset, whatever is stored there.
    pub(super) fn patch(&mut self, offset: u64, bytes: [u8; 4]) {
        self.patches.push((offset, bytes));
    }

    /// Up to `count` bytes from `offset`, and back to the beginning.
    pub(super) fn peek(&mut self, offset: u64, count: usize) -> Result<Vec<u8>> {
        self.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        // take() and not a buffer of `count`: a length from a header asks for memory only as far as there are bytes.
        self.take(count as u64).read_to_end(&mut bytes)?;
        self.rewind()?;
        Ok(bytes)
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from_memory(bytes)
    }
}

impl From<std::sync::Arc<[u8]>> for Source {
    fn from(bytes: std::sync::Arc<[u8]>) -> Self {
        Self::from_memory(bytes)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.inner.read(buffer)?;
        let start = self.position;
        for (offset, bytes) in &self.patches {
            for (place, byte) in (*offset..).zip(bytes) {
                let at = place
                    .checked_sub(start)
                    .and_then(|i| usize::try_from(i).ok());
                if let Some(seen) = at.filter(|i| *i < count).and_then(|i| buffer.get_mut(i)) {
                    *seen = *byte;
                }
            }
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.position = self.inner.seek(to)?;
        Ok(self.position)
    }
}

impl MediaSource for Source {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_read_in_place_of_what_is_stored_however_the_reads_fall() {
        for step in 1..9 {
            let mut source = Source::from_memory((0..20u8).collect::<Vec<_>>());
            source.patch(5, [100, 101, 102, 103]);
            let mut seen = Vec::new();
            let mut buffer = vec![0; step];
            loop {
                let count = source.read(&mut buffer).unwrap();
                if count == 0 {
                    break;
                }
                seen.extend_from_slice(&buffer[..count]);
            }
            let mut expected: Vec<u8> = (0..20).collect();
            expected[5..9].copy_from_slice(&[100, 101, 102, 103]);
            assert_eq!(seen, expected, "in steps of {step}");
        }
    }

    #[test]
    fn a_peek_past_the_end_is_short_and_asks_for_no_memory() {
        let mut source = Source::from_memory(vec![1, 2, 3]);
        assert_eq!(source.peek(1, usize::MAX).unwrap(), [2, 3]);
        assert_eq!(source.peek(9, 4).unwrap(), [] as [u8; 0]);
    }
}
