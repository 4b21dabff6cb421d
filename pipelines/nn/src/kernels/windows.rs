//! The windows of a convolution, laid out for the product as its vectors: one number of every window side by side.
//! Apart from `convolve`, which multiplies them: stride, padding and enlargement are known here only.

use super::lanes::Lanes;
use super::tile::VECTORS;
use crate::conv2d::Padding;
use crate::error::{NnError, Result};
use std::ops::Range;

/// Pictures and how windows go over them; lengths and sizes have been checked by whoever makes it.
#[derive(Clone, Copy)]
pub(crate) struct Windows<'a> {
    /// [batch, channels, height, width]
    pub(crate) x: &'a [f32],
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Height and width.
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: usize,
    pub(crate) padding: Padding,
    /// Whether windows see every pixel twice in both directions: nearest-neighbour enlargement by two.
    pub(crate) doubled: bool,
    /// Rows and columns of windows.
    pub(crate) out: [usize; 2],
}

impl Windows<'_> {
    /// Whether the picture is what its sizes say, and small enough for offsets of 32 bits.
    ///
    /// # Errors
    /// [`NnError::Input`] when it is not.
    pub(crate) fn check(&self) -> Result<()> {
        // Coordinates reach this far past the picture, at most.
        const LARGEST: usize = 1 << 28;
        let Padding {
            top,
            bottom,
            left,
            right,
        } = self.padding;
        let sizes = [
            self.height,
            self.width,
            top,
            bottom,
            left,
            right,
            self.stride,
        ];
        let sample = self.plane().checked_mul(self.channels);
        let fits = sizes.iter().all(|size| *size <= LARGEST)
            && self
                .height
                .checked_mul(self.width)
                .is_some_and(|plane| plane <= LARGEST)
            && sample.is_some_and(|sample| sample > 0 && self.x.len().is_multiple_of(sample));
        if fits {
            return Ok(());
        }
        Err(NnError::Input {
            what: "convolution",
            reason: format!(
                "{} numbers as {} channels of {}×{}; at most {LARGEST} pixels are read",
                self.x.len(),
                self.channels,
                self.height,
                self.width
            ),
        })
    }

    /// Pixels of a channel.
    pub(crate) fn plane(&self) -> usize {
        self.height * self.width
    }

    /// Windows of a sample: pixels of a channel of the output.
    pub(crate) fn per_sample(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Numbers of a window in one channel.
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Samples.
    pub(crate) fn batch(&self) -> usize {
        self.x.len() / (self.channels * self.plane())
    }

    /// The windows of vector `number`, counted over all samples. A sample's last vector may have fewer than its lanes, so that
    /// where windows lie in their vectors is the same in any company.
    #[inline(always)]
    pub(super) fn vector(&self, number: usize, lanes: usize) -> Place {
        let windows = self.per_sample();
        let in_sample = windows.div_ceil(lanes);
        let (sample, first) = (number / in_sample, number % in_sample * lanes);
        let mut place = Place {
            sample,
            first,
            count: lanes.min(windows - first),
            y: [OUTSIDE; 16],
            x: [OUTSIDE; 16],
        };
        for lane in 0..place.count {
            let (row, column) = ((first + lane) / self.out[1], (first + lane) % self.out[1]);
            place.y[lane] = (row * self.stride) as i32 - self.padding.top as i32;
            place.x[lane] = (column * self.stride) as i32 - self.padding.left as i32;
        }
        place
    }

    /// Where the lanes of a vector read the tap in row `ky` and column `kx` of the window.
    #[inline(always)]
    fn look(&self, place: &Place, ky: usize, kx: usize) -> Look {
        let double = u32::from(self.doubled);
        let (height, width) = (
            (self.height << double) as u32,
            (self.width << double) as u32,
        );
        let mut look = Look {
            offsets: [0; 16],
            inside: [0.0; 16],
        };
        for lane in 0..16 {
            let y = place.y[lane] + ky as i32;
            let x = place.x[lane] + kx as i32;
            // What is negative is large without its sign.
            let inside = (y as u32) < height && (x as u32) < width;
            let row = (y >> double).wrapping_mul(self.width as i32);
            look.offsets[lane] = row.wrapping_add(x >> double);
            look.inside[lane] = f32::from(u8::from(inside));
        }
        look
    }

    /// Lays out some channels of the windows of `places` in panels.
    ///
    /// # Safety
    /// As for [`Lanes`]: there is room for whole panels, and the places are of these windows.
    #[inline(always)]
    pub(super) unsafe fn lay_out<L: Lanes>(
        &self,
        places: &[Place],
        channels: &Range<usize>,
        laid: &Laid,
    ) {
        for (index, place) in places.iter().enumerate() {
            let first = index / laid.panel * laid.panel_len + index % laid.panel * L::WIDTH;
            let channel = place.sample * self.channels + channels.start;
            let from = From {
                x: self.x,
                start: channel * self.plane(),
                plane: self.plane(),
            };
            // SAFETY: channels of a sample that is there; inside the panel.
            unsafe {
                for tap in 0..self.taps() {
                    let look = self.look(place, tap / self.kernel[1], tap % self.kernel[1]);
                    let to = Steps {
                        at: laid.to.add(first + tap * laid.tap),
                        step: laid.channel,
                        count: channels.len(),
                    };
                    look.read::<L>(from, to);
                }
            }
        }
    }
}

/// Where vectors of windows go: how many are side by side in a panel, and numbers from one panel, channel or tap to the next.
#[derive(Clone, Copy)]
pub(super) struct Laid {
    pub(super) to: *mut f32,
    pub(super) panel: usize,
    pub(super) panel_len: usize,
    pub(super) channel: usize,
    pub(super) tap: usize,
}

/// Panels that `vectors` vectors are cut into, as even as they get: how many vectors each has.
pub(super) fn panel_of(vectors: usize) -> usize {
    vectors.div_ceil(vectors.div_ceil(VECTORS).max(1)).max(1)
}

/// A coordinate that is in no picture, whatever tap is added to it.
const OUTSIDE: i32 = i32::MIN / 2;

/// A vector of windows.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) sample: usize,
    /// Its first window, and how many it has.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Row and column of the picture where each window starts.
    y: [i32; 16],
    x: [i32; 16],
}

/// What the lanes of a vector read of a channel: an offset, and 1 or 0 for a pixel inside of the picture or outside.
struct Look {
    offsets: [i32; 16],
    inside: [f32; 16],
}

/// Where the first channel starts, and numbers from one to the next.
#[derive(Clone, Copy)]
struct From<'a> {
    x: &'a [f32],
    start: usize,
    plane: usize,
}

/// Where the vectors of one tap go, channel by channel.
#[derive(Clone, Copy)]
struct Steps {
    at: *mut f32,
    step: usize,
    count: usize,
}

impl Look {
    /// Reads the tap of `to.count` channels.
    #[inline(always)]
    unsafe fn read<L: Lanes>(&self, from: From<'_>, to: Steps) {
        let first = self.offsets[0];
        let (mut all, mut any) = (true, false);
        let (mut run, mut second) = (true, true);
        for lane in 0..L::WIDTH {
            all &= self.inside[lane] > 0.0;
            any |= self.inside[lane] > 0.0;
            run &= self.offsets[lane] == first.wrapping_add(lane as i32);
            second &= self.offsets[lane] == first.wrapping_add(2 * lane as i32);
        }
        // At an edge a run reads what lies beside the picture, as long as that is in memory, and forgets it.
        let start = from.start as isize + first as isize;
        let span = if run { L::WIDTH } else { 2 * L::WIDTH - 1 };
        let end = start + (from.plane * to.count.saturating_sub(1) + span) as isize;
        let in_memory = start >= 0 && end <= from.x.len() as isize;
        // SAFETY: lanes inside the picture are inside the channel, and runs in memory.
        unsafe {
            let inside = L::load(self.inside.as_ptr());
            for channel in 0..to.count {
                let at = to.at.add(channel * to.step);
                if !any {
                    L::store(at, L::splat(0.0));
                } else if in_memory && (run || second) {
                    let from = from.x.as_ptr().offset(start).add(channel * from.plane);
                    let mut v = L::load(from);
                    if !run {
                        // The second one ends with the last lane's number, and not past it.
                        v = L::every_second(v, L::load(from.add(L::WIDTH - 1)));
                    }
                    if !all {
                        v = L::zero_below(v, inside, 0.5);
                    }
                    L::store(at, v);
                } else {
                    let from = from.x.as_ptr().add(from.start + channel * from.plane);
                    for lane in 0..L::WIDTH {
                        let offset = self.offsets[lane];
                        *at.add(lane) = if self.inside[lane] > 0.0 {
                            *from.add(offset as usize)
                        } else {
                            0.0
                        };
                    }
                }
            }
        }
    }
}
