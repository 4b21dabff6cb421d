//! The register tile of products whose vectors lie along the output: a convolution's pixels, an attention's queries.
//! Apart from `outer`, whose chains go through k as the dot form does: nothing here has to give another form's bits.

use super::lanes::Lanes;
use super::{Isa, Kernel, dispatch};
use std::ops::Range;

/// Vectors of a tile, at most: with `TILE_ROWS` rows 24 of 32 accumulators, or 12 of 16.
pub(super) const VECTORS: usize = 3;

/// Numbers that a tile broadcasts: number `k` of row `r` is at `r · row + k · step`.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    pub(super) at: *const f32,
    pub(super) row: usize,
    pub(super) step: usize,
}

/// Vectors that a tile multiplies by them: vector `v` of step `k` is at `k · step + v · WIDTH`.
#[derive(Clone, Copy)]
pub(super) struct Vectors {
    pub(super) at: *const f32,
    pub(super) step: usize,
}

/// sums[r][v] += Σ factor(r, k) · vector(k, v), each one chain of multiply-adds along k.
///
/// # Safety
/// As for [`Lanes`]: `steps` numbers of R rows and as many steps of V vectors are there.
#[inline(always)]
pub(super) unsafe fn add_products<L: Lanes, const R: usize, const V: usize>(
    mut sums: [[L::Vector; V]; R],
    factors: Factors,
    vectors: Vectors,
    steps: usize,
) -> [[L::Vector; V]; R] {
    for k in 0..steps {
        // SAFETY: the caller's promise. Loops and no closures, which are not inlined this deep.
        unsafe {
            let mut loaded = [L::splat(0.0); V];
            for v in 0..V {
                loaded[v] = L::load(vectors.at.add(k * vectors.step + v * L::WIDTH));
            }
            for r in 0..R {
                let factor = L::splat(*factors.at.add(r * factors.row + k * factors.step));
                for v in 0..V {
                    sums[r][v] = L::mul_add(factor, loaded[v], sums[r][v]);
                }
            }
        }
    }
    sums
}

/// What computes a tile of any size.
pub(super) trait Tiles {
    /// R rows from `row` on against the V vectors of the panel that starts with vector `first`. Rows past the last are laid out,
    /// and not stored.
    ///
    /// # Safety
    /// As for [`Lanes`], and whatever the implementation says.
    unsafe fn tile<L: Lanes, const R: usize, const V: usize>(&self, row: usize, first: usize);
}

/// Some rows, as many at a time as a tile has, against `vectors` in panels of `panel`.
///
/// # Safety
/// As for [`Tiles::tile`].
#[inline(always)]
pub(super) unsafe fn each_tile<L: Lanes, T: Tiles>(
    tiles: &T,
    rows: Range<usize>,
    vectors: usize,
    panel: usize,
) {
    for row in rows.clone().step_by(L::TILE_ROWS) {
        // SAFETY: the caller's promise.
        unsafe {
            match (rows.end - row).min(L::TILE_ROWS) {
                1 => each_panel::<L, T, 1>(tiles, row, vectors, panel),
                2 => each_panel::<L, T, 2>(tiles, row, vectors, panel),
                3 | 4 => each_panel::<L, T, 4>(tiles, row, vectors, panel),
                _ => each_panel::<L, T, 8>(tiles, row, vectors, panel),
            }
        }
    }
}

#[inline(always)]
unsafe fn each_panel<L: Lanes, T: Tiles, const R: usize>(
    tiles: &T,
    row: usize,
    vectors: usize,
    panel: usize,
) {
    for first in (0..vectors).step_by(panel) {
        // SAFETY: the caller's promise.
        unsafe {
            match panel.min(vectors - first) {
                1 => tiles.tile::<L, R, 1>(row, first),
                2 => tiles.tile::<L, R, 2>(row, first),
                _ => tiles.tile::<L, R, VECTORS>(row, first),
            }
        }
    }
}

/// Lanes of the instruction set that `isa` stands for on this machine.
pub(super) fn lanes(isa: Isa) -> usize {
    struct Width<'a>(&'a mut usize);
    impl Kernel for Width<'_> {
        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            *self.0 = L::WIDTH;
        }
    }
    let mut width = 1;
    // SAFETY: it reads a constant.
    unsafe { dispatch(isa, Width(&mut width)) };
    width
}

/// Loads a vector, or its first `count` lanes and zeros.
///
/// # Safety
/// As for [`Lanes`], with `from` good for `count` numbers.
#[inline(always)]
pub(super) unsafe fn load_some<L: Lanes>(from: *const f32, count: usize) -> L::Vector {
    // SAFETY: the caller's promise; the widest vector has 16 lanes.
    unsafe {
        if count >= L::WIDTH {
            return L::load(from);
        }
        let mut lanes = [0.0f32; 16];
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
        L::load(lanes.as_ptr())
    }
}

/// Stores a vector, or its first `count` lanes.
///
/// # Safety
/// As for [`Lanes`], with `to` good for `count` numbers.
#[inline(always)]
pub(super) unsafe fn store_some<L: Lanes>(to: *mut f32, count: usize, v: L::Vector) {
    // SAFETY: the caller's promise; the widest vector has 16 lanes.
    unsafe {
        if count >= L::WIDTH {
            return L::store(to, v);
        }
        let mut lanes = [0.0f32; 16];
        L::store(lanes.as_mut_ptr(), v);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
    }
}
