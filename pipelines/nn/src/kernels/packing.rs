//! The packed copies of the outer-product form: which number lies where, and how x and W get there.
//! Apart from the tiles that read them, and for whoever adds a way of storing W: what gives 16 numbers of a row at a time can
//! be packed.

use super::lanes::{F32, Lanes};
use super::matmul::chunk_len;
use super::rows::{Source, Strided};
use super::{Isa, Kernel, dispatch};
use std::ops::Range;

/// Registers of outputs in a tile: with twelve rows of x, 24 accumulators.
pub(super) const VECTORS: usize = 2;
/// Tiles of x that meet a chain of a panel before the next chain comes: it stays in L1 for them, with what they have so far.
pub(super) const TILES: usize = 4;
/// Numbers after a chain, so that chains do not all lie in one set of the L1, and a vector may be stored past the last.
const PAD: usize = 16;

/// How the packed copies lie: a panel of W as [chain][step][row], x as [group][chunk][chain][tile][step][row], which is the
/// order in which they are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) lanes: usize,
    /// Rows of x in a tile.
    pub(super) x_rows: usize,
    pub(super) k: usize,
    pub(super) chunk: usize,
}

impl Layout {
    pub(super) fn new(isa: Isa, k: usize) -> Self {
        struct Sizes<'a>(&'a mut (usize, usize));
        impl Kernel for Sizes<'_> {
            #[inline(always)]
            unsafe fn run<L: Lanes>(self) {
                *self.0 = (L::WIDTH, L::X_ROWS);
            }
        }
        let mut sizes = (1, 1);
        // SAFETY: it reads constants.
        unsafe { dispatch(isa, Sizes(&mut sizes)) };
        Self {
            lanes: sizes.0,
            x_rows: sizes.1,
            k,
            chunk: chunk_len(k),
        }
    }

    /// Numbers from one chain to the next, in a chunk of `len`, with `rows` of them at each step.
    #[inline(always)]
    pub(super) fn chain(&self, len: usize, rows: usize) -> usize {
        len.div_ceil(self.lanes) * rows + PAD
    }

    /// Numbers of a whole chunk of a group of x.
    #[inline(always)]
    pub(super) fn x_chunk(&self) -> usize {
        self.lanes * TILES * self.chain(self.chunk, self.x_rows)
    }

    /// Numbers of a group of x: `TILES` tiles.
    #[inline(always)]
    pub(super) fn x_group(&self) -> usize {
        self.k.div_ceil(self.chunk) * self.x_chunk()
    }

    /// Where the chains of a tile of x start, for a chunk of columns; they are `TILES` times [`chain`](Self::chain) apart.
    #[inline(always)]
    pub(super) fn x_tile(&self, tile: usize, columns: &Range<usize>) -> usize {
        tile / TILES * self.x_group()
            + columns.start / self.chunk * self.x_chunk()
            + tile % TILES * self.chain(columns.len(), self.x_rows)
    }

    /// Numbers of a panel of W, one chunk of it.
    #[inline(always)]
    pub(super) fn panel(&self) -> usize {
        self.lanes * self.chain(self.chunk, VECTORS * self.lanes)
    }

    #[inline(always)]
    pub(super) fn chunks(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.k)
            .step_by(self.chunk)
            .map(move |start| start..self.k.min(start + self.chunk))
    }
}

/// Where `lay_out` puts the vector of a chain at a step.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) start: *mut f32,
    /// Numbers from one chain to the next.
    pub(super) chain: usize,
    /// Numbers from one step to the next.
    pub(super) step: usize,
}

/// Lays out `WIDTH` rows of a chunk chain by chain.
#[inline(always)]
pub(super) unsafe fn lay_out<L: Lanes, S: Source<L, R>, const R: usize>(
    source: &S,
    len: usize,
    to: Place,
) {
    let (steps, tail) = (len / L::WIDTH, len % L::WIDTH);
    // SAFETY: the source has `len` columns; there is room for as many vectors.
    unsafe {
        for step in 0..len.div_ceil(L::WIDTH) {
            let mut v = [L::splat(0.0); 16];
            if step < steps {
                for r in 0..R {
                    v[r] = source.load(step, r);
                }
            } else {
                for r in 0..R {
                    v[r] = source.load_partial(step, r, tail);
                }
            }
            L::transpose(&mut v);
            for lane in 0..L::WIDTH {
                L::store(to.start.add(lane * to.chain + step * to.step), v[lane]);
            }
        }
    }
}

/// One tile of x to be packed.
pub(super) struct PackX<'a> {
    pub(super) x: &'a [f32],
    pub(super) k: usize,
    pub(super) tile: usize,
    /// From its first row to the last of the block.
    pub(super) rows: Range<usize>,
    pub(super) layout: Layout,
    pub(super) room: *mut f32,
}

impl Kernel for PackX<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            if L::WIDTH == 16 {
                self.go::<L, 16>();
            } else {
                self.go::<L, 8>();
            }
        }
    }
}

impl PackX<'_> {
    #[inline(always)]
    unsafe fn go<L: Lanes, const R: usize>(self) {
        for columns in self.layout.chunks() {
            let to = Place {
                start: self
                    .room
                    .wrapping_add(self.layout.x_tile(self.tile, &columns)),
                chain: TILES * self.layout.chain(columns.len(), L::X_ROWS),
                step: L::X_ROWS,
            };
            // Past the last row, the last one again. A vector is more rows than a tile has: the next step, or the padding
            // after the last, is written over.
            let rows: [*const u8; R] = std::array::from_fn(|r| {
                let row = (self.rows.start + r).min(self.rows.end - 1);
                // SAFETY: inside x.
                unsafe { self.x.as_ptr().add(row * self.k + columns.start).cast() }
            });
            let source = Strided::<F32, R>::new(rows);
            // SAFETY: inside the tile's own chains: `PAD` numbers follow each.
            unsafe {
                lay_out::<L, _, R>(&source, columns.len(), to);
            }
        }
    }
}
