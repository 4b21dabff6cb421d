//! y = x·Wᵀ + b with W as it is stored, the one product that a transformer spends its time in.
//!
//! Dot form: an output is as many chains of multiply-adds as a register has lanes, each along every sixteenth k, and a tree
//! that adds up the lanes; the order of additions depends on k alone. A row gives the same bits alone or among any others,
//! which is what lets requests share a batch. Many rows of x take the same chains in another form (`outer`).

use super::blocks::product::BlockPanel;
use super::blocks::with_format;
use super::blocks::x_tiles::XTiles;
use super::lanes::{Bf16, F16, F32, Lanes, Stored, StoredAs};
use super::parallel::{self, Shared};
use super::rows::{Source, Strided};
use super::{Isa, Kernel, dispatch, int8, outer};
use crate::weights::{Activations, QuantType};
use std::ops::Range;

/// The longest stretch of k that is walked before the lanes are added up: four panels of W packed for `outer` are 0.75 MiB of
/// it, a part of a typical L2.
const LONGEST_CHUNK: usize = 1536;
/// Rows of x from which packing pays for itself.
const MANY_ROWS: usize = 24;
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
    /// What x is multiplied as, where the matrix is quantised.
    pub(crate) activations: Activations,
}

/// A product to be made: `out` [x rows, matrix rows].
pub(crate) struct Product<'a> {
    pub(crate) matrix: Matrix<'a>,
    pub(crate) out: &'a mut [f32],
}

impl Matrix<'_> {
    /// The first R of `rows`, `spread` apart, from `column` on; past the last row, the last one again, whose results nobody
    /// keeps.
    ///
    /// # Safety
    /// `rows` are rows of the matrix, at least one, and `column` is a column; W is what the numbers are stored as.
    #[inline(always)]
    pub(super) unsafe fn strided<W: Stored, const R: usize>(
        &self,
        rows: Range<usize>,
        spread: usize,
        column: usize,
    ) -> Strided<W, R> {
        Strided::new(std::array::from_fn(|r| {
            let row = (rows.start + r * spread).min(rows.end - 1);
            // SAFETY: inside the matrix.
            unsafe {
                let at = (row * self.columns + column) * W::BYTES;
                self.bytes.as_ptr().add(at)
            }
        }))
    }
}

/// A matrix and where its products go: [x rows, matrix rows].
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    pub(super) matrix: Matrix<'a>,
    out: Shared<f32>,
}

impl Output<'_> {
    /// Where the products of a row of x start.
    #[inline(always)]
    pub(super) fn row(&self, x_row: usize) -> *mut f32 {
        self.out.get().wrapping_add(x_row * self.matrix.rows)
    }

    fn is_int8(&self) -> bool {
        let quantised = matches!(self.matrix.stored, StoredAs::Quant(_));
        quantised && self.matrix.activations == Activations::Int8
    }

    /// Adds the bias to the products of these rows.
    ///
    /// # Safety
    /// They are rows of the matrix and of x, and no other thread writes them.
    pub(super) unsafe fn add_bias(&self, rows: &Range<usize>, x_rows: &Range<usize>) {
        let Some(bias) = self.matrix.bias.and_then(|bias| bias.get(rows.clone())) else {
            return;
        };
        for x_row in x_rows.clone() {
            let out = self.row(x_row).wrapping_add(rows.start);
            for (r, bias) in bias.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { *out.add(r) += bias }
            }
        }
    }
}

/// Makes several products of one `x` [rows, columns] in one fork and join. Slices whose lengths do not fit are left as they
/// are (the layers check them and say so).
pub(crate) fn multiply(isa: Isa, x: &[f32], x_rows: usize, products: &mut [Product<'_>]) {
    if x_rows == 0 {
        return;
    }
    let outputs: Vec<Output<'_>> = products
        .iter_mut()
        .filter_map(|product| {
            let Matrix { rows, columns, .. } = product.matrix;
            let fits = x.len() == x_rows * columns
                && product.matrix.bytes.len()
                    == rows.saturating_mul(product.matrix.stored.row_bytes(columns))
                && product.out.len() == x_rows * rows
                && product.matrix.bias.is_none_or(|bias| bias.len() == rows);
            debug_assert!(fits, "a product's slices must fit its shape");
            fits.then_some(Output {
                matrix: product.matrix,
                out: Shared(product.out.as_mut_ptr()),
            })
        })
        .collect();
    let (int8, f32): (Vec<_>, Vec<_>) = outputs.into_iter().partition(Output::is_int8);
    for (outputs, int8) in [(int8, true), (f32, false)] {
        if outputs.is_empty() {
            continue;
        }
        // SAFETY: the lengths were checked, and outputs are borrowed uniquely.
        let done = unsafe {
            int8 && int8::multiply(isa, x, x_rows, &outputs)
                || x_rows >= MANY_ROWS && outer::multiply(isa, x, x_rows, &outputs)
        };
        if !done {
            few_rows(isa, x, x_rows, &outputs);
        }
    }
}

fn few_rows(isa: Isa, x: &[f32], x_rows: usize, outputs: &[Output<'_>]) {
    let mut panels = Vec::new();
    let mut work = 0;
    let quantised = |output: &&Output<'_>| matches!(output.matrix.stored, StoredAs::Quant(_));
    let first = outputs.iter().find(quantised);
    let tiles = first.map(|output| XTiles::new(isa, x, output.matrix.columns));
    for output in outputs {
        let rows = output.matrix.rows;
        work += x.len() * rows;
        let step = rows_per_task(&output.matrix, x_rows);
        panels.extend((0..rows).step_by(step).map(|start| Panel {
            x,
            x_rows,
            output: *output,
            rows: start..rows.min(start + step),
        }));
    }
    parallel::for_each(panels.len(), work, |index| {
        if let Some(panel) = panels.get(index) {
            // SAFETY: `multiply` has checked the lengths, and the panels' rows, thus their outputs, are disjoint.
            unsafe {
                match (panel.output.matrix.stored, &tiles) {
                    (StoredAs::Quant(kind), Some(x)) => panel.multiply_blocks(isa, kind, x),
                    _ => dispatch(isa, panel.clone()),
                }
            }
        }
    });
}

/// Rows of W per task: enough tasks that the threads finish together, each large enough to be worth handing out.
pub(super) fn rows_per_task(matrix: &Matrix<'_>, x_rows: usize) -> usize {
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
    output: Output<'a>,
    rows: Range<usize>,
}

impl Kernel for Panel<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: `multiply` has checked the lengths.
        unsafe {
            match self.output.matrix.stored {
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
    unsafe fn multiply_blocks(&self, isa: Isa, kind: QuantType, x: &XTiles<'_>) {
        let matrix = self.output.matrix;
        let blocks = BlockPanel {
            isa,
            bytes: matrix.bytes,
            columns: matrix.columns,
            chunk: chunk_len(matrix.columns),
            rows: self.rows.clone(),
            x,
            out: self.output.row(0),
            out_stride: matrix.rows,
        };
        // SAFETY: `multiply` has checked the lengths.
        unsafe {
            with_format(kind, blocks);
            self.output.add_bias(&self.rows, &(0..self.x_rows));
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
        let k = self.output.matrix.columns;
        let chunk = chunk_len(k);
        // W comes out of memory once, row by row.
        for (row, spread) in self.first_rows(R, spread(k * W::BYTES)) {
            for start in (0..k).step_by(chunk) {
                let group = Group {
                    row,
                    spread,
                    columns: start..k.min(start + chunk),
                };
                // SAFETY: `row` and `columns` are inside the matrix.
                unsafe {
                    let rows = row..self.rows.end;
                    let source = self.output.matrix.strided::<W, R>(rows, spread, start);
                    self.group::<L, W, _, R>(source, &group);
                }
            }
        }
        // SAFETY: as for `run`.
        unsafe { self.output.add_bias(&self.rows, &(0..self.x_rows)) }
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

    /// R rows of W, one chunk of columns, against every row of x.
    #[inline(always)]
    unsafe fn group<L: Lanes, W: Stored, S: Source<L, R>, const R: usize>(
        &self,
        source: S,
        group: &Group,
    ) {
        let (mut at, end) = (0, self.x_rows);
        // The next rows of W come into the cache meanwhile, divided over the tiles.
        let row_bytes = self.output.matrix.columns * W::BYTES;
        let next = (group.row + R * group.spread) * row_bytes + group.columns.start * W::BYTES;
        let mut ahead = Ahead {
            at: self.output.matrix.bytes.as_ptr().wrapping_add(next),
            rows: R.div_ceil((end - at).div_ceil(TILE_COLUMNS)),
            row_bytes: row_bytes * group.spread,
            step_bytes: L::WIDTH * W::BYTES,
        };
        let mut asked = 0;
        // SAFETY: the tiles stay inside x.
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
        let k = self.output.matrix.columns;
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
                let out = self.output.row(x_row + c).add(row);
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
}

/// What a group multiplies.
struct Group {
    /// The first of R rows of W.
    row: usize,
    /// From one of them to the next.
    spread: usize,
    columns: Range<usize>,
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

/// k in equal chunks of at most [`LONGEST_CHUNK`]; of k alone, since it fixes the order of
/// additions, and multiples of 256, the longest block of quantised numbers.
pub(super) fn chunk_len(k: usize) -> usize {
    let chunks = k.div_ceil(LONGEST_CHUNK).max(1);
    let unit = if chunks == 1 { 16 } else { 256 };
    k.div_ceil(chunks).next_multiple_of(unit)
}

/// How far apart a tile's rows are taken while W comes out of memory: a page at least, because the processor follows one
/// stream in a page, and two short rows side by side are two.
fn spread(row_bytes: usize) -> usize {
    const PAGE: usize = 4096;
    (PAGE / row_bytes).clamp(1, 8)
}
