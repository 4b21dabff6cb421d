//! Which of the training timesteps are visited (`timestep_spacing`, `steps_offset`), highest first.
//! Apart from the schedulers because all that train on noise share it; see table 2 of Lin et al., "Common Diffusion Noise Schedules
//! and Sample Steps are Flawed".

use super::arrays::{count_down, linspace};
use super::reader::Reader;
use crate::error::Result;

/// The fields that are read here.
pub(super) const FIELDS: &[&str] = &["timestep_spacing", "steps_offset"];

/// How the timesteps lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spacing {
    /// From the first to the last, evenly.
    Linspace,
    /// Counted from the lowest one.
    Leading,
    /// Counted from the highest one.
    Trailing,
}

/// Spacing and offset over the training timesteps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timesteps {
    pub spacing: Spacing,
    pub offset: usize,
    pub train: usize,
}

impl Timesteps {
    /// From a configuration.
    pub fn read(reader: &Reader<'_>, default: Spacing) -> Result<Self> {
        let train = super::betas::train_steps(reader)?;
        let words = [
            ("linspace", Spacing::Linspace),
            ("leading", Spacing::Leading),
            ("trailing", Spacing::Trailing),
        ];
        Ok(Self {
            spacing: reader.choice("timestep_spacing", &words, default)?,
            offset: reader.whole("steps_offset", 0..=train, 0)?,
            train,
        })
    }

    /// As DDIM, DDPM and Euler lay them. `linspace` is not rounded.
    pub fn lay(&self, steps: usize) -> Vec<f64> {
        match self.spacing {
            Spacing::Linspace => reversed(linspace(0.0, (self.train - 1) as f64, steps)),
            Spacing::Leading => self.leading(steps, self.train / steps),
            Spacing::Trailing => self.trailing(self.train, steps),
        }
    }

    /// As the multistep solvers lay them, which leave out the lowest of one more. `last` is the number of timesteps in use.
    pub fn lay_multistep(&self, steps: usize, last: usize) -> Vec<f64> {
        match self.spacing {
            Spacing::Linspace => {
                let all = linspace(0.0, last.saturating_sub(1) as f64, steps + 1);
                let rounded = all.into_iter().map(f64::round_ties_even).skip(1);
                reversed(rounded.collect())
            }
            Spacing::Leading => {
                let mut all = self.leading(steps + 1, last / (steps + 1));
                all.truncate(steps);
                all
            }
            Spacing::Trailing => self.trailing(last, steps),
        }
    }

    fn leading(&self, steps: usize, gap: usize) -> Vec<f64> {
        let up = (0..steps).map(|i| (i * gap + self.offset) as f64);
        up.rev().collect()
    }

    fn trailing(&self, last: usize, steps: usize) -> Vec<f64> {
        let gap = self.train as f64 / steps as f64;
        count_down(last as f64, gap, steps)
            .into_iter()
            .map(|t| t.round_ties_even() - 1.0)
            .collect()
    }
}

fn reversed(mut values: Vec<f64>) -> Vec<f64> {
    values.reverse();
    values
}
