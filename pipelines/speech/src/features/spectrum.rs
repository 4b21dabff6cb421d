//! One frame of samples into log-mel energies: Hann window, power spectrum, filters, logarithm. In f64, because the
//! quietest bins that survive the clamp lie 80 dB under the loudest, where an f32 transform is off by more than the 1e-5
//! that is asked for (measured: 9e-6 at best, and torch's own f32 path 3e-5 off transformers' f64 one).

use std::sync::Arc;

use realfft::num_complex::Complex64;
use realfft::{RealFftPlanner, RealToComplex};

use super::config::MelConfig;
use super::filters::Filters;

/// Energies below this count as this (`mel_floor`).
const FLOOR: f64 = 1e-10;

/// The plan, shared by everyone who makes frames of one kind.
pub(super) struct Plan {
    pub(super) config: MelConfig,
    window: Vec<f64>,
    filters: Filters,
    transform: Arc<dyn RealToComplex<f64>>,
}

/// Buffers of one worker.
pub(super) struct Work {
    frame: Vec<f64>,
    bins: Vec<Complex64>,
    scratch: Vec<Complex64>,
    power: Vec<f64>,
}

impl Plan {
    pub(super) fn new(config: MelConfig) -> Self {
        let count = config.n_fft;
        // Periodic: the window of count + 1 without its last sample.
        let hann = |n: usize| 0.5 - 0.5 * (std::f64::consts::TAU * n as f64 / count as f64).cos();
        Self {
            window: (0..count).map(hann).collect(),
            filters: Filters::new(config.bins, count, config.sampling_rate),
            transform: RealFftPlanner::<f64>::new().plan_fft_forward(count),
            config,
        }
    }

    pub(super) fn work(&self) -> Work {
        let bins = self.transform.make_output_vec();
        Work {
            frame: self.transform.make_input_vec(),
            power: vec![0.0; bins.len()],
            bins,
            scratch: self.transform.make_scratch_vec(),
        }
    }

    /// Appends the base-10 logarithms of one frame's mel energies; `samples` are `n_fft` of them.
    pub(super) fn frame(&self, samples: &[f32], work: &mut Work, out: &mut Vec<f32>) {
        for ((to, sample), weight) in work.frame.iter_mut().zip(samples).zip(&self.window) {
            *to = f64::from(*sample) * weight;
        }
        let done =
            self.transform
                .process_with_scratch(&mut work.frame, &mut work.bins, &mut work.scratch);
        debug_assert!(done.is_ok(), "the planner's own buffers fit");
        for (power, bin) in work.power.iter_mut().zip(&work.bins) {
            *power = bin.norm_sqr();
        }
        let energies = self.filters.apply(&work.power);
        out.extend(energies.map(|e| e.max(FLOOR).log10() as f32));
    }
}
