//! The product of quantised rows with few rows of x: numbers are unpacked in registers, and each is used for up to eight rows.
//!
//! The order of additions is that of the plain product in `matmul` (lanes along k, a tree per chunk, chunks in order), so that
//! the result has the bits of the same product with the dequantised matrix, whichever form that one takes.

use super::{Format, FormatWork, Open, UNIT};
use crate::kernels::lanes::Lanes;
use crate::kernels::{Isa, Kernel, dispatch};
use std::marker::PhantomData;
use std::ops::Range;

/// Rows of x that an unpacked number is used for.
const MOST_COLUMNS: usize = 8;
/// Tiles that take turns at a unit of [`MOST_COLUMNS`] rows of x: all their columns are more than an L1 holds, and coming out
/// of L2 for every two rows of W they would be what the product waits for.
const TILES: usize = 4;

/// Some rows of one W against all of x.
pub(in crate::kernels) struct BlockPanel<'a> {
    pub(in crate::kernels) isa: Isa,
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
    unsafe fn go<F: Format>(self) {
        for x_row in (0..self.x_rows).step_by(MOST_COLUMNS) {
            let panel = &self;
            // SAFETY: the caller's promise.
            unsafe {
                match self.x_rows - x_row {
                    1 => dispatch(self.isa, Columns::<F, 1>::of(panel, x_row)),
                    2 => dispatch(self.isa, Columns::<F, 2>::of(panel, x_row)),
                    3 | 4 => dispatch(self.isa, Columns::<F, 4>::of(panel, x_row)),
                    _ => dispatch(self.isa, Columns::<F, MOST_COLUMNS>::of(panel, x_row)),
                }
            }
        }
    }
}

/// All of a panel's rows of W against C rows of x: a kernel of its own for each C, since compiled as one they are too large
/// for the compiler to hand out registers well.
struct Columns<'a, F, const C: usize> {
    panel: &'a BlockPanel<'a>,
    x_row: usize,
    format: PhantomData<F>,
}

impl<F: Format, const C: usize> Kernel for Columns<'_, F, C> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match (C, L::WIDTH) {
                (1, 16) => self.rows::<L, 8>(),
                (1, _) | (2, _) | (4, 16) => self.rows::<L, 4>(),
                (4, _) | (_, 16) => self.rows::<L, 2>(),
                _ => self.rows::<L, 1>(),
            }
        }
    }
}

impl<'a, F: Format, const C: usize> Columns<'a, F, C> {
    fn of(panel: &'a BlockPanel<'a>, x_row: usize) -> Self {
        Self {
            panel,
            x_row,
            format: PhantomData,
        }
    }

    #[inline(always)]
    unsafe fn rows<L: Lanes, const R: usize>(&self) {
        let mut opened = [Open::EMPTY; R];
        let tiles = if C == MOST_COLUMNS { TILES } else { 1 };
        for row in self.panel.rows.clone().step_by(R * tiles) {
            // SAFETY: the caller's promise.
            unsafe {
                if C == MOST_COLUMNS {
                    self.tiles::<L, R, TILES>(row, &mut opened);
                } else {
                    self.tiles::<L, R, 1>(row, &mut opened);
                }
            }
        }
    }

    /// T tiles of R rows of W against C rows of x, which they take turns at, unit by unit. Past the last row of either the
    /// last one again, whose results are not kept.
    #[inline(always)]
    unsafe fn tiles<L: Lanes, const R: usize, const T: usize>(
        &self,
        row: usize,
        opened: &mut [Open; R],
    ) {
        let BlockPanel {
            columns: k,
            x_rows,
            ref rows,
            ..
        } = *self.panel;
        let row_bytes = F::bytes(k);
        // SAFETY: rows of W and of x are clamped to those there are; units and groups stay inside them; outputs are this
        // panel's own.
        unsafe {
            let x: [*const f32; C] = std::array::from_fn(|c| {
                let row = (self.x_row + c).min(x_rows - 1);
                self.panel.x.as_ptr().add(row * k)
            });
            for start in (0..k).step_by(self.panel.chunk) {
                let end = k.min(start + self.panel.chunk);
                let mut sums = [[[L::splat(0.0); R]; C]; T];
                for at in (start..end).step_by(UNIT) {
                    let len = UNIT.min(end - at);
                    for t in 0..T {
                        let w: [*const u8; R] = std::array::from_fn(|r| {
                            let row = (row + t * R + r).min(rows.end - 1);
                            let at = row * row_bytes + F::bytes(at);
                            self.panel.bytes.as_ptr().add(at)
                        });
                        for r in 0..R {
                            F::open::<L>(w[r], len, &mut opened[r]);
                            if self.x_row == 0 {
                                prefetch::<L, F>(w[r].wrapping_add(T * R * row_bytes));
                            }
                        }
                        let x = x.map(|x| x.add(at));
                        unit::<L, F, R, C>(w, opened, x, len, &mut sums[t]);
                    }
                }
                for t in 0..T {
                    let rows = (row + t * R).min(rows.end)..rows.end;
                    self.put::<L, R>(rows, start == 0, &sums[t]);
                }
            }
        }
    }

    /// The sums of a chunk to the outputs, added to those of the chunks before.
    #[inline(always)]
    unsafe fn put<L: Lanes, const R: usize>(
        &self,
        rows: Range<usize>,
        first: bool,
        sums: &[[L::Vector; R]; C],
    ) {
        for c in 0..C.min(self.panel.x_rows - self.x_row) {
            let at = (self.x_row + c) * self.panel.out_stride + rows.start;
            // Four at a time, as every instruction set adds them up together.
            for four in (0..R).step_by(4) {
                // SAFETY: outputs that there are, this panel's own.
                unsafe {
                    let sums = std::array::from_fn(|r| sums[c][(four + r).min(R - 1)]);
                    let sums = L::sum_each::<4>(sums);
                    for r in four..R.min(rows.len()).min(four + 4) {
                        let (out, sum) = (self.panel.out.add(at + r), sums[r - four]);
                        *out = if first { sum } else { *out + sum };
                    }
                }
            }
        }
    }
}

/// One opened unit of R rows of W against C rows of x.
#[inline(always)]
unsafe fn unit<L: Lanes, F: Format, const R: usize, const C: usize>(
    w: [*const u8; R],
    opened: &[Open; R],
    x: [*const f32; C],
    len: usize,
    to: &mut [[L::Vector; R]; C],
) {
    let mut sums = *to;
    for group in 0..len / F::GROUP {
        // SAFETY: the caller's promise: `len` numbers of each row.
        unsafe {
            let x = x.map(|x| x.add(group * F::GROUP));
            for r in 0..R {
                let numbers = F::unpack::<L>(w[r], &opened[r], group);
                for i in 0..F::GROUP / L::WIDTH {
                    for c in 0..C {
                        let x = L::load(x[c].add(i * L::WIDTH));
                        sums[c][r] = L::mul_add(x, numbers[i], sums[c][r]);
                    }
                }
            }
        }
    }
    *to = sums;
}

/// Asks for the unit that is read when the next rows are at this place. Into L2: on their way to L1 the lines of all rows would
/// wait for its miss buffers, of which there are too few to read at the memory's rate (24 on Zen 4: half of it).
#[inline(always)]
fn prefetch<L: Lanes, F: Format>(unit: *const u8) {
    for line in 0..F::bytes(UNIT).div_ceil(64) {
        L::prefetch_far(unit.wrapping_add(64 * line));
    }
}
