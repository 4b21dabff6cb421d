//! Where the matrix product reads its rows, a vector at a time along k: from the checkpoint or from x, as they are.
//! Apart from the product so that both of its forms, and any way of storing rows, meet here.

use super::lanes::{Lanes, Stored};
use std::marker::PhantomData;

/// Where R rows are read.
pub(super) trait Source<L: Lanes, const R: usize>: Copy {
    /// The vector of row `r` at `step`.
    unsafe fn load(&self, step: usize, r: usize) -> L::Vector;
    /// The same for the last, incomplete step.
    unsafe fn load_partial(&self, step: usize, r: usize, count: usize) -> L::Vector;
}

/// Rows that lie one number beside the other.
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
