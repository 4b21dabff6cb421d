//! y = x·Wᵀ + b with W as it is stored, the one product that a transformer spends its time in.
//!
//! Dot form: every output has one accumulator register that walks along k, so that an output's order of additions depends on
//! k alone. A row gives the same bits alone or among any others, which is what lets requests share a batch.

use super::lanes::{Bf16, F16, F32, Lanes, Stored, StoredAs};
use super::parallel::{self, Shared};
use super::{Isa, Kernel, dispatch};
use std::mem::MaybeUninit;
use std::ops::Range;

/// The longest stretch of k that a tile walks before it adds up its lanes: eight rows of it are 32 KiB, which an L1 of
/// 48 KiB keeps while the rows of x pass by.
const LONGEST_CHUNK: usize = 704;
/// Rows of x that are gone through before the next rows of W are taken: 1 MiB for a chunk, half of a typical L2.
const X_BLOCK: usize = 256;
/// Rows of x up to which W is gone through in the order in which it lies in memory.
const BY_ROWS: usize = 32;
/// Rows of x from which copying eight rows of W, widened and aligned, pays for itself.
const PACK_FROM: usize = 7;
/// A tile's columns: with eight rows of W, 24 accumulators.
const TILE_COLUMNS: usize = 3;

/// A weight matrix [rows, columns], row-major, as it is stored, with its bias.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) stored: StoredAs,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) bias: Option<&'a [f32]>,
}

/// A product to be made: `out` [x rows, matrix rows].
pub(crate) struct Product<'a> {
    pub(crate) matrix: Matrix<'a>,
    pub(crate) out: &'a mut [f32],
}

/// Makes several products of one `x` [rows, columns] in one fork and join. Slices whose lengths do not fit are left as they
/// are (the layers check them and say so).
pub(crate) fn multiply(isa: Isa, x: &[f32], x_rows: usize, products: &mut [Product<'_>]) {
    let mut panels = Vec::new();
    let mut work = 0;
    for product in products.iter_mut() {
        let Matrix { rows, columns, .. } = product.matrix;
        let fits = x.len() == x_rows * columns
            && product.matrix.bytes.len() == rows * columns * product.matrix.stored.bytes()
            && product.out.len() == x_rows * rows
            && product.matrix.bias.is_none_or(|bias| bias.len() == rows);
        if !fits {
            debug_assert!(fits, "a product's slices must fit its shape");
            continue;
        }
        work += x_rows * rows * columns;
        let step = rows_per_task(&product.matrix, x_rows);
        let out = Shared(product.out.as_mut_ptr());
        panels.extend((0..rows).step_by(step).map(|start| Panel {
            x,
            x_rows,
            matrix: product.matrix,
            rows: start..rows.min(start + step),
            out,
        }));
    }
    parallel::for_each(panels.len(), work, |index| {
        if let Some(panel) = panels.get(index) {
            // SAFETY: the lengths were checked above, and the panels' rows, thus their outputs, are disjoint.
            unsafe { dispatch(isa, panel.clone()) }
        }
    });
}

/// Rows of W per task: enough tasks that the threads finish together, each large enough to be worth handing out.
fn rows_per_task(matrix: &Matrix<'_>, x_rows: usize) -> usize {
    /// Multiply-adds: some 8 µs when they come out of memory.
    const SMALLEST: usize = 1 << 15;
    let even = matrix.rows.div_ceil(parallel::threads() * 8);
    let smallest = SMALLEST.div_ceil((matrix.columns * x_rows).max(1));
    even.max(smallest).next_multiple_of(8)
}

/// Some rows of one W against all of x.
#[derive(Clone)]
struct Panel<'a> {
    x: &'a [f32],
    x_rows: usize,
    matrix: Matrix<'a>,
    rows: Range<usize>,
    out: Shared<f32>,
}

impl Kernel for Panel<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: `multiply` has checked the lengths.
        unsafe {
            match self.matrix.stored {
                StoredAs::F32 => self.with_dtype::<L, F32>(),
                StoredAs::F16 => self.with_dtype::<L, F16>(),
                StoredAs::Bf16 => self.with_dtype::<L, Bf16>(),
            }
        }
    }
}

impl Panel<'_> {
    #[inline(always)]
    unsafe fn with_dtype<L: Lanes, W: Stored>(self) {
        // SAFETY: as for `run`.
        unsafe {
            if L::TILE_ROWS == 8 {
                self.go::<L, W, 8>();
            } else {
                self.go::<L, W, 4>();
            }
        }
    }

    #[inline(always)]
    unsafe fn go<L: Lanes, W: Stored, const R: usize>(self) {
        let k = self.matrix.columns;
        let chunk = chunk_len(k);
        let mut scratch = Scratch::uninit();
        for x_start in (0..self.x_rows).step_by(X_BLOCK) {
            let x_rows = x_start..self.x_rows.min(x_start + X_BLOCK);
            // Few rows of x: W comes out of memory once, row by row. Many: a chunk of x stays in L2 meanwhile. The order
            // of additions into an output is the same.
            let stretch = if x_rows.len() <= BY_ROWS { k } else { chunk };
            for start in (0..k).step_by(stretch) {
                for row in self.rows.clone().step_by(R) {
                    for from in (start..k.min(start + stretch)).step_by(chunk) {
                        let group = Group {
                            row,
                            columns: from..k.min(from + chunk),
                            x_rows: x_rows.clone(),
                        };
                        // SAFETY: `row` and `columns` are inside the matrix, `x_rows` inside x.
                        unsafe {
                            let stored = self.strided::<W, R>(row, from);
                            if x_rows.len() < PACK_FROM {
                                self.group::<L, W, _, R>(stored, group);
                            } else {
                                let packed =
                                    pack::<L, _, R>(&mut scratch, &stored, group.columns.len());
                                self.group::<L, W, _, R>(packed, group);
                            }
                        }
                    }
                }
            }
        }
        // SAFETY: as for `run`.
        unsafe { self.add_bias() }
    }

    /// R rows of W from column `from` on; past the last row, the last one again, whose results nobody keeps.
    #[inline(always)]
    unsafe fn strided<W: Stored, const R: usize>(&self, row: usize, from: usize) -> Strided<W, R> {
        let k = self.matrix.columns;
        let rows = std::array::from_fn(|r| {
            let row = (row + r).min(self.rows.end - 1);
            // SAFETY: inside the matrix.
            unsafe { self.matrix.bytes.as_ptr().add((row * k + from) * W::BYTES) }
        });
        Strided {
            rows,
            dtype: std::marker::PhantomData,
        }
    }

    /// R rows of W, one chunk of columns, against some rows of x.
    #[inline(always)]
    unsafe fn group<L: Lanes, W: Stored, S: Source<L, R>, const R: usize>(
        &self,
        source: S,
        group: Group,
    ) {
        let Range { start: mut at, end } = group.x_rows;
        // The next rows of W come into the cache meanwhile, divided over the tiles.
        let row_bytes = self.matrix.columns * W::BYTES;
        let tiles = (end - at).div_ceil(TILE_COLUMNS);
        let mut asked = 0;
        let mut ahead = Ahead {
            at: self
                .matrix
                .bytes
                .as_ptr()
                .wrapping_add((group.row + R) * row_bytes + group.columns.start * W::BYTES),
            rows: R.div_ceil(tiles),
            row_bytes,
            step_bytes: L::WIDTH * W::BYTES,
        };
        // SAFETY: the tiles stay inside `x_rows`.
        unsafe {
            while at < end {
                match end - at {
                    1 => self.tile::<L, S, R, 1>(&source, group.row, &group.columns, at, &ahead),
                    2 => self.tile::<L, S, R, 2>(&source, group.row, &group.columns, at, &ahead),
                    _ => self.tile::<L, S, R, TILE_COLUMNS>(
                        &source,
                        group.row,
                        &group.columns,
                        at,
                        &ahead,
                    ),
                }
                at += TILE_COLUMNS;
                asked += ahead.rows;
                ahead.at = ahead.at.wrapping_add(ahead.rows * row_bytes);
                ahead.rows = ahead.rows.min(R.saturating_sub(asked));
            }
        }
    }

    /// R rows of W against C rows of x, over one chunk of columns.
    #[inline(always)]
    unsafe fn tile<L: Lanes, S: Source<L, R>, const R: usize, const C: usize>(
        &self,
        source: &S,
        row: usize,
        columns: &Range<usize>,
        x_row: usize,
        ahead: &Ahead,
    ) {
        let k = self.matrix.columns;
        let len = columns.len();
        let steps = len / L::WIDTH;
        // SAFETY: x rows `x_row..x_row + C` and `columns` are inside x; the source has `len` columns; outputs are inside
        // `out` and this panel's own.
        unsafe {
            let x: [*const f32; C] =
                std::array::from_fn(|c| self.x.as_ptr().add((x_row + c) * k + columns.start));
            let mut sums = [[L::splat(0.0); R]; C];
            for step in 0..steps {
                ahead.prefetch::<L>(step);
                if C == TILE_COLUMNS {
                    // The next tile's rows of x, which are in L2.
                    for x in x {
                        L::prefetch(x.wrapping_add(C * k + step * L::WIDTH).cast());
                    }
                }
                let x: [L::Vector; C] = std::array::from_fn(|c| L::load(x[c].add(step * L::WIDTH)));
                for r in 0..R {
                    let w = source.load(step, r);
                    for c in 0..C {
                        sums[c][r] = L::mul_add(x[c], w, sums[c][r]);
                    }
                }
            }
            let tail = len % L::WIDTH;
            if tail > 0 {
                for r in 0..R {
                    let w = source.load_partial(steps, r, tail);
                    for c in 0..C {
                        let x = F32::load_partial::<L>(x[c].add(steps * L::WIDTH).cast(), tail);
                        sums[c][r] = L::mul_add(x, w, sums[c][r]);
                    }
                }
            }
            let kept = R.min(self.rows.end - row);
            for (c, sums) in sums.into_iter().enumerate() {
                let mut sums = L::sum_each::<R>(sums);
                let out = self.out.get().add((x_row + c) * self.matrix.rows + row);
                if kept == R {
                    // A whole vector at a time.
                    let out = out.cast::<[f32; R]>();
                    if columns.start > 0 {
                        let so_far = out.read_unaligned();
                        for r in 0..R {
                            sums[r] += so_far[r];
                        }
                    }
                    out.write_unaligned(sums);
                } else {
                    for (r, sum) in sums.into_iter().enumerate().take(kept) {
                        let out = out.add(r);
                        *out = if columns.start == 0 { sum } else { *out + sum };
                    }
                }
            }
        }
    }

    unsafe fn add_bias(&self) {
        let Some(bias) = self
            .matrix
            .bias
            .and_then(|bias| bias.get(self.rows.clone()))
        else {
            return;
        };
        for x_row in 0..self.x_rows {
            let start = x_row * self.matrix.rows + self.rows.start;
            for (r, bias) in bias.iter().enumerate() {
                // SAFETY: this panel's own outputs.
                unsafe { *self.out.get().add(start + r) += bias }
            }
        }
    }
}

/// What a group multiplies.
struct Group {
    /// The first of R rows of W.
    row: usize,
    columns: Range<usize>,
    x_rows: Range<usize>,
}

/// The part of the next rows of W that a tile asks for while it computes.
struct Ahead {
    at: *const u8,
    rows: usize,
    row_bytes: usize,
    step_bytes: usize,
}

impl Ahead {
    #[inline(always)]
    fn prefetch<L: Lanes>(&self, step: usize) {
        for row in 0..self.rows {
            L::prefetch_far(
                self.at
                    .wrapping_add(row * self.row_bytes + step * self.step_bytes),
            );
        }
    }
}

/// k in equal chunks of at most [`LONGEST_CHUNK`]; of k alone, since it fixes the order of additions.
fn chunk_len(k: usize) -> usize {
    let chunks = k.div_ceil(LONGEST_CHUNK).max(1);
    k.div_ceil(chunks).next_multiple_of(16).max(16)
}

/// Where a tile reads R rows of W.
trait Source<L: Lanes, const R: usize>: Copy {
    /// The vector of row `r` at `step`.
    unsafe fn load(&self, step: usize, r: usize) -> L::Vector;
    /// The same for the last, incomplete step.
    unsafe fn load_partial(&self, step: usize, r: usize, count: usize) -> L::Vector;
}

/// The checkpoint's own rows.
#[derive(Clone, Copy)]
struct Strided<W, const R: usize> {
    rows: [*const u8; R],
    dtype: std::marker::PhantomData<W>,
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
struct Scratch(MaybeUninit<[f32; 8 * LONGEST_CHUNK]>);

impl Scratch {
    #[inline(always)]
    fn uninit() -> Self {
        Self(MaybeUninit::uninit())
    }
}

/// Widens R rows and lays them out in the order in which a tile reads them.
#[inline(always)]
unsafe fn pack<L: Lanes, S: Source<L, R>, const R: usize>(
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
struct PackedRows<const R: usize>(*const f32);

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
