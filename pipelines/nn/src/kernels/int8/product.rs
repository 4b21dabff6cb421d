//! Sixteen rows of W by all rows of x. Few rows of x take the codes out of the registers that they are unpacked in; for more of
//! them a stretch of W is laid down first, and used for every row of x.
//!
//! Products and sums of a group are whole numbers, so exact in any order; what follows in f32 is one group after the other for
//! each output, so that a row has the same bits alone and among others.

use super::codes_of_x::{Beside, CodesOfX, XTile, group_bytes};
use super::formats::{Codes, GROUP, GroupCodes, RowFormat, Scales, Sink};
use super::row_lanes::{ROWS, RowLanes, Rows};
use super::{FormatWork, RowKernel, dispatch};
use crate::kernels::Isa;
use std::marker::PhantomData;
use std::ops::Range;

/// Groups of W that are unpacked at a time: with the rows of x that they are multiplied by they fill half of an L1.
const STRETCH: usize = 16;
/// How far ahead W is asked for, in bytes, or the rows after the present ones where these are more (see `blocks::product`).
const AHEAD: usize = 8 << 10;

/// Some rows of one W against all of x.
pub(super) struct Panel<'a> {
    pub(super) isa: Isa,
    /// The whole matrix.
    pub(super) bytes: &'a [u8],
    /// Its columns: whole blocks.
    pub(super) columns: usize,
    /// The rows of W to take.
    pub(super) rows: Range<usize>,
    pub(super) x: &'a CodesOfX,
    /// Where the product of the first row of x and the first row of W goes.
    pub(super) out: *mut f32,
    /// Numbers from one row of the product to the next.
    pub(super) out_stride: usize,
}

impl FormatWork for &Panel<'_> {
    /// # Safety
    /// The lengths fit, x has a row, and no other thread writes these outputs.
    unsafe fn go<F: RowFormat>(self) {
        let mut tiles = self.x.tiles();
        // SAFETY: the caller's promise.
        unsafe {
            match (tiles.next(), tiles.next()) {
                (Some(tile), None) => match tile.width {
                    1 => dispatch(self.isa, OneTile::<F, 1>::of(self, tile)),
                    2 => dispatch(self.isa, OneTile::<F, 2>::of(self, tile)),
                    3 => dispatch(self.isa, OneTile::<F, 3>::of(self, tile)),
                    4 => dispatch(self.isa, OneTile::<F, 4>::of(self, tile)),
                    6 => dispatch(self.isa, OneTile::<F, 6>::of(self, tile)),
                    _ => dispatch(self.isa, OneTile::<F, 8>::of(self, tile)),
                },
                _ => dispatch(
                    self.isa,
                    ManyTiles::<F> {
                        panel: self,
                        format: PhantomData,
                    },
                ),
            }
        }
    }
}

impl Panel<'_> {
    /// A block of sixteen rows from `row` on; past the last row the last one again, whose results are not kept.
    #[inline(always)]
    fn block<F: RowFormat>(&self, row: usize, block: usize) -> Rows {
        let block_bytes = F::KIND.block_bytes();
        let row_bytes = self.columns / F::KIND.block_len() * block_bytes;
        let all_rows = (ROWS * row_bytes).max(1);
        let mut rows = Rows {
            at: [self.bytes.as_ptr(); ROWS],
            ahead: all_rows * (AHEAD / all_rows).max(1),
        };
        for (r, at) in rows.at.iter_mut().enumerate() {
            let row = (row + r).min(self.rows.end - 1);
            *at = at.wrapping_add(row * row_bytes + block * block_bytes);
        }
        rows
    }

    #[inline(always)]
    fn output(&self, row: usize) -> Output {
        Output {
            at: self.out.wrapping_add(row),
            stride: self.out_stride,
            rows: ROWS.min(self.rows.end - row),
        }
    }
}

/// All of a panel's rows of W against the C rows of x that there are: a kernel of its own for each C.
struct OneTile<'a, F, const C: usize> {
    panel: &'a Panel<'a>,
    tile: XTile,
    format: PhantomData<F>,
}

impl<'a, F, const C: usize> OneTile<'a, F, C> {
    fn of(panel: &'a Panel<'a>, tile: XTile) -> Self {
        Self {
            panel,
            tile,
            format: PhantomData,
        }
    }
}

impl<F: RowFormat, const C: usize> RowKernel for OneTile<'_, F, C> {
    #[inline(always)]
    unsafe fn run<L: RowLanes>(self) {
        if C > L::MOST {
            // No tile is so wide, and no copy is compiled.
            return;
        }
        let panel = self.panel;
        let mut scales = [Scales::EMPTY; 8];
        for row in panel.rows.clone().step_by(ROWS) {
            let mut rows = panel.block::<F>(row, 0);
            // SAFETY: blocks are inside their rows, x has as many groups, and the outputs are this panel's own.
            unsafe {
                let mut sums = Sums::<L, C> {
                    scales: scales.as_ptr(),
                    x: self.tile.at,
                    sums: [L::zero(); C],
                };
                for _ in 0..panel.columns / F::KIND.block_len() {
                    F::scales::<L>(&rows, scales.as_mut_ptr());
                    F::codes::<L, _>(&rows, &mut sums);
                    sums.x = sums.x.wrapping_add(F::GROUPS * group_bytes(C));
                    for at in &mut rows.at {
                        *at = at.wrapping_add(F::KIND.block_bytes());
                    }
                }
                panel.output(row).put::<L, C>(&self.tile, &sums.sums);
            }
        }
    }
}

/// A panel against more rows of x than one tile has.
struct ManyTiles<'a, F> {
    panel: &'a Panel<'a>,
    format: PhantomData<F>,
}

impl<F: RowFormat> RowKernel for ManyTiles<'_, F> {
    #[inline(always)]
    unsafe fn run<L: RowLanes>(self) {
        let panel = self.panel;
        let blocks = panel.columns / F::KIND.block_len();
        let at_once = STRETCH / F::GROUPS;
        let mut codes = Down([[[0; 4 * ROWS]; GROUP / 4]; STRETCH]);
        let mut scales = [Scales::EMPTY; STRETCH];
        for row in panel.rows.clone().step_by(ROWS) {
            let output = panel.output(row);
            for first in (0..blocks).step_by(at_once) {
                let blocks = at_once.min(blocks - first);
                for block in 0..blocks {
                    let rows = panel.block::<F>(row, first + block);
                    let group = block * F::GROUPS;
                    // SAFETY: the blocks are inside their rows, and there is room for a stretch.
                    unsafe {
                        F::scales::<L>(&rows, scales.as_mut_ptr().add(group));
                        let mut to = codes.0.as_mut_ptr().add(group);
                        F::codes::<L, _>(&rows, &mut to);
                    }
                }
                let w = Stretch {
                    first: first * F::GROUPS,
                    len: blocks * F::GROUPS,
                    codes: &codes,
                    scales: &scales,
                };
                for tile in panel.x.tiles() {
                    // SAFETY: the tile has as many groups, and the outputs are this panel's own.
                    unsafe {
                        match tile.width {
                            1 => w.multiply::<L, F, 1>(&tile, &output),
                            2 => w.multiply::<L, F, 2>(&tile, &output),
                            3 => w.multiply::<L, F, 3>(&tile, &output),
                            4 => w.multiply::<L, F, 4>(&tile, &output),
                            6 => w.multiply::<L, F, 6>(&tile, &output),
                            _ => w.multiply::<L, F, 8>(&tile, &output),
                        }
                    }
                }
            }
        }
    }
}

/// Codes that were laid down.
type CodesDown = [[u8; 4 * ROWS]; GROUP / 4];
#[repr(C, align(64))]
struct Down([CodesDown; STRETCH]);

impl<L: RowLanes> Sink<L> for *mut CodesDown {
    #[inline(always)]
    unsafe fn take<F: RowFormat>(&mut self, group: usize, codes: GroupCodes<L>) {
        for (i, codes) in codes.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { L::store_int(self.add(group).cast::<u8>().add(4 * ROWS * i), codes) }
        }
    }
}

/// Some groups of sixteen rows of W.
struct Stretch<'a> {
    /// The first of them, counted from the start of the row.
    first: usize,
    len: usize,
    codes: &'a Down,
    scales: &'a [Scales; STRETCH],
}

impl Stretch<'_> {
    /// Multiplies by C rows of x, and adds what the outputs hold from the stretches before.
    #[inline(always)]
    unsafe fn multiply<L: RowLanes, F: RowFormat, const C: usize>(
        &self,
        tile: &XTile,
        output: &Output,
    ) {
        if C > L::MOST {
            // As for one tile.
            return;
        }
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = Sums::<L, C> {
                scales: self.scales.as_ptr(),
                x: tile.at.add(self.first * group_bytes(C)),
                sums: [L::zero(); C],
            };
            if self.first > 0 {
                output.get::<L, C>(tile, &mut sums.sums);
            }
            for codes in self.codes.0.iter().take(self.len) {
                let mut words = [L::splat(0); GROUP / 4];
                for (word, codes) in words.iter_mut().zip(codes) {
                    *word = L::load_int(codes.as_ptr());
                }
                sums.take::<F>(0, words);
                sums.x = sums.x.add(group_bytes(C));
                sums.scales = sums.scales.add(1);
            }
            output.put::<L, C>(tile, &sums.sums);
        }
    }
}

/// The sums for C rows of x.
struct Sums<L: RowLanes, const C: usize> {
    /// What goes with the block's first group.
    scales: *const Scales,
    /// The rows of x from the block's first group on.
    x: *const u8,
    sums: [L::Float; C],
}

impl<L: RowLanes, const C: usize> Sink<L> for Sums<L, C> {
    #[inline(always)]
    unsafe fn take<F: RowFormat>(&mut self, group: usize, codes: GroupCodes<L>) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = self.x.add(group * group_bytes(C));
            let beside = x.add(C * GROUP).cast::<Beside>();
            let scales = &*self.scales.add(group);
            let all = start::<L, F, C>(&raw const (*beside).less);
            if F::HALVES {
                let mut first = start::<L, F, C>(&raw const (*beside).less_first);
                let mut second = all;
                for c in 0..C {
                    second[c] = L::sub(all[c], first[c]);
                }
                dots::<L, F, C>(&codes, x, 0..GROUP / 8, &mut first);
                scaled::<L, C>(&scales.scale, beside, &first, &mut self.sums);
                dots::<L, F, C>(&codes, x, GROUP / 8..GROUP / 4, &mut second);
                scaled::<L, C>(&scales.second, beside, &second, &mut self.sums);
            } else {
                let mut products = all;
                dots::<L, F, C>(&codes, x, 0..GROUP / 4, &mut products);
                scaled::<L, C>(&scales.scale, beside, &products, &mut self.sums);
            }
            if F::OFFSET {
                let offset = L::load_f32(scales.second.as_ptr());
                for c in 0..C {
                    let sum = L::splat_f32(&raw const (*beside.add(c)).sum);
                    self.sums[c] = L::mul_add(offset, sum, self.sums[c]);
                }
            }
        }
    }
}

/// What sums of products start with, so that what codes have too much is taken off: `less` is that of the first row of x.
#[inline(always)]
unsafe fn start<L: RowLanes, F: RowFormat, const C: usize>(less: *const i32) -> [L::Int; C] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [L::splat(0); C];
        let shift = match F::CODES {
            Codes::Plain => None,
            Codes::Above(shift) => Some(shift),
            Codes::Wide => L::WIDE_SHIFT,
        };
        for (c, sum) in sums.iter_mut().enumerate() {
            let less = L::splat_int(less.byte_add(c * size_of::<Beside>()));
            *sum = match shift {
                None => *sum,
                Some(3) => L::shift_left::<3>(less),
                Some(4) => L::shift_left::<4>(less),
                Some(5) => L::shift_left::<5>(less),
                Some(_) => L::shift_left::<7>(less),
            };
        }
        sums
    }
}

/// Adds the products of some words of codes.
#[inline(always)]
unsafe fn dots<L: RowLanes, F: RowFormat, const C: usize>(
    codes: &GroupCodes<L>,
    x: *const u8,
    words: Range<usize>,
    sums: &mut [L::Int; C],
) {
    for i in words {
        // SAFETY: the caller's promise.
        unsafe {
            for c in 0..C {
                let x = x.add(c * GROUP + 4 * i);
                sums[c] = if F::CODES == Codes::Wide {
                    L::dot_wide(sums[c], codes[i], x)
                } else {
                    L::dot(sums[c], codes[i], x)
                };
            }
        }
    }
}

/// Adds whole numbers, times the scales of both sides.
#[inline(always)]
unsafe fn scaled<L: RowLanes, const C: usize>(
    scale: &[f32; ROWS],
    beside: *const Beside,
    products: &[L::Int; C],
    sums: &mut [L::Float; C],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = L::load_f32(scale.as_ptr());
        for c in 0..C {
            let scale = L::mul(scale, L::splat_f32(&raw const (*beside.add(c)).scale));
            sums[c] = L::mul_add(L::to_f32(products[c]), scale, sums[c]);
        }
    }
}

/// Where products of sixteen rows of W go.
struct Output {
    /// That of the first row of x and the first of the sixteen.
    at: *mut f32,
    /// Numbers from one row of x to the next.
    stride: usize,
    /// How many of the sixteen there are.
    rows: usize,
}

impl Output {
    /// What there is for a tile.
    #[inline(always)]
    unsafe fn get<L: RowLanes, const C: usize>(&self, tile: &XTile, sums: &mut [L::Float; C]) {
        for (c, sum) in sums.iter_mut().enumerate().take(tile.rows) {
            // SAFETY: the caller's promise.
            unsafe {
                let at = self.at.add((tile.row + c) * self.stride);
                let mut all = [0.0; ROWS];
                *sum = if self.rows == ROWS {
                    L::load_f32(at)
                } else {
                    at.copy_to_nonoverlapping(all.as_mut_ptr(), self.rows);
                    L::load_f32(all.as_ptr())
                };
            }
        }
    }

    #[inline(always)]
    unsafe fn put<L: RowLanes, const C: usize>(&self, tile: &XTile, sums: &[L::Float; C]) {
        for (c, sum) in sums.iter().enumerate().take(tile.rows) {
            // SAFETY: the caller's promise.
            unsafe {
                let at = self.at.add((tile.row + c) * self.stride);
                if self.rows == ROWS {
                    L::store_f32(at, *sum);
                } else {
                    let mut all = [0.0; ROWS];
                    L::store_f32(all.as_mut_ptr(), *sum);
                    at.copy_from_nonoverlapping(all.as_ptr(), self.rows);
                }
            }
        }
    }
}
