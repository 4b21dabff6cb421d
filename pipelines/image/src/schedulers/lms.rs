//! The linear multistep method over sigmas, of up to four steps. Mirrors `LMSDiscreteScheduler` in diffusers'
//! `scheduling_lms_discrete.py`.

use super::arrays::at;
use super::asked::{Grid, Wanted, not_taken};
use super::euler::{self, input_scale};
use super::multistep::History;
use super::prediction::Prediction;
use super::reader::Reader;
use super::solver::{Move, Solve};
use crate::error::Result;

/// The most steps that are remembered.
const ORDER: usize = 4;

/// What scheduler_config.json says: the grid is Euler's.
#[derive(Debug, Clone)]
pub(super) struct Config(euler::Config);

impl Config {
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        Ok(Self(euler::Config::read_lms(reader)?))
    }

    pub fn grid(&self, wanted: Wanted<'_>) -> Result<Grid> {
        match wanted {
            Wanted::Steps(_) => self.0.grid(wanted),
            _ => Err(not_taken(
                "timesteps, sigmas",
                "LMSDiscreteScheduler",
                "say how many steps",
            )),
        }
    }

    pub fn init_noise_sigma(&self, grid: &Grid) -> f64 {
        self.0.init_noise_sigma(grid)
    }

    pub fn solver(&self, grid: &Grid) -> Solver {
        Solver {
            sigmas: grid.sigmas.clone(),
            prediction: self.0.prediction(),
            derivatives: History::new(ORDER),
            done: 0,
        }
    }
}

/// LMS within a run.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    sigmas: Vec<f32>,
    prediction: Prediction,
    derivatives: History,
    done: usize,
}

impl Solver {
    /// The integral over a step of the polynomial that is one at one of the last sigmas and zero at the others (`get_lms_coefficient`,
    /// which integrates numerically). Two points of Gauss and Legendre are exact up to the third power.
    fn coefficient(&self, order: usize, index: usize, ago: usize) -> f32 {
        let sigma = |ago: usize| f64::from(at(&self.sigmas, index.saturating_sub(ago)));
        let (from, to) = (sigma(0), f64::from(at(&self.sigmas, index + 1)));
        let others = || (0..order).filter(|other| *other != ago);
        let polynomial = |x: f64| -> f64 {
            let factors = others().map(|other| (x - sigma(other)) / (sigma(ago) - sigma(other)));
            factors.product()
        };
        let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
        let off = half / 3f64.sqrt();
        (half * (polynomial(middle - off) + polynomial(middle + off))) as f32
    }
}

impl Solve for Solver {
    fn advance(&mut self, mut step: Move<'_>) {
        let sigma = at(&self.sigmas, step.index);
        let prediction = self.prediction;
        step.foretell(|sample, output| prediction.original_of_unscaled(sigma, sample, output));
        let pairs = step.latents.iter().zip(&*step.original);
        let derivative = pairs.map(|(sample, original)| (sample - original) / sigma);
        self.derivatives.push(derivative.collect());
        self.done += 1;
        // The reference counts the steps of the full run, and so, from a picture, weighs steps that were never taken.
        let order = self.done.min(ORDER);
        let coefficients = (0..order).map(|ago| self.coefficient(order, step.index, ago));
        let coefficients: Vec<f32> = coefficients.collect();
        for (i, sample) in step.latents.iter_mut().enumerate() {
            let terms = coefficients.iter().enumerate();
            let change: f32 = terms
                .map(|(ago, coefficient)| coefficient * at(self.derivatives.ago(ago), i))
                .sum();
            *sample += change;
        }
    }

    fn input_scale(&self, index: usize) -> f64 {
        input_scale(at(&self.sigmas, index))
    }

    fn mixture(&self, index: usize) -> (f32, f32) {
        (1.0, at(&self.sigmas, index))
    }
}
