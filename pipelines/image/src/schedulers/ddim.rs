//! DDIM (Song et al., "Denoising Diffusion Implicit Models"). Mirrors `DDIMScheduler` in diffusers' `scheduling_ddim.py`.

use std::sync::Arc;

use super::arrays::at;
use super::asked::{Asked, Grid, Wanted, not_taken, wrong};
use super::betas::{self, ZeroSnr};
use super::prediction::{self, Clip, Level, Prediction};
use super::reader::Reader;
use super::solver::{Move, Solve};
use super::spacing::{Spacing, Timesteps};
use crate::error::Result;

const NAME: &str = "DDIMScheduler";

/// What scheduler_config.json says.
#[derive(Debug, Clone)]
pub(super) struct Config {
    alphas: Arc<[f32]>,
    timesteps: Timesteps,
    prediction: Prediction,
    clip: Clip,
    set_alpha_to_one: bool,
}

impl Config {
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        let defaults = betas::Defaults {
            zero_snr: ZeroSnr::Zero,
            ..betas::USUAL
        };
        Ok(Self {
            alphas: betas::alphas(reader, &defaults)?,
            timesteps: Timesteps::read(reader, Spacing::Leading)?,
            prediction: reader.choice("prediction_type", prediction::USUAL, Prediction::Epsilon)?,
            clip: Clip::thresholding(reader)?.and_clipping(reader, true)?,
            set_alpha_to_one: reader.flag("set_alpha_to_one", true)?,
        })
    }

    pub fn grid(&self, wanted: Wanted<'_>) -> Result<Grid> {
        let Wanted::Steps(steps) = wanted else {
            return Err(not_taken("timesteps, sigmas", NAME, "say how many steps"));
        };
        let laid = self.timesteps.lay(steps).into_iter();
        let timesteps: Vec<f64> = laid.map(f64::round_ties_even).collect();
        check_timesteps(&timesteps, &self.alphas, self.prediction)?;
        Ok(Grid {
            steps,
            timesteps,
            ..Grid::default()
        })
    }

    pub fn solver(&self, grid: &Grid, asked: &Asked) -> Result<Solver> {
        let eta = asked.eta.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&eta) {
            return Err(wrong("eta", format!("{eta} is not a number from 0 to 1")));
        }
        let gap = (self.timesteps.train / grid.steps) as f64;
        let last = if self.set_alpha_to_one {
            1.0
        } else {
            at(&self.alphas, 0)
        };
        let levels = grid.timesteps.iter().map(|t| {
            let before = t - gap;
            let alpha = at(&self.alphas, *t as usize);
            let next = if before >= 0.0 {
                at(&self.alphas, before as usize)
            } else {
                last
            };
            (alpha, next)
        });
        Ok(Solver {
            levels: levels.collect(),
            prediction: self.prediction,
            clip: self.clip,
            eta: eta as f32,
        })
    }
}

/// That all timesteps are in the table, and that none asks a picture of a prediction of noise where there is nothing but noise.
pub(super) fn check_timesteps(
    timesteps: &[f64],
    alphas: &[f32],
    prediction: Prediction,
) -> Result<()> {
    for t in timesteps {
        let Some(alpha) = alphas.get(*t as usize).filter(|_| *t >= 0.0) else {
            let most = alphas.len();
            let message = format!(
                "they lead to timestep {t}, and there are {most}: ask for fewer steps or a smaller steps_offset"
            );
            return Err(wrong("steps, steps_offset", message));
        };
        if *alpha == 0.0 && prediction == Prediction::Epsilon {
            let message = format!(
                "with rescale_betas_zero_snr there is nothing but noise at timestep {t}, of which \"epsilon\" says nothing: it wants \"v_prediction\" or \"sample\""
            );
            return Err(wrong("prediction_type", message));
        }
    }
    Ok(())
}

/// DDIM within a run.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    /// ᾱ at each call, and after it.
    levels: Vec<(f32, f32)>,
    prediction: Prediction,
    clip: Clip,
    eta: f32,
}

impl Solve for Solver {
    fn advance(&mut self, mut step: Move<'_>) {
        let (alpha, next) = self.levels.get(step.index).copied().unwrap_or((1.0, 1.0));
        let level = Level::of_alpha_bar(alpha);
        let prediction = self.prediction;
        step.foretell(|sample, output| prediction.original(level, sample, output));
        self.clip.apply(step.original);
        let variance = (1.0 - next) / (1.0 - alpha) * (1.0 - alpha / next);
        let deviation = self.eta * variance.sqrt();
        let direction = (1.0 - next - deviation * deviation).sqrt();
        let kept = next.sqrt();
        let rows = step.latents.iter_mut().zip(step.output);
        for ((sample, output), original) in rows.zip(&*step.original) {
            let epsilon = prediction.epsilon(level, *sample, *output);
            *sample = kept * original + direction * epsilon;
        }
        if self.eta > 0.0 {
            let noise = step.fresh();
            for (sample, noise) in step.latents.iter_mut().zip(noise) {
                *sample += deviation * noise;
            }
        }
    }

    fn mixture(&self, index: usize) -> (f32, f32) {
        let (alpha, _) = self.levels.get(index).copied().unwrap_or((1.0, 1.0));
        let level = Level::of_alpha_bar(alpha);
        (level.alpha, level.sigma)
    }
}
