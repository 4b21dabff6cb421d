//! Zeroed f32 memory on a cache line's boundary, whose pages the system only hands out when they are touched.
//! Apart because `vec![0.0; n]` aborts the process when the memory cannot be had, and starts 16 bytes into a line.

use crate::error::{NnError, Result};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

const CACHE_LINE: usize = 64;

/// Owned numbers.
pub(crate) struct Buffer {
    /// What was allocated, a line more than `len` needs. Asking the allocator for the alignment would make it write the
    /// zeros itself, and so touch every page.
    allocation: NonNull<u8>,
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: it owns its memory, as a `Vec<f32>` does.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zeros.
    ///
    /// # Errors
    /// [`NnError::HostMemory`] when the system refuses.
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        let refused = || NnError::HostMemory {
            bytes: len.saturating_mul(size_of::<f32>()),
        };
        let layout = Self::layout(len).ok_or_else(refused)?;
        // SAFETY: the layout is not empty.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(refused)?;
        let skip = allocation.as_ptr().align_offset(CACHE_LINE);
        // SAFETY: `skip` is less than the line that was asked for in addition.
        let start = unsafe { allocation.add(skip) }.cast();
        Ok(Self {
            allocation,
            start,
            len,
        })
    }

    fn layout(len: usize) -> Option<Layout> {
        let bytes = len.checked_mul(size_of::<f32>())?.checked_add(CACHE_LINE)?;
        Layout::from_size_align(bytes, align_of::<f32>()).ok()
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: `len` initialised numbers that are ours.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.len) {
            // SAFETY: allocated with this same layout.
            unsafe { dealloc(self.allocation.as_ptr(), layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_and_aligned_and_a_refusal_is_an_error() {
        let mut buffer = Buffer::zeroed(1000).unwrap();
        assert_eq!(buffer.as_slice().as_ptr() as usize % CACHE_LINE, 0);
        assert!(buffer.as_slice().iter().all(|x| *x == 0.0));
        buffer.as_mut_slice()[999] = 1.0;
        assert_eq!(buffer.as_slice()[999], 1.0);
        assert!(Buffer::zeroed(0).unwrap().as_slice().is_empty());
        assert!(Buffer::zeroed(usize::MAX / 8).is_err());
    }
}
