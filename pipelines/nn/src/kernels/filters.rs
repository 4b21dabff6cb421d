//! A convolution's weight and what is done with its products: what both ways of convolving share.
//! Apart from them, with the plan by which their work is cut, so that threads and memory are thought of once.

use super::lanes::{Bf16, F16, F32, Lanes, Stored, StoredAs};
use super::parallel;
use super::tile::{VECTORS, load_some, store_some};
use std::ops::Range;

/// Rows of the weight for which laying out the same windows twice costs little.
const ROWS_OF_A_PART: usize = 128;
/// Tasks for each thread, so that the end of the work is not one thread's.
const TASKS: usize = 4;

/// A weight [outputs, channels, kernel height, kernel width], and what is added to its products.
#[derive(Clone, Copy)]
pub(crate) struct Filters<'a> {
    /// Row-major, `stored` as f32, f16 or bf16.
    pub(crate) bytes: &'a [u8],
    pub(crate) stored: StoredAs,
    pub(crate) outputs: usize,
    /// A number for each output.
    pub(crate) bias: Option<&'a [f32]>,
    /// As long as the output.
    pub(crate) residual: Option<&'a [f32]>,
}

/// Whether a chunk of channels is the first and the last.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) first: bool,
    pub(super) last: bool,
}

/// Numbers that lie side by side in one channel of the output.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    /// The channel, counted in its sample.
    pub(super) row: usize,
    /// Where it starts in the output.
    pub(super) at: usize,
    pub(super) count: usize,
}

impl Filters<'_> {
    /// Lays out `WIDTH` rows of the weight from `rows.start` on, or the last of `rows` several times, some `columns` of each, as
    /// [column][row]. Whole vectors of columns are written.
    ///
    /// # Safety
    /// As for [`Lanes`]; rows and columns are the weight's.
    #[inline(always)]
    pub(super) unsafe fn widen<L: Lanes>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        to: *mut f32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.stored {
                StoredAs::F32 => self.widen_from::<L, F32>(rows, columns, to),
                StoredAs::F16 => self.widen_from::<L, F16>(rows, columns, to),
                StoredAs::Bf16 => self.widen_from::<L, Bf16>(rows, columns, to),
                // Dequantised by whoever loads the weight.
                StoredAs::Quant(_) => {}
            }
        }
    }

    #[inline(always)]
    unsafe fn widen_from<L: Lanes, W: Stored>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        to: *mut f32,
    ) {
        let row_bytes = self.bytes.len() / self.outputs;
        // SAFETY: rows and columns of the weight.
        unsafe {
            let mut from = [self.bytes.as_ptr(); 16];
            for r in 0..L::WIDTH {
                let row = (rows.start + r).min(rows.end - 1);
                from[r] = from[r].add(row * row_bytes + columns.start * W::BYTES);
            }
            for start in (0..columns.len()).step_by(L::WIDTH) {
                let left = columns.len() - start;
                let mut v = [L::splat(0.0); 16];
                for r in 0..L::WIDTH {
                    let from = from[r].add(start * W::BYTES);
                    v[r] = if left >= L::WIDTH {
                        W::load::<L>(from)
                    } else {
                        W::load_partial::<L>(from, left)
                    };
                }
                L::transpose(&mut v);
                for lane in 0..L::WIDTH {
                    L::store(to.add((start + lane) * L::WIDTH), v[lane]);
                }
            }
        }
    }

    /// A chunk's sums to the output: with the bias at first, added to those of the chunks before, with the residual at last.
    ///
    /// # Safety
    /// As for [`Lanes`]; the stretch is inside the output, and so inside the residual.
    #[inline(always)]
    pub(super) unsafe fn put<L: Lanes>(
        &self,
        out: *mut f32,
        Stretch { row, at, count }: Stretch,
        ends: Ends,
        sum: L::Vector,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let to = out.add(at);
            let mut sum = match (ends.first, self.bias) {
                (true, Some(bias)) => L::add(sum, L::splat(*bias.get_unchecked(row))),
                (true, None) => sum,
                (false, _) => L::add(load_some::<L>(to, count), sum),
            };
            if let (true, Some(residual)) = (ends.last, self.residual) {
                sum = L::add(sum, load_some::<L>(residual.as_ptr().add(at), count));
            }
            store_some::<L>(to, count, sum);
        }
    }
}

/// How the work is cut: tiles of vectors of windows, parts of the outputs.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// Vectors of all samples, and of a tile.
    total: usize,
    pub(super) tile: usize,
    tiles: usize,
    outputs: usize,
    /// Outputs of a part.
    part: usize,
    parts: usize,
}

impl Plan {
    /// A plan for `total` vectors and `outputs` rows of the weight, tiles of at most `fits` vectors, parts of whole `lanes`.
    pub(super) fn new(total: usize, fits: usize, outputs: usize, lanes: usize) -> Self {
        let threads = parallel::threads();
        let wanted = if threads > 1 { threads * TASKS } else { 1 };
        let tiles = total.div_ceil(fits.max(VECTORS));
        // Few windows: other threads take other outputs; few outputs: smaller tiles.
        let parts = wanted.div_ceil(tiles).min(outputs / ROWS_OF_A_PART).max(1);
        let part = outputs.div_ceil(parts).next_multiple_of(lanes);
        let parts = outputs.div_ceil(part);
        let tiles = tiles.max(wanted.div_ceil(parts));
        // As many for each thread.
        let tiles = tiles.next_multiple_of(threads).min(total.div_ceil(VECTORS));
        let tile = total.div_ceil(tiles);
        Self {
            total,
            tile,
            tiles: total.div_ceil(tile),
            outputs,
            part,
            parts,
        }
    }

    pub(super) fn tasks(&self) -> usize {
        self.tiles * self.parts
    }

    /// The vectors of a task.
    pub(super) fn vectors(&self, task: usize) -> Range<usize> {
        let start = task / self.parts * self.tile;
        start..self.total.min(start + self.tile)
    }

    /// The outputs of a task.
    pub(super) fn outputs(&self, task: usize) -> Range<usize> {
        let start = task % self.parts * self.part;
        start..self.outputs.min(start + self.part)
    }
}
