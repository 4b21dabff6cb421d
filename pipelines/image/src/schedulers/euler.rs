//! Euler's method over sigmas (Karras et al., algorithm 2, without its churn), and its ancestral form that adds fresh noise.
//! Mirrors `EulerDiscreteScheduler` and `EulerAncestralDiscreteScheduler` in diffusers' `scheduling_euler_discrete.py` and
//! `scheduling_euler_ancestral_discrete.py`.

use super::arrays::{at, linspace_f32};
use super::asked::{Grid, Wanted, not_taken, wrong};
use super::betas::{self, ZeroSnr};
use super::prediction::{self, Prediction};
use super::reader::Reader;
use super::sigmas::{Course, Final, Sigmas, Table};
use super::solver::{Move, Solve};
use super::spacing::{Spacing, Timesteps};
use crate::error::Result;

const NAME: &str = "EulerDiscreteScheduler";
const ANCESTRAL: &str = "EulerAncestralDiscreteScheduler";

/// `original_sample` is another word of this class for the picture.
const PREDICTIONS: &[(&str, Prediction)] = &[
    ("epsilon", Prediction::Epsilon),
    ("v_prediction", Prediction::Velocity),
    ("sample", Prediction::Sample),
    ("original_sample", Prediction::Sample),
];

/// What scheduler_config.json says.
#[derive(Debug, Clone)]
pub(super) struct Config {
    table: Table,
    timesteps: Timesteps,
    prediction: Prediction,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Plain(Plain),
    Ancestral,
}

/// What only the plain class has.
#[derive(Debug, Clone, Copy)]
struct Plain {
    sigmas: Sigmas,
    last: Final,
    log_linear: bool,
    /// The model is told a quarter of the sigma's logarithm.
    continuous: bool,
}

impl Config {
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        let prediction = reader.choice("prediction_type", PREDICTIONS, Prediction::Epsilon)?;
        let interpolations = [("linear", false), ("log_linear", true)];
        let types = [("discrete", false), ("continuous", true)];
        let continuous = reader.choice("timestep_type", &types, false)?;
        let plain = Plain {
            sigmas: Sigmas::read(reader)?,
            last: Final::read(reader)?,
            log_linear: reader.choice("interpolation_type", &interpolations, false)?,
            continuous: continuous && prediction == Prediction::Velocity,
        };
        Self::of(reader, &betas::USUAL, prediction, Kind::Plain(plain))
    }

    /// The grid of `LMSDiscreteScheduler`, whose Karras sigmas take no other ends.
    pub fn read_lms(reader: &Reader<'_>) -> Result<Self> {
        let prediction =
            reader.choice("prediction_type", prediction::USUAL, Prediction::Epsilon)?;
        let plain = Plain {
            sigmas: Sigmas::read(reader)?.with_own_ends_for_karras(),
            last: Final::Zero,
            log_linear: false,
            continuous: false,
        };
        let defaults = betas::Defaults {
            zero_snr: ZeroSnr::Unknown,
            ..betas::USUAL
        };
        Self::of(reader, &defaults, prediction, Kind::Plain(plain))
    }

    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    pub fn read_ancestral(reader: &Reader<'_>) -> Result<Self> {
        let words = prediction::NOISE_OR_VELOCITY;
        let prediction = reader.choice("prediction_type", words, Prediction::Epsilon)?;
        Self::of(reader, &betas::USUAL, prediction, Kind::Ancestral)
    }

    fn of(
        reader: &Reader<'_>,
        defaults: &betas::Defaults,
        prediction: Prediction,
        kind: Kind,
    ) -> Result<Self> {
        let alphas = betas::alphas(reader, defaults)?;
        Ok(Self {
            table: Table::new(&alphas),
            timesteps: Timesteps::read(reader, Spacing::Linspace)?,
            prediction,
            kind,
        })
    }

    pub fn grid(&self, wanted: Wanted<'_>) -> Result<Grid> {
        match (self.kind, wanted) {
            (Kind::Ancestral, Wanted::Steps(steps)) => Ok(self.ancestral_grid(steps)),
            (Kind::Ancestral, _) => Err(not_taken(
                "timesteps, sigmas",
                ANCESTRAL,
                "say how many steps",
            )),
            (Kind::Plain(plain), Wanted::Sigmas(sigmas)) => self.of_sigmas(plain, sigmas),
            (Kind::Plain(plain), Wanted::Steps(steps)) => {
                Ok(self.of_timesteps(plain, self.timesteps.lay(steps)))
            }
            (Kind::Plain(plain), Wanted::Timesteps(list)) => {
                if plain.sigmas.course != Course::Plain {
                    let instead = "with karras, exponential or beta sigmas say how many steps";
                    return Err(not_taken("timesteps", NAME, instead));
                }
                if plain.continuous {
                    let instead = "with timestep_type \"continuous\" give steps or sigmas";
                    return Err(not_taken("timesteps", NAME, instead));
                }
                Ok(self.of_timesteps(plain, list.to_vec()))
            }
        }
    }

    fn ancestral_grid(&self, steps: usize) -> Grid {
        let timesteps = single(self.timesteps.lay(steps));
        let laid = timesteps.iter().map(|t| self.table.at(*t) as f32);
        Grid {
            steps,
            sigmas: laid.chain(std::iter::once(0.0)).collect(),
            timesteps,
        }
    }

    fn of_timesteps(&self, plain: Plain, timesteps: Vec<f64>) -> Grid {
        let steps = timesteps.len();
        let mut timesteps = single(timesteps);
        let mut laid: Vec<f64> = if plain.log_linear {
            let ends = (self.table.highest().ln(), self.table.lowest().ln());
            let logs = linspace_f32(ends.0.into(), ends.1.into(), steps + 1).into_iter();
            logs.map(|log| f64::from(log.exp())).collect()
        } else {
            timesteps.iter().map(|t| self.table.at(*t)).collect()
        };
        let (first, last) = ends(&laid);
        if let Some(course) = plain.sigmas.lay(first, last, steps) {
            timesteps = course
                .iter()
                .map(|sigma| self.table.timestep_of(*sigma))
                .collect();
            laid = course;
        }
        let end = plain.last.sigma(self.table.lowest());
        let sigmas = laid.into_iter().map(|sigma| sigma as f32);
        let sigmas: Vec<f32> = sigmas.chain(std::iter::once(end)).collect();
        self.finish(plain, timesteps, sigmas)
    }

    fn of_sigmas(&self, plain: Plain, sigmas: &[f64]) -> Result<Grid> {
        let Some((_, calls)) = sigmas.split_last().filter(|(_, calls)| !calls.is_empty()) else {
            let message = format!(
                "{NAME} wants the last one too (0): {} numbers are not 2 or more",
                sigmas.len()
            );
            return Err(wrong("sigmas", message));
        };
        let timestep = |sigma: &f64| self.table.timestep_of_single(*sigma as f32);
        let timesteps = calls.iter().map(timestep).collect();
        let sigmas = sigmas.iter().map(|sigma| *sigma as f32).collect();
        Ok(self.finish(plain, timesteps, sigmas))
    }

    fn finish(&self, plain: Plain, timesteps: Vec<f64>, sigmas: Vec<f32>) -> Grid {
        let steps = timesteps.len();
        let timesteps = if plain.continuous {
            let calls = sigmas.iter().take(steps);
            calls.map(|sigma| f64::from(0.25 * sigma.ln())).collect()
        } else {
            single(timesteps)
        };
        Grid {
            steps,
            timesteps,
            sigmas,
        }
    }

    /// Whether the model's timesteps are those of training, by which a part of the course can be told.
    pub fn has_training_timesteps(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Plain(Plain {
                continuous: true,
                ..
            })
        )
    }

    pub fn init_noise_sigma(&self, grid: &Grid) -> f64 {
        init_noise_sigma(self.timesteps.spacing, grid)
    }

    pub fn solver(&self, grid: &Grid) -> Solver {
        Solver {
            sigmas: grid.sigmas.clone(),
            prediction: self.prediction,
            ancestral: matches!(self.kind, Kind::Ancestral),
        }
    }
}

/// The noise's deviation at the start of a run (`init_noise_sigma`).
pub(super) fn init_noise_sigma(spacing: Spacing, grid: &Grid) -> f64 {
    let highest = grid.sigmas.iter().copied().fold(0.0, f32::max);
    if spacing == Spacing::Leading {
        return f64::from((highest * highest + 1.0).sqrt());
    }
    f64::from(highest)
}

/// The first and the last of a course.
pub(super) fn ends(laid: &[f64]) -> (f64, f64) {
    let first = laid.first().copied().unwrap_or_default();
    (first, laid.last().copied().unwrap_or_default())
}

/// Rounded to f32, as the reference's timesteps are.
pub(super) fn single(timesteps: Vec<f64>) -> Vec<f64> {
    timesteps.into_iter().map(|t| f64::from(t as f32)).collect()
}

/// What the model's input is multiplied with, so that its deviation is one.
pub(super) fn input_scale(sigma: f32) -> f64 {
    1.0 / f64::from((sigma * sigma + 1.0).sqrt())
}

/// Euler within a run.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    sigmas: Vec<f32>,
    prediction: Prediction,
    ancestral: bool,
}

impl Solve for Solver {
    fn advance(&mut self, mut step: Move<'_>) {
        let (sigma, next) = (
            at(&self.sigmas, step.index),
            at(&self.sigmas, step.index + 1),
        );
        let prediction = self.prediction;
        step.foretell(|sample, output| prediction.original_of_unscaled(sigma, sample, output));
        let (up, down) = if self.ancestral {
            let up = (next * next * (sigma * sigma - next * next) / (sigma * sigma)).sqrt();
            (up, (next * next - up * up).sqrt())
        } else {
            (0.0, next)
        };
        let gap = down - sigma;
        for (sample, original) in step.latents.iter_mut().zip(&*step.original) {
            let derivative = (*sample - original) / sigma;
            *sample += derivative * gap;
        }
        if self.ancestral {
            let noise = step.fresh();
            for (sample, noise) in step.latents.iter_mut().zip(noise) {
                *sample += noise * up;
            }
        }
    }

    fn input_scale(&self, index: usize) -> f64 {
        input_scale(at(&self.sigmas, index))
    }

    fn mixture(&self, index: usize) -> (f32, f32) {
        (1.0, at(&self.sigmas, index))
    }
}
