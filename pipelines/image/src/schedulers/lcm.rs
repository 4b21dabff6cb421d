//! Latent consistency models (Luo et al., 2023). Mirrors `LCMScheduler` in diffusers' `scheduling_lcm.py`.

use std::sync::Arc;

use super::arrays::{at, linspace};
use super::asked::{Grid, Wanted, not_taken, whole_timesteps, wrong};
use super::betas::{self, Schedule, ZeroSnr};
use super::ddim::check_timesteps;
use super::prediction::{self, Clip, Level, Prediction};
use super::reader::Reader;
use super::solver::{Move, Solve};
use crate::error::Result;

/// The data's deviation that the boundary condition is made for.
const SIGMA_DATA: f32 = 0.5;

/// What scheduler_config.json says. `set_alpha_to_one`, `steps_offset` and `timestep_spacing` are fields of the class that its steps
/// never look at.
#[derive(Debug, Clone)]
pub(super) struct Config {
    alphas: Arc<[f32]>,
    original_steps: usize,
    prediction: Prediction,
    clip: Clip,
    timestep_scaling: f32,
}

impl Config {
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        let defaults = betas::Defaults {
            start: 0.00085,
            end: 0.012,
            schedule: Schedule::ScaledLinear,
            more: &[],
            zero_snr: ZeroSnr::Zero,
        };
        let train = betas::train_steps(reader)?;
        Ok(Self {
            alphas: betas::alphas(reader, &defaults)?,
            original_steps: reader.whole("original_inference_steps", 1..=train, 50.min(train))?,
            prediction: reader.choice("prediction_type", prediction::USUAL, Prediction::Epsilon)?,
            clip: Clip::thresholding(reader)?.and_clipping(reader, false)?,
            timestep_scaling: reader.number_or("timestep_scaling", 0.0..=1e6, 10.0)? as f32,
        })
    }

    pub fn grid(&self, wanted: Wanted<'_>) -> Result<Grid> {
        let timesteps = match wanted {
            Wanted::Steps(steps) => self.lay(steps)?,
            Wanted::Timesteps(list) => whole_timesteps(list)?,
            Wanted::Sigmas(_) => {
                return Err(not_taken(
                    "sigmas",
                    "LCMScheduler",
                    "give steps or timesteps",
                ));
            }
        };
        check_timesteps(&timesteps, &self.alphas, self.prediction)?;
        Ok(Grid {
            steps: timesteps.len(),
            timesteps,
            ..Grid::default()
        })
    }

    /// Some of the timesteps that the model was distilled on.
    fn lay(&self, steps: usize) -> Result<Vec<f64>> {
        let original = self.original_steps;
        if steps > original {
            let message = format!(
                "{steps} are more than the {original} of original_inference_steps: ask for fewer, or set that field"
            );
            return Err(wrong("steps", message));
        }
        let gap = self.alphas.len() / original;
        // numpy.linspace(0, original, steps, endpoint=False): the first of one more.
        let positions = linspace(0.0, original as f64, steps + 1);
        let picked = positions.iter().take(steps).map(|position| {
            let index = position.floor() as usize;
            ((original - index) * gap) as f64 - 1.0
        });
        Ok(picked.collect())
    }

    pub fn solver(&self, grid: &Grid) -> Solver {
        let alpha = |t: &f64| at(&self.alphas, *t as usize);
        let next = grid.timesteps.iter().skip(1).map(|t| Some(alpha(t)));
        let next = next.chain(std::iter::once(None));
        let leaps = grid.timesteps.iter().zip(next).map(|(t, next)| {
            let scaled = *t as f32 * self.timestep_scaling;
            let square = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
            Leap {
                alpha: alpha(t),
                next,
                skip: SIGMA_DATA * SIGMA_DATA / square,
                out: scaled / square.sqrt(),
            }
        });
        Solver {
            leaps: leaps.collect(),
            prediction: self.prediction,
            clip: self.clip,
        }
    }
}

/// ᾱ at a call and after it (nothing after the last of the full run), and the boundary condition's weights.
#[derive(Debug, Clone, Copy)]
struct Leap {
    alpha: f32,
    next: Option<f32>,
    skip: f32,
    out: f32,
}

/// LCM within a run.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    leaps: Vec<Leap>,
    prediction: Prediction,
    clip: Clip,
}

impl Solve for Solver {
    fn advance(&mut self, mut step: Move<'_>) {
        let Some(leap) = self.leaps.get(step.index).copied() else {
            return;
        };
        let level = Level::of_alpha_bar(leap.alpha);
        let prediction = self.prediction;
        step.foretell(|sample, output| prediction.original(level, sample, output));
        self.clip.apply(step.original);
        for (original, sample) in step.original.iter_mut().zip(&*step.latents) {
            *original = leap.out * *original + leap.skip * sample;
        }
        let Some(next) = leap.next.map(Level::of_alpha_bar) else {
            step.latents.copy_from_slice(step.original);
            return;
        };
        let noise = step.fresh();
        let rows = step.latents.iter_mut().zip(&*step.original);
        for ((sample, original), noise) in rows.zip(noise) {
            *sample = next.alpha * original + next.sigma * noise;
        }
    }

    fn mixture(&self, index: usize) -> (f32, f32) {
        let alpha = self.leaps.get(index).map_or(1.0, |leap| leap.alpha);
        let level = Level::of_alpha_bar(alpha);
        (level.alpha, level.sigma)
    }
}
