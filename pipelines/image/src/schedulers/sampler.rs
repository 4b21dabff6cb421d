//! One sample's way through a run: which call of the model comes next, and what its output makes of the latents.
//! Apart from the solvers, which know the step at hand but not the place in the run.

use std::ops::Range;

use super::pndm::{RUNGE_KUTTA_CALLS, START_CALLS};
use super::solver::{Move, Solver};
use crate::error::{ImageError, Result};

/// A call of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    /// What the model is told; not whole with some schedulers.
    pub timestep: f64,
    /// What the latents are multiplied with before the model sees them (`scale_model_input`).
    pub input_scale: f64,
}

/// How calls of the model make steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// One call a step.
    Each,
    /// Two, but the last step has one.
    Pairs,
    /// Two for the first step.
    FirstTwice,
    /// Four for each of the first three steps.
    RungeKutta,
}

impl Pace {
    /// Whether the call ends a step, counted from the run's first.
    fn ends_step(self, call: usize) -> bool {
        match self {
            Self::Each => true,
            Self::Pairs => call % 2 == 1,
            Self::FirstTwice => call > 0,
            Self::RungeKutta => {
                call >= START_CALLS || call % RUNGE_KUTTA_CALLS == RUNGE_KUTTA_CALLS - 1
            }
        }
    }

    /// The steps of a run that so many calls end. The run's last call ends one in any case.
    fn steps(self, calls: usize, of: usize) -> usize {
        let ended = (0..calls).filter(|call| self.ends_step(*call) || call + 1 == of);
        ended.count()
    }
}

/// A sample within its run. A clone goes on from where it was cloned, to the same bits.
#[derive(Debug, Clone)]
pub struct Sampler {
    timesteps: Vec<f64>,
    run: Range<usize>,
    next: usize,
    solver: Solver,
    pace: Pace,
    init_noise_sigma: f64,
    original: Vec<f32>,
}

impl Sampler {
    pub(super) fn new(
        timesteps: Vec<f64>,
        run: Range<usize>,
        solver: Solver,
        pace: Pace,
        init_noise_sigma: f64,
    ) -> Self {
        Self {
            timesteps,
            next: run.start,
            run,
            solver,
            pace,
            init_noise_sigma,
            original: Vec::new(),
        }
    }

    /// The deviation of the noise that a run from nothing begins with.
    pub fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    /// The coming call of the model, or nothing when the run is over.
    pub fn call(&self) -> Option<Call> {
        if self.next >= self.run.end {
            return None;
        }
        let timestep = *self.timesteps.get(self.next)?;
        Some(Call {
            timestep,
            input_scale: self.solver.get().input_scale(self.next),
        })
    }

    /// The timesteps of the coming calls.
    pub fn timesteps(&self) -> &[f64] {
        self.timesteps
            .get(self.next..self.run.end)
            .unwrap_or_default()
    }

    /// The weights of picture and noise in a sample at the coming call; after the last, the picture alone.
    pub fn mixture(&self) -> (f32, f32) {
        if self.next >= self.run.end {
            return (1.0, 0.0);
        }
        self.solver.get().mixture(self.next)
    }

    /// A picture's latents with noise as at the coming call: the start of image-to-image, and what inpainting keeps at each step.
    ///
    /// # Errors
    /// When the slices are not of one length.
    pub fn add_noise(&self, original: &[f32], noise: &[f32], into: &mut [f32]) -> Result<()> {
        same_length("noise", noise.len(), original.len())?;
        same_length("the latents", into.len(), original.len())?;
        let (of_original, of_noise) = self.mixture();
        let pairs = original.iter().zip(noise);
        for (into, (original, noise)) in into.iter_mut().zip(pairs) {
            *into = of_original * original + of_noise * noise;
        }
        Ok(())
    }

    /// Goes one call on with the model's output (after guidance). `noise` fills a slice with fresh standard normal numbers; it is
    /// called once, and only where the reference draws.
    ///
    /// # Errors
    /// When the run is over, and when output and latents are not as long as each other and as those before.
    pub fn advance(
        &mut self,
        output: &[f32],
        latents: &mut [f32],
        noise: &mut dyn FnMut(&mut [f32]),
    ) -> Result<()> {
        if self.next >= self.run.end {
            return Err(ImageError::Input(
                "the run is over: there is no call whose output could be taken".to_owned(),
            ));
        }
        same_length("the model's output", output.len(), latents.len())?;
        if self.next > self.run.start {
            same_length("the latents", latents.len(), self.original.len())?;
        }
        self.original.resize(latents.len(), 0.0);
        let step = Move {
            index: self.next,
            output,
            latents,
            noise,
            original: &mut self.original,
        };
        self.solver.get_mut().advance(step);
        self.next += 1;
        Ok(())
    }

    /// The picture that the last call foretold, for previews; empty before the first.
    pub fn predicted_original(&self) -> &[f32] {
        &self.original
    }

    /// The steps that are done. A step may take several calls.
    pub fn steps_done(&self) -> usize {
        self.pace.steps(self.next - self.run.start, self.run.len())
    }

    /// The steps of the run.
    pub fn steps_total(&self) -> usize {
        self.pace.steps(self.run.len(), self.run.len())
    }

    /// The model calls from the run's first to the picture, whoever makes those behind its last, and those that are done.
    pub fn calls(&self) -> (usize, usize) {
        let begun = self.run.start;
        (self.timesteps.len() - begun, self.next - begun)
    }
}

fn same_length(what: &str, length: usize, wanted: usize) -> Result<()> {
    if length == wanted {
        return Ok(());
    }
    Err(ImageError::Input(format!(
        "{what}: {length} numbers, where {wanted} are wanted"
    )))
}
