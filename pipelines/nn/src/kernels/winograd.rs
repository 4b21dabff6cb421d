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
use super::tile::{Factors, VECTORS, Vectors, add_products, lanes};
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
/// Room for a row of pixels of a vector of tiles; for two, with a vector to load past the last.
const ROW: usize = 32;
const PIXELS: usize = 2 * ROW + 16;
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
                    for row in (row..self.outputs.end.min(row + L::WIDTH)).step_by(L::TILE_ROWS) {
                        self.rows::<L>(&chunk, row);
                    }
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

    /// As many rows as a tile has, from `row` on, against every panel of tiles.
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
        for first in (0..chunk.targets.len()).step_by(chunk.laid.panel) {
            // SAFETY: the caller's promise.
            unsafe {
                match chunk.laid.panel.min(chunk.targets.len() - first) {
                    1 => self.tile::<L, R, 1>(chunk, row, first),
                    2 => self.tile::<L, R, 2>(chunk, row, first),
                    _ => self.tile::<L, R, VECTORS>(chunk, row, first),
                }
            }
        }
    }

    /// R rows of the weight against the V vectors of the panel that starts with vector `first`, in every position.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const V: usize>(
        &self,
        chunk: &Chunk<'_>,
        row: usize,
        first: usize,
    ) {
        let laid = &chunk.laid;
        // SAFETY: inside what has been laid out and transformed.
        unsafe {
            let rows = self.room.add(self.rooms.widened);
            let kept = rows.add(self.rooms.transformed);
            for position in 0..POSITIONS {
                let row = (row - self.outputs.start) % L::WIDTH;
                let factors = Factors {
                    at: rows.add(position * (chunk.channels * L::WIDTH + PAD) + row),
                    row: 1,
                    step: L::WIDTH,
                };
                let panel = first / laid.panel * laid.panel_len + position * laid.tap;
                let vectors = Vectors {
                    at: laid.to.add(panel),
                    step: laid.channel,
                };
                let sums = [[L::splat(0.0); V]; R];
                let sums = add_products::<L, R, V>(sums, factors, vectors, chunk.channels);
                for r in 0..R {
                    for v in 0..V {
                        let at = (position * R + r) * V + v;
                        L::store(kept.add(at * L::WIDTH), sums[r][v]);
                    }
                }
            }
            for r in 0..R.min(self.outputs.end - row) {
                for v in 0..V {
                    let sums = kept.add((r * V + v) * L::WIDTH);
                    let pixels = pixels::<L>(sums, R * V * L::WIDTH);
                    self.put::<L>(chunk, first + v, row + r, &pixels);
                }
            }
        }
    }

    /// Two rows of twice as many pixels as a vector has tiles, to where its runs say.
    #[inline(always)]
    unsafe fn put<L: Lanes>(
        &self,
        chunk: &Chunk<'_>,
        vector: usize,
        row: usize,
        pixels: &MaybeUninit<[f32; PIXELS]>,
    ) {
        // SAFETY: runs are inside a channel of the output, and of the pixels.
        unsafe {
            let target = chunk.targets.get_unchecked(vector);
            let channel = target.sample * self.filters.outputs + row;
            let channel = channel * self.out_size[0] * self.out_size[1];
            for run in &target.runs {
                for y in 0..run.rows {
                    let from = pixels.as_ptr().cast::<f32>().add(y * ROW + 2 * run.lane);
                    for x in (0..run.pixels).step_by(L::WIDTH) {
                        let stretch = Stretch {
                            row,
                            at: channel + run.at + y * self.out_size[1] + x,
                            count: run.pixels - x,
                        };
                        // What is loaded past a run is the next one's, or room at the end; it is not stored.
                        let sum = L::load(from.add(x));
                        self.filters
                            .put::<L>(self.out.get(), stretch, chunk.ends, sum);
                    }
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

/// Aᵀ·m·A: the two rows of pixels of a vector of tiles, whose sums in the sixteen positions are `position` numbers apart.
#[inline(always)]
unsafe fn pixels<L: Lanes>(sums: *const f32, position: usize) -> MaybeUninit<[f32; PIXELS]> {
    let mut pixels = MaybeUninit::<[f32; PIXELS]>::uninit();
    let to = pixels.as_mut_ptr().cast::<f32>();
    // SAFETY: the caller's promise; a row of pixels is two vectors, of 16 lanes at most.
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
            L::store(to.add(y * ROW), low);
            L::store(to.add(y * ROW + L::WIDTH), high);
        }
        L::store(to.add(2 * ROW), L::splat(0.0));
    }
    pixels
}
