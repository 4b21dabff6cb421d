//! Heun's method, two model calls a step except the last, over sigmas of a noise model or of a flow. Mirrors `HeunDiscreteScheduler`
//! and `FlowMatchHeunDiscreteScheduler` in diffusers' `scheduling_heun_discrete.py` and `scheduling_flow_match_heun_discrete.py`.

use super::arrays::at;
use super::asked::{Grid, Wanted, not_taken};
use super::betas::{self, Schedule, ZeroSnr};
use super::euler::{ends, init_noise_sigma, input_scale, single};
use super::flow_match;
use super::prediction::{self, Clip, Prediction};
use super::reader::Reader;
use super::sigmas::{Course, Sigmas, Table};
use super::solver::{Move, Solve};
use super::spacing::{Spacing, Timesteps};
use crate::error::Result;

/// What scheduler_config.json says, of a noise model.
#[derive(Debug, Clone)]
pub(super) struct Config {
    table: Table,
    timesteps: Timesteps,
    prediction: Prediction,
    clip: Clip,
    sigmas: Sigmas,
}

impl Config {
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        let defaults = betas::Defaults {
            start: 0.00085,
            end: 0.012,
            schedule: Schedule::Linear,
            more: &[("exp", Schedule::Exponential)],
            zero_snr: ZeroSnr::Unknown,
        };
        let alphas = betas::alphas(reader, &defaults)?;
        Ok(Self {
            table: Table::new(&alphas),
            timesteps: Timesteps::read(reader, Spacing::Linspace)?,
            prediction: reader.choice("prediction_type", prediction::USUAL, Prediction::Epsilon)?,
            clip: Clip::none().and_clipping(reader, false)?,
            sigmas: Sigmas::read(reader)?,
        })
    }

    pub fn grid(&self, wanted: Wanted<'_>) -> Result<Grid> {
        let name = "HeunDiscreteScheduler";
        let timesteps = match wanted {
            Wanted::Steps(steps) => self.timesteps.lay(steps),
            Wanted::Timesteps(list) if self.sigmas.course == Course::Plain => list.to_vec(),
            Wanted::Timesteps(_) => {
                let instead = "with karras, exponential or beta sigmas say how many steps";
                return Err(not_taken("timesteps", name, instead));
            }
            Wanted::Sigmas(_) => return Err(not_taken("sigmas", name, "give steps or timesteps")),
        };
        let mut timesteps = single(timesteps);
        let steps = timesteps.len();
        let mut laid: Vec<f64> = timesteps.iter().map(|t| self.table.at(*t)).collect();
        let (first, last) = ends(&laid);
        if let Some(course) = self.sigmas.lay(first, last, steps) {
            let at = course.iter().map(|sigma| self.table.timestep_of(*sigma));
            timesteps = single(at.collect());
            laid = course;
        }
        let sigmas: Vec<f32> = laid.into_iter().map(|sigma| sigma as f32).collect();
        Ok(doubled(&timesteps, &sigmas))
    }

    pub fn init_noise_sigma(&self, grid: &Grid) -> f64 {
        init_noise_sigma(self.timesteps.spacing, grid)
    }

    pub fn solver(&self, grid: &Grid) -> Solver {
        Solver {
            sigmas: grid.sigmas.clone(),
            prediction: self.prediction,
            clip: self.clip,
            flow: false,
            half: None,
        }
    }
}

/// All but the first timestep and sigma twice, and the end.
fn doubled(timesteps: &[f64], sigmas: &[f32]) -> Grid {
    let twice = |i: usize| if i == 0 { 1 } else { 2 };
    let timestep_calls = timesteps.iter().enumerate();
    let sigma_calls = sigmas.iter().enumerate();
    Grid {
        steps: timesteps.len(),
        timesteps: timestep_calls
            .flat_map(|(i, t)| std::iter::repeat_n(*t, twice(i)))
            .collect(),
        sigmas: sigma_calls
            .flat_map(|(i, sigma)| std::iter::repeat_n(*sigma, twice(i)))
            .chain(std::iter::once(0.0))
            .collect(),
    }
}

/// What scheduler_config.json says, of a flow.
#[derive(Debug, Clone)]
pub(super) struct FlowConfig {
    train: usize,
    shift: f64,
}

impl FlowConfig {
    /// Dynamic shifting, which a model may be made for and this class does not know, is refused.
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        if reader.flag("use_dynamic_shifting", false)? {
            let message = "FlowMatchHeunDiscreteScheduler cannot do it: set it to false and give shift, or take FlowMatchEulerDiscreteScheduler";
            return Err(reader.fault("use_dynamic_shifting", message));
        }
        Ok(Self {
            train: betas::train_steps(reader)?,
            shift: flow_match::shift(reader, "shift")?,
        })
    }

    pub fn grid(&self, wanted: Wanted<'_>) -> Result<Grid> {
        let Wanted::Steps(steps) = wanted else {
            let name = "FlowMatchHeunDiscreteScheduler";
            return Err(not_taken("timesteps, sigmas", name, "say how many steps"));
        };
        let laid = flow_match::evenly(self.train, Some(self.shift), steps).into_iter();
        let shifted = laid.map(|s| self.shift * s / (1.0 + (self.shift - 1.0) * s));
        let sigmas: Vec<f32> = shifted.map(|sigma| sigma as f32).collect();
        let train = self.train as f32;
        let timesteps: Vec<f64> = sigmas.iter().map(|s| f64::from(s * train)).collect();
        Ok(doubled(&timesteps, &sigmas))
    }

    pub fn solver(&self, grid: &Grid) -> Solver {
        Solver {
            sigmas: grid.sigmas.clone(),
            prediction: Prediction::Flow,
            clip: Clip::none(),
            flow: true,
            half: None,
        }
    }
}

/// The first half of a step.
#[derive(Debug, Clone)]
struct Half {
    derivative: Vec<f32>,
    latents: Vec<f32>,
    gap: f32,
}

/// Heun within a run.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    sigmas: Vec<f32>,
    prediction: Prediction,
    clip: Clip,
    flow: bool,
    half: Option<Half>,
}

impl Solve for Solver {
    fn advance(&mut self, mut step: Move<'_>) {
        let sigma = at(&self.sigmas, step.index);
        let prediction = self.prediction;
        step.foretell(|sample, output| prediction.original_of_unscaled(sigma, sample, output));
        self.clip.apply(step.original);
        let pairs = step.latents.iter().zip(&*step.original);
        let derivative: Vec<f32> = pairs.map(|(x, original)| (x - original) / sigma).collect();
        match self.half.take() {
            None => {
                let gap = at(&self.sigmas, step.index + 1) - sigma;
                let latents = step.latents.to_vec();
                for (sample, slope) in step.latents.iter_mut().zip(&derivative) {
                    *sample += slope * gap;
                }
                self.half = Some(Half {
                    derivative,
                    latents,
                    gap,
                });
            }
            Some(half) => {
                let slopes = half.derivative.iter().zip(derivative);
                let from = half.latents.iter().zip(slopes);
                for (sample, (before, (first, second))) in step.latents.iter_mut().zip(from) {
                    *sample = before + (first + second) / 2.0 * half.gap;
                }
            }
        }
    }

    fn input_scale(&self, index: usize) -> f64 {
        if self.flow {
            return 1.0;
        }
        input_scale(at(&self.sigmas, index))
    }

    fn mixture(&self, index: usize) -> (f32, f32) {
        let sigma = at(&self.sigmas, index);
        if self.flow {
            (1.0 - sigma, sigma)
        } else {
            (1.0, sigma)
        }
    }
}
