//! What the multistep solvers share: the grid of timesteps and sigmas, levels as logarithms, and the outputs that are remembered.
//! Apart from DPM-Solver and UniPC because the two differ only in what they make of these.

use std::collections::VecDeque;

use super::arrays::at;
use super::asked::{Grid, wrong};
use super::prediction::{Level, Prediction};
use crate::error::Result;

/// How much picture and noise there is, and half the logarithm of their ratio squared (λ).
#[derive(Debug, Clone, Copy)]
pub(super) struct LogLevel {
    pub alpha: f32,
    pub sigma: f32,
    pub lambda: f32,
}

/// The sigmas of a run, of a noise model or of a flow.
#[derive(Debug, Clone)]
pub(super) struct Levels {
    sigmas: Vec<f32>,
    flow: bool,
}

impl Levels {
    pub fn new(grid: &Grid, flow: bool) -> Self {
        Self {
            sigmas: grid.sigmas.clone(),
            flow,
        }
    }

    /// The number of calls of the full run: one fewer than sigmas.
    pub fn calls(&self) -> usize {
        self.sigmas.len().saturating_sub(1)
    }

    /// `_sigma_to_alpha_sigma_t`.
    pub fn level(&self, index: usize) -> Level {
        let sigma = at(&self.sigmas, index);
        if self.flow {
            return Level {
                alpha: 1.0 - sigma,
                sigma,
            };
        }
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        Level {
            alpha,
            sigma: sigma * alpha,
        }
    }

    /// With the logarithm, which is infinite where there is no noise.
    pub fn log_level(&self, index: usize) -> LogLevel {
        let Level { alpha, sigma } = self.level(index);
        LogLevel {
            alpha,
            sigma,
            lambda: alpha.ln() - sigma.ln(),
        }
    }

    /// The level that a prediction is read at: a flow's sigma is itself even over sigmas of noise.
    pub fn read_at(&self, index: usize, prediction: Prediction) -> Level {
        let level = self.level(index);
        if prediction == Prediction::Flow {
            let sigma = at(&self.sigmas, index);
            return Level { sigma, ..level };
        }
        level
    }
}

/// The newest outputs, newest first.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    rows: VecDeque<Vec<f32>>,
    most: usize,
}

impl History {
    pub fn new(most: usize) -> Self {
        Self {
            rows: VecDeque::new(),
            most,
        }
    }

    /// Remembers an output, and forgets the oldest.
    pub fn push(&mut self, row: Vec<f32>) {
        self.rows.push_front(row);
        self.rows.truncate(self.most);
    }

    /// The output of so many calls ago.
    pub fn ago(&self, calls: usize) -> &[f32] {
        self.rows.get(calls).map_or(&[], Vec::as_slice)
    }
}

/// That every step has a length: a solver that divides by it would make numbers that are none. The last step may stand still where
/// its order is the first, which divides by nothing.
pub(super) fn check_falls(grid: &Grid, last_may_stand: bool) -> Result<()> {
    let last = grid.steps.saturating_sub(1);
    let falls = |(i, pair): (usize, &[f32])| match pair {
        [above, below] if i == last => last_may_stand || above != below,
        [above, below] => above > below,
        _ => true,
    };
    if grid.sigmas.windows(2).enumerate().all(falls) {
        return Ok(());
    }
    let message = format!(
        "{} steps have two of one sigma, between which a multistep solver cannot go: ask for fewer, or set another timestep_spacing or final_sigmas_type",
        grid.steps
    );
    Err(wrong("steps", message))
}

/// Timesteps cut to whole numbers, as these classes keep them.
pub(super) fn whole(timesteps: Vec<f64>) -> Vec<f64> {
    timesteps.into_iter().map(f64::trunc).collect()
}
