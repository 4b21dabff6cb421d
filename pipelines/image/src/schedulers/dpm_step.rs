//! The step of DPM-Solver: what is made of the model's output, and the update of the first, second and third order.
//! Apart from the configuration and the grid; mirrors the same class of diffusers.

use super::multistep::{History, Levels, LogLevel};
use super::prediction::{Clip, Prediction};
use super::solver::{Move, Solve};

/// `algorithm_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// dpmsolver++
    DataOde,
    /// dpmsolver
    NoiseOde,
    /// sde-dpmsolver++
    DataSde,
    /// sde-dpmsolver
    NoiseSde,
}

impl Algorithm {
    /// Whether it goes by the picture that is foretold, and not by the noise.
    pub fn of_data(self) -> bool {
        matches!(self, Self::DataOde | Self::DataSde)
    }

    /// Whether a step adds fresh noise.
    pub fn draws_noise(self) -> bool {
        matches!(self, Self::DataSde | Self::NoiseSde)
    }
}

/// `solver_type` of the second order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SolverType {
    Midpoint,
    Heun,
}

/// All that decides a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    pub order: usize,
    pub algorithm: Algorithm,
    pub solver_type: SolverType,
    pub prediction: Prediction,
    pub clip: Clip,
    pub lower_order_final: bool,
    pub euler_at_final: bool,
    pub ends_in_zero: bool,
}

impl Method {
    /// Whether the last step of a run is of the first order.
    pub fn ends_in_first_order(&self, steps: usize) -> bool {
        let short = self.lower_order_final && steps < SHORT;
        self.order == 1 || self.euler_at_final || short || self.ends_in_zero
    }

    /// `convert_model_output`: the picture or the noise that the solver goes by.
    pub fn convert(&self, levels: &Levels, step: &mut Move<'_>) -> Vec<f32> {
        let prediction = self.prediction;
        let read = levels.read_at(step.index, prediction);
        step.foretell(|sample, output| prediction.original(read, sample, output));
        self.clip.apply(step.original);
        if self.algorithm.of_data() {
            return step.original.to_vec();
        }
        let pairs = step.latents.iter().zip(step.output);
        let epsilons = pairs.map(|(sample, output)| prediction.epsilon(read, *sample, *output));
        if !self.clip.is_on() {
            return epsilons.collect();
        }
        let pairs = step.latents.iter().zip(&*step.original);
        let again = pairs.map(|(sample, original)| (sample - read.alpha * original) / read.sigma);
        again.collect()
    }

    /// The weights of an update of an order from one level to another.
    pub fn weights(&self, order: usize, from: LogLevel, to: LogLevel) -> Weights {
        let h = to.lambda - from.lambda;
        let heun = order == 3 || self.solver_type == SolverType::Heun;
        match self.algorithm {
            Algorithm::DataOde => data_ode(from, to, h, heun),
            Algorithm::NoiseOde => noise_ode(from, to, h, heun),
            Algorithm::DataSde => data_sde(from, to, h, heun),
            Algorithm::NoiseSde => noise_sde(from, to, h, heun),
        }
    }
}

impl Weights {
    /// One number of the next sample. Weights past the order are not looked at: they may be none.
    pub fn apply(
        &self,
        order: usize,
        sample: f32,
        differences: [f32; 3],
        noise: Option<f32>,
    ) -> f32 {
        let mut next = self.sample * sample;
        for (weight, difference) in self.differences.iter().zip(differences).take(order) {
            next += weight * difference;
        }
        match noise {
            Some(noise) => next + self.noise * noise,
            None => next,
        }
    }
}

/// Runs of fewer steps end with lower orders.
const SHORT: usize = 15;

/// DPM-Solver within a run.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    method: Method,
    levels: Levels,
    steps: usize,
    history: History,
    done: usize,
}

/// What the sample, the three differences of outputs and fresh noise are multiplied with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    sample: f32,
    differences: [f32; 3],
    noise: f32,
}

impl Solver {
    pub fn new(method: Method, levels: Levels, history: History) -> Self {
        Self {
            steps: levels.calls(),
            method,
            levels,
            history,
            done: 0,
        }
    }

    /// The order of a step: lower at the start, for want of a past, and at the end, for stability.
    fn order(&self, index: usize) -> usize {
        let method = &self.method;
        if index + 1 == self.steps && method.ends_in_first_order(self.steps) {
            return 1;
        }
        let short = method.lower_order_final && self.steps < SHORT;
        let most = if index + 2 == self.steps && short {
            2
        } else {
            3
        };
        method.order.min(self.done + 1).min(most)
    }

    /// The outputs' differences, divided by the lengths of their steps: D0, D1 and D2 of the papers at one place.
    fn differences(&self, order: usize, index: usize) -> impl Fn(usize) -> [f32; 3] + '_ {
        let lambda = |index: usize| self.levels.log_level(index).lambda;
        let h = lambda(index + 1) - lambda(index);
        let ratio = |back: usize| (lambda(index - back) - lambda(index - back - 1)) / h;
        let r0 = if order > 1 { ratio(0) } else { 1.0 };
        let r1 = if order > 2 { ratio(1) } else { 1.0 };
        move |i| {
            let output = |ago: usize| super::arrays::at(self.history.ago(ago), i);
            let newest = output(0);
            if order == 1 {
                return [newest, 0.0, 0.0];
            }
            let first = 1.0 / r0 * (newest - output(1));
            if order == 2 {
                return [newest, first, 0.0];
            }
            let second = 1.0 / r1 * (output(1) - output(2));
            let change = first - second;
            [
                newest,
                first + r0 / (r0 + r1) * change,
                1.0 / (r0 + r1) * change,
            ]
        }
    }
}

fn data_ode(from: LogLevel, to: LogLevel, h: f32, heun: bool) -> Weights {
    let fall = (-h).exp() - 1.0;
    let first = if heun {
        to.alpha * (fall / h + 1.0)
    } else {
        -0.5 * (to.alpha * fall)
    };
    Weights {
        sample: to.sigma / from.sigma,
        differences: [
            -(to.alpha * fall),
            first,
            -(to.alpha * ((fall + h) / (h * h) - 0.5)),
        ],
        noise: 0.0,
    }
}

fn noise_ode(from: LogLevel, to: LogLevel, h: f32, heun: bool) -> Weights {
    let rise = h.exp() - 1.0;
    let first = if heun {
        -(to.sigma * (rise / h - 1.0))
    } else {
        -0.5 * (to.sigma * rise)
    };
    Weights {
        sample: to.alpha / from.alpha,
        differences: [
            -(to.sigma * rise),
            first,
            -(to.sigma * ((rise - h) / (h * h) - 0.5)),
        ],
        noise: 0.0,
    }
}

fn data_sde(from: LogLevel, to: LogLevel, h: f32, heun: bool) -> Weights {
    let rest = 1.0 - (-2.0 * h).exp();
    let first = if heun {
        to.alpha * (rest / (-2.0 * h) + 1.0)
    } else {
        0.5 * (to.alpha * rest)
    };
    let twice = 2.0 * h;
    Weights {
        sample: to.sigma / from.sigma * (-h).exp(),
        differences: [
            to.alpha * rest,
            first,
            to.alpha * ((rest - twice) / (twice * twice) - 0.5),
        ],
        noise: to.sigma * rest.sqrt(),
    }
}

fn noise_sde(from: LogLevel, to: LogLevel, h: f32, heun: bool) -> Weights {
    let rise = h.exp() - 1.0;
    let first = if heun {
        -2.0 * (to.sigma * (rise / h - 1.0))
    } else {
        -(to.sigma * rise)
    };
    Weights {
        sample: to.alpha / from.alpha,
        differences: [-2.0 * (to.sigma * rise), first, 0.0],
        noise: to.sigma * ((2.0 * h).exp() - 1.0).sqrt(),
    }
}

impl Solve for Solver {
    fn advance(&mut self, mut step: Move<'_>) {
        let output = self.method.convert(&self.levels, &mut step);
        self.history.push(output);
        let order = self.order(step.index);
        let noise = self.method.algorithm.draws_noise().then(|| step.fresh());
        let (from, to) = (
            self.levels.log_level(step.index),
            self.levels.log_level(step.index + 1),
        );
        let weights = self.method.weights(order, from, to);
        let differences = self.differences(order, step.index);
        for (i, sample) in step.latents.iter_mut().enumerate() {
            let fresh = noise.as_ref().map(|noise| super::arrays::at(noise, i));
            *sample = weights.apply(order, *sample, differences(i), fresh);
        }
        drop(differences);
        self.done += 1;
    }

    fn mixture(&self, index: usize) -> (f32, f32) {
        let level = self.levels.level(index);
        (level.alpha, level.sigma)
    }
}
