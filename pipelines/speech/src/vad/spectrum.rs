//! One frame of 30 ms: its power spectrum, and the energy in bands that are as wide as the ear's. Everything that can be
//! said of a frame without knowing its neighbours.

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{RealFftPlanner, RealToComplex};

/// Samples a second that the detector hears; the audio reader gives this rate.
pub(super) const RATE: usize = 16_000;
/// From one frame to the next: 10 ms.
pub(super) const HOP: usize = RATE / 100;
/// Samples of a frame: two periods of the lowest voices.
const FRAME: usize = 480;
/// The transform's length. The frame's autocorrelation wraps around it, but only where the window has faded.
pub(super) const TRANSFORM: usize = 512;
/// Bands, from LOWEST to HIGHEST Hz on the mel scale.
pub(super) const BANDS: usize = 24;
const LOWEST: f32 = 80.0;
const HIGHEST: f32 = 7_600.0;
/// What counts as silence, of full scale squared and per band: 75 dB down. Quieter recordings are not recordings.
const SILENCE: f32 = 3e-8;

/// What is kept of a frame until its neighbours are known.
pub(super) struct Frame {
    /// Power at each frequency up to PITCH_BINS.
    pub(super) low: Vec<f32>,
    /// Decibels in each band.
    pub(super) bands: [f32; BANDS],
    /// Logarithm of the ratio of the geometric to the arithmetic mean of the power, 300 Hz to 5 kHz: 0 is flat.
    pub(super) flatness: f32,
}

/// Frequencies that are kept for finding a pitch: up to 2.5 kHz.
pub(super) const PITCH_BINS: usize = 81;

/// Cuts samples into frames.
pub(super) struct Spectra {
    window: Vec<f32>,
    transform: Arc<dyn RealToComplex<f32>>,
    time: Vec<f32>,
    bins: Vec<Complex32>,
    scratch: Vec<Complex32>,
    /// For each band, the bins from and to (exclusive).
    edges: Vec<(usize, usize)>,
    held: Vec<f32>,
}

impl Spectra {
    pub(super) fn new() -> Self {
        let transform = RealFftPlanner::<f32>::new().plan_fft_forward(TRANSFORM);
        let mut spectra = Self {
            window: hann(),
            time: transform.make_input_vec(),
            bins: transform.make_output_vec(),
            scratch: transform.make_scratch_vec(),
            transform,
            edges: edges(),
            held: Vec::new(),
        };
        spectra.reset();
        spectra
    }

    /// At the beginning of a recording: frame n is centred on sample n · HOP + HOP / 2.
    pub(super) fn reset(&mut self) {
        self.held.clear();
        self.held.resize((FRAME - HOP) / 2, 0.0);
    }

    /// Takes samples and hands over the frames that are complete.
    pub(super) fn push(&mut self, samples: &[f32], mut each: impl FnMut(Frame)) {
        self.held.extend_from_slice(samples);
        let mut at = 0;
        while at + FRAME <= self.held.len() {
            each(self.frame(at));
            at += HOP;
        }
        self.held.drain(..at);
    }

    /// Hands over the frames that the last samples still want.
    pub(super) fn finish(&mut self, wanted: u64, given: u64, mut each: impl FnMut(Frame)) {
        for _ in given..wanted {
            let missing = FRAME.saturating_sub(self.held.len());
            self.held.resize(self.held.len() + missing, 0.0);
            each(self.frame(0));
            self.held.drain(..HOP);
        }
    }

    fn frame(&mut self, at: usize) -> Frame {
        self.time.fill(0.0);
        let samples = self.held.get(at..).unwrap_or_default();
        for ((to, sample), weight) in self.time.iter_mut().zip(samples).zip(&self.window) {
            *to = sample * weight;
        }
        let done =
            self.transform
                .process_with_scratch(&mut self.time, &mut self.bins, &mut self.scratch);
        debug_assert!(done.is_ok(), "the planner's own buffers fit");
        let power: Vec<f32> = self.bins.iter().map(Complex32::norm_sqr).collect();
        let mut bands = [0.0; BANDS];
        for (band, (from, to)) in bands.iter_mut().zip(&self.edges) {
            let sum: f32 = power.get(*from..*to).unwrap_or_default().iter().sum();
            *band = 10.0 * (sum + SILENCE).log10();
        }
        Frame {
            flatness: flatness(power.get(10..160).unwrap_or_default()),
            low: power.get(..PITCH_BINS).unwrap_or_default().to_vec(),
            bands,
        }
    }
}

/// A Hann window whose squares add up to 1 over the transform, so that power is of full scale squared.
fn hann() -> Vec<f32> {
    let raw: Vec<f32> = (0..FRAME)
        .map(|n| 0.5 - 0.5 * (std::f32::consts::TAU * (n as f32 + 0.5) / FRAME as f32).cos())
        .collect();
    let energy: f32 = raw.iter().map(|w| w * w).sum::<f32>() * TRANSFORM as f32 / 2.0;
    raw.into_iter().map(|w| w / energy.sqrt()).collect()
}

/// For each band, the bins from and to (exclusive).
pub(super) fn edges() -> Vec<(usize, usize)> {
    let mel = |hertz: f32| 2595.0 * (1.0 + hertz / 700.0).log10();
    let hertz = |mel: f32| 700.0 * (10f32.powf(mel / 2595.0) - 1.0);
    let (low, high) = (mel(LOWEST), mel(HIGHEST));
    let bin = |edge: usize| {
        let at = hertz(low + (high - low) * edge as f32 / BANDS as f32);
        (at * TRANSFORM as f32 / RATE as f32).round() as usize
    };
    let mut from = bin(0);
    (1..=BANDS)
        .map(|edge| {
            // The lowest bands are narrower than a bin: each has one of its own.
            let to = bin(edge).max(from + 1);
            let band = (from, to);
            from = to;
            band
        })
        .collect()
}

fn flatness(power: &[f32]) -> f32 {
    let count = power.len().max(1) as f32;
    let arithmetic = power.iter().sum::<f32>() / count + SILENCE / count;
    let geometric = power
        .iter()
        .map(|p| (p + SILENCE / count).ln())
        .sum::<f32>()
        / count;
    geometric - arithmetic.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_scale_is_about_0_decibels_and_silence_the_floor() {
        let mut spectra = Spectra::new();
        let tone: Vec<f32> = (0..RATE).map(|n| (n as f32 * 0.4).sin()).collect();
        let mut frames = Vec::new();
        spectra.push(&tone, |f| frames.push(f));
        let power: f32 = frames[50].bands.iter().map(|b| 10f32.powf(b / 10.0)).sum();
        // A sine has half the power of full scale.
        assert!((power - 0.5).abs() < 0.01, "{power}");
        let mut silence = Vec::new();
        spectra.reset();
        spectra.push(&[0.0; 1600], |f| silence.push(f));
        assert!(
            silence[3].bands.iter().all(|b| (*b + 75.2).abs() < 0.1),
            "{:?}",
            silence[3].bands
        );
        assert!(silence[3].flatness.abs() < 1e-3 && frames[50].flatness < -5.0);
    }

    #[test]
    fn the_bands_follow_each_other_without_gaps() {
        let edges = edges();
        assert_eq!(edges.len(), BANDS);
        assert!(edges.windows(2).all(|e| e[0].1 == e[1].0));
        assert!(edges.iter().all(|(from, to)| from < to) && edges[BANDS - 1].1 <= TRANSFORM / 2);
    }

    #[test]
    fn every_ten_milliseconds_have_a_frame() {
        let mut spectra = Spectra::new();
        let mut count = 0;
        spectra.push(&vec![0.0; 16_123], |_| count += 1);
        spectra.finish(101, count, |_| count += 1);
        assert_eq!(count, 101);
    }
}
