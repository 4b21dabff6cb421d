//! y = x·Wᵀ + b with W as it is stored, the one product that a transformer spends its time in.
//!
//! Dot form: every output has one accumulator register that walks along k, so that an output's order of additions depends on
//! k alone. A row gives the same bits alone or among any others, which is what lets requests share a batch.

use super::blocks::product::BlockPanel;
use super::blocks::with_format;
use super::lanes::{Bf16, F16, F32, Lanes, Stored, StoredAs};
use super::parallel::{self, Shared};
use super::rows::{Scratch, Source, Strided, pack};
use super::{Isa, Kernel, dispatch};
use crate::weights::QuantType;
use std::ops::Range;

/// The longest stretch of k that a tile walks before it adds up its lanes: eight rows of it are 22 KiB, and with three rows
/// of x and the next three they fit an L1 of 48 KiB. On a Sapphire Rapids 704, a quarter of 2816, was a fifth faster than 1024.
pub(super) const LONGEST_CHUNK: usize = 768;
/// Rows of x that are gone through before the next rows of W are taken: 0.7 MiB for a chunk, a third of a typical L2.
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
            && product.matrix.bytes.len()
                == rows.saturating_mul(product.matrix.stored.row_bytes(columns))
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
            unsafe {
                match panel.matrix.stored {
                    StoredAs::Quant(kind) => panel.multiply_blocks(isa, kind),
                    _ => dispatch(isa, panel.clone()),
                }
            }
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
                // Multiplied by `multiply_blocks`.
                StoredAs::Quant(_) => {}
            }
        }
    }
}

impl Panel<'_> {
    /// The same for quantised rows.
    unsafe fn multiply_blocks(&self, isa: Isa, kind: QuantType) {
        let blocks = BlockPanel {
            isa,
            bytes: self.matrix.bytes,
            columns: self.matrix.columns,
            chunk: chunk_len(self.matrix.columns),
            rows: self.rows.clone(),
            x: self.x,
            x_rows: self.x_rows,
            out: self.out.get(),
            out_stride: self.matrix.rows,
        };
        // SAFETY: `multiply` has checked the lengths.
        unsafe {
            with_format(kind, blocks);
            self.add_bias();
        }
    }

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
            let pack_it = x_rows.len() >= PACK_FROM;
            let spread = if pack_it { 1 } else { spread(k * W::BYTES) };
            for start in (0..k).step_by(stretch) {
                for (row, spread) in self.first_rows(R, spread) {
                    for from in (start..k.min(start + stretch)).step_by(chunk) {
                        let group = Group {
                            row,
                            spread,
                            columns: from..k.min(from + chunk),
                            x_rows: x_rows.clone(),
                        };
                        // SAFETY: `row` and `columns` are inside the matrix, `x_rows` inside x.
                        unsafe {
                            let stored = self.strided::<W, R>(&group);
                            if pack_it {
                                let packed =
                                    pack::<L, _, R>(&mut scratch, &stored, group.columns.len());
                                self.group::<L, W, _, R>(packed, &group);
                            } else {
                                self.group::<L, W, _, R>(stored, &group);
                            }
                        }
                    }
                }
            }
        }
        // SAFETY: as for `run`.
        unsafe { self.add_bias() }
    }

    /// The first row of every group of `tile_rows` rows, and how far apart they are: `spread`, or less where too few are left.
    #[inline(always)]
    fn first_rows(&self, tile_rows: usize, spread: usize) -> impl Iterator<Item = (usize, usize)> {
        let Range {
            start: mut next,
            end,
        } = self.rows.clone();
        std::iter::from_fn(move || {
            let left = end.checked_sub(next).filter(|left| *left > 0)?;
            let first = next;
            let apart = spread.min(left / tile_rows).max(1);
            next += tile_rows * apart;
            Some((first..first + apart).map(move |row| (row, apart)))
        })
        .flatten()
    }

    /// R rows of W from a group's first column on; past the last row, the last one again, whose results nobody keeps.
    #[inline(always)]
    unsafe fn strided<W: Stored, const R: usize>(&self, group: &Group) -> Strided<W, R> {
        let k = self.matrix.columns;
        let rows = std::array::from_fn(|r| {
            let row = (group.row + r * group.spread).min(self.rows.end - 1);
            // SAFETY: inside the matrix.
            unsafe {
                let at = (row * k + group.columns.start) * W::BYTES;
                self.matrix.bytes.as_ptr().add(at)
            }
        });
        Strided::new(rows)
    }

    /// R rows of W, one chunk of columns, against some rows of x.
    #[inline(always)]
    unsafe fn group<L: Lanes, W: Stored, S: Source<L, R>, const R: usize>(
        &self,
        source: S,
        group: &Group,
    ) {
        let Range { start: mut at, end } = group.x_rows.clone();
        // The next rows of W come into the cache meanwhile, divided over the tiles.
        let row_bytes = self.matrix.columns * W::BYTES;
        let next = (group.row + R * group.spread) * row_bytes + group.columns.start * W::BYTES;
        let mut ahead = Ahead {
            at: self.matrix.bytes.as_ptr().wrapping_add(next),
            rows: R.div_ceil((end - at).div_ceil(TILE_COLUMNS)),
            row_bytes: row_bytes * group.spread,
            step_bytes: L::WIDTH * W::BYTES,
        };
        let mut asked = 0;
        // SAFETY: the tiles stay inside `x_rows`.
        unsafe {
            while at < end {
                match end - at {
                    1 => self.tile::<L, S, R, 1>(&source, group, at, &ahead),
                    2 => self.tile::<L, S, R, 2>(&source, group, at, &ahead),
                    _ => self.tile::<L, S, R, TILE_COLUMNS>(&source, group, at, &ahead),
                }
                at += TILE_COLUMNS;
                asked += ahead.rows;
                ahead.at = ahead.at.wrapping_add(ahead.rows * ahead.row_bytes);
                ahead.rows = ahead.rows.min(R.saturating_sub(asked));
            }
        }
    }

    /// R rows of W against C rows of x, over one chunk of columns.
    #[inline(always)]
    unsafe fn tile<L: Lanes, S: Source<L, R>, const R: usize, const C: usize>(
        &self,
        source: &S,
        group: &Group,
        x_row: usize,
        ahead: &Ahead,
    ) {
        let Group {
            row,
            spread,
            ref columns,
            ..
        } = *group;
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
            let whole = spread == 1 && row + R <= self.rows.end;
            for (c, sums) in sums.into_iter().enumerate() {
                let mut sums = L::sum_each::<R>(sums);
                let out = self.out.get().add((x_row + c) * self.matrix.rows + row);
                if whole {
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
                    for (r, sum) in sums.into_iter().enumerate() {
                        if row + r * spread < self.rows.end {
                            let out = out.add(r * spread);
                            *out = if columns.start == 0 { sum } else { *out + sum };
                        }
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
    /// From one of them to the next.
    spread: usize,
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
        // Once a cache line: a step of half-precision numbers is less.
        let at = step * self.step_bytes;
        if at % 64 >= self.step_bytes {
            return;
        }
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
    let unit = if chunks == 1 { 16 } else { 256 };
    k.div_ceil(chunks).next_multiple_of(unit).max(16)
}

/// How far apart a tile's rows are taken while W comes out of memory: a page at least, because the processor follows one
/// stream in a page, and two short rows side by side are two.
fn spread(row_bytes: usize) -> usize {
    const PAGE: usize = 4096;
    (PAGE / row_bytes).clamp(1, 8)
}
