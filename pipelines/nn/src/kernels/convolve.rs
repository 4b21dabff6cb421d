//! Convolution of pictures, channels first: for some windows of some channels at a time the windows are laid out side by side,
//! in L2, and meet every row of the weight, which is widened as it comes by. No whole matrix of windows is ever in memory.
//!
//! A number of the output is the sum of its chunks of channels, in their order, each one chain of multiply-adds: where chunks
//! end is the weight's alone, so that a sample has the same bits in any company.

use super::buffer::Buffer;
use super::lanes::{Bf16, F16, F32, Lanes, Stored, StoredAs};
use super::parallel::{self, Shared};
use super::tile::{Factors, VECTORS, Vectors, add_products, lanes, load_some, store_some};
use super::windows::{Place, Windows, panel_of};
use super::{Isa, Kernel, dispatch};
use crate::error::Result;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Steps of k in a chunk, at most, unless one channel has more: a tile is loaded and stored once for as many.
const STEPS: usize = 320;
/// Numbers of windows that are laid out at a time: 576 KiB of an L2 of a megabyte.
const LAID_OUT: usize = 144 << 10;
/// Vectors of windows that a task takes, at most.
const MOST_VECTORS: usize = 96;
/// Rows of the weight for which laying out the same windows twice costs little.
const ROWS_OF_A_PART: usize = 128;
/// Tasks for each thread, so that the end of the work is not one thread's.
const TASKS: usize = 4;

thread_local! {
    /// Room for what is laid out, kept from one convolution to the next: fresh pages are faults.
    static ROOM: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// A weight [outputs, channels, kernel height, kernel width], and what is added to its products.
#[derive(Clone, Copy)]
pub(crate) struct Filters<'a> {
    /// Row-major, `stored` as f32, f16 or bf16.
    pub(crate) bytes: &'a [u8],
    pub(crate) stored: StoredAs,
    pub(crate) outputs: usize,
    /// A number for each output.
    pub(crate) bias: Option<&'a [f32]>,
    /// As long as the output.
    pub(crate) residual: Option<&'a [f32]>,
}

/// Convolves into `out` [batch, outputs, rows and columns of windows], of which every number is written and none read before.
///
/// # Errors
/// [`NnError::HostMemory`](crate::error::NnError::HostMemory) when there is no memory to lay out windows; nothing is written then.
///
/// # Safety
/// All lengths fit; there is at least one window, and `out` is good for the numbers of the output.
pub(crate) unsafe fn convolve(
    isa: Isa,
    windows: &Windows<'_>,
    filters: &Filters<'_>,
    out: *mut f32,
) -> Result<()> {
    if windows.batch() == 0 {
        return Ok(());
    }
    let plan = Plan::new(isa, windows, filters.outputs);
    let needed = parallel::threads() * plan.room();
    let kept = ROOM.take().filter(|room| room.as_slice().len() >= needed);
    let mut room = match kept {
        Some(room) => room,
        None => Buffer::zeroed(needed)?,
    };
    let at = Shared(room.as_mut_slice().as_mut_ptr());
    let out = Shared(out);
    parallel::for_each_of(plan.tiles * plan.parts, plan.work, |thread, task| {
        let part = Part {
            windows,
            filters,
            plan: &plan,
            vectors: plan.vectors(task / plan.parts),
            outputs: plan.outputs(task % plan.parts),
            // SAFETY: one stretch of the room per thread.
            room: unsafe { at.get().add(thread * plan.room()) },
            out,
        };
        // SAFETY: the caller's promise; parts differ in windows or in outputs.
        unsafe { dispatch(isa, part) }
    });
    ROOM.set(Some(room));
    Ok(())
}

/// How the work is cut: tiles of vectors of windows, parts of the outputs, chunks of channels.
struct Plan {
    lanes: usize,
    /// Vectors of all samples, and of a tile.
    total: usize,
    tile: usize,
    tiles: usize,
    rows: usize,
    /// Outputs of a part.
    part: usize,
    parts: usize,
    /// Channels of a chunk, and their numbers in a window.
    chunk: usize,
    steps: usize,
    /// Multiply-adds.
    work: usize,
}

impl Plan {
    fn new(isa: Isa, windows: &Windows<'_>, rows: usize) -> Self {
        let lanes = lanes(isa);
        let total = windows.batch() * windows.per_sample().div_ceil(lanes);
        let most = (STEPS / windows.taps()).max(1);
        let chunk = windows.channels.div_ceil(windows.channels.div_ceil(most));
        let steps = chunk * windows.taps();
        let fits = (LAID_OUT / (steps * lanes)).clamp(VECTORS, MOST_VECTORS);
        let threads = parallel::threads();
        let wanted = if threads > 1 { threads * TASKS } else { 1 };
        let tiles = total.div_ceil(fits - fits % VECTORS);
        // Few windows: other threads take other outputs; few outputs: smaller tiles.
        let parts = wanted.div_ceil(tiles).min(rows / ROWS_OF_A_PART).max(1);
        let part = rows.div_ceil(parts).next_multiple_of(lanes);
        let parts = rows.div_ceil(part);
        let tiles = tiles.max(wanted.div_ceil(parts));
        // As many for each thread.
        let tiles = tiles.next_multiple_of(threads).min(total.div_ceil(VECTORS));
        let tile = total.div_ceil(tiles);
        Self {
            lanes,
            total,
            tile,
            tiles: total.div_ceil(tile),
            rows,
            part,
            parts,
            chunk,
            steps,
            work: total * lanes * rows * windows.channels * windows.taps(),
        }
    }

    /// Numbers that a thread lays out: whole panels of windows, and a panel of the weight.
    fn room(&self) -> usize {
        (self.tile + VECTORS) * self.lanes * self.steps + self.room_for_rows()
    }

    fn room_for_rows(&self) -> usize {
        self.steps.next_multiple_of(self.lanes) * self.lanes
    }

    fn vectors(&self, tile: usize) -> Range<usize> {
        tile * self.tile..self.total.min((tile + 1) * self.tile)
    }

    fn outputs(&self, part: usize) -> Range<usize> {
        part * self.part..self.rows.min((part + 1) * self.part)
    }
}

/// Some outputs of some windows: a task.
struct Part<'a> {
    windows: &'a Windows<'a>,
    filters: &'a Filters<'a>,
    plan: &'a Plan,
    vectors: Range<usize>,
    outputs: Range<usize>,
    room: *mut f32,
    out: Shared<f32>,
}

impl Kernel for Part<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let mut places = Vec::with_capacity(self.vectors.len());
        for number in self.vectors.clone() {
            places.push(self.windows.vector(number, L::WIDTH));
        }
        let panel = panel_of(places.len());
        let channels = self.windows.channels;
        // SAFETY: the caller's promise; the room has a panel of the weight and then whole panels of windows.
        unsafe {
            let laid_out = self.room.add(self.plan.room_for_rows());
            for start in (0..channels).step_by(self.plan.chunk) {
                let chunk = Chunk {
                    channels: start..channels.min(start + self.plan.chunk),
                    places: &places,
                    panel,
                    windows: laid_out,
                };
                self.windows
                    .lay_out::<L>(&places, &chunk.channels, panel, laid_out);
                for row in self.outputs.clone().step_by(L::WIDTH) {
                    match self.filters.stored {
                        StoredAs::F32 => self.widen::<L, F32>(row, &chunk.channels),
                        StoredAs::F16 => self.widen::<L, F16>(row, &chunk.channels),
                        StoredAs::Bf16 => self.widen::<L, Bf16>(row, &chunk.channels),
                        // Widened by whoever loads the weight.
                        StoredAs::Quant(_) => {}
                    }
                    for row in (row..self.outputs.end.min(row + L::WIDTH)).step_by(L::TILE_ROWS) {
                        self.rows::<L>(&chunk, row);
                    }
                }
            }
        }
    }
}

impl Part<'_> {
    /// Lays out `WIDTH` rows of the weight, or the last of them several times, as [step][row].
    #[inline(always)]
    unsafe fn widen<L: Lanes, W: Stored>(&self, row: usize, channels: &Range<usize>) {
        let taps = self.windows.taps();
        let columns = self.windows.channels * taps;
        let len = channels.len() * taps;
        // SAFETY: rows and columns of the weight; the room is for whole vectors of steps.
        unsafe {
            let mut rows = [self.filters.bytes.as_ptr(); 16];
            for r in 0..L::WIDTH {
                let row = (row + r).min(self.outputs.end - 1);
                rows[r] = rows[r].add((row * columns + channels.start * taps) * W::BYTES);
            }
            for step in 0..len.div_ceil(L::WIDTH) {
                let left = len - step * L::WIDTH;
                let mut v = [L::splat(0.0); 16];
                for r in 0..L::WIDTH {
                    let from = rows[r].add(step * L::WIDTH * W::BYTES);
                    v[r] = if left >= L::WIDTH {
                        W::load::<L>(from)
                    } else {
                        W::load_partial::<L>(from, left)
                    };
                }
                L::transpose(&mut v);
                for lane in 0..L::WIDTH {
                    L::store(self.room.add((step * L::WIDTH + lane) * L::WIDTH), v[lane]);
                }
            }
        }
    }

    /// As many rows as a tile has, from `row` on, against every panel of windows.
    #[inline(always)]
    unsafe fn rows<L: Lanes>(&self, chunk: &Chunk<'_>, row: usize) {
        // SAFETY: the caller's promise; rows past the last are laid out, and not stored.
        unsafe {
            match (self.outputs.end - row).min(L::TILE_ROWS) {
                1 => self.panels::<L, 1>(chunk, row),
                2 => self.panels::<L, 2>(chunk, row),
                3 | 4 => self.panels::<L, 4>(chunk, row),
                _ => self.panels::<L, 8>(chunk, row),
            }
        }
    }

    #[inline(always)]
    unsafe fn panels<L: Lanes, const R: usize>(&self, chunk: &Chunk<'_>, row: usize) {
        for first in (0..chunk.places.len()).step_by(chunk.panel) {
            // SAFETY: the caller's promise.
            unsafe {
                match chunk.panel.min(chunk.places.len() - first) {
                    1 => self.tile::<L, R, 1>(chunk, row, first),
                    2 => self.tile::<L, R, 2>(chunk, row, first),
                    _ => self.tile::<L, R, VECTORS>(chunk, row, first),
                }
            }
        }
    }

    /// R rows of the weight against the V vectors of the panel that starts with vector `first`.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const V: usize>(
        &self,
        chunk: &Chunk<'_>,
        row: usize,
        first: usize,
    ) {
        let steps = chunk.channels.len() * self.windows.taps();
        let step = chunk.panel * L::WIDTH;
        // SAFETY: inside what has been laid out; the places are windows of the output.
        unsafe {
            let factors = Factors {
                at: self.room.add((row - self.outputs.start) % L::WIDTH),
                row: 1,
                step: L::WIDTH,
            };
            let vectors = Vectors {
                at: chunk.windows.add(first / chunk.panel * steps * step),
                step,
            };
            let sums = [[L::splat(0.0); V]; R];
            let sums = add_products::<L, R, V>(sums, factors, vectors, steps);
            // Through memory, because what is done with them is too much to be unrolled, and registers have no numbers.
            let mut kept = MaybeUninit::<[[L::Vector; V]; R]>::uninit();
            let at = kept.as_mut_ptr().cast::<L::Vector>();
            for r in 0..R {
                for v in 0..V {
                    at.add(r * V + v).write(sums[r][v]);
                }
            }
            for r in 0..R.min(self.outputs.end - row) {
                for v in 0..V {
                    let place = chunk.places.get_unchecked(first + v);
                    self.put::<L>(chunk, place, row + r, *at.add(r * V + v));
                }
            }
        }
    }

    /// A chunk's sums to the output: with the bias at first, added to those of the chunks before, with the residual at last.
    #[inline(always)]
    unsafe fn put<L: Lanes>(&self, chunk: &Chunk<'_>, place: &Place, row: usize, sum: L::Vector) {
        let channel = place.sample * self.plan.rows + row;
        let at = channel * self.windows.per_sample() + place.first;
        // SAFETY: the windows of a vector lie side by side in one channel of the output, and so in the residual.
        unsafe {
            let to = self.out.get().add(at);
            let mut sum = match (chunk.channels.start, self.filters.bias) {
                (0, Some(bias)) => L::add(sum, L::splat(*bias.get_unchecked(row))),
                (0, None) => sum,
                _ => L::add(load_some::<L>(to, place.count), sum),
            };
            if let (true, Some(residual)) = (
                chunk.channels.end == self.windows.channels,
                self.filters.residual,
            ) {
                let residual = load_some::<L>(residual.as_ptr().add(at), place.count);
                sum = L::add(sum, residual);
            }
            store_some::<L>(to, place.count, sum);
        }
    }
}

/// A chunk of channels whose windows are laid out.
struct Chunk<'a> {
    channels: Range<usize>,
    places: &'a [Place],
    /// Vectors of a panel.
    panel: usize,
    windows: *const f32,
}
