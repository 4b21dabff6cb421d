//! The rows of x as quantised products read them: those that share an unpacked number lie beside each other, vector by vector.
//! Apart from `product` because it is done once, before threads take their rows of W.
//!
//! Read where they are, rows of 1,024 numbers are a page apart: eight of them fall on the same lines of an L1, which holds no
//! more than eight; and tensors start anywhere, so that every load of 64 bytes would be one of two lines.

use crate::kernels::buffer::Buffer;
use crate::kernels::lanes::Lanes;
use crate::kernels::{Isa, Kernel, dispatch};
use std::cell::Cell;

/// Rows of x that an unpacked number is used for, at most.
pub(in crate::kernels) const MOST: usize = 8;

thread_local! {
    /// Room for the copies, kept from one product to the next: fresh pages are faults.
    static ROOM: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// All rows of x, in tiles of those that are multiplied together.
pub(in crate::kernels) struct XTiles<'a> {
    /// [rows, k]
    x: &'a [f32],
    k: usize,
    /// Where there is none every row is a tile of its own, which is slower and gives the same bits.
    packed: Option<Buffer>,
}

/// Some rows of x.
pub(super) struct XTile {
    /// The first of them.
    pub(super) row: usize,
    /// How many there are.
    pub(super) rows: usize,
    /// As how many they are laid out: past the last one again.
    pub(super) width: usize,
    /// Vector `v` of the c-th is at `(v · width + c) · WIDTH`.
    pub(super) at: *const f32,
}

impl<'a> XTiles<'a> {
    /// Lays out `x`, whole rows of `k` numbers, which are whole vectors.
    pub(in crate::kernels) fn new(isa: Isa, x: &'a [f32], k: usize) -> Self {
        let mut tiles = Self { x, k, packed: None };
        let needed = tiles.padded_rows() * k;
        if tiles.rows() == 1 {
            return tiles;
        }
        let kept = ROOM.take().filter(|room| room.as_slice().len() >= needed);
        let Some(mut room) = kept.or_else(|| Buffer::zeroed(needed).ok()) else {
            return tiles;
        };
        let to = room.as_mut_slice().as_mut_ptr();
        for row in (0..tiles.rows()).step_by(MOST) {
            let pack = Pack {
                tiles: &tiles,
                row,
                // SAFETY: the tiles before take up no more.
                to: unsafe { to.add(row * k) },
            };
            // SAFETY: the rows are there, and room for as many as they are laid out as.
            unsafe { dispatch(isa, pack) }
        }
        tiles.packed = Some(room);
        tiles
    }

    fn rows(&self) -> usize {
        self.x.len() / self.k.max(1)
    }

    fn padded_rows(&self) -> usize {
        let rest = self.rows() % MOST;
        self.rows() - rest + if rest > 0 { width(rest) } else { 0 }
    }

    pub(super) fn tiles(&self) -> impl Iterator<Item = XTile> {
        let most = if self.packed.is_some() { MOST } else { 1 };
        (0..self.rows()).step_by(most).map(move |row| {
            let rows = most.min(self.rows() - row);
            let from = self.packed.as_ref().map_or(self.x, Buffer::as_slice);
            XTile {
                row,
                rows,
                width: width(rows),
                at: from.as_ptr().wrapping_add(row * self.k),
            }
        })
    }
}

impl Drop for XTiles<'_> {
    fn drop(&mut self) {
        if let Some(room) = self.packed.take() {
            ROOM.set(Some(room));
        }
    }
}

/// As how many rows so many are laid out: there is a kernel for each.
pub(in crate::kernels) fn width(rows: usize) -> usize {
    match rows {
        0..=4 => rows,
        5 | 6 => 6,
        _ => MOST,
    }
}

/// One tile.
struct Pack<'a, 'x> {
    tiles: &'a XTiles<'x>,
    row: usize,
    to: *mut f32,
}

impl Kernel for Pack<'_, '_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let XTiles { x, k, .. } = *self.tiles;
        let rows = self.tiles.rows();
        let width = width(MOST.min(rows - self.row));
        for c in 0..width {
            let row = (self.row + c).min(rows - 1);
            for v in 0..k / L::WIDTH {
                // SAFETY: inside the row; the caller's promise.
                unsafe {
                    let numbers = L::load(x.as_ptr().add(row * k + v * L::WIDTH));
                    L::store(self.to.add((v * width + c) * L::WIDTH), numbers);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number is where its tile says, whether the rows were laid out or there was no memory for it.
    #[test]
    fn numbers_are_where_tiles_say() {
        let k = 64;
        for isa in Isa::all_available() {
            let lanes = if isa >= Isa::Avx512 { 16 } else { 8 };
            for rows in 1..=19 {
                let x: Vec<f32> = (0..rows * k).map(|i| i as f32).collect();
                let packed = XTiles::new(isa, &x, k);
                assert_eq!(packed.packed.is_some(), rows > 1);
                let alone = XTiles {
                    x: &x,
                    k,
                    packed: None,
                };
                for tiles in [packed, alone] {
                    let mut next = 0;
                    for tile in tiles.tiles() {
                        assert_eq!(tile.row, next, "{isa:?} {rows} rows");
                        next += tile.rows;
                        for (c, i) in (0..tile.rows).flat_map(|c| (0..k).map(move |i| (c, i))) {
                            let at = (i / lanes * tile.width + c) * lanes + i % lanes;
                            // SAFETY: inside the tile.
                            let number = unsafe { *tile.at.add(at) };
                            assert_eq!(number, ((tile.row + c) * k + i) as f32);
                        }
                    }
                    assert_eq!(next, rows);
                }
            }
        }
    }
}
