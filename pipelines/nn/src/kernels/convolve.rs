//! Convolution of pictures, channels first: for some windows of some channels at a time the windows are laid out side by side,
//! in L2, and meet every row of the weight, which is widened as it comes by. No whole matrix of windows is ever in memory.
//!
//! A number of the output is the sum of its chunks of channels, in their order, each one chain of multiply-adds: where chunks
//! end is the weight's alone, so that a sample has the same bits in any company.

use super::buffer::Buffer;
use super::filters::{Ends, Filters, Plan, Stretch};
use super::lanes::Lanes;
use super::parallel::{self, Shared};
use super::tile::{Factors, Tiles, VECTORS, Vectors, add_products, each_tile, lanes};
use super::windows::{Laid, Place, Windows, panel_of};
use super::{Isa, Kernel, dispatch, winograd};
use crate::error::Result;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Steps of k in a chunk, at most, unless one channel has more: a tile is loaded and stored once for as many.
const STEPS: usize = 320;
/// Numbers of windows that are laid out at a time: 576 KiB of an L2 of a megabyte.
pub(super) const LAID_OUT: usize = 144 << 10;
/// Vectors of windows that a task takes, at most.
const MOST_VECTORS: usize = 96;

thread_local! {
    /// Room for what is laid out, kept from one convolution to the next: fresh pages are faults.
    static ROOM: Cell<Option<Buffer>> = const { Cell::new(None) };
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
    if winograd::suits(windows, filters.outputs) {
        // SAFETY: the caller's promise.
        return unsafe { winograd::convolve(isa, windows, filters, out) };
    }
    let lanes = lanes(isa);
    let most = (STEPS / windows.taps()).max(1);
    let chunk = windows.channels.div_ceil(windows.channels.div_ceil(most));
    let steps = chunk * windows.taps();
    let fits = (LAID_OUT / (steps * lanes)).clamp(VECTORS, MOST_VECTORS);
    let total = windows.batch() * windows.per_sample().div_ceil(lanes);
    let plan = Plan::new(total, fits - fits % VECTORS, filters.outputs, lanes);
    // A panel of the weight, and whole panels of windows.
    let for_rows = steps.next_multiple_of(lanes) * lanes;
    let each = for_rows + (plan.tile + VECTORS) * lanes * steps;
    let work = total * lanes * filters.outputs * windows.channels * windows.taps();
    let out = Shared(out);
    with_room(parallel::threads() * each, |room| {
        parallel::for_each_of(plan.tasks(), work, |thread, task| {
            let part = Part {
                windows,
                filters,
                chunk,
                vectors: plan.vectors(task),
                outputs: plan.outputs(task),
                // SAFETY: one stretch of the room per thread.
                rows: unsafe { room.get().add(thread * each) },
                for_rows,
                out,
            };
            // SAFETY: the caller's promise; parts differ in windows or in outputs.
            unsafe { dispatch(isa, part) }
        });
    })
}

/// Hands `work` room for as many numbers, kept for the next one.
///
/// # Errors
/// [`NnError::HostMemory`](crate::error::NnError::HostMemory) when there is no memory.
pub(super) fn with_room(len: usize, work: impl FnOnce(Shared<f32>)) -> Result<()> {
    let kept = ROOM.take().filter(|room| room.as_slice().len() >= len);
    let mut room = match kept {
        Some(room) => room,
        None => Buffer::zeroed(len)?,
    };
    work(Shared(room.as_mut_slice().as_mut_ptr()));
    ROOM.set(Some(room));
    Ok(())
}

/// Some outputs of some windows: a task.
struct Part<'a> {
    windows: &'a Windows<'a>,
    filters: &'a Filters<'a>,
    /// Channels of a chunk.
    chunk: usize,
    vectors: Range<usize>,
    outputs: Range<usize>,
    /// Where rows of the weight are laid out, and for how many numbers; then come the windows.
    rows: *mut f32,
    for_rows: usize,
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
        let (channels, taps) = (self.windows.channels, self.windows.taps());
        let step = panel * L::WIDTH;
        // SAFETY: the caller's promise; the room has a panel of the weight and then whole panels of windows.
        unsafe {
            let laid_out = self.rows.add(self.for_rows);
            for start in (0..channels).step_by(self.chunk) {
                let chunk = Chunk {
                    part: &self,
                    channels: start..channels.min(start + self.chunk),
                    places: &places,
                    panel,
                    windows: laid_out,
                };
                let laid = Laid {
                    to: laid_out,
                    panel,
                    panel_len: chunk.channels.len() * taps * step,
                    channel: taps * step,
                    tap: step,
                };
                self.windows.lay_out::<L>(&places, &chunk.channels, &laid);
                let columns = chunk.channels.start * taps..chunk.channels.end * taps;
                for row in self.outputs.clone().step_by(L::WIDTH) {
                    let rows = row..self.outputs.end;
                    self.filters.widen::<L>(rows, columns.clone(), self.rows);
                    let rows = row..self.outputs.end.min(row + L::WIDTH);
                    each_tile::<L, _>(&chunk, rows, places.len(), panel);
                }
            }
        }
    }
}

impl Tiles for Chunk<'_> {
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const V: usize>(&self, row: usize, first: usize) {
        let part = self.part;
        let steps = self.channels.len() * part.windows.taps();
        let step = self.panel * L::WIDTH;
        let ends = Ends {
            first: self.channels.start == 0,
            last: self.channels.end == part.windows.channels,
        };
        // SAFETY: inside what has been laid out; the places are windows of the output.
        unsafe {
            let factors = Factors {
                at: part.rows.add((row - part.outputs.start) % L::WIDTH),
                row: 1,
                step: L::WIDTH,
            };
            let vectors = Vectors {
                at: self.windows.add(first / self.panel * steps * step),
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
            for r in 0..R.min(part.outputs.end - row) {
                for v in 0..V {
                    let place = self.places.get_unchecked(first + v);
                    let channel = place.sample * part.filters.outputs + row + r;
                    let stretch = Stretch {
                        row: row + r,
                        at: channel * part.windows.per_sample() + place.first,
                        count: place.count,
                    };
                    let sum = *at.add(r * V + v);
                    part.filters.put::<L>(part.out.get(), stretch, ends, sum);
                }
            }
        }
    }
}

/// A chunk of channels whose windows are laid out.
struct Chunk<'a> {
    part: &'a Part<'a>,
    channels: Range<usize>,
    places: &'a [Place],
    /// Vectors of a panel.
    panel: usize,
    windows: *const f32,
}
