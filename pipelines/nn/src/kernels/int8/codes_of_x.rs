//! The rows of x as bytes: each 32 numbers share a scale, as ggml's Q8_1 has it but with the scale in f32, and rows that are
//! multiplied together lie beside each other. Apart from `product` because it is done once, before threads take rows of W.

use super::formats::GROUP;
use crate::kernels::blocks::x_tiles::{MOST, width};
use crate::kernels::buffer::Buffer;
use crate::kernels::lanes::Lanes;
use crate::kernels::parallel::{self, Shared};
use crate::kernels::{Isa, Kernel, dispatch};
use std::cell::Cell;

/// What goes with the bytes of a group.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Beside {
    /// What a byte is worth.
    pub(super) scale: f32,
    /// The bytes' sum, times the scale.
    pub(super) sum: f32,
    /// Minus the bytes' sum.
    pub(super) less: i32,
    /// Minus that of the first 16.
    pub(super) less_first: i32,
}

/// Bytes that a group of a row takes.
const GROUP_BYTES: usize = GROUP + size_of::<Beside>();

thread_local! {
    /// Room for the codes, kept from one product to the next: fresh pages are faults.
    static ROOM: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// All rows of x.
pub(super) struct CodesOfX {
    room: Option<Buffer>,
    rows: usize,
    k: usize,
    most: usize,
}

/// Rows that are multiplied together.
pub(super) struct XTile {
    /// The first of them.
    pub(super) row: usize,
    /// How many there are.
    pub(super) rows: usize,
    /// As how many they are laid out; what is past the last one is of no meaning.
    pub(super) width: usize,
    /// Group after group, [`group_bytes`] each: the bytes of every row, then what goes with them of every row.
    pub(super) at: *const u8,
}

/// Bytes of a group of a tile.
#[inline(always)]
pub(super) const fn group_bytes(width: usize) -> usize {
    width * GROUP_BYTES
}

impl CodesOfX {
    /// Quantises `x`, whole rows of `k` numbers, which are whole groups, for tiles of `most` rows. `None` when there is no
    /// memory for it.
    pub(super) fn new(isa: Isa, x: &[f32], k: usize, most: usize) -> Option<Self> {
        let rows = x.len() / k.max(1);
        let most = most.clamp(1, MOST);
        let mut codes = Self {
            room: None,
            rows,
            k,
            most,
        };
        let needed = (codes.padded_rows() * k / GROUP * GROUP_BYTES).div_ceil(size_of::<f32>());
        let kept = ROOM.take().filter(|room| room.as_slice().len() >= needed);
        let mut room = kept.or_else(|| Buffer::zeroed(needed).ok())?;
        let to = Shared(room.as_mut_slice().as_mut_ptr().cast::<u8>());
        let tiles = rows.div_ceil(most);
        // Looking for the largest, dividing and adding up is some four multiply-adds a number.
        parallel::for_each(tiles, 4 * x.len(), |tile| {
            let row = tile * most;
            let work = Quantise {
                x,
                k,
                rows: row..rows.min(row + most),
                to: to.get().wrapping_add(row * (k / GROUP) * GROUP_BYTES),
            };
            // SAFETY: the rows are there, tiles are disjoint, and each has room for as many rows as it is laid out as.
            unsafe { dispatch(isa, work) }
        });
        codes.room = Some(room);
        Some(codes)
    }

    fn padded_rows(&self) -> usize {
        let rest = self.rows % self.most;
        self.rows - rest + if rest > 0 { width(rest) } else { 0 }
    }

    pub(super) fn tiles(&self) -> impl Iterator<Item = XTile> {
        let from = self.room.as_ref().map_or(std::ptr::null(), |room| {
            room.as_slice().as_ptr().cast::<u8>()
        });
        (0..self.rows).step_by(self.most).map(move |row| {
            let rows = self.most.min(self.rows - row);
            XTile {
                row,
                rows,
                width: width(rows),
                at: from.wrapping_add(row * (self.k / GROUP) * GROUP_BYTES),
            }
        })
    }
}

impl Drop for CodesOfX {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            ROOM.set(Some(room));
        }
    }
}

/// One tile.
struct Quantise<'a> {
    x: &'a [f32],
    k: usize,
    rows: std::ops::Range<usize>,
    to: *mut u8,
}

impl Kernel for Quantise<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let width = width(self.rows.len());
        for (c, row) in self.rows.enumerate() {
            for group in 0..self.k / GROUP {
                // SAFETY: inside the row and inside the tile; the caller's promise.
                unsafe {
                    let x = self.x.as_ptr().add(row * self.k + group * GROUP);
                    let to = self.to.add(group * group_bytes(width));
                    let beside = quantise(&x.cast::<[f32; GROUP]>().read(), to.add(c * GROUP));
                    let besides = to.add(width * GROUP).cast::<Beside>();
                    besides.add(c).write_unaligned(beside);
                }
            }
        }
    }
}

/// The numbers of a group to bytes at `to`: to the nearest 127th of the largest, halves to even. Loops that the compiler turns
/// into vectors.
///
/// # Safety
/// There is room for so many bytes.
#[inline(always)]
unsafe fn quantise(x: &[f32; GROUP], to: *mut u8) -> Beside {
    /// Added to a number below 2^22, it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// Below it what a 127th is worth is no normal number.
    const SMALLEST: f32 = 127.0 * f32::MIN_POSITIVE;
    // The bits of a number without its sign are in the order of the numbers, with infinity and what is no number on top, so
    // that these are seen.
    let mut largest = 0u32;
    for x in x {
        largest = largest.max(x.to_bits() & 0x7FFF_FFFF);
    }
    let largest = f32::from_bits(largest);
    if !largest.is_finite() {
        // The row's results are no numbers either, as in f32.
        return Beside {
            scale: f32::NAN,
            sum: f32::NAN,
            less: 0,
            less_first: 0,
        };
    }
    let (scale, inverse) = if largest < SMALLEST {
        (0.0, 0.0)
    } else {
        (largest / 127.0, 127.0 / largest)
    };
    let (mut codes, mut halves) = ([0i8; GROUP], [0i32; 2]);
    for i in 0..GROUP {
        let rounded = (x[i] * inverse + ROUND).to_bits();
        codes[i] = rounded.wrapping_sub(ROUND.to_bits()) as i8;
    }
    for half in 0..2 {
        for i in 0..GROUP / 2 {
            halves[half] += i32::from(codes[half * GROUP / 2 + i]);
        }
    }
    // SAFETY: the caller's promise.
    unsafe { to.cast::<[i8; GROUP]>().write_unaligned(codes) };
    let sum = halves[0] + halves[1];
    Beside {
        scale,
        sum: sum as f32 * scale,
        less: -sum,
        less_first: -halves[0],
    }
}
