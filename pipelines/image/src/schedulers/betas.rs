//! How much of the picture is left at each training timestep (ᾱ, `alphas_cumprod`), from the betas of a configuration.
//! Apart from the sigmas because DDIM and its kin use ᾱ itself; mirrors the constructors of diffusers' schedulers, which share this.

use std::f64::consts::FRAC_PI_2;
use std::sync::Arc;

use super::arrays::{cumulative_product, linspace_f32};
use super::reader::Reader;
use crate::error::Result;

/// The most training timesteps: ten times what any model has.
pub(super) const MOST_TRAIN_STEPS: usize = 10_000;

/// The fields that are read here.
pub(super) const FIELDS: &[&str] = &[
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
];

/// What becomes of the last ᾱ when the betas are rescaled to end in nothing but noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ZeroSnr {
    /// The class has no such field.
    Unknown,
    /// It is zero.
    Zero,
    /// It is 2⁻²⁴, so that sigma stays finite.
    Tiny,
}

/// A class' own values for what a file leaves out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub start: f64,
    pub end: f64,
    pub schedule: Schedule,
    /// Words for `beta_schedule` beyond the three that all classes know.
    pub more: &'static [(&'static str, Schedule)],
    pub zero_snr: ZeroSnr,
}

/// What most classes have.
pub(super) const USUAL: Defaults = Defaults {
    start: 0.0001,
    end: 0.02,
    schedule: Schedule::Linear,
    more: &[],
    zero_snr: ZeroSnr::Tiny,
};

/// The course of the betas.
#[derive(Debug, Clone, Copy)]
pub(super) enum Schedule {
    Linear,
    ScaledLinear,
    Cosine,
    Exponential,
    Laplace,
    Sigmoid,
}

/// ᾱ of every training timestep.
pub(super) fn alphas(reader: &Reader<'_>, defaults: &Defaults) -> Result<Arc<[f32]>> {
    let mut betas = read_betas(reader, defaults)?;
    let asked = reader.flag("rescale_betas_zero_snr", false)?;
    let rescaled = asked && defaults.zero_snr != ZeroSnr::Unknown;
    if rescaled {
        betas = rescale_to_zero_snr(&betas);
    }
    let mut alphas = cumulative_product(&one_minus(&betas));
    if let (true, ZeroSnr::Tiny, Some(last)) = (rescaled, defaults.zero_snr, alphas.last_mut()) {
        *last = f32::EPSILON / 2.0;
    }
    let body = alphas.len() - usize::from(rescaled);
    let fits = |alpha: &f32| *alpha > 0.0 && *alpha < 1.0;
    if !alphas.iter().take(body).all(fits) {
        let message = "these betas leave no picture or no noise at some timestep, in f32: beta_start is too small or beta_end too large";
        return Err(reader.fault("beta_start, beta_end", message));
    }
    Ok(alphas.into())
}

/// The number of training timesteps.
pub(super) fn train_steps(reader: &Reader<'_>) -> Result<usize> {
    reader.whole("num_train_timesteps", 1..=MOST_TRAIN_STEPS, 1000)
}

fn read_betas(reader: &Reader<'_>, defaults: &Defaults) -> Result<Vec<f32>> {
    let count = train_steps(reader)?;
    if let Some(trained) = reader.numbers("trained_betas", MOST_TRAIN_STEPS)? {
        let fits = trained.len() == count && trained.iter().all(|b| *b > 0.0 && *b < 1.0);
        if !fits {
            let message =
                format!("they are not {count} numbers (num_train_timesteps) above 0 and below 1");
            return Err(reader.fault("trained_betas", message));
        }
        return Ok(trained.into_iter().map(|beta| beta as f32).collect());
    }
    let start = reader.number_or("beta_start", 1e-9..=0.999, defaults.start)?;
    let end = reader.number_or("beta_end", 1e-9..=0.999, defaults.end)?;
    let mut words = vec![
        ("linear", Schedule::Linear),
        ("scaled_linear", Schedule::ScaledLinear),
        ("squaredcos_cap_v2", Schedule::Cosine),
    ];
    words.extend_from_slice(defaults.more);
    let schedule = reader.choice("beta_schedule", &words, defaults.schedule)?;
    Ok(schedule.betas(start, end, count))
}

impl Schedule {
    fn betas(self, start: f64, end: f64, count: usize) -> Vec<f32> {
        match self {
            Self::Linear => linspace_f32(start, end, count),
            Self::ScaledLinear => {
                let roots = linspace_f32(start.sqrt(), end.sqrt(), count);
                roots.into_iter().map(|root| root * root).collect()
            }
            Self::Cosine => {
                of_alpha_bar(count, |t| ((t + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2))
            }
            Self::Exponential => of_alpha_bar(count, |t| (t * -12.0).exp()),
            Self::Laplace => of_alpha_bar(count, laplace),
            Self::Sigmoid => {
                let (start, span) = (start as f32, (end - start) as f32);
                let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
                let xs = linspace_f32(-6.0, 6.0, count);
                xs.into_iter().map(|x| sigmoid(x) * span + start).collect()
            }
        }
    }
}

/// `alpha_bar_fn` of the "laplace" transform.
fn laplace(t: f64) -> f64 {
    let distance = 0.5 - t;
    let lambda = -0.5 * 1f64.copysign(distance) * (1.0 - 2.0 * distance.abs() + 1e-6).ln();
    let snr = lambda.exp();
    (snr / (1.0 + snr)).sqrt()
}

/// diffusers' `betas_for_alpha_bar`.
fn of_alpha_bar(count: usize, alpha_bar: impl Fn(f64) -> f64) -> Vec<f32> {
    let of = |i: usize| alpha_bar(i as f64 / count as f64);
    (0..count)
        .map(|i| (1.0 - of(i + 1) / of(i)).min(0.999) as f32)
        .collect()
}

fn one_minus(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| 1.0 - value).collect()
}

/// diffusers' `rescale_zero_terminal_snr` (Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1).
fn rescale_to_zero_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumulative_product(&one_minus(betas))
        .into_iter()
        .map(f32::sqrt)
        .collect();
    let (Some(first), Some(last)) = (roots.first(), roots.last()) else {
        return Vec::new();
    };
    let scale = first / (first - last);
    let bars: Vec<f32> = roots
        .iter()
        .map(|root| (root - last) * scale)
        .map(|root| root * root)
        .collect();
    let before = std::iter::once(&1.0).chain(&bars);
    bars.iter()
        .zip(before)
        .map(|(bar, before)| 1.0 - bar / before)
        .collect()
}
