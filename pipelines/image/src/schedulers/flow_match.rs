//! Flow matching by Euler's method (SD 3, FLUX), with the shifts of its sigmas. Mirrors `FlowMatchEulerDiscreteScheduler` in
//! diffusers' `scheduling_flow_match_euler_discrete.py`.

use super::arrays::{at, linspace};
use super::asked::{Asked, Grid, Wanted, wrong};
use super::betas::train_steps;
use super::euler::ends;
use super::reader::Reader;
use super::sigmas::Sigmas;
use super::solver::{Move, Solve};
use crate::error::Result;

/// The most a shift may be.
const MOST_SHIFT: f64 = 1e4;

/// The fields of dynamic shifting, which the multistep solvers of flows know too.
pub(super) const DYNAMIC_FIELDS: &[&str] = &[
    "use_dynamic_shifting",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "time_shift_type",
];

/// How the shift goes with the picture's size (`calculate_shift` of diffusers' pipelines).
#[derive(Debug, Clone, Copy)]
pub(super) struct Dynamic {
    shifts: (f64, f64),
    lengths: (f64, f64),
    /// `time_shift_type`: the shift is e^μ or μ itself.
    exponential: bool,
}

impl Dynamic {
    /// From a configuration, when it is switched on.
    pub fn read(reader: &Reader<'_>) -> Result<Option<Self>> {
        let on = reader.flag("use_dynamic_shifting", false)?;
        let shift = |name, default| reader.number_or(name, -20.0..=20.0, default);
        let length = |name, default| reader.whole(name, 1..=1 << 24, default);
        let lengths = (
            length("base_image_seq_len", 256)?,
            length("max_image_seq_len", 4096)?,
        );
        if lengths.0 >= lengths.1 {
            let message = format!(
                "{} is not below max_image_seq_len, {}",
                lengths.0, lengths.1
            );
            return Err(reader.fault("base_image_seq_len", message));
        }
        let types = [("exponential", true), ("linear", false)];
        let dynamic = Self {
            shifts: (shift("base_shift", 0.5)?, shift("max_shift", 1.15)?),
            lengths: (lengths.0 as f64, lengths.1 as f64),
            exponential: reader.choice("time_shift_type", &types, true)?,
        };
        Ok(on.then_some(dynamic))
    }

    /// The shift of a picture: with it, both kinds are `shift / (shift + 1/t − 1)`.
    pub fn shift(&self, asked: &Asked) -> Result<f64> {
        let Some(length) = asked.image_seq_len else {
            let message = "this scheduler shifts with the picture's size (use_dynamic_shifting), and the number of its patches is not given";
            return Err(wrong("image_seq_len", message));
        };
        let slope = (self.shifts.1 - self.shifts.0) / (self.lengths.1 - self.lengths.0);
        let mu = length as f64 * slope + (self.shifts.0 - slope * self.lengths.0);
        let shift = if self.exponential { mu.exp() } else { mu };
        if shift > 0.0 && shift < 1e9 {
            return Ok(shift);
        }
        let message = format!(
            "{length} patches give a shift of {shift}, which is no use: base_shift and max_shift do not fit them"
        );
        Err(wrong("image_seq_len", message))
    }
}

/// A fixed shift.
pub(super) fn shift(reader: &Reader<'_>, name: &str) -> Result<f64> {
    reader.number_or(name, 1e-4..=MOST_SHIFT, 1.0)
}

/// `shift_terminal`, without the zero that stands for none.
pub(super) fn shift_terminal(reader: &Reader<'_>) -> Result<Option<f64>> {
    let terminal = reader.number("shift_terminal", 0.0..=0.999)?;
    Ok(terminal.filter(|terminal| *terminal > 0.0))
}

/// Sigmas from the highest to the lowest of training, evenly, before the shift of the run. The constructor has shifted both ends once
/// already, when the shift is fixed.
pub(super) fn evenly(train: usize, shift: Option<f64>, steps: usize) -> Vec<f64> {
    let train = train as f64;
    let end = |t: f64| {
        let sigma = (t / train) as f32;
        let sigma = match shift {
            Some(shift) => shift as f32 * sigma / (1.0 + (shift - 1.0) as f32 * sigma),
            None => sigma,
        };
        f64::from(sigma) * train
    };
    let timesteps = linspace(end(train), end(1.0), steps).into_iter();
    timesteps.map(|t| t / train).collect()
}

/// The kinds of arithmetic: the reference computes in f32 on sigmas that were given to it, and in f64 on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    Single,
    Double,
}

impl Rounding {
    fn round(self, x: f64) -> f64 {
        match self {
            Self::Single => f64::from(x as f32),
            Self::Double => x,
        }
    }

    /// `shift · t / (1 + (shift − 1) · t)`.
    pub fn shift(self, shift: f64, t: f64) -> f64 {
        let above = self.round(self.round(shift) * t);
        let below = self.round(1.0 + self.round(self.round(shift - 1.0) * t));
        self.round(above / below)
    }

    /// `shift / (shift + (1/t − 1))`.
    pub fn dynamic_shift(self, shift: f64, t: f64) -> f64 {
        let shift = self.round(shift);
        let odds = self.round(self.round(1.0 / t) - 1.0);
        self.round(shift / self.round(shift + odds))
    }

    /// `stretch_shift_to_terminal`: so that the last sigma is the terminal one.
    pub fn stretch(self, sigmas: &mut [f64], terminal: f64) {
        let Some(last) = sigmas.last().copied() else {
            return;
        };
        let scale = self.round(self.round(1.0 - last) / self.round(1.0 - terminal));
        if scale == 0.0 {
            return;
        }
        for sigma in sigmas {
            *sigma = self.round(1.0 - self.round(self.round(1.0 - *sigma) / scale));
        }
    }
}

/// What scheduler_config.json says.
#[derive(Debug, Clone)]
pub(super) struct Config {
    train: usize,
    shift: f64,
    dynamic: Option<Dynamic>,
    terminal: Option<f64>,
    sigmas: Sigmas,
    stochastic: bool,
}

impl Config {
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        if reader.flag("invert_sigmas", false)? {
            let message =
                "true is not supported: no image model runs its flow backwards; false would do";
            return Err(reader.fault("invert_sigmas", message));
        }
        Ok(Self {
            train: train_steps(reader)?,
            shift: shift(reader, "shift")?,
            dynamic: Dynamic::read(reader)?,
            terminal: shift_terminal(reader)?,
            sigmas: Sigmas::read(reader)?,
            stochastic: reader.flag("stochastic_sampling", false)?,
        })
    }

    pub fn grid(&self, wanted: Wanted<'_>, asked: &Asked) -> Result<Grid> {
        let single = |x: f64| f64::from(x as f32);
        let train = self.train as f64;
        let (laid, rounding, given) = match wanted {
            Wanted::Steps(steps) => {
                let fixed = self.dynamic.is_none().then_some(self.shift);
                (evenly(self.train, fixed, steps), Rounding::Double, None)
            }
            Wanted::Sigmas(list) => {
                if list.iter().any(|sigma| *sigma <= 0.0 || *sigma > 1.0) {
                    return Err(wrong("sigmas", "those of a flow are above 0 and at most 1"));
                }
                let list = list.iter().map(|sigma| single(*sigma)).collect();
                (list, Rounding::Single, None)
            }
            Wanted::Timesteps(list) => {
                if list.iter().any(|t| *t <= 0.0) {
                    return Err(wrong("timesteps", "those of a flow are above 0"));
                }
                let list: Vec<f64> = list.iter().map(|t| single(*t)).collect();
                let sigmas = list.iter().map(|t| single(t / train)).collect();
                (sigmas, Rounding::Single, Some(list))
            }
        };
        let sigmas = self.shifted(laid, rounding, asked)?;
        let timesteps = given.unwrap_or_else(|| {
            let told = sigmas
                .iter()
                .map(|sigma| f64::from(sigma * self.train as f32));
            told.collect()
        });
        Ok(Grid {
            steps: timesteps.len(),
            timesteps,
            sigmas: sigmas.into_iter().chain(std::iter::once(0.0)).collect(),
        })
    }

    fn shifted(&self, mut laid: Vec<f64>, rounding: Rounding, asked: &Asked) -> Result<Vec<f32>> {
        match &self.dynamic {
            Some(dynamic) => {
                let shift = dynamic.shift(asked)?;
                laid.iter_mut()
                    .for_each(|t| *t = rounding.dynamic_shift(shift, *t));
            }
            None => laid
                .iter_mut()
                .for_each(|t| *t = rounding.shift(self.shift, *t)),
        }
        if let Some(terminal) = self.terminal {
            rounding.stretch(&mut laid, terminal);
        }
        let (first, last) = ends(&laid);
        if let Some(course) = self.sigmas.lay(first, last, laid.len()) {
            laid = course;
        }
        Ok(laid.into_iter().map(|sigma| sigma as f32).collect())
    }

    pub fn solver(&self, grid: &Grid) -> Solver {
        Solver {
            sigmas: grid.sigmas.clone(),
            stochastic: self.stochastic,
        }
    }
}

/// Flow matching within a run.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    sigmas: Vec<f32>,
    stochastic: bool,
}

impl Solve for Solver {
    fn advance(&mut self, mut step: Move<'_>) {
        let (sigma, next) = (
            at(&self.sigmas, step.index),
            at(&self.sigmas, step.index + 1),
        );
        step.foretell(|sample, output| sample - sigma * output);
        if self.stochastic {
            let noise = step.fresh();
            let rows = step.latents.iter_mut().zip(&*step.original);
            for ((sample, original), noise) in rows.zip(noise) {
                *sample = (1.0 - next) * original + next * noise;
            }
            return;
        }
        let gap = next - sigma;
        for (sample, output) in step.latents.iter_mut().zip(step.output) {
            *sample += gap * output;
        }
    }

    fn mixture(&self, index: usize) -> (f32, f32) {
        let sigma = at(&self.sigmas, index);
        (1.0 - sigma, sigma)
    }
}
