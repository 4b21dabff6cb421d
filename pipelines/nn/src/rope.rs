//! Rotary position embeddings: inverse frequencies as transformers' `modeling_rope_utils.py` makes them, and their application.
//! Every step that transformers does in f32 is done in f32 here, since at position 100 000 the last bit of a frequency is a
//! visible angle.

use crate::error::{NnError, Result};
use crate::host::with_f32;
use crate::kernels::Isa;
use crate::kernels::elementwise::{Rotate, rotate};
use candle_core::{DType, Device, Tensor};
use std::f64::consts::PI;

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
}

/// Inverse frequencies, and the factor of cosines and sines.
#[derive(Debug, Clone)]
pub struct Rope {
    config: RopeConfig,
    inverse_frequencies: Vec<f32>,
    attention_scaling: f32,
    device: Device,
}

/// The cosines and sines of some rows' positions: made once a step, used by every layer.
#[derive(Debug, Clone)]
pub struct Rotation {
    head_dim: usize,
    rows: usize,
    interleaved: bool,
    angles: Angles,
}

#[derive(Debug, Clone)]
enum Angles {
    Host {
        cos: Vec<f32>,
        sin: Vec<f32>,
    },
    /// f32, [rows, rotary_dim / 2]
    Plain {
        cos: Tensor,
        sin: Tensor,
    },
}

impl Rope {
    /// The frequencies of a configuration.
    ///
    /// # Errors
    /// [`NnError::Input`] for a rotary dimension that is odd, zero or larger than the head, or a factor that is not positive.
    pub fn new(config: &RopeConfig, device: &Device) -> Result<Self> {
        let RopeConfig {
            head_dim,
            rotary_dim,
            theta,
            ..
        } = *config;
        if rotary_dim == 0 || rotary_dim % 2 != 0 || rotary_dim > head_dim {
            return Err(input(format!(
                "rotary dimension {rotary_dim} of a head of {head_dim}; an even part of the head is wanted"
            )));
        }
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let numbers = match config.scaling {
            RopeScaling::None => vec![],
            RopeScaling::Linear { factor } => vec![factor],
            RopeScaling::Dynamic {
                factor,
                original_max_position,
            } => {
                vec![factor, original_max_position as f64]
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position,
            } => {
                vec![
                    factor,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position as f64,
                ]
            }
            RopeScaling::Yarn {
                factor,
                original_max_position,
                beta_fast,
                beta_slow,
                ..
            } => {
                vec![factor, original_max_position as f64, beta_fast, beta_slow]
            }
            RopeScaling::LongRope {
                ref factors,
                factor,
                original_max_position,
                ..
            } => {
                if 2 * factors.len() != rotary_dim {
                    return Err(input(format!(
                        "{} factors for {} rotated pairs",
                        factors.len(),
                        rotary_dim / 2
                    )));
                }
                let mut numbers = factors.clone();
                numbers.extend([factor, original_max_position as f64]);
                numbers
            }
        };
        if !positive(theta) || !numbers.into_iter().all(positive) {
            return Err(input(format!("{config:?}; every number must be positive")));
        }
        let (inverse_frequencies, attention_scaling) = frequencies(config);
        Ok(Self {
            config: config.clone(),
            inverse_frequencies,
            attention_scaling: attention_scaling as f32,
            device: device.clone(),
        })
    }

    /// One per rotated pair.
    pub fn inverse_frequencies(&self) -> &[f32] {
        &self.inverse_frequencies
    }

    /// What cosines and sines are multiplied by: 1 except for yarn and longrope.
    pub fn attention_scaling(&self) -> f32 {
        self.attention_scaling
    }

    /// The angles of rows at these positions.
    ///
    /// # Errors
    /// [`NnError::Candle`] when the device is out of memory.
    pub fn rotation(&self, positions: &[u32]) -> Result<Rotation> {
        let (cos, sin) = self.angles(positions);
        let rows = positions.len();
        let angles = if self.device.is_cpu() {
            Angles::Host { cos, sin }
        } else {
            plain_angles(cos, sin, rows, &self.device)?
        };
        Ok(Rotation {
            head_dim: self.config.head_dim,
            rows,
            interleaved: self.config.interleaved,
            angles,
        })
    }

    /// [`rotation`](Self::rotation) in candle tensors, on any device.
    ///
    /// # Errors
    /// As for [`rotation`](Self::rotation).
    pub fn plain_rotation(&self, positions: &[u32]) -> Result<Rotation> {
        let (cos, sin) = self.angles(positions);
        Ok(Rotation {
            head_dim: self.config.head_dim,
            rows: positions.len(),
            interleaved: self.config.interleaved,
            angles: plain_angles(cos, sin, positions.len(), &self.device)?,
        })
    }

    /// Rotates `x` [rows, heads, head_dim] by its rows' positions. A model with more than one layer makes the
    /// [`rotation`](Self::rotation) once and applies that.
    ///
    /// # Errors
    /// As for [`Rotation::apply`].
    pub fn apply(&self, x: &Tensor, positions: &[u32]) -> Result<Tensor> {
        self.rotation(positions)?.apply(x)
    }

    /// cos and sin [positions, rotary_dim / 2] of f32 angles: the product of an f32 frequency and an f32 position.
    fn angles(&self, positions: &[u32]) -> (Vec<f32>, Vec<f32>) {
        let len = positions.len() * self.inverse_frequencies.len();
        let (mut cos, mut sin) = (Vec::with_capacity(len), Vec::with_capacity(len));
        for position in positions {
            let stretched = self.stretched(*position);
            for frequency in stretched.as_ref().unwrap_or(&self.inverse_frequencies) {
                let (s, c) = (frequency * *position as f32).sin_cos();
                cos.push(c * self.attention_scaling);
                sin.push(s * self.attention_scaling);
            }
        }
        (cos, sin)
    }

    /// The frequencies of a dynamic model at a position past its trained length.
    fn stretched(&self, position: u32) -> Option<Vec<f32>> {
        let RopeScaling::Dynamic {
            factor,
            original_max_position,
        } = self.config.scaling
        else {
            return None;
        };
        let (length, trained) = (f64::from(position) + 1.0, original_max_position as f64);
        let dim = self.config.rotary_dim as f64;
        if length <= trained || dim <= 2.0 {
            return None;
        }
        let growth = (factor * length / trained) - (factor - 1.0);
        let theta = self.config.theta * growth.powf(dim / (dim - 2.0));
        Some(inverse(&powers(theta, self.config.rotary_dim)))
    }
}

impl Rotation {
    /// A rotation of neighbouring pairs by angles that somebody else computed, one cosine and sine for each pair of each row: for
    /// models whose positions are not one number a row.
    ///
    /// # Errors
    /// [`NnError::Input`] when there are not as many cosines and sines as rows have pairs.
    pub fn of_pairs(
        head_dim: usize,
        (cos, sin): (Vec<f32>, Vec<f32>),
        device: &Device,
    ) -> Result<Self> {
        let pairs = head_dim / 2;
        let fits = pairs > 0
            && head_dim.is_multiple_of(2)
            && cos.len() == sin.len()
            && cos.len().is_multiple_of(pairs);
        if !fits {
            return Err(input(format!(
                "{} cosines and {} sines of heads of {head_dim}; one for each pair of each row is wanted",
                cos.len(),
                sin.len()
            )));
        }
        let rows = cos.len() / pairs;
        let angles = match device.is_cpu() {
            true => Angles::Host { cos, sin },
            false => plain_angles(cos, sin, rows, device)?,
        };
        Ok(Self {
            head_dim,
            rows,
            interleaved: true,
            angles,
        })
    }

    /// Rotates `x` [rows, heads, head_dim], half-split as transformers' `rotate_half` or in neighbouring pairs. On a device the result has x's dtype.
    ///
    /// # Errors
    /// [`NnError::Input`] when the shape does not fit, or `x` is on the CPU and not f32.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match x.dims() {
            [rows, _, head_dim] if *rows == self.rows && *head_dim == self.head_dim => {}
            dims => {
                return Err(input(format!(
                    "input of shape {dims:?}; [{}, heads, {}] is wanted",
                    self.rows, self.head_dim
                )));
            }
        }
        match &self.angles {
            Angles::Host { cos, sin } => {
                let out = with_f32(x, "rotary embedding", |x| {
                    let mut out = vec![0.0; x.len()];
                    let shape = Rotate {
                        rows: self.rows,
                        head_dim: self.head_dim,
                        interleaved: self.interleaved,
                        cos,
                        sin,
                    };
                    rotate(Isa::detect(), x, &mut out, shape);
                    Ok(out)
                })?;
                Ok(Tensor::from_vec(out, x.shape(), &Device::Cpu)?)
            }
            Angles::Plain { cos, sin } => {
                let (cos, sin) = (cos.to_dtype(x.dtype())?, sin.to_dtype(x.dtype())?);
                let rotary = 2 * cos.dim(1)?;
                let turned = x.narrow(2, 0, rotary)?.contiguous()?;
                let turned = if self.interleaved {
                    turn_neighbours(&turned, &cos, &sin)?
                } else {
                    candle_nn::rotary_emb::rope_thd(&turned.unsqueeze(0)?, &cos, &sin)?
                        .squeeze(0)?
                };
                if rotary == self.head_dim {
                    return Ok(turned);
                }
                let rest = x.narrow(2, rotary, self.head_dim - rotary)?;
                Ok(Tensor::cat(&[&turned, &rest.contiguous()?], 2)?)
            }
        }
    }
}

/// `x` [rows, heads, rotary] with neighbours as pairs, `cos` and `sin` [rows, rotary / 2]. Made of plain operations, because
/// candle's own kernel for it wants another layout.
fn turn_neighbours(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (rows, heads, rotary) = x.dims3()?;
    let pairs = x.reshape((rows, heads, rotary / 2, 2))?;
    let (first, second) = (pairs.narrow(3, 0, 1)?, pairs.narrow(3, 1, 1)?);
    let (cos, sin) = (
        cos.reshape((rows, 1, rotary / 2, 1))?,
        sin.reshape((rows, 1, rotary / 2, 1))?,
    );
    let turned_first = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
    let turned_second = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
    Ok(Tensor::cat(&[&turned_first, &turned_second], 3)?.reshape(x.shape())?)
}

fn plain_angles(cos: Vec<f32>, sin: Vec<f32>, rows: usize, device: &Device) -> Result<Angles> {
    let half = cos.len() / rows.max(1);
    let tensor = |numbers| Tensor::from_vec(numbers, (rows, half), device)?.to_dtype(DType::F32);
    Ok(Angles::Plain {
        cos: tensor(cos)?,
        sin: tensor(sin)?,
    })
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
fn frequencies(config: &RopeConfig) -> (Vec<f32>, f64) {
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

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "rotary embedding",
        reason,
    }
}
