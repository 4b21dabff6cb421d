//! Where a tile of the matrix product reads its rows of W: from the checkpoint as they are, or from a widened copy in L1.
//! Apart from the product so that it is written once for both.

use super::lanes::{Lanes, Stored};
use super::matmul::LONGEST_CHUNK;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Where a tile reads R rows of W.
pub(super) trait Source<L: Lanes, const R: usize>: Copy {
    /// The vector of row `r` at `step`.
    unsafe fn load(&self, step: usize, r: usize) -> L::Vector;
    /// The same for the last, incomplete step.
    unsafe fn load_partial(&self, step: usize, r: usize, count: usize) -> L::Vector;
}

/// The checkpoint's own rows.
#[derive(Clone, Copy)]
pub(super) struct Strided<W, const R: usize> {
    rows: [*const u8; R],
    dtype: PhantomData<W>,
}

impl<W, const R: usize> Strided<W, R> {
    /// Rows that start at these addresses.
    #[inline(always)]
    pub(super) fn new(rows: [*const u8; R]) -> Self {
        Self {
            rows,
            dtype: PhantomData,
        }
    }
}

impl<L: Lanes, W: Stored, const R: usize> Source<L, R> for Strided<W, R> {
    #[inline(always)]
    unsafe fn load(&self, step: usize, r: usize) -> L::Vector {
        // SAFETY: the caller stays inside the row.
        unsafe { W::load::<L>(self.rows[r].add(step * L::WIDTH * W::BYTES)) }
    }
    #[inline(always)]
    unsafe fn load_partial(&self, step: usize, r: usize, count: usize) -> L::Vector {
        // SAFETY: the caller stays inside the row.
        unsafe { W::load_partial::<L>(self.rows[r].add(step * L::WIDTH * W::BYTES), count) }
    }
}

/// Room for R rows of a chunk in f32, in L1.
#[repr(align(64))]
pub(super) struct Scratch(MaybeUninit<[f32; 8 * LONGEST_CHUNK]>);

impl Scratch {
    #[inline(always)]
    pub(super) fn uninit() -> Self {
        Self(MaybeUninit::uninit())
    }
}

/// Widens R rows and lays them out in the order in which a tile reads them.
#[inline(always)]
pub(super) unsafe fn pack<L: Lanes, S: Source<L, R>, const R: usize>(
    scratch: &mut Scratch,
    source: &S,
    len: usize,
) -> PackedRows<R> {
    let start: *mut f32 = scratch.0.as_mut_ptr().cast();
    let steps = len / L::WIDTH;
    // SAFETY: `len` is at most `LONGEST_CHUNK`, a multiple of every width, and R at most 8.
    unsafe {
        for step in 0..steps {
            for r in 0..R {
                L::store(start.add((step * R + r) * L::WIDTH), source.load(step, r));
            }
        }
        let tail = len % L::WIDTH;
        if tail > 0 {
            for r in 0..R {
                let last = source.load_partial(steps, r, tail);
                L::store(start.add((steps * R + r) * L::WIDTH), last);
            }
        }
    }
    PackedRows(start)
}

/// R rows as `pack` has laid them out.
#[derive(Clone, Copy)]
pub(super) struct PackedRows<const R: usize>(*const f32);

impl<L: Lanes, const R: usize> Source<L, R> for PackedRows<R> {
    #[inline(always)]
    unsafe fn load(&self, step: usize, r: usize) -> L::Vector {
        // SAFETY: `pack` has written it.
        unsafe { L::load(self.0.add((step * R + r) * L::WIDTH)) }
    }
    #[inline(always)]
    unsafe fn load_partial(&self, step: usize, r: usize, _count: usize) -> L::Vector {
        // SAFETY: `pack` has written it, padded with zeros.
        unsafe { L::load(self.0.add((step * R + r) * L::WIDTH)) }
    }
}
