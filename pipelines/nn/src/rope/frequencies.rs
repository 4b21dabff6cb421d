//! What a model says about its rotary embedding, and its inverse frequencies as transformers' `modeling_rope_utils.py` makes them.
//! Every step that transformers does in f32 is done in f32 here, since at position 100 000 the last bit of a frequency is a
//! visible angle.

use std::f64::consts::PI;

use super::input;
use crate::error::Result;

/// How a model stretches its positions, by transformers' names.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// `default`
    None,
    /// `linear`: every frequency over `factor`.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// `dynamic`: a larger base for positions past the trained length. Each position has the base of a sequence that ends
    /// there: the same as transformers when a token is decoded, and for prompts within the trained length.
    Dynamic {
        /// The factor.
        factor: f64,
        /// The trained length: `max_position_embeddings`.
        original_max_position: usize,
    },
    /// `llama3`: low frequencies over `factor`, high ones as they are, a ramp between.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above original_max_position / this are stretched.
        low_freq_factor: f64,
        /// Wavelengths below original_max_position / this are not.
        high_freq_factor: f64,
        /// The trained length: `original_max_position_embeddings`.
        original_max_position: usize,
    },
    /// `yarn`
    Yarn {
        /// The factor.
        factor: f64,
        /// The trained length: `original_max_position_embeddings`.
        original_max_position: usize,
        /// 32 where the configuration has none.
        beta_fast: f64,
        /// 1 where the configuration has none.
        beta_slow: f64,
        /// What cosines and sines are multiplied by; follows from the others when there is none.
        attention_factor: Option<f64>,
        /// `mscale`
        mscale: Option<f64>,
        /// `mscale_all_dim`
        mscale_all_dim: Option<f64>,
        /// Whether the ramp's ends are whole numbers; true where the configuration says nothing.
        truncate: bool,
    },
    /// `longrope`: every frequency over a factor of its own. Which of the model's two lists it is depends on the context that
    /// is served, and is the caller's to say.
    LongRope {
        /// One per rotated pair: `short_factor` or `long_factor`.
        factors: Vec<f64>,
        /// How much longer than trained the model's whole context is.
        factor: f64,
        /// What cosines and sines are multiplied by; follows from the others when there is none.
        attention_factor: Option<f64>,
        /// The trained length: `original_max_position_embeddings`.
        original_max_position: usize,
    },
}

impl RopeScaling {
    /// The numbers of it that nothing follows from unless they are positive.
    fn numbers(&self) -> Vec<f64> {
        match *self {
            Self::None => vec![],
            Self::Linear { factor } => vec![factor],
            Self::Dynamic {
                factor,
                original_max_position,
            } => vec![factor, original_max_position as f64],
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position,
            } => vec![
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position as f64,
            ],
            Self::Yarn {
                factor,
                original_max_position,
                beta_fast,
                beta_slow,
                ..
            } => vec![factor, original_max_position as f64, beta_fast, beta_slow],
            Self::LongRope {
                ref factors,
                factor,
                original_max_position,
                ..
            } => {
                let mut numbers = factors.clone();
                numbers.extend([factor, original_max_position as f64]);
                numbers
            }
        }
    }
}

/// What a model says about its rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Numbers in a head.
    pub head_dim: usize,
    /// Numbers that are rotated, the first of a head: `int(head_dim · partial_rotary_factor)`, else `head_dim`.
    pub rotary_dim: usize,
    /// The base.
    pub theta: f64,
    /// The scaling.
    pub scaling: RopeScaling,
    /// Whether neighbours make a pair, as in Meta's checkpoints and llama.cpp's Llama; else a number and the one half the
    /// rotated part further, as in transformers' `rotate_half`.
    pub interleaved: bool,
}

impl RopeConfig {
    /// Whole heads, without scaling.
    pub fn new(head_dim: usize, theta: f64) -> Self {
        Self {
            head_dim,
            rotary_dim: head_dim,
            theta,
            scaling: RopeScaling::None,
            interleaved: false,
        }
    }

    /// That frequencies follow from it.
    pub(super) fn check(&self) -> Result<()> {
        let RopeConfig {
            head_dim,
            rotary_dim,
            theta,
            ..
        } = *self;
        if rotary_dim == 0 || rotary_dim % 2 != 0 || rotary_dim > head_dim {
            return Err(input(format!(
                "rotary dimension {rotary_dim} of a head of {head_dim}; an even part of the head is wanted"
            )));
        }
        if let RopeScaling::LongRope { factors, .. } = &self.scaling
            && 2 * factors.len() != rotary_dim
        {
            return Err(input(format!(
                "{} factors for {} rotated pairs",
                factors.len(),
                rotary_dim / 2
            )));
        }
        let positive = |x: f64| x > 0.0 && x.is_finite();
        if !positive(theta) || !self.scaling.numbers().into_iter().all(positive) {
            return Err(input(format!("{self:?}; every number must be positive")));
        }
        Ok(())
    }
}

/// theta^(2i / dim) for every pair: the exponent and the result in f32, as torch has them; the power itself in f64, which
/// rounds to the f32 that is right.
fn powers(theta: f64, dim: usize) -> Vec<f32> {
    let theta = f64::from(theta as f32);
    (0..dim / 2)
        .map(|pair| theta.powf(f64::from((2 * pair) as f32 / dim as f32)) as f32)
        .collect()
}

fn inverse(powers: &[f32]) -> Vec<f32> {
    powers.iter().map(|power| 1.0 / power).collect()
}

/// The inverse frequencies and the attention scaling: `ROPE_INIT_FUNCTIONS`.
pub(super) fn frequencies(config: &RopeConfig) -> (Vec<f32>, f64) {
    let powers = powers(config.theta, config.rotary_dim);
    let plain = inverse(&powers);
    match config.scaling {
        RopeScaling::None | RopeScaling::Dynamic { .. } => (plain, 1.0),
        RopeScaling::Linear { factor } => (plain.iter().map(|f| f / factor as f32).collect(), 1.0),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position,
        } => {
            let trained = original_max_position as f64;
            let stretch = |frequency: f32| {
                let wavelength = (2.0 * PI) as f32 / frequency;
                if wavelength > (trained / low_freq_factor) as f32 {
                    return frequency / factor as f32;
                }
                if wavelength < (trained / high_freq_factor) as f32 {
                    return frequency;
                }
                let smooth = (trained as f32 / wavelength - low_freq_factor as f32)
                    / (high_freq_factor - low_freq_factor) as f32;
                (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
            };
            (plain.into_iter().map(stretch).collect(), 1.0)
        }
        RopeScaling::Yarn { .. } => yarn(config, &powers),
        RopeScaling::LongRope {
            ref factors,
            factor,
            attention_factor,
            original_max_position,
        } => {
            let stretched = powers.iter().zip(factors);
            let stretched = stretched.map(|(power, factor)| 1.0 / (*factor as f32 * power));
            // A trained length of 1 would divide by ln 1; nothing is trained so, and then nothing is scaled.
            let longer = factor > 1.0 && original_max_position > 1;
            let scale = || (1.0 + factor.ln() / (original_max_position as f64).ln()).sqrt();
            let scale = attention_factor.unwrap_or_else(|| if longer { scale() } else { 1.0 });
            (stretched.collect(), scale)
        }
    }
}

/// `_compute_yarn_parameters`: fast pairs as they are, slow ones over `factor`, a ramp between.
fn yarn(config: &RopeConfig, powers: &[f32]) -> (Vec<f32>, f64) {
    let RopeScaling::Yarn {
        factor,
        original_max_position,
        beta_fast,
        beta_slow,
        attention_factor,
        mscale,
        mscale_all_dim,
        truncate,
    } = config.scaling
    else {
        return (inverse(powers), 1.0);
    };
    let scale = |m: f64| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * m * factor.ln() + 1.0
        }
    };
    let present = |m: Option<f64>| m.filter(|m| *m != 0.0);
    let attention_scaling =
        attention_factor.unwrap_or_else(|| match (present(mscale), present(mscale_all_dim)) {
            (Some(m), Some(all)) => scale(m) / scale(all),
            _ => scale(1.0),
        });
    let dim = config.rotary_dim as f64;
    // The pair that turns this often within the trained length.
    let pair = |rotations: f64| {
        dim * (original_max_position as f64 / (rotations * 2.0 * PI)).ln()
            / (2.0 * config.theta.ln())
    };
    let (low, high) = (pair(beta_fast), pair(beta_slow));
    let (low, high) = if truncate {
        (low.floor(), high.ceil())
    } else {
        (low, high)
    };
    let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001;
    }
    let blend = |(index, power): (usize, &f32)| {
        let ramp = ((index as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
        let keep = 1.0 - ramp;
        let (fast, slow) = (1.0 / power, 1.0 / (factor as f32 * power));
        slow * (1.0 - keep) + fast * keep
    };
    (
        powers.iter().enumerate().map(blend).collect(),
        attention_scaling,
    )
}

/// The frequencies of a dynamic model at a position past its trained length.
pub(super) fn stretched(config: &RopeConfig, position: u32) -> Option<Vec<f32>> {
    let RopeScaling::Dynamic {
        factor,
        original_max_position,
    } = config.scaling
    else {
        return None;
    };
    let (length, trained) = (f64::from(position) + 1.0, original_max_position as f64);
    let dim = config.rotary_dim as f64;
    if length <= trained || dim <= 2.0 {
        return None;
    }
    let growth = (factor * length / trained) - (factor - 1.0);
    let theta = config.theta * growth.powf(dim / (dim - 2.0));
    Some(inverse(&powers(theta, config.rotary_dim)))
}
