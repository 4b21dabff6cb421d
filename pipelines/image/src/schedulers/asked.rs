//! What a request asks of a scheduler, checked: how many steps or which ones, and which part of them is run.
//! Apart from the schedulers because each of them lays its own grid, and the part is cut from it in one way.

use std::ops::Range;

use crate::error::{ImageError, Result};

/// What a request asks. Exactly one of `steps`, `timesteps` and `sigmas` is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// The number of denoising steps, 1 to `num_train_timesteps`.
    pub steps: Option<usize>,
    /// The timesteps themselves, highest first, for the classes that take them.
    pub timesteps: Option<Vec<f64>>,
    /// The sigmas themselves, highest first, for the classes that take them. `EulerDiscreteScheduler` wants the last one (0) too.
    pub sigmas: Option<Vec<f64>>,
    /// The weight of fresh noise (η of DDIM), 0 to 1.
    pub eta: Option<f64>,
    /// Where the run begins.
    pub begin: Begin,
    /// The part of the noise's course after which the run ends, 0 to 1 (SDXL's `denoising_end`).
    pub end: Option<f64>,
    /// The number of latent patches of the picture, for schedulers that shift with the picture's size (`use_dynamic_shifting`).
    pub image_seq_len: Option<usize>,
}

impl Asked {
    /// So many steps, all of them.
    pub fn steps(steps: usize) -> Self {
        Self {
            steps: Some(steps),
            ..Self::default()
        }
    }
}

/// Where a run begins.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Begin {
    /// At the first step, in nothing but noise.
    #[default]
    Noise,
    /// From a picture, of which this much is redone, above 0 to 1 (`strength` of image-to-image): the steps before are skipped.
    Strength(f64),
    /// Where another run ended, at this part of the noise's course (SDXL's `denoising_start`).
    Fraction(f64),
}

/// The one of three ways to say which steps.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    Steps(usize),
    Timesteps(&'a [f64]),
    Sigmas(&'a [f64]),
}

/// All model calls of a full run.
#[derive(Debug, Clone, Default)]
pub(super) struct Grid {
    /// The number of steps that were asked for.
    pub steps: usize,
    /// What the model is told at each call.
    pub timesteps: Vec<f64>,
    /// The noise at each call, and after the last; empty for classes that go by ᾱ.
    pub sigmas: Vec<f32>,
}

impl Asked {
    /// What is wanted of a scheduler with so many training timesteps, of which the highest is as given.
    pub(super) fn wanted(&self, train: usize, highest: usize) -> Result<Wanted<'_>> {
        let wanted = match (self.steps, &self.timesteps, &self.sigmas) {
            (Some(steps), None, None) => Wanted::Steps(steps),
            (None, Some(timesteps), None) => Wanted::Timesteps(timesteps),
            (None, None, Some(sigmas)) => Wanted::Sigmas(sigmas),
            _ => {
                return Err(wrong(
                    "steps, timesteps, sigmas",
                    "exactly one of them is to be given",
                ));
            }
        };
        match wanted {
            Wanted::Steps(steps) if !(1..=train).contains(&steps) => Err(wrong(
                "steps",
                format!("{steps} is not a whole number from 1 to {train} (num_train_timesteps)"),
            )),
            Wanted::Timesteps(list) => {
                check_list("timesteps", list, highest as f64, train).map(|()| wanted)
            }
            Wanted::Sigmas(list) => check_list("sigmas", list, 1e6, train + 1).map(|()| wanted),
            Wanted::Steps(_) => Ok(wanted),
        }
    }

    /// The calls that are run: `order` calls make a step, `whole` rounds the steps that strength leaves down (as the pipelines of the
    /// UNets do; those of flow matching round up).
    pub(super) fn window(
        &self,
        grid: &Grid,
        order: usize,
        whole: bool,
        train: usize,
    ) -> Result<Range<usize>> {
        let calls = grid.timesteps.len();
        let begin = match self.begin {
            Begin::Noise => 0,
            Begin::Strength(strength) => skipped(grid.steps, strength, whole)? * order,
            Begin::Fraction(part) => {
                let cutoff = cutoff("begin", part, train)?;
                let mut left = grid.timesteps.iter().filter(|t| **t < cutoff).count();
                if order == 2 && left % 2 == 0 {
                    left += 1;
                }
                calls.saturating_sub(left)
            }
        };
        let coming = grid.timesteps.get(begin..).unwrap_or_default();
        let run = match self.end {
            None => coming.len(),
            Some(1.0) => coming.len(),
            Some(part) => {
                let cutoff = cutoff("end", part, train)?;
                coming.iter().filter(|t| **t >= cutoff).count()
            }
        };
        if run == 0 {
            let message = format!(
                "begin {:?} and end {:?} leave none of {} steps to run: ask for more steps or a larger part",
                self.begin, self.end, grid.steps
            );
            return Err(wrong("steps", message));
        }
        Ok(begin..begin + run)
    }
}

/// The steps that are skipped, as `get_timesteps` of diffusers' image-to-image pipelines counts them.
fn skipped(steps: usize, strength: f64, whole: bool) -> Result<usize> {
    if !(strength > 0.0 && strength <= 1.0) {
        return Err(wrong(
            "strength",
            format!("{strength} is not a number above 0 and at most 1"),
        ));
    }
    let left = (steps as f64 * strength).min(steps as f64);
    let left = if whole { left.trunc() } else { left };
    if left <= 0.0 {
        let needed = (1.0 / strength).ceil();
        let message = format!(
            "{strength} of {steps} steps is less than one: ask for at least {needed} steps or more strength"
        );
        return Err(wrong("strength", message));
    }
    Ok((steps as f64 - left) as usize)
}

/// The timestep at a part of the course.
fn cutoff(field: &str, part: f64, train: usize) -> Result<f64> {
    if part > 0.0 && part < 1.0 {
        let train = train as f64;
        return Ok((train - part * train).round_ties_even());
    }
    Err(wrong(
        field,
        format!("{part} is not a number between 0 and 1"),
    ))
}

fn check_list(field: &str, list: &[f64], high: f64, most: usize) -> Result<()> {
    if list.is_empty() || list.len() > most {
        let message = format!("{} numbers are not a list of 1 to {most}", list.len());
        return Err(wrong(field, message));
    }
    if let Some(bad) = list.iter().find(|value| !(0.0..=high).contains(*value)) {
        return Err(wrong(
            field,
            format!("{bad} is not a number from 0 to {high}"),
        ));
    }
    let falls = |pair: &[f64]| pair.first() > pair.last();
    match list.windows(2).find(|pair| !falls(pair)) {
        Some(pair) => Err(wrong(field, format!("they do not fall: {pair:?}"))),
        None => Ok(()),
    }
}

/// A list of timesteps as whole numbers.
pub(super) fn whole_timesteps(list: &[f64]) -> Result<Vec<f64>> {
    match list.iter().find(|t| t.fract() != 0.0) {
        Some(bad) => Err(wrong("timesteps", format!("{bad} is not a whole number"))),
        None => Ok(list.to_vec()),
    }
}

/// What a class says that does not take a list.
pub(super) fn not_taken(field: &str, class: &str, instead: &str) -> ImageError {
    wrong(field, format!("{class} does not take them; {instead}"))
}

/// An error about a field of a request.
pub(super) fn wrong(field: &str, message: impl std::fmt::Display) -> ImageError {
    ImageError::Input(format!("{field}: {message}"))
}

/// The sigmas that the FLUX pipelines ask of their scheduler, before its shift: from 1 to 1/steps.
pub fn flux_sigmas(steps: usize) -> Vec<f64> {
    super::arrays::linspace(1.0, 1.0 / steps.max(1) as f64, steps)
}
