//! Norms over groups of channels of a picture, and the activation behind them: two passes over a group's memory.
//! Apart from `norms`, whose rows fit L1 and have a weight for every number; a group here is up to megabytes.

use super::elementwise::{Curve, curve};
use super::lanes::Lanes;
use super::parallel::{self, Shared};
use super::tile::{load_some, store_some};
use super::{Isa, Kernel, dispatch};

/// Numbers whose mean and deviations are taken at a time: 16 KiB, in L1 for the second look.
const CHUNK: usize = 4096;
/// Sums side by side, so that additions do not wait for each other.
const SUMS: usize = 4;

/// A norm of `x` [batch, channels, plane]; lengths have been checked by whoever makes it.
#[derive(Clone, Copy)]
pub(crate) struct GroupNorm<'a> {
    pub(crate) x: &'a [f32],
    /// Pixels of a channel.
    pub(crate) plane: usize,
    /// Groups of a sample; they divide the channels.
    pub(crate) groups: usize,
    /// A number for each channel.
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    /// Added to the variance.
    pub(crate) eps: f64,
    pub(crate) activation: Option<Curve>,
}

/// Norms into `out`, of which every number is written and none read.
///
/// # Safety
/// `x` is whole samples of `weight.len()` channels of `plane` pixels, and `out` is as long.
pub(crate) unsafe fn group_norm(isa: Isa, norm: &GroupNorm<'_>, out: *mut f32) {
    let channels = norm.weight.len();
    let sample = (channels * norm.plane).max(1);
    let out = Shared(out);
    let tasks = norm.x.len() / sample * norm.groups;
    parallel::for_each(tasks, norm.x.len() * 8, |task| {
        let group = Group {
            norm,
            channel: task % norm.groups * (channels / norm.groups),
            start: task * (sample / norm.groups),
            out,
        };
        // SAFETY: the caller's promise; groups are disjoint parts of `out`.
        unsafe { dispatch(isa, group) }
    });
}

/// One group of a sample.
struct Group<'a> {
    norm: &'a GroupNorm<'a>,
    /// Its first channel.
    channel: usize,
    /// Where it starts in `x`.
    start: usize,
    out: Shared<f32>,
}

impl Kernel for Group<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let GroupNorm { x, plane, .. } = *self.norm;
        let channels = self.norm.weight.len() / self.norm.groups;
        // SAFETY: the group is inside `x` and `out`, its channels are inside weight and bias.
        unsafe {
            let at = x.as_ptr().add(self.start);
            let moments = Moments::of::<L>(at, channels * plane);
            let scale = 1.0 / (moments.squares / moments.count + self.norm.eps).sqrt();
            let mean = L::splat(moments.mean as f32);
            for c in 0..channels {
                let weight = *self.norm.weight.get_unchecked(self.channel + c);
                let bias = L::splat(*self.norm.bias.get_unchecked(self.channel + c));
                let scale = L::splat((f64::from(weight) * scale) as f32);
                let from = at.add(c * plane);
                let to = self.out.get().add(self.start + c * plane);
                for i in (0..plane).step_by(L::WIDTH) {
                    let x = load_some::<L>(from.add(i), plane - i);
                    let mut y = L::mul_add(L::sub(x, mean), scale, bias);
                    if let Some(activation) = self.norm.activation {
                        y = curve::<L>(activation, y);
                    }
                    store_some::<L>(to.add(i), plane - i, y);
                }
            }
        }
    }
}

/// Mean and sum of squared deviations of some numbers.
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Chunk by chunk, each about its own mean, and put together as Chan, Golub and LeVeque (1979) do it: a mean far from zero
    /// costs no digits.
    #[inline(always)]
    unsafe fn of<L: Lanes>(at: *const f32, len: usize) -> Self {
        let mut all = Self {
            count: 0.0,
            mean: 0.0,
            squares: 0.0,
        };
        for start in (0..len).step_by(CHUNK) {
            let len = CHUNK.min(len - start);
            // SAFETY: the caller's promise: `len` numbers.
            unsafe {
                let at = at.add(start);
                let count = len as f64;
                let mean = sum::<L>(at, len, None) / len as f32;
                let squares = f64::from(sum::<L>(at, len, Some(mean)));
                let total = all.count + count;
                let apart = f64::from(mean) - all.mean;
                all.mean += apart * count / total;
                all.squares += squares + apart * apart * all.count * count / total;
                all.count = total;
            }
        }
        all
    }
}

/// Σ x, or Σ (x − mean)².
#[inline(always)]
unsafe fn sum<L: Lanes>(at: *const f32, len: usize, mean: Option<f32>) -> f32 {
    let step = SUMS * L::WIDTH;
    let whole = len - len % step;
    // SAFETY: the caller's promise: `len` numbers.
    unsafe {
        let mut sums = [L::splat(0.0); SUMS];
        for i in (0..whole).step_by(step) {
            for s in 0..SUMS {
                let x = L::load(at.add(i + s * L::WIDTH));
                sums[s] = match mean {
                    Some(mean) => {
                        let off = L::sub(x, L::splat(mean));
                        L::mul_add(off, off, sums[s])
                    }
                    None => L::add(sums[s], x),
                };
            }
        }
        let mut rest = 0.0;
        for i in whole..len {
            let x = *at.add(i);
            rest += match mean {
                Some(mean) => (x - mean) * (x - mean),
                None => x,
            };
        }
        L::sum(L::add(L::add(sums[0], sums[1]), L::add(sums[2], sums[3]))) + rest
    }
}
