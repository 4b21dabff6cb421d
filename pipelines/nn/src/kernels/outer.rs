//! The product for many rows of x: tiles of outer products over packed copies of W and x, with every operand in L1 or L2.
//! Apart from the dot form because it goes through k in another order, chosen so that both give the same bits.
//!
//! A dot-form output is 16 chains (the lanes), each along every sixteenth k, added up four by four. Here a register holds 16
//! outputs instead of 16 lanes of one: a tile walks the first chain of all its outputs, then the second, and adds them up in
//! that same order. That costs 15 additions per chunk and output instead of shuffles, and a tile is 32 by 12 outputs instead
//! of 8 by 3: a quarter of the bytes per multiply-add (176 instead of 704 for 24 registers of them).

use super::blocks::{UNIT, unpack};
use super::buffer::Buffer;
use super::lanes::{Bf16, F16, F32, Lanes, Stored, StoredAs};
use super::matmul::Output;
use super::packing::{Layout, PackX, Place, TILES, VECTORS, lay_out};
use super::parallel::{self, Shared};
use super::rows::Strided;
use super::{Isa, Kernel, dispatch};
use crate::weights::QuantType;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Panels of W (of `VECTORS` registers of rows each) that a task packs at a time, so that x, which comes out of L2 or L3, is
/// read once for all of them.
const PANELS: usize = 4;
/// Rows of x that are packed at a time; more come in blocks.
const X_BLOCK: usize = 768;
/// Steps between two looks ahead.
const UNROLL: usize = 4;
/// Numbers in a cache line.
const LINE: usize = 16;
/// Chains that are added up before their sum is added to those of the fours before them; see [`Lanes::sum_each`].
const FOUR: usize = 4;

thread_local! {
    /// Room for the packed copies, kept from one product to the next: fresh pages are faults.
    static ROOM: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// Multiplies `x` [x_rows, k] by every matrix (all of k columns) into its output. `false` when there is no memory for the
/// packed copies; nothing is written then.
///
/// # Safety
/// All lengths fit, and the outputs are disjoint.
pub(super) unsafe fn multiply(isa: Isa, x: &[f32], x_rows: usize, outputs: &[Output<'_>]) -> bool {
    let Some(k) = outputs.first().map(|output| output.matrix.columns) else {
        return true;
    };
    let layout = Layout::new(isa, k);
    let threads = parallel::threads();
    let block = x_rows.min(X_BLOCK);
    let room_for_x = block.div_ceil(layout.x_rows * TILES) * layout.x_group();
    let needed = room_for_x + threads * PANELS * layout.panel();
    let kept = ROOM.take().filter(|room| room.as_slice().len() >= needed);
    let Some(mut room) = kept.or_else(|| Buffer::zeroed(needed).ok()) else {
        return false;
    };
    let (packed, for_w) = room.as_mut_slice().split_at_mut(room_for_x);
    let (packed, for_w) = (Shared(packed.as_mut_ptr()), Shared(for_w.as_mut_ptr()));
    for start in (0..x_rows).step_by(X_BLOCK) {
        let rows = start..x_rows.min(start + X_BLOCK);
        let tiles = rows.len().div_ceil(layout.x_rows);
        parallel::for_each(tiles, rows.len() * k, |tile| {
            let pack = PackX {
                x,
                k,
                tile,
                rows: rows.start + tile * layout.x_rows..rows.end,
                layout,
                room: packed.get(),
            };
            // SAFETY: `rows` are rows of x.
            unsafe { dispatch(isa, pack) }
        });
        let blocks = blocks(outputs, &rows, &layout);
        let work = rows.len() * k * outputs.iter().map(|o| o.matrix.rows).sum::<usize>();
        parallel::for_each_of(blocks.len(), work, |thread, index| {
            if let Some((output, w_rows)) = blocks.get(index) {
                let block = Block {
                    isa,
                    output: *output,
                    w_rows: w_rows.clone(),
                    x: packed.get(),
                    x_rows: rows.clone(),
                    layout,
                    // SAFETY: one stretch of the room per thread.
                    room: unsafe { for_w.get().add(thread * PANELS * layout.panel()) },
                };
                // SAFETY: the caller's promise; blocks differ in their outputs.
                unsafe { dispatch(isa, block) }
            }
        });
    }
    ROOM.set(Some(room));
    true
}

/// The rows of W of each task: as many as share a pass over x, or fewer so that no thread is without work.
fn blocks<'a>(
    outputs: &[Output<'a>],
    x_rows: &Range<usize>,
    layout: &Layout,
) -> Vec<(Output<'a>, Range<usize>)> {
    let all: usize = outputs.iter().map(|output| output.matrix.rows).sum();
    let panel = VECTORS * layout.lanes;
    let even = all.div_ceil(panel * parallel::threads() * 4);
    // Few rows of x are read from L2 in any case.
    let most = if x_rows.len() > 64 { PANELS } else { 1 };
    let step = panel * even.clamp(1, most);
    outputs
        .iter()
        .flat_map(|output| {
            let rows = output.matrix.rows;
            (0..rows)
                .step_by(step)
                .map(move |start| (*output, start..rows.min(start + step)))
        })
        .collect()
}

/// Some rows of one W against a block of x.
struct Block<'a> {
    isa: Isa,
    output: Output<'a>,
    w_rows: Range<usize>,
    /// As `PackX` has laid it out.
    x: *const f32,
    x_rows: Range<usize>,
    layout: Layout,
    /// Where W is packed.
    room: *mut f32,
}

impl Kernel for Block<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            for columns in self.layout.chunks() {
                match self.output.matrix.stored {
                    StoredAs::F32 => self.pack::<L, F32>(&columns),
                    StoredAs::F16 => self.pack::<L, F16>(&columns),
                    StoredAs::Bf16 => self.pack::<L, Bf16>(&columns),
                    StoredAs::Quant(kind) if L::WIDTH == 16 => {
                        self.pack_blocks::<L, 16>(kind, &columns);
                    }
                    StoredAs::Quant(kind) => self.pack_blocks::<L, 8>(kind, &columns),
                }
                self.chunk::<L>(&columns);
            }
            self.output.add_bias(&self.w_rows, &self.x_rows);
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    unsafe fn pack<L: Lanes, W: Stored>(&self, columns: &Range<usize>) {
        // SAFETY: as for `run`.
        unsafe {
            if L::WIDTH == 16 {
                self.pack_rows::<L, W, 16>(columns);
            } else {
                self.pack_rows::<L, W, 8>(columns);
            }
        }
    }

    #[inline(always)]
    unsafe fn pack_rows<L: Lanes, W: Stored, const R: usize>(&self, columns: &Range<usize>) {
        let chain = self.layout.chain(columns.len(), VECTORS * L::WIDTH);
        for (index, row) in self.w_rows.clone().step_by(R).enumerate() {
            let panel = index / VECTORS * self.layout.panel() + index % VECTORS * R;
            // SAFETY: the rows and columns are inside the matrix; the room has place for every panel.
            unsafe {
                let rows = row..self.w_rows.end;
                let source = self.output.matrix.strided::<W, R>(rows, 1, columns.start);
                let to = Place {
                    start: self.room.add(panel),
                    chain,
                    step: VECTORS * R,
                };
                lay_out::<L, _, R>(&source, columns.len(), to);
            }
        }
    }

    /// The same for quantised rows, which go through f32 a unit at a time.
    #[inline(always)]
    unsafe fn pack_blocks<L: Lanes, const R: usize>(
        &self,
        kind: QuantType,
        columns: &Range<usize>,
    ) {
        let matrix = self.output.matrix;
        let row_bytes = matrix.stored.row_bytes(matrix.columns);
        let bytes = |len: usize| len / kind.block_len() * kind.block_bytes();
        let chain = self.layout.chain(columns.len(), VECTORS * L::WIDTH);
        // 16 KiB: it stays in L1.
        let mut wide = [[0.0f32; UNIT]; R];
        for (index, row) in self.w_rows.clone().step_by(R).enumerate() {
            let panel = index / VECTORS * self.layout.panel() + index % VECTORS * R;
            for at in columns.clone().step_by(UNIT) {
                let len = UNIT.min(columns.end - at);
                for (r, wide) in wide.iter_mut().enumerate() {
                    let start = (row + r).min(self.w_rows.end - 1) * row_bytes + bytes(at);
                    let stored = matrix.bytes.get(start..start + bytes(len));
                    if let (Some(stored), Some(wide)) = (stored, wide.get_mut(..len)) {
                        unpack(self.isa, kind, stored, wide);
                    }
                }
                let step = (at - columns.start) / L::WIDTH;
                let source = Strided::<F32, R>::new(wide.each_ref().map(|row| row.as_ptr().cast()));
                // SAFETY: `len` numbers of each row; the room has place for every panel.
                unsafe {
                    let to = Place {
                        start: self.room.add(panel + step * VECTORS * R),
                        chain,
                        step: VECTORS * R,
                    };
                    lay_out::<L, _, R>(&source, len, to);
                }
            }
        }
    }

    /// Every tile of x against every panel, one chunk of k.
    #[inline(always)]
    unsafe fn chunk<L: Lanes>(&self, columns: &Range<usize>) {
        let tiles = self.x_rows.len().div_ceil(L::X_ROWS);
        let panels = self.w_rows.len().div_ceil(VECTORS * L::WIDTH);
        let w_chain = self.layout.chain(columns.len(), VECTORS * L::WIDTH);
        let x_chain = self.layout.chain(columns.len(), L::X_ROWS);
        let mut ahead = self.ahead(columns, tiles * panels * L::WIDTH);
        let x_group = self.layout.x_group();
        let mut so_far = MaybeUninit::<[SoFar<L>; TILES]>::uninit();
        for group in (0..tiles).step_by(TILES) {
            let in_group = self.layout.x_tile(group, columns);
            for (panel, w_row) in (0..).zip(self.w_rows.clone().step_by(VECTORS * L::WIDTH)) {
                for chain in 0..L::WIDTH {
                    for index in 0..TILES.min(tiles - group) {
                        ahead.prefetch::<L>();
                        let x_row = self.x_rows.start + (group + index) * L::X_ROWS;
                        // SAFETY: inside the packed copies.
                        unsafe {
                            let x = self.x.add(in_group + (chain * TILES + index) * x_chain);
                            let share = panel * x_chain / panels;
                            let tile = Tile {
                                chain,
                                w: self.room.add(panel * self.layout.panel() + chain * w_chain),
                                x,
                                x_ahead: x.wrapping_add(x_group + share),
                                w_rows: w_row..self.w_rows.end,
                                x_rows: x_row..self.x_rows.end,
                                columns: columns.clone(),
                                so_far: so_far.as_mut_ptr().cast::<SoFar<L>>().add(index),
                            };
                            self.some_rows(&tile);
                        }
                    }
                }
            }
        }
    }

    /// What will be packed after this chunk: the next one of these rows, or the first of as many rows after them.
    #[inline(always)]
    fn ahead(&self, columns: &Range<usize>, calls: usize) -> Ahead {
        let matrix = &self.output.matrix;
        let row_bytes = matrix.bytes.len() / matrix.rows;
        let (first, start) = if columns.end < self.layout.k {
            (self.w_rows.start, columns.end)
        } else {
            (self.w_rows.end, 0)
        };
        let rows = self.w_rows.len().min(matrix.rows - first);
        let len = self.layout.chunk.min(self.layout.k - start) * row_bytes / self.layout.k;
        let lines = len.div_ceil(64);
        Ahead {
            row: matrix
                .bytes
                .as_ptr()
                .wrapping_add(first * row_bytes + start * row_bytes / self.layout.k),
            row_bytes,
            line: 0,
            lines,
            rows,
            each: (rows * lines).div_ceil(calls),
        }
    }

    /// A tile with a third, two or all of its rows of x.
    #[inline(always)]
    unsafe fn some_rows<L: Lanes>(&self, tile: &Tile<L>) {
        let thirds = (tile.x_rows.len() * 3).div_ceil(L::X_ROWS).min(3);
        // SAFETY: the caller's promise.
        unsafe {
            match (L::X_ROWS, thirds) {
                (12, 1) => self.tile::<L, 4>(tile),
                (12, 2) => self.tile::<L, 8>(tile),
                (12, _) => self.tile::<L, 12>(tile),
                (6, 1) => self.tile::<L, 2>(tile),
                (6, 2) => self.tile::<L, 4>(tile),
                (6, _) => self.tile::<L, 6>(tile),
                (_, 1) => self.tile::<L, 1>(tile),
                (_, 2) => self.tile::<L, 2>(tile),
                (..) => self.tile::<L, 3>(tile),
            }
        }
    }

    /// One chain of `VECTORS · WIDTH` rows of W against the first C rows of a tile of x.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const C: usize>(&self, tile: &Tile<L>) {
        // SAFETY: inside the packed copies; what is there so far is written before it is read.
        unsafe {
            let mut sums = [[L::splat(0.0); VECTORS]; C];
            let steps = tile.columns.len().div_ceil(L::WIDTH);
            let whole = steps - steps % UNROLL;
            for start in (0..whole).step_by(UNROLL) {
                // With every panel of a task its share of the next group of x.
                L::prefetch_far(tile.x_ahead.wrapping_add(start * LINE / UNROLL).cast());
                for step in start..start + UNROLL {
                    sums = self.step::<L, C>(tile, step, sums);
                }
            }
            for step in whole..steps {
                sums = self.step::<L, C>(tile, step, sums);
            }
            let (four, within) = (tile.chain / FOUR, tile.chain % FOUR);
            let fours = tile.so_far.cast::<L::Vector>();
            let chains = fours.add(SO_FAR);
            if within > 0 {
                sums = add::<L, C>(sums, chains);
            }
            if within + 1 < FOUR {
                return keep::<L, C>(sums, chains);
            }
            if four > 0 {
                sums = add::<L, C>(sums, fours);
            }
            keep::<L, C>(sums, fours);
            if tile.chain + 1 == L::WIDTH {
                self.put::<L>(tile, fours);
            }
        }
    }

    #[inline(always)]
    unsafe fn step<L: Lanes, const C: usize>(
        &self,
        tile: &Tile<L>,
        step: usize,
        mut sums: [[L::Vector; VECTORS]; C],
    ) -> [[L::Vector; VECTORS]; C] {
        // SAFETY: inside the packed copies.
        unsafe {
            let w: [L::Vector; VECTORS] =
                std::array::from_fn(|v| L::load(tile.w.add((step * VECTORS + v) * L::WIDTH)));
            for c in 0..C {
                let x = L::splat(*tile.x.add(step * L::X_ROWS + c));
                for v in 0..VECTORS {
                    sums[c][v] = L::mul_add(x, w[v], sums[c][v]);
                }
            }
        }
        sums
    }

    /// A tile's sums to the output, added to those of the chunks before.
    #[inline(always)]
    unsafe fn put<L: Lanes>(&self, tile: &Tile<L>, sums: *const L::Vector) {
        let first = tile.columns.start == 0;
        // SAFETY: inside the output: no more rows and columns than there are.
        unsafe {
            for c in 0..L::X_ROWS.min(tile.x_rows.len()) {
                let out = self.output.row(tile.x_rows.start + c);
                let out = out.add(tile.w_rows.start);
                for v in 0..VECTORS {
                    let out = out.wrapping_add(v * L::WIDTH);
                    let count = tile.w_rows.len().saturating_sub(v * L::WIDTH);
                    let sum = *sums.add(c * VECTORS + v);
                    if count >= L::WIDTH {
                        L::store(
                            out,
                            if first {
                                sum
                            } else {
                                L::add(L::load(out), sum)
                            },
                        );
                    } else {
                        let mut lanes = [0.0f32; 16];
                        L::store(lanes.as_mut_ptr(), sum);
                        for (i, sum) in lanes.into_iter().take(count).enumerate() {
                            let out = out.add(i);
                            *out = if first { sum } else { *out + sum };
                        }
                    }
                }
            }
        }
    }
}

/// The rows of W that are packed next, which come into L2 while tiles compute.
struct Ahead {
    row: *const u8,
    row_bytes: usize,
    /// The next line of `row`.
    line: usize,
    lines: usize,
    /// Rows left.
    rows: usize,
    /// Lines to ask for at a time.
    each: usize,
}

impl Ahead {
    #[inline(always)]
    fn prefetch<L: Lanes>(&mut self) {
        for _ in 0..self.each {
            if self.rows == 0 {
                return;
            }
            L::prefetch_far(self.row.wrapping_add(self.line * 64));
            self.line += 1;
            if self.line == self.lines {
                self.line = 0;
                self.rows -= 1;
                self.row = self.row.wrapping_add(self.row_bytes);
            }
        }
    }
}

/// A tile's sums stay in registers as long as nobody takes their address: by value, and in loops of known length.
#[inline(always)]
unsafe fn add<L: Lanes, const C: usize>(
    mut sums: [[L::Vector; VECTORS]; C],
    to: *const L::Vector,
) -> [[L::Vector; VECTORS]; C] {
    for c in 0..C {
        for v in 0..VECTORS {
            // SAFETY: the caller's promise: `VECTORS · C` vectors.
            sums[c][v] = unsafe { L::add(*to.add(c * VECTORS + v), sums[c][v]) };
        }
    }
    sums
}

#[inline(always)]
unsafe fn keep<L: Lanes, const C: usize>(sums: [[L::Vector; VECTORS]; C], at: *mut L::Vector) {
    for c in 0..C {
        for v in 0..VECTORS {
            // SAFETY: the caller's promise: `VECTORS · C` vectors.
            unsafe { at.add(c * VECTORS + v).write(sums[c][v]) }
        }
    }
}

/// Vectors of a tile's sums: no tile is larger.
const SO_FAR: usize = 12 * VECTORS;

/// What a tile has so far: the sum of the fours of chains, and of the chains of the present four.
#[repr(C)]
struct SoFar<L: Lanes>([[L::Vector; SO_FAR]; 2]);

/// Where the operands of one chain of a tile are.
struct Tile<L: Lanes> {
    chain: usize,
    w: *const f32,
    x: *const f32,
    /// The share of the next group of x that is asked for meanwhile.
    x_ahead: *const f32,
    /// From its first row to the last of the task.
    w_rows: Range<usize>,
    x_rows: Range<usize>,
    columns: Range<usize>,
    so_far: *mut SoFar<L>,
}
