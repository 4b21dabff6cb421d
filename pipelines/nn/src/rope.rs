//! Rotary position embeddings: the angles of rows' positions, and heads rotated by them. What a model says about them and the
//! frequencies that follow are in `frequencies`.

mod frequencies;

use candle_core::{DType, Device, Tensor};

use crate::cuda;
use crate::error::{NnError, Result};
use crate::host::with_f32;
use crate::kernels::Isa;
use crate::kernels::elementwise::{Rotate, rotate};
pub use frequencies::{RopeConfig, RopeScaling};
use frequencies::{frequencies, stretched};

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
        config.check()?;
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

    /// The rotation of rows whose cosines and sines lie in `cos` and `sin`, f32 [rows, rotary_dim / 2] each, and may change there.
    ///
    /// # Errors
    /// [`NnError::Input`] for tensors of other shapes.
    pub fn rotation_by(&self, cos: Tensor, sin: Tensor) -> Result<Rotation> {
        let half = self.inverse_frequencies.len();
        let rows = cos.elem_count() / half;
        if cos.dims() != [rows, half] || sin.dims() != [rows, half] {
            return Err(input(format!(
                "cosines of shape {:?} and sines of shape {:?}; [rows, {half}] is wanted",
                cos.dims(),
                sin.dims()
            )));
        }
        Ok(Rotation {
            head_dim: self.config.head_dim,
            rows,
            interleaved: self.config.interleaved,
            angles: Angles::Plain { cos, sin },
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
    pub fn angles(&self, positions: &[u32]) -> (Vec<f32>, Vec<f32>) {
        let len = positions.len() * self.inverse_frequencies.len();
        let (mut cos, mut sin) = (Vec::with_capacity(len), Vec::with_capacity(len));
        for position in positions {
            let stretched = stretched(&self.config, *position);
            for frequency in stretched.as_ref().unwrap_or(&self.inverse_frequencies) {
                let (s, c) = (frequency * *position as f32).sin_cos();
                cos.push(c * self.attention_scaling);
                sin.push(s * self.attention_scaling);
            }
        }
        (cos, sin)
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
                if let Some(out) = cuda::rotate(x, (cos, sin), self.interleaved)? {
                    return Ok(out);
                }
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

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "rotary embedding",
        reason,
    }
}
