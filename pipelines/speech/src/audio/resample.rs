//! From any rate to any other in streaming fashion: a long low-pass applied in the frequency domain, block by block with
//! overlap, where changing the rate is keeping or adding bins. Output sample 0 stands at input sample 0 and n inputs
//! give ceil(n · to / from) outputs, as librosa counts.
//!
//! Why not a crate: realfft is here for the spectrogram anyway, and with it this is shorter than the handling of another
//! resampler's delay, chunk sizes and flushing would be. The filter's pass and stop bands are those of soxr's HQ (pass to
//! 0.913 of the lower Nyquist rate, stop from it on, 125 dB); tests/resample.rs holds the output against soxr's.

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// Where the pass band ends, as a share of the lower Nyquist rate; the stop band begins at 1.
const PASS: f64 = 0.913;
/// How far the stop band is down, in decibels.
const ATTENUATION: f64 = 125.0;
/// New input samples to a block at least; below this the overlap and the calls cost more than the transform.
const LEAST_BLOCK: usize = 1024;

/// The filter and the transforms for one pair of rates, shared by the channels.
pub struct Rates {
    from: u32,
    to: u32,
    /// New samples that a block takes and gives.
    step_in: usize,
    step_out: usize,
    /// The filter's response at each bin, with the inverse transform's scale in it.
    response: Vec<f32>,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rates({} -> {})", self.from, self.to)
    }
}

impl Rates {
    /// Plans the way from one rate to another, both above 0, in Hz.
    pub fn new(from: u32, to: u32) -> Arc<Self> {
        let (from, to) = (from.max(1), to.max(1));
        let divisor = gcd(from, to);
        let (unit_in, unit_out) = ((from / divisor) as usize, (to / divisor) as usize);
        let half = half_length(from, to);
        // A window is half new samples, a quarter past and a quarter future ones, so half the filter must fit a quarter;
        // a power of two of units, because units of usual rates are smooth numbers and the transform stays a fast one.
        let units = (2 * half)
            .max(LEAST_BLOCK)
            .div_ceil(unit_in)
            .next_power_of_two()
            .max(2);
        let (step_in, step_out) = (units * unit_in, units * unit_out);
        let mut planner = RealFftPlanner::<f32>::new();
        Arc::new(Self {
            from,
            to,
            step_in,
            step_out,
            response: response(from, to, half, 2 * step_in),
            forward: planner.plan_fft_forward(2 * step_in),
            inverse: planner.plan_fft_inverse(2 * step_out),
        })
    }

    /// Outputs for so many inputs in all.
    pub fn outputs(&self, inputs: u64) -> u64 {
        let exact = u128::from(inputs) * u128::from(self.to);
        u64::try_from(exact.div_ceil(u128::from(self.from))).unwrap_or(u64::MAX)
    }
}

/// One channel's way from one rate to another.
#[derive(Debug)]
pub struct Resampler {
    rates: Arc<Rates>,
    /// Past, new and future samples: two steps long when it is full.
    window: Vec<f32>,
    taken: u64,
    given: u64,
    work: Work,
}

/// Buffers of the transforms, kept from block to block.
#[derive(Debug)]
struct Work {
    time: Vec<f32>,
    bins_in: Vec<Complex32>,
    bins_out: Vec<Complex32>,
    out: Vec<f32>,
    scratch_in: Vec<Complex32>,
    scratch_out: Vec<Complex32>,
}

impl Resampler {
    /// At the beginning of a channel.
    pub fn new(rates: &Arc<Rates>) -> Self {
        let rates = Arc::clone(rates);
        let (forward, inverse) = (&rates.forward, &rates.inverse);
        let work = Work {
            time: forward.make_input_vec(),
            bins_in: forward.make_output_vec(),
            bins_out: inverse.make_input_vec(),
            out: inverse.make_output_vec(),
            scratch_in: forward.make_scratch_vec(),
            scratch_out: inverse.make_scratch_vec(),
        };
        Self {
            // Silence before the first sample.
            window: vec![0.0; rates.step_in / 2],
            rates,
            taken: 0,
            given: 0,
            work,
        }
    }

    /// Takes samples and appends those that are final to `out`. The last ones come with [`Resampler::finish`].
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        if self.rates.from == self.rates.to {
            out.extend_from_slice(samples);
            return;
        }
        self.taken += samples.len() as u64;
        let full = 2 * self.rates.step_in;
        let mut rest = samples;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(full - self.window.len()));
            self.window.extend_from_slice(now);
            rest = later;
            if self.window.len() == full {
                self.block(out);
            }
        }
    }

    /// Appends what is left, and begins anew.
    pub fn finish(&mut self, out: &mut Vec<f32>) {
        let wanted = self.rates.outputs(self.taken);
        while self.given < wanted {
            self.window.resize(2 * self.rates.step_in, 0.0);
            let before = out.len();
            self.block(out);
            let over = self.given.saturating_sub(wanted);
            let kept =
                (out.len() - before).saturating_sub(usize::try_from(over).unwrap_or(usize::MAX));
            out.truncate(before + kept);
        }
        self.window.clear();
        self.window.resize(self.rates.step_in / 2, 0.0);
        (self.taken, self.given) = (0, 0);
    }

    /// Filters one full window, gives its middle half, and moves it on.
    fn block(&mut self, out: &mut Vec<f32>) {
        let (rates, work) = (&self.rates, &mut self.work);
        work.time.copy_from_slice(&self.window);
        // The transforms fail only on buffers of a wrong length, and these are the planner's own.
        let done = rates
            .forward
            .process_with_scratch(&mut work.time, &mut work.bins_in, &mut work.scratch_in)
            .is_ok();
        work.bins_out.fill(Complex32::new(0.0, 0.0));
        let last = work.bins_out.len() - 1;
        let kept = work
            .bins_out
            .iter_mut()
            .take(last)
            .zip(&work.bins_in)
            .zip(&rates.response);
        for ((to, from), response) in kept {
            *to = *from * *response;
        }
        // A real signal has no imaginary part at 0; rounding may leave one, which the inverse would refuse.
        if let Some(first) = work.bins_out.first_mut() {
            first.im = 0.0;
        }
        let done = done
            && rates
                .inverse
                .process_with_scratch(&mut work.bins_out, &mut work.out, &mut work.scratch_out)
                .is_ok();
        debug_assert!(done, "the planner's own buffers fit");
        let quarter = rates.step_out / 2;
        out.extend_from_slice(&work.out[quarter..quarter + rates.step_out]);
        self.given += rates.step_out as u64;
        self.window.drain(..rates.step_in);
    }
}

/// Half the filter's length in input samples, by Kaiser's formula for the width of its transition.
fn half_length(from: u32, to: u32) -> usize {
    let lower = f64::from(from.min(to)) / f64::from(from);
    let width = std::f64::consts::PI * (1.0 - PASS) * lower;
    // As usize: a few thousands at most, for 768 kHz.
    ((ATTENUATION - 7.95) / (2.285 * width) / 2.0).ceil() as usize + 1
}

/// The real response of the zero-phase filter at the bins of a transform of `length`.
fn response(from: u32, to: u32, half: usize, length: usize) -> Vec<f32> {
    let lower = f64::from(from.min(to)) / f64::from(from);
    let cutoff = lower * (1.0 + PASS) / 2.0;
    let beta = 0.1102 * (ATTENUATION - 8.7);
    let tap = |n: usize| {
        let x = n as f64;
        let window =
            bessel0(beta * (1.0 - (x / half as f64).powi(2)).max(0.0).sqrt()) / bessel0(beta);
        let angle = std::f64::consts::PI * cutoff * x;
        let sinc = if n == 0 { 1.0 } else { angle.sin() / angle };
        cutoff * sinc * window
    };
    // Symmetric about 0 and wrapped around, so that the response is real.
    let mut taps = vec![0.0; length];
    for n in 0..=half.min(length / 2 - 1) {
        let value = tap(n);
        taps[n] = value;
        taps[(length - n) % length] = value;
    }
    let transform = RealFftPlanner::<f64>::new().plan_fft_forward(length);
    let mut bins = transform.make_output_vec();
    let done = transform.process(&mut taps, &mut bins).is_ok();
    debug_assert!(done, "the planner's own buffers fit");
    // Division by the forward length: neither transform is normalised.
    bins.iter().map(|b| (b.re / length as f64) as f32).collect()
}

/// The modified Bessel function of order 0, by its series (Abramowitz and Stegun, 9.6.12).
fn bessel0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..200 {
        term *= quarter / f64::from(k * k);
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    sum
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resampled(samples: &[f32], from: u32, to: u32, piece: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(&Rates::new(from, to));
        let mut out = Vec::new();
        for piece in samples.chunks(piece) {
            resampler.push(piece, &mut out);
        }
        resampler.finish(&mut out);
        out
    }

    fn tone(hertz: f64, rate: u32, count: usize) -> Vec<f32> {
        let step = std::f64::consts::TAU * hertz / f64::from(rate);
        (0..count).map(|n| (step * n as f64).sin() as f32).collect()
    }

    #[test]
    fn a_tone_comes_out_as_the_same_tone_with_no_delay() {
        for from in [
            8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 44_099, 96_000,
        ] {
            let count = from as usize;
            let out = resampled(&tone(997.0, from, count), from, 16_000, 777);
            assert_eq!(out.len(), 16_000, "from {from}");
            let expected = tone(997.0, 16_000, 16_000);
            // The ends, where the tone begins and stops, ring.
            let middle = 1_000..15_000;
            let noise: f64 = out[middle.clone()]
                .iter()
                .zip(&expected[middle])
                .map(|(a, b)| f64::from(a - b).powi(2))
                .sum::<f64>()
                / 14_000.0;
            let ratio = 10.0 * (0.5 / noise).log10();
            assert!(ratio > 100.0, "from {from}: {ratio:.1} dB");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone() {
        let out = resampled(&tone(9_000.0, 48_000, 48_000), 48_000, 16_000, 4_096);
        let loudest = out[1_000..15_000].iter().fold(0f32, |m, s| m.max(s.abs()));
        assert!(loudest < 3e-6, "{loudest}");
    }

    #[test]
    fn pieces_of_any_size_give_the_same_samples() {
        let samples = tone(440.0, 44_100, 10_007);
        let whole = resampled(&samples, 44_100, 16_000, usize::MAX >> 1);
        for piece in [1, 2, 1_023, 4_096] {
            assert_eq!(resampled(&samples, 44_100, 16_000, piece), whole);
        }
    }

    #[test]
    fn the_length_is_the_exact_one_rounded_up() {
        for (from, to, n) in [
            (44_100, 16_000, 1),
            (48_000, 16_000, 4),
            (8_000, 16_000, 3),
            (44_100, 16_000, 100_001),
            (1_000, 16_000, 7),
        ] {
            let out = resampled(&vec![0.5; n], from, to, 100);
            let exact = (n as u64 * u64::from(to)).div_ceil(u64::from(from));
            assert_eq!(out.len() as u64, exact, "{n} samples from {from} to {to}");
        }
        assert_eq!(resampled(&[], 44_100, 16_000, 1), [] as [f32; 0]);
    }

    #[test]
    fn the_same_rate_is_a_copy() {
        let samples = tone(440.0, 16_000, 1_234);
        assert_eq!(resampled(&samples, 16_000, 16_000, 100), samples);
    }

    #[test]
    fn rates_at_the_edges_work() {
        for from in [1_000, 767_999, 768_000] {
            let out = resampled(&vec![0.25; from as usize], from, 16_000, 10_000);
            assert_eq!(out.len(), 16_000, "from {from}");
            assert!(
                (out[8_000] - 0.25).abs() < 1e-4,
                "from {from}: {}",
                out[8_000]
            );
        }
    }
}
