//! PNDM and PLMS (Liu et al., "Pseudo Numerical Methods for Diffusion Models on Manifolds"). Mirrors `PNDMScheduler` in diffusers'
//! `scheduling_pndm.py`: a Runge-Kutta start of twelve calls, or (`skip_prk_steps`, all Stable Diffusion models) a second call at the
//! first step, and then a linear multistep method.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::arrays::at;
use super::asked::{Begin, Grid, Wanted, not_taken, wrong};
use super::betas::{self, ZeroSnr};
use super::ddim::check_timesteps;
use super::prediction::{self, Level, Prediction};
use super::reader::Reader;
use super::solver::{Move, Solve};
use super::spacing::{Spacing, Timesteps};
use crate::error::Result;

/// The steps of the Runge-Kutta start have this many calls.
pub(super) const RUNGE_KUTTA_CALLS: usize = 4;
/// The calls of the Runge-Kutta start.
pub(super) const START_CALLS: usize = 3 * RUNGE_KUTTA_CALLS;

/// What scheduler_config.json says.
#[derive(Debug, Clone)]
pub(super) struct Config {
    alphas: Arc<[f32]>,
    timesteps: Timesteps,
    prediction: Prediction,
    pub skip_prk_steps: bool,
    set_alpha_to_one: bool,
}

impl Config {
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        let defaults = betas::Defaults {
            zero_snr: ZeroSnr::Unknown,
            ..betas::USUAL
        };
        let words = prediction::NOISE_OR_VELOCITY;
        Ok(Self {
            alphas: betas::alphas(reader, &defaults)?,
            timesteps: Timesteps::read(reader, Spacing::Leading)?,
            prediction: reader.choice("prediction_type", words, Prediction::Epsilon)?,
            skip_prk_steps: reader.flag("skip_prk_steps", false)?,
            set_alpha_to_one: reader.flag("set_alpha_to_one", false)?,
        })
    }

    pub fn grid(&self, wanted: Wanted<'_>, begin: Begin) -> Result<Grid> {
        let Wanted::Steps(steps) = wanted else {
            return Err(not_taken(
                "timesteps, sigmas",
                "PNDMScheduler",
                "say how many steps",
            ));
        };
        let laid = self.timesteps.lay(steps).into_iter();
        let down: Vec<f64> = laid.map(f64::round_ties_even).collect();
        let timesteps = if self.skip_prk_steps {
            with_second_twice(&down)
        } else {
            if begin != Begin::Noise {
                let message = "the Runge-Kutta start of PNDMScheduler cannot begin in the middle of a run: set it to true, or take another scheduler";
                return Err(wrong("skip_prk_steps", message));
            }
            if steps < RUNGE_KUTTA_CALLS {
                let message = format!(
                    "{steps} are too few for the Runge-Kutta start of PNDMScheduler: ask for {RUNGE_KUTTA_CALLS} or more, or set skip_prk_steps"
                );
                return Err(wrong("steps", message));
            }
            self.with_runge_kutta(&down)
        };
        check_timesteps(&timesteps, &self.alphas, self.prediction)?;
        Ok(Grid {
            steps,
            timesteps,
            ..Grid::default()
        })
    }

    /// The first four timesteps and the points half-way below them, as the reference arranges them, and then the rest.
    fn with_runge_kutta(&self, down: &[f64]) -> Vec<f64> {
        let half = (self.timesteps.train / down.len() / 2) as f64;
        let mut points: Vec<f64> = Vec::with_capacity(2 * RUNGE_KUTTA_CALLS);
        for t in down.iter().take(RUNGE_KUTTA_CALLS).rev() {
            points.extend([*t, *t + half]);
        }
        points.pop();
        let doubled: Vec<f64> = points.iter().flat_map(|t| [*t, *t]).collect();
        let inner = doubled.get(1..doubled.len() - 1).unwrap_or_default();
        let start = inner.iter().rev();
        let rest = down.iter().skip(3);
        start.chain(rest).copied().collect()
    }

    pub fn solver(&self, grid: &Grid, run: &Range<usize>) -> Result<Solver> {
        let gap = (self.timesteps.train / grid.steps) as f64;
        let called = grid.timesteps.get(run.start..).unwrap_or_default();
        let mut leaps = Vec::with_capacity(called.len());
        for (counter, t) in called.iter().enumerate() {
            let (from, to) = match (self.skip_prk_steps, counter) {
                (false, ..START_CALLS) => {
                    let down = if counter % 2 == 1 {
                        0
                    } else {
                        self.timesteps.train / grid.steps / 2
                    };
                    let first = counter / RUNGE_KUTTA_CALLS * RUNGE_KUTTA_CALLS;
                    let from = called.get(first).copied().unwrap_or(*t);
                    (from, t - down as f64)
                }
                (true, 1) => (t + gap, *t),
                _ => (*t, t - gap),
            };
            check_timesteps(&[from], &self.alphas, self.prediction)?;
            leaps.push(Leap {
                called: at(&self.alphas, *t as usize),
                from: at(&self.alphas, from as usize),
                to: self.alpha_or_last(to),
            });
        }
        Ok(Solver {
            begin: run.start,
            leaps,
            prediction: self.prediction,
            runge_kutta: !self.skip_prk_steps,
            history: VecDeque::new(),
            sum: Vec::new(),
            before: Vec::new(),
        })
    }

    fn alpha_or_last(&self, t: f64) -> f32 {
        if t >= 0.0 {
            return at(&self.alphas, t as usize);
        }
        if self.set_alpha_to_one {
            1.0
        } else {
            at(&self.alphas, 0)
        }
    }
}

/// The second timestep twice: the first step is done again from both ends.
fn with_second_twice(down: &[f64]) -> Vec<f64> {
    let first = down.iter().take(1);
    let second = down.iter().skip(1).take(1);
    let rest = down.iter().skip(1);
    first.chain(second).chain(rest).copied().collect()
}

/// ᾱ where the model was called, and where the latents go from and to.
#[derive(Debug, Clone, Copy)]
struct Leap {
    called: f32,
    from: f32,
    to: f32,
}

/// PNDM within a run.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    begin: usize,
    leaps: Vec<Leap>,
    prediction: Prediction,
    runge_kutta: bool,
    /// Up to four outputs, the newest last.
    history: VecDeque<Vec<f32>>,
    /// The weighted sum of a Runge-Kutta step so far.
    sum: Vec<f32>,
    /// The latents before the step at hand.
    before: Vec<f32>,
}

impl Solver {
    fn runge_kutta(&mut self, counter: usize, latents: &[f32], output: &[f32]) -> Vec<f32> {
        let sixth = 1.0f64 / 6.0;
        match counter % RUNGE_KUTTA_CALLS {
            0 => {
                self.sum = output.iter().map(|value| sixth as f32 * value).collect();
                self.remember(output);
                self.before = latents.to_vec();
                output.to_vec()
            }
            3 => {
                let sum = self.sum.iter().zip(output);
                sum.map(|(sum, value)| sum + sixth as f32 * value).collect()
            }
            _ => {
                for (sum, value) in self.sum.iter_mut().zip(output) {
                    *sum += (1.0f64 / 3.0) as f32 * value;
                }
                output.to_vec()
            }
        }
    }

    fn linear(&mut self, counter: usize, latents: &mut [f32], output: &[f32]) -> Vec<f32> {
        let second = counter == 1;
        if second {
            latents.copy_from_slice(&self.before);
        } else {
            self.remember(output);
        }
        if counter == 0 {
            self.before = latents.to_vec();
        }
        let past: Vec<&[f32]> = self.history.iter().rev().map(Vec::as_slice).collect();
        let weighted = |of: fn(f32, f32, f32, f32) -> f32| {
            let value = |age: usize, i: usize| past.get(age).map_or(0.0, |row| at(row, i));
            let count = output.len();
            (0..count)
                .map(|i| of(value(0, i), value(1, i), value(2, i), value(3, i)))
                .collect()
        };
        match past.len() {
            1 if second => {
                let pairs = output.iter().zip(past.first().copied().unwrap_or_default());
                pairs.map(|(new, old)| (new + old) / 2.0).collect()
            }
            0 | 1 => output.to_vec(),
            2 => weighted(|a, b, _, _| (3.0 * a - b) / 2.0),
            3 => weighted(|a, b, c, _| (23.0 * a - 16.0 * b + 5.0 * c) / 12.0),
            _ => weighted(|a, b, c, d| {
                (1.0f64 / 24.0) as f32 * (55.0 * a - 59.0 * b + 37.0 * c - 9.0 * d)
            }),
        }
    }

    fn remember(&mut self, output: &[f32]) {
        if self.history.len() == 4 {
            self.history.pop_front();
        }
        self.history.push_back(output.to_vec());
    }

    /// `_get_prev_sample`.
    fn leap(&self, leap: Leap, latents: &mut [f32], output: &[f32]) {
        let Leap { from, to, .. } = leap;
        let level = Level::of_alpha_bar(from);
        let of_sample = (to / from).sqrt();
        let below = from * (1.0 - to).sqrt() + (from * (1.0 - from) * to).sqrt();
        for (sample, output) in latents.iter_mut().zip(output) {
            let epsilon = self.prediction.epsilon(level, *sample, *output);
            *sample = of_sample * *sample - (to - from) * epsilon / below;
        }
    }
}

impl Solve for Solver {
    fn advance(&mut self, mut step: Move<'_>) {
        let counter = step.index.saturating_sub(self.begin);
        let Some(leap) = self.leaps.get(counter).copied() else {
            return;
        };
        let level = Level::of_alpha_bar(leap.called);
        let prediction = self.prediction;
        step.foretell(|sample, output| prediction.original(level, sample, output));
        let output = if self.runge_kutta && counter < START_CALLS {
            let output = self.runge_kutta(counter, step.latents, step.output);
            step.latents.copy_from_slice(&self.before);
            output
        } else {
            self.linear(counter, step.latents, step.output)
        };
        self.leap(leap, step.latents, &output);
    }

    fn mixture(&self, index: usize) -> (f32, f32) {
        let counter = index.saturating_sub(self.begin);
        let alpha = self.leaps.get(counter).map_or(1.0, |leap| leap.called);
        let level = Level::of_alpha_bar(alpha);
        (level.alpha, level.sigma)
    }
}
