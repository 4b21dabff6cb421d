//! DDPM (Ho et al., "Denoising Diffusion Probabilistic Models"). Mirrors `DDPMScheduler` in diffusers' `scheduling_ddpm.py`.

use std::sync::Arc;

use super::arrays::at;
use super::asked::{Grid, Wanted, not_taken, whole_timesteps};
use super::betas::{self, Schedule, ZeroSnr};
use super::ddim::check_timesteps;
use super::prediction::{self, Clip, Level, Prediction};
use super::reader::Reader;
use super::solver::{Move, Solve};
use super::spacing::{Spacing, Timesteps};
use crate::error::Result;

/// How much fresh noise a step adds.
#[derive(Debug, Clone, Copy)]
enum Variance {
    Small,
    SmallLog,
    Large,
}

/// What scheduler_config.json says.
#[derive(Debug, Clone)]
pub(super) struct Config {
    alphas: Arc<[f32]>,
    timesteps: Timesteps,
    prediction: Prediction,
    clip: Clip,
    variance: Variance,
}

impl Config {
    /// Learned variances are refused: no latent diffusion model has a scheduler with them, and they want another output of the model.
    /// `fixed_large_log` is refused because the reference takes the root of a negative number there.
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        let defaults = betas::Defaults {
            more: &[
                ("laplace", Schedule::Laplace),
                ("sigmoid", Schedule::Sigmoid),
            ],
            zero_snr: ZeroSnr::Zero,
            ..betas::USUAL
        };
        let variances = [
            ("fixed_small", Variance::Small),
            ("fixed_small_log", Variance::SmallLog),
            ("fixed_large", Variance::Large),
        ];
        Ok(Self {
            alphas: betas::alphas(reader, &defaults)?,
            timesteps: Timesteps::read(reader, Spacing::Leading)?,
            prediction: reader.choice("prediction_type", prediction::USUAL, Prediction::Epsilon)?,
            clip: Clip::thresholding(reader)?.and_clipping(reader, true)?,
            variance: reader.choice("variance_type", &variances, Variance::Small)?,
        })
    }

    pub fn grid(&self, wanted: Wanted<'_>) -> Result<Grid> {
        let timesteps = match wanted {
            Wanted::Steps(steps) => {
                let laid = self.timesteps.lay(steps).into_iter();
                laid.map(f64::round_ties_even).collect()
            }
            Wanted::Timesteps(list) => whole_timesteps(list)?,
            Wanted::Sigmas(_) => {
                return Err(not_taken(
                    "sigmas",
                    "DDPMScheduler",
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

    pub fn solver(&self, grid: &Grid) -> Solver {
        let alpha = |t: &f64| at(&self.alphas, *t as usize);
        let next = grid.timesteps.iter().skip(1).map(alpha);
        let next = next.chain(std::iter::once(1.0));
        let levels = grid.timesteps.iter().zip(next).map(|(t, next)| Leap {
            alpha: alpha(t),
            next,
            noisy: *t > 0.0,
        });
        Solver {
            levels: levels.collect(),
            prediction: self.prediction,
            clip: self.clip,
            variance: self.variance,
        }
    }
}

/// ᾱ before and after a call, and whether noise is added.
#[derive(Debug, Clone, Copy)]
struct Leap {
    alpha: f32,
    next: f32,
    noisy: bool,
}

impl Variance {
    /// The deviation of the fresh noise (`_get_variance` and what `step` makes of it).
    fn deviation(self, Leap { alpha, next, .. }: Leap) -> f32 {
        let beta = 1.0 - alpha / next;
        let small = ((1.0 - next) / (1.0 - alpha) * beta).max(1e-20);
        match self {
            Self::Small => small.sqrt(),
            Self::SmallLog => (0.5 * small.ln()).exp(),
            Self::Large => beta.sqrt(),
        }
    }
}

/// DDPM within a run.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    levels: Vec<Leap>,
    prediction: Prediction,
    clip: Clip,
    variance: Variance,
}

impl Solve for Solver {
    fn advance(&mut self, mut step: Move<'_>) {
        let Some(leap) = self.levels.get(step.index).copied() else {
            return;
        };
        let Leap { alpha, next, noisy } = leap;
        let level = Level::of_alpha_bar(alpha);
        let prediction = self.prediction;
        step.foretell(|sample, output| prediction.original(level, sample, output));
        self.clip.apply(step.original);
        let kept = alpha / next;
        let of_original = next.sqrt() * (1.0 - kept) / (1.0 - alpha);
        let of_sample = kept.sqrt() * (1.0 - next) / (1.0 - alpha);
        for (sample, original) in step.latents.iter_mut().zip(&*step.original) {
            *sample = of_original * original + of_sample * *sample;
        }
        if noisy {
            let deviation = self.variance.deviation(leap);
            let noise = step.fresh();
            for (sample, noise) in step.latents.iter_mut().zip(noise) {
                *sample += deviation * noise;
            }
        }
    }

    fn mixture(&self, index: usize) -> (f32, f32) {
        let alpha = self.levels.get(index).map_or(1.0, |leap| leap.alpha);
        let level = Level::of_alpha_bar(alpha);
        (level.alpha, level.sigma)
    }
}
