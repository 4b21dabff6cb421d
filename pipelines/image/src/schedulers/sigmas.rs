//! Noise levels as sigmas (noise over picture): the table of them, and the courses that are laid over it (Karras, exponential, beta).
//! Apart from the solvers because Euler, Heun, DPM-Solver, UniPC and flow matching share it.

use super::arrays::{at, interpolate, linspace};
use super::reader::Reader;
use crate::error::Result;

/// The fields that are read here.
pub(super) const FIELDS: &[&str] = &[
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "sigma_min",
    "sigma_max",
];

/// The sigma of every training timestep, lowest first, and their logarithms.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub sigmas: Vec<f32>,
    logs: Vec<f32>,
}

impl Table {
    /// From ᾱ.
    pub fn new(alphas: &[f32]) -> Self {
        let sigma = |alpha: &f32| ((1.0 - alpha) / alpha).sqrt();
        let sigmas: Vec<f32> = alphas.iter().map(sigma).collect();
        let logs = sigmas.iter().map(|sigma| round_log(*sigma)).collect();
        Self { sigmas, logs }
    }

    /// The sigma at a timestep, which may lie between two.
    pub fn at(&self, timestep: f64) -> f64 {
        interpolate(timestep, &self.sigmas)
    }

    /// The lowest sigma.
    pub fn lowest(&self) -> f32 {
        at(&self.sigmas, 0)
    }

    /// The highest sigma.
    pub fn highest(&self) -> f32 {
        self.sigmas.last().copied().unwrap_or_default()
    }

    /// `_sigma_to_t`: the timestep of a sigma, in a straight line between the logarithms.
    pub fn timestep_of(&self, sigma: f64) -> f64 {
        self.timestep_of_log(sigma.max(1e-10).ln(), |weight| weight)
    }

    /// The same of a sigma in f32, in f32.
    pub fn timestep_of_single(&self, sigma: f32) -> f64 {
        let log = f64::from(round_log(sigma.max(1e-10)));
        self.timestep_of_log(log, |weight| f64::from(weight as f32))
    }

    fn timestep_of_log(&self, log: f64, rounded: fn(f64) -> f64) -> f64 {
        let not_above = self.logs.partition_point(|entry| f64::from(*entry) <= log);
        let most = self.logs.len().saturating_sub(2);
        let below = not_above.saturating_sub(1).min(most);
        let (low, high) = (at(&self.logs, below), at(&self.logs, below + 1));
        let span = f64::from(low - high);
        let weight = rounded(rounded(f64::from(low) - log) / span).clamp(0.0, 1.0);
        rounded(1.0 - weight) * below as f64 + weight * (below + 1) as f64
    }
}

/// The logarithm, rounded once.
fn round_log(sigma: f32) -> f32 {
    f64::from(sigma).ln() as f32
}

/// The course of the sigmas of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// As the timesteps have them.
    Plain,
    /// Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", equation 5.
    Karras,
    /// Evenly in the logarithm.
    Exponential,
    /// The quantiles of a beta distribution (Lee et al., "Beta Sampling is All You Need").
    Beta,
}

/// A course, and the ends that the configuration gives it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sigmas {
    pub course: Course,
    lowest: Option<f64>,
    highest: Option<f64>,
}

impl Sigmas {
    /// From a configuration.
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        let flags = [
            (reader.flag("use_karras_sigmas", false)?, Course::Karras),
            (
                reader.flag("use_exponential_sigmas", false)?,
                Course::Exponential,
            ),
            (reader.flag("use_beta_sigmas", false)?, Course::Beta),
        ];
        let mut set = flags.iter().filter(|(set, _)| *set);
        let course = set.next().map_or(Course::Plain, |(_, course)| *course);
        if set.next().is_some() {
            let message = "only one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas may be true";
            return Err(reader.fault("use_karras_sigmas", message));
        }
        let ends = 1e-6..=1e6;
        let (lowest, highest) = (
            reader.number("sigma_min", ends.clone())?,
            reader.number("sigma_max", ends)?,
        );
        if let (Some(low), Some(high)) = (lowest, highest)
            && low >= high
        {
            let message = format!("{low} is not below sigma_max, {high}");
            return Err(reader.fault("sigma_min", message));
        }
        Ok(Self {
            course,
            lowest,
            highest,
        })
    }

    /// Without the configuration's ends for the course of Karras, as one class has it.
    pub fn with_own_ends_for_karras(mut self) -> Self {
        if self.course == Course::Karras {
            (self.lowest, self.highest) = (None, None);
        }
        self
    }

    /// So many sigmas between the ends, highest first; nothing for the plain course.
    pub fn lay(&self, highest: f64, lowest: f64, steps: usize) -> Option<Vec<f64>> {
        let low = self.lowest.unwrap_or(lowest);
        let high = self.highest.unwrap_or(highest);
        match self.course {
            Course::Plain => None,
            Course::Karras => {
                let rho = 7.0;
                let (low, high) = (low.powf(1.0 / rho), high.powf(1.0 / rho));
                let ramp = linspace(0.0, 1.0, steps).into_iter();
                Some(ramp.map(|x| (high + x * (low - high)).powf(rho)).collect())
            }
            Course::Exponential => {
                let logs = linspace(high.ln(), low.ln(), steps).into_iter();
                Some(logs.map(f64::exp).collect())
            }
            Course::Beta => {
                let ramp = linspace(0.0, 1.0, steps).into_iter();
                let quantile = |x: f64| super::beta_quantile::beta_quantile(1.0 - x);
                Some(ramp.map(|x| low + quantile(x) * (high - low)).collect())
            }
        }
    }
}

/// What the sigma after the last step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Final {
    Zero,
    SigmaMin,
}

impl Final {
    /// `final_sigmas_type`.
    pub fn read(reader: &Reader<'_>) -> Result<Self> {
        let words = [("zero", Self::Zero), ("sigma_min", Self::SigmaMin)];
        reader.choice("final_sigmas_type", &words, Self::Zero)
    }

    /// The sigma, `lowest` being the lowest one.
    pub fn sigma(self, lowest: f32) -> f32 {
        match self {
            Self::Zero => 0.0,
            Self::SigmaMin => lowest,
        }
    }
}
