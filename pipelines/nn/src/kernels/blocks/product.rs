//! The product of quantised rows with few rows of x: numbers are unpacked in registers, and each is used for up to eight rows.
//!
//! The order of additions is that of the plain product in `matmul` (lanes along k, a tree per chunk, chunks in order), so that
//! the result has the bits of the same product with the dequantised matrix, whichever form that one takes.

use super::{Format, FormatWork, Open, UNIT};
use crate::kernels::lanes::Lanes;
use std::ops::Range;

/// Rows of x that an unpacked number is used for.
const MOST_COLUMNS: usize = 8;

/// Some rows of one W against all of x.
pub(in crate::kernels) struct BlockPanel<'a> {
    /// The whole matrix.
    pub(in crate::kernels) bytes: &'a [u8],
    /// Its columns: whole blocks.
    pub(in crate::kernels) columns: usize,
    /// Columns after which the lanes are added up: whole units, or all of the columns.
    pub(in crate::kernels) chunk: usize,
    /// The rows of W to take.
    pub(in crate::kernels) rows: Range<usize>,
    /// [x_rows, columns]
    pub(in crate::kernels) x: &'a [f32],
    pub(in crate::kernels) x_rows: usize,
    /// Where the product of the first row of x and the first row of W goes.
    pub(in crate::kernels) out: *mut f32,
    /// Numbers from one row of the product to the next.
    pub(in crate::kernels) out_stride: usize,
}

impl FormatWork for BlockPanel<'_> {
    /// # Safety
    /// The lengths fit, x has a row, and no other thread writes these outputs.
    #[inline(always)]
    unsafe fn go<L: Lanes, F: Format>(self) {
        let mut x_row = 0;
        while x_row < self.x_rows {
            // SAFETY: the caller's promise.
            unsafe {
                match (self.x_rows - x_row, L::WIDTH) {
                    (1, 16) => self.columns::<L, F, 8, 1>(x_row),
                    (1, _) => self.columns::<L, F, 4, 1>(x_row),
                    (2, _) => self.columns::<L, F, 4, 2>(x_row),
                    (3 | 4, 16) => self.columns::<L, F, 4, 4>(x_row),
                    (3 | 4, _) => self.columns::<L, F, 2, 4>(x_row),
                    (_, 16) => self.columns::<L, F, 2, MOST_COLUMNS>(x_row),
                    _ => self.columns::<L, F, 1, MOST_COLUMNS>(x_row),
                }
            }
            x_row += MOST_COLUMNS;
        }
    }
}

impl BlockPanel<'_> {
    /// All of the rows of W against C rows of x.
    #[inline(always)]
    unsafe fn columns<L: Lanes, F: Format, const R: usize, const C: usize>(&self, x_row: usize) {
        let mut opened = [Open::EMPTY; R];
        for row in self.rows.clone().step_by(R) {
            // SAFETY: the caller's promise.
            unsafe { self.tile::<L, F, R, C>(row, x_row, &mut opened) }
        }
    }

    /// R rows of W against C rows of x; past the last of either the last one again, whose results are not kept.
    #[inline(always)]
    unsafe fn tile<L: Lanes, F: Format, const R: usize, const C: usize>(
        &self,
        row: usize,
        x_row: usize,
        opened: &mut [Open; R],
    ) {
        let k = self.columns;
        let row_bytes = F::bytes(k);
        // SAFETY: rows of W and of x are clamped to those there are; units and groups stay inside them; outputs are this
        // panel's own.
        unsafe {
            let w: [*const u8; R] = std::array::from_fn(|r| {
                let row = (row + r).min(self.rows.end - 1);
                self.bytes.as_ptr().add(row * row_bytes)
            });
            let x: [*const f32; C] = std::array::from_fn(|c| {
                let row = (x_row + c).min(self.x_rows - 1);
                self.x.as_ptr().add(row * k)
            });
            for start in (0..k).step_by(self.chunk) {
                let end = k.min(start + self.chunk);
                let mut sums = [[L::splat(0.0); R]; C];
                for at in (start..end).step_by(UNIT) {
                    let len = UNIT.min(end - at);
                    let unit = w.map(|w| w.wrapping_add(F::bytes(at)));
                    for r in 0..R {
                        F::open::<L>(unit[r], len, &mut opened[r]);
                        if x_row == 0 {
                            prefetch::<L, F>(unit[r].wrapping_add(R * row_bytes));
                        }
                    }
                    for group in 0..len / F::GROUP {
                        let x = x.map(|x| x.add(at + group * F::GROUP));
                        for r in 0..R {
                            let numbers = F::unpack::<L>(unit[r], &opened[r], group);
                            for i in 0..F::GROUP / L::WIDTH {
                                for c in 0..C {
                                    let x = L::load(x[c].add(i * L::WIDTH));
                                    sums[c][r] = L::mul_add(x, numbers[i], sums[c][r]);
                                }
                            }
                        }
                    }
                }
                for c in 0..C.min(self.x_rows - x_row) {
                    let sums = L::sum_each::<R>(sums[c]);
                    let out = self.out.add((x_row + c) * self.out_stride + row);
                    for r in 0..R.min(self.rows.end - row) {
                        let out = out.add(r);
                        *out = if start == 0 { sums[r] } else { *out + sums[r] };
                    }
                }
            }
        }
    }
}

/// Asks for the unit that is read when the next rows are at this place.
#[inline(always)]
fn prefetch<L: Lanes, F: Format>(unit: *const u8) {
    for line in 0..F::bytes(UNIT).div_ceil(64) {
        L::prefetch(unit.wrapping_add(64 * line));
    }
}
