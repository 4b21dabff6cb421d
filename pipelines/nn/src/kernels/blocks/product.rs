//! The product of quantised rows with few rows of x: numbers are unpacked in registers, and each is used for up to eight rows.
//!
//! The order of additions is that of the plain product in `matmul` (lanes along k, a tree per chunk, chunks in order), so that
//! the result has the bits of the same product with the dequantised matrix, whichever form that one takes.

use super::x_tiles::{MOST, XTile, XTiles};
use super::{Format, FormatWork, Open, UNIT};
use crate::kernels::lanes::Lanes;
use crate::kernels::{Isa, Kernel, dispatch};
use std::marker::PhantomData;
use std::ops::Range;

/// How far ahead W is asked for, in bytes, or the rows after the present ones where these are more: 4 KiB were too late and
/// 16 KiB pushed out what came before.
const AHEAD: usize = 8 << 10;

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
    /// [x rows, columns]
    pub(in crate::kernels) x: &'a XTiles<'a>,
    /// Where the product of the first row of x and the first row of W goes.
    pub(in crate::kernels) out: *mut f32,
    /// Numbers from one row of the product to the next.
    pub(in crate::kernels) out_stride: usize,
}

impl FormatWork for BlockPanel<'_> {
    /// # Safety
    /// The lengths fit, x has a row, and no other thread writes these outputs.
    unsafe fn go<F: Format>(self) {
        for tile in self.x.tiles() {
            let panel = &self;
            // SAFETY: the caller's promise.
            unsafe {
                match tile.width {
                    1 => dispatch(self.isa, Product::<F, 1>::of(panel, tile)),
                    2 => dispatch(self.isa, Product::<F, 2>::of(panel, tile)),
                    3 => dispatch(self.isa, Product::<F, 3>::of(panel, tile)),
                    4 => dispatch(self.isa, Product::<F, 4>::of(panel, tile)),
                    6 => dispatch(self.isa, Product::<F, 6>::of(panel, tile)),
                    _ => dispatch(self.isa, Product::<F, MOST>::of(panel, tile)),
                }
            }
        }
    }
}

/// All of a panel's rows of W against C rows of x: a kernel of its own for each C, since compiled as one they are too large
/// for the compiler to hand out registers well.
struct Product<'a, F, const C: usize> {
    panel: &'a BlockPanel<'a>,
    x: XTile,
    format: PhantomData<F>,
}

impl<F: Format, const C: usize> Kernel for Product<'_, F, C> {
    const VBMI: bool = true;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match (C, L::WIDTH) {
                (1, 16) if F::ROWS == 8 => self.rows::<L, 8>(),
                (1 | 2, _) | (3 | 4, 16) => self.rows::<L, 4>(),
                (3 | 4, _) | (_, 16) => self.rows::<L, 2>(),
                _ => self.rows::<L, 1>(),
            }
        }
    }
}

impl<'a, F: Format, const C: usize> Product<'a, F, C> {
    fn of(panel: &'a BlockPanel<'a>, x: XTile) -> Self {
        Self {
            panel,
            x,
            format: PhantomData,
        }
    }

    /// R rows of W at a time. Past the last row the last one again, whose results are not kept.
    #[inline(always)]
    unsafe fn rows<L: Lanes, const R: usize>(&self) {
        let BlockPanel {
            columns: k,
            ref rows,
            ..
        } = *self.panel;
        let row_bytes = F::bytes(k);
        let at_once = (R * row_bytes).max(1);
        let ahead = at_once * ((AHEAD + at_once / 2) / at_once).max(1);
        let mut opened = [Open::EMPTY; R];
        // SAFETY: rows of W are clamped to those there are; units stay inside them and inside x; outputs are this panel's own.
        unsafe {
            for row in rows.clone().step_by(R) {
                for start in (0..k).step_by(self.panel.chunk) {
                    let end = k.min(start + self.panel.chunk);
                    let mut sums = [[L::splat(0.0); R]; C];
                    for at in (start..end).step_by(UNIT) {
                        let len = UNIT.min(end - at);
                        let w: [*const u8; R] = std::array::from_fn(|r| {
                            let row = (row + r).min(rows.end - 1);
                            let at = row * row_bytes + F::bytes(at);
                            self.panel.bytes.as_ptr().add(at)
                        });
                        for r in 0..R {
                            F::open::<L>(w[r], len, &mut opened[r]);
                            if self.x.row == 0 {
                                prefetch::<L, F>(w[r].wrapping_add(ahead));
                            }
                        }
                        let x = self.x.at.add(at * C);
                        unit::<L, F, R, C>(w, &opened, x, len, &mut sums);
                    }
                    self.put::<L, R>(row..rows.end, start == 0, &sums);
                }
            }
        }
    }

    /// The sums of a chunk to the outputs, added to those of the chunks before.
    ///
    /// # Safety
    /// The outputs of these rows are there, and no other thread writes them.
    #[inline(always)]
    unsafe fn put<L: Lanes, const R: usize>(
        &self,
        rows: Range<usize>,
        first: bool,
        sums: &[[L::Vector; R]; C],
    ) {
        // Four at a time, as every instruction set adds them up together.
        for four in (0..R * C).step_by(4) {
            let place = |i: usize| ((four + i).min(R * C - 1) / R, (four + i) % R);
            // SAFETY: the caller's promise.
            unsafe {
                let each = std::array::from_fn(|i| sums[place(i).0][place(i).1]);
                let each = L::sum_each::<4>(each);
                for i in 0..4.min(R * C - four) {
                    let (c, r) = place(i);
                    if c < self.x.rows && r < rows.len() {
                        let at = (self.x.row + c) * self.panel.out_stride + rows.start + r;
                        let (out, sum) = (self.panel.out.add(at), each[i]);
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
    x: *const f32,
    len: usize,
    to: &mut [[L::Vector; R]; C],
) {
    let mut sums = *to;
    for group in 0..len / F::GROUP {
        // SAFETY: the caller's promise: `len` numbers of each row.
        unsafe {
            let x = x.add(group * F::GROUP * C);
            let mut groups = [F::group::<L>(w[0], &opened[0], group); R];
            for r in 1..R {
                groups[r] = F::group::<L>(w[r], &opened[r], group);
            }
            // Written out: every step has shifts of its own, and a loop of this length is not unrolled.
            macro_rules! steps {
                ($($i:literal)*) => {$(
                    if $i < F::GROUP / L::WIDTH {
                        sums = step::<L, F, R, C>(&groups, x, $i, sums);
                    }
                )*};
            }
            steps!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        }
    }
    *to = sums;
}

/// The `i`-th vector of a group.
#[inline(always)]
unsafe fn step<L: Lanes, F: Format, const R: usize, const C: usize>(
    groups: &[F::Group<L>; R],
    x: *const f32,
    i: usize,
    mut sums: [[L::Vector; R]; C],
) -> [[L::Vector; R]; C] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut numbers = [L::splat(0.0); R];
        for r in 0..R {
            numbers[r] = F::vector::<L>(&groups[r], i);
        }
        for c in 0..C {
            let x = L::load(x.add((i * C + c) * L::WIDTH));
            for r in 0..R {
                sums[c][r] = L::mul_add(x, numbers[r], sums[c][r]);
            }
        }
    }
    sums
}

/// Asks for the unit at the same place of later rows. Into L2: on their way to L1 the lines of all rows would
/// wait for its miss buffers, of which there are too few to read at the memory's rate (24 on Zen 4: half of it).
#[inline(always)]
fn prefetch<L: Lanes, F: Format>(unit: *const u8) {
    for line in 0..F::bytes(UNIT).div_ceil(64) {
        L::prefetch_far(unit.wrapping_add(64 * line));
    }
}
