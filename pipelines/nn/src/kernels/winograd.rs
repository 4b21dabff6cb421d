//! Convolution of 3×3 windows by Winograd's F(2×2, 3×3) (Lavin and Gray, "Fast algorithms for convolutional neural networks",
//! 2016): tiles of 4×4 inputs give 2×2 outputs with 16 multiplications instead of 36, for additions that the many channels share.
//!
//! Windows are laid out as in `convolve`, as 4×4 ones at every second pixel, and transformed where they lie; the weight is
//! transformed as it comes by, so that nothing is kept beside what is stored. Whether it is used depends on the layer and the
//! picture's size alone, so that a sample has the same bits in any company.

use super::convolve::{LAID_OUT, with_room};
use super::filters::{Ends, Filters, Plan, Stretch};
use super::lanes::Lanes;
use super::parallel::{self, Shared};
use super::tile::{Factors, Tiles, VECTORS, Vectors, add_products, each_tile, lanes};
use super::windows::{Laid, Place, Windows, panel_of};
use super::{Isa, Kernel, dispatch};
use crate::error::Result;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Positions of a tile: its side is 4.
const POSITIONS: usize = 16;
/// Channels of a chunk, at most: what the outputs' transformation is shared by.
const CHANNELS: usize = 64;
/// Channels and outputs below which transformations cost more than they save.
const FEW: usize = 32;
/// Windows of a sample below which the weight's transformation does.
const FEW_WINDOWS: usize = 256;
/// Numbers after a position, so that the sixteen do not all lie in one set of the L1.
const PAD: usize = 16;
/// Room for the pixels of the widest vector of tiles: two rows of two vectors, and a vector of zeros to load past the last.
const PIXELS: usize = 5 * 16;
/// Numbers in a row of the weight for each channel.
const TAPS: usize = 9;

/// Whether a convolution is faster this way.
pub(crate) fn suits(windows: &Windows<'_>, outputs: usize) -> bool {
    windows.kernel == [3, 3]
        && windows.stride == 1
        && windows.channels >= FEW
        && outputs >= FEW
        && windows.per_sample() >= FEW_WINDOWS
}

/// As [`convolve`](super::convolve::convolve), for what suits.
///
/// # Safety
/// As for [`convolve`](super::convolve::convolve).
pub(super) unsafe fn convolve(
    isa: Isa,
    windows: &Windows<'_>,
    filters: &Filters<'_>,
    out: *mut f32,
) -> Result<()> {
    let lanes = lanes(isa);
    let tiles = Windows {
        kernel: [4, 4],
        stride: 2,
        out: windows.out.map(|side| side.div_ceil(2)),
        ..*windows
    };
    let chunk = windows
        .channels
        .div_ceil(windows.channels.div_ceil(CHANNELS));
    let total = tiles.batch() * tiles.per_sample().div_ceil(lanes);
    let fits = LAID_OUT / (POSITIONS * chunk * lanes);
    let plan = Plan::new(total, fits - fits % VECTORS, filters.outputs, lanes);
    let rooms = Rooms::new(lanes, chunk);
    let each = rooms.before_tiles() + (plan.tile + VECTORS) * POSITIONS * (chunk * lanes + PAD);
    let work = total * lanes * POSITIONS * filters.outputs * windows.channels;
    let out = Shared(out);
    with_room(parallel::threads() * each, |room| {
        parallel::for_each_of(plan.tasks(), work, |thread, task| {
            let part = Part {
                tiles: &tiles,
                out_size: windows.out,
                filters,
                chunk,
                vectors: plan.vectors(task),
                outputs: plan.outputs(task),
                rooms,
                // SAFETY: one stretch of the room per thread.
                room: unsafe { room.get().add(thread * each) },
                out,
            };
            // SAFETY: the caller's promise; parts differ in tiles or in outputs.
            unsafe { dispatch(isa, part) }
        });
    })
}

/// What a task keeps before its tiles: rows of the weight as they are and transformed, and a tile's sums. In numbers.
#[derive(Clone, Copy)]
struct Rooms {
    widened: usize,
    transformed: usize,
    sums: usize,
}

impl Rooms {
    fn new(lanes: usize, chunk: usize) -> Self {
        Self {
            widened: (chunk * TAPS).next_multiple_of(lanes) * lanes,
            transformed: POSITIONS * (chunk * lanes + PAD),
            // As many rows as any tile has.
            sums: POSITIONS * 8 * VECTORS * lanes,
        }
    }

    fn before_tiles(&self) -> usize {
        self.widened + self.transformed + self.sums
    }
}

/// Some outputs of some tiles: a task.
struct Part<'a> {
    /// The windows of 4×4.
    tiles: &'a Windows<'a>,
    /// Rows and columns of the output.
    out_size: [usize; 2],
    filters: &'a Filters<'a>,
    /// Channels of a chunk.
    chunk: usize,
    vectors: Range<usize>,
    outputs: Range<usize>,
    rooms: Rooms,
    room: *mut f32,
    out: Shared<f32>,
}

/// Tiles of a vector that lie side by side in the picture.
#[derive(Clone, Copy)]
struct Run {
    /// Lane of the first.
    lane: usize,
    /// Pixels of a row that they give, and one row or two.
    pixels: usize,
    rows: usize,
    /// Where they start in a channel of the output.
    at: usize,
}

/// A vector of tiles, and where its outputs go.
struct Target {
    sample: usize,
    runs: Vec<Run>,
}

/// A chunk of channels whose tiles are transformed.
struct Chunk<'a> {
    part: &'a Part<'a>,
    channels: usize,
    ends: Ends,
    targets: &'a [Target],
    laid: Laid,
}

impl Kernel for Part<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let mut places = Vec::with_capacity(self.vectors.len());
        let mut targets = Vec::with_capacity(self.vectors.len());
        for number in self.vectors.clone() {
            let place = self.tiles.vector(number, L::WIDTH);
            targets.push(self.target(&place));
            places.push(place);
        }
        let all = self.tiles.channels;
        let step = panel_of(places.len()) * L::WIDTH;
        // SAFETY: the caller's promise; the room has whole panels.
        unsafe {
            for start in (0..all).step_by(self.chunk) {
                let channels = start..all.min(start + self.chunk);
                let position = channels.len() * step + PAD;
                let chunk = Chunk {
                    part: &self,
                    channels: channels.len(),
                    ends: Ends {
                        first: start == 0,
                        last: channels.end == all,
                    },
                    targets: &targets,
                    laid: Laid {
                        to: self.room.add(self.rooms.before_tiles()),
                        panel: step / L::WIDTH,
                        panel_len: POSITIONS * position,
                        channel: step,
                        tap: position,
                    },
                };
                self.tiles.lay_out::<L>(&places, &channels, &chunk.laid);
                transform_tiles::<L>(&chunk);
                for row in self.outputs.clone().step_by(L::WIDTH) {
                    let columns = channels.start * TAPS..channels.end * TAPS;
                    self.filters
                        .widen::<L>(row..self.outputs.end, columns, self.room);
                    transform_rows::<L>(
                        self.room,
                        self.room.add(self.rooms.widened),
                        chunk.channels,
                    );
                    let rows = row..self.outputs.end.min(row + L::WIDTH);
                    each_tile::<L, _>(&chunk, rows, targets.len(), chunk.laid.panel);
                }
            }
        }
    }
}

impl Part<'_> {
    fn target(&self, place: &Place) -> Target {
        let (columns, [height, width]) = (self.tiles.out[1], self.out_size);
        let mut runs = Vec::new();
        let mut lane = 0;
        while lane < place.count {
            let (row, column) = (
                (place.first + lane) / columns,
                (place.first + lane) % columns,
            );
            let tiles = (columns - column).min(place.count - lane);
            runs.push(Run {
                lane,
                pixels: (2 * tiles).min(width - 2 * column),
                rows: 2.min(height - 2 * row),
                at: 2 * row * width + 2 * column,
            });
            lane += tiles;
        }
        Target {
            sample: place.sample,
            runs,
        }
    }

    /// Two rows of twice as many pixels as a vector has tiles, to where its runs say.
    #[inline(always)]
    unsafe fn put<L: Lanes>(
        &self,
        chunk: &Chunk<'_>,
        vector: usize,
        row: usize,
        pixels: *const f32,
    ) {
        // SAFETY: runs are inside a channel of the output, and of the pixels.
        unsafe {
            let target = chunk.targets.get_unchecked(vector);
            let channel = target.sample * self.filters.outputs + row;
            let channel = channel * self.out_size[0] * self.out_size[1];
            for run in &target.runs {
                for y in 0..run.rows {
                    let start = 2 * (y * L::WIDTH + run.lane);
                    for x in (0..run.pixels).step_by(L::WIDTH) {
                        let stretch = Stretch {
                            row,
                            at: channel + run.at + y * self.out_size[1] + x,
                            count: run.pixels - x,
                        };
                        // What is loaded past a run is the next one's or the zeros at the end; it is not stored.
                        debug_assert!(start + x + L::WIDTH <= written(L::WIDTH));
                        let sum = L::load(pixels.add(start + x));
                        self.filters
                            .put::<L>(self.out.get(), stretch, chunk.ends, sum);
                    }
                }
            }
        }
    }
}

impl Tiles for Chunk<'_> {
    /// In every position.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const V: usize>(&self, row: usize, first: usize) {
        let (part, laid) = (self.part, &self.laid);
        // SAFETY: inside what has been laid out and transformed.
        unsafe {
            let rows = part.room.add(part.rooms.widened);
            let kept = rows.add(part.rooms.transformed);
            for position in 0..POSITIONS {
                let row = (row - part.outputs.start) % L::WIDTH;
                let factors = Factors {
                    at: rows.add(position * (self.channels * L::WIDTH + PAD) + row),
                    row: 1,
                    step: L::WIDTH,
                };
                let panel = first / laid.panel * laid.panel_len + position * laid.tap;
                let vectors = Vectors {
                    at: laid.to.add(panel),
                    step: laid.channel,
                };
                let sums = [[L::splat(0.0); V]; R];
                let sums = add_products::<L, R, V>(sums, factors, vectors, self.channels);
                for r in 0..R {
                    for v in 0..V {
                        let at = (position * R + r) * V + v;
                        L::store(kept.add(at * L::WIDTH), sums[r][v]);
                    }
                }
            }
            for r in 0..R.min(part.outputs.end - row) {
                for v in 0..V {
                    let sums = kept.add((r * V + v) * L::WIDTH);
                    let mut room = MaybeUninit::<[f32; PIXELS]>::uninit();
                    let room = room.as_mut_ptr().cast::<f32>();
                    pixels::<L>(sums, R * V * L::WIDTH, room);
                    part.put::<L>(self, first + v, row + r, room);
                }
            }
        }
    }
}

/// Bᵀ·d·B of every tile, in place: positions are `tap` apart.
#[inline(always)]
unsafe fn transform_tiles<L: Lanes>(chunk: &Chunk<'_>) {
    let laid = &chunk.laid;
    for vector in 0..chunk.targets.len() {
        let first = vector / laid.panel * laid.panel_len + vector % laid.panel * L::WIDTH;
        for channel in 0..chunk.channels {
            // SAFETY: inside what has been laid out.
            unsafe {
                let at = laid.to.add(first + channel * laid.channel);
                let mut d = [L::splat(0.0); POSITIONS];
                for i in 0..POSITIONS {
                    d[i] = L::load(at.add(i * laid.tap));
                }
                for column in 0..4 {
                    let (a, b, c) = (d[column], d[4 + column], d[8 + column]);
                    d[column] = L::sub(a, c);
                    d[8 + column] = L::sub(c, b);
                    d[4 + column] = L::add(b, c);
                    d[12 + column] = L::sub(b, d[12 + column]);
                }
                for row in 0..4 {
                    let (a, b, c) = (d[4 * row], d[4 * row + 1], d[4 * row + 2]);
                    let last = L::sub(b, d[4 * row + 3]);
                    L::store(at.add(4 * row * laid.tap), L::sub(a, c));
                    L::store(at.add((4 * row + 1) * laid.tap), L::add(b, c));
                    L::store(at.add((4 * row + 2) * laid.tap), L::sub(c, b));
                    L::store(at.add((4 * row + 3) * laid.tap), last);
                }
            }
        }
    }
}

/// G·g·Gᵀ of every channel of `WIDTH` rows of the weight: [channel, tap][row] to [position][channel][row].
#[inline(always)]
unsafe fn transform_rows<L: Lanes>(from: *const f32, to: *mut f32, channels: usize) {
    let position = channels * L::WIDTH + PAD;
    // SAFETY: the caller's promise: `channels` of both.
    unsafe {
        let half = L::splat(0.5);
        for channel in 0..channels {
            let from = from.add(channel * TAPS * L::WIDTH);
            let to = to.add(channel * L::WIDTH);
            // Rows of G·g: four of three.
            let mut rows = [[L::splat(0.0); 3]; 4];
            for column in 0..3 {
                let first = L::load(from.add(column * L::WIDTH));
                let middle = L::load(from.add((3 + column) * L::WIDTH));
                let last = L::load(from.add((6 + column) * L::WIDTH));
                let (ends, middle) = (L::mul(L::add(first, last), half), L::mul(middle, half));
                rows[0][column] = first;
                rows[1][column] = L::add(ends, middle);
                rows[2][column] = L::sub(ends, middle);
                rows[3][column] = last;
            }
            for row in 0..4 {
                let [first, middle, last] = rows[row];
                let (ends, middle) = (L::mul(L::add(first, last), half), L::mul(middle, half));
                let to = to.add(4 * row * position);
                L::store(to, first);
                L::store(to.add(position), L::add(ends, middle));
                L::store(to.add(2 * position), L::sub(ends, middle));
                L::store(to.add(3 * position), last);
            }
        }
    }
}

/// Numbers of pixels that [`pixels`] writes: each row right after the other, so that nothing between them is left unwritten.
const fn written(lanes: usize) -> usize {
    5 * lanes
}

/// Aᵀ·m·A: the two rows of pixels of a vector of tiles, whose sums in the sixteen positions are `position` numbers apart; then a
/// vector of zeros.
#[inline(always)]
unsafe fn pixels<L: Lanes>(sums: *const f32, position: usize, to: *mut f32) {
    // SAFETY: the caller's promise: `to` has room for what is written.
    unsafe {
        let mut rows = [[L::splat(0.0); 4]; 2];
        for column in 0..4 {
            let first = L::load(sums.add(column * position));
            let second = L::load(sums.add((4 + column) * position));
            let third = L::load(sums.add((8 + column) * position));
            let last = L::load(sums.add((12 + column) * position));
            rows[0][column] = L::add(L::add(first, second), third);
            rows[1][column] = L::sub(L::sub(second, third), last);
        }
        for y in 0..2 {
            let [first, second, third, last] = rows[y];
            let even = L::add(L::add(first, second), third);
            let odd = L::sub(L::sub(second, third), last);
            let (low, high) = L::interleave(even, odd);
            L::store(to.add(2 * y * L::WIDTH), low);
            L::store(to.add((2 * y + 1) * L::WIDTH), high);
        }
        L::store(to.add(4 * L::WIDTH), L::splat(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One vector of tiles whose sums are all 1, to pixels that nobody has written.
    struct Once<'a>(&'a mut [f32; PIXELS]);

    impl Kernel for Once<'_> {
        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            let sums = [1.0f32; POSITIONS * 16];
            // SAFETY: room for the widest vector.
            unsafe { pixels::<L>(sums.as_ptr(), L::WIDTH, self.0.as_mut_ptr()) };
        }
    }

    #[test]
    fn every_pixel_that_is_loaded_has_been_written() {
        for isa in Isa::all_available() {
            let mut room = [f32::NAN; PIXELS];
            // SAFETY: as above.
            unsafe { dispatch(isa, Once(&mut room)) };
            let (written, rest) = room.split_at(written(lanes(isa)));
            assert!(written.iter().all(|x| x.is_finite()), "{isa:?}: {room:?}");
            assert!(rest.iter().all(|x| x.is_nan()), "{isa:?}: {room:?}");
        }
    }
}
