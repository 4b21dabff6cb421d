//! The activations of feed-forward layers, alone and gated.

use crate::cuda;
use crate::error::{NnError, Result};
use crate::host::with_f32;
use crate::kernels::Isa;
use crate::kernels::elementwise::{Curve, activate};
use candle_core::{Device, Tensor};
use std::str::FromStr;

/// From Hendrycks and Gimpel, "Gaussian Error Linear Units", section 2.
const QUICK_GELU: f64 = 1.702;

/// An activation, by the names that config.json uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·sigmoid(x)
    Silu,
    /// x·Φ(x), with the error function.
    Gelu,
    /// The tanh approximation of [`Gelu`](Self::Gelu).
    GeluTanh,
    /// x·sigmoid(1.702·x), the approximation that OpenAI's CLIP was trained with.
    QuickGelu,
    /// max(x, 0)
    Relu,
}

impl FromStr for Activation {
    type Err = NnError;

    /// The names of transformers' `ACT2FN`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "silu" | "swish" => Ok(Self::Silu),
            "gelu" => Ok(Self::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Self::GeluTanh),
            "quick_gelu" => Ok(Self::QuickGelu),
            "relu" => Ok(Self::Relu),
            other => Err(NnError::Input {
                what: "activation",
                reason: format!(
                    "`{other}`; silu, swish, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, quick_gelu and relu are known"
                ),
            }),
        }
    }
}

impl Activation {
    /// The activation of every number of `x`, of any shape.
    ///
    /// # Errors
    /// [`NnError::Input`] when `x` is on the CPU and not f32.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match x.device().is_cpu() {
            true => on_host(self.curve(), x, None),
            false => self.plain(x),
        }
    }

    /// activation(gate) · up, of one shape.
    ///
    /// # Errors
    /// [`NnError::Input`] when the shapes differ, or the tensors are on the CPU and not f32.
    pub fn gated(self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        if gate.dims() != up.dims() {
            return Err(NnError::Input {
                what: "activation",
                reason: format!("gate of shape {:?} and up of {:?}", gate.dims(), up.dims()),
            });
        }
        match gate.device().is_cpu() {
            true => on_host(self.curve(), gate, Some(up)),
            false => match cuda::gated(self, gate, up)? {
                Some(out) => Ok(out),
                None => Ok((self.plain(gate)? * up)?),
            },
        }
    }

    pub(crate) fn curve(self) -> Curve {
        match self {
            Self::Silu => Curve::Silu,
            Self::Gelu => Curve::Gelu,
            Self::GeluTanh => Curve::GeluTanh,
            Self::QuickGelu => Curve::QuickGelu,
            Self::Relu => Curve::Relu,
        }
    }

    /// In candle operations, on any device.
    fn plain(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Silu => x.silu()?,
            Self::Gelu => x.gelu_erf()?,
            Self::GeluTanh => x.gelu()?,
            Self::QuickGelu => (x * candle_nn::ops::sigmoid(&(x * QUICK_GELU)?)?)?,
            Self::Relu => x.relu()?,
        })
    }
}

/// silu(gate) · up: the gate of Llama's feed-forward layer.
///
/// # Errors
/// As for [`Activation::gated`].
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    Activation::Silu.gated(gate, up)
}

/// cap·tanh(x / cap), which keeps every number of `x` between −cap and cap: Gemma 2's final logits.
///
/// # Errors
/// [`NnError::Input`] when `x` is on the CPU and not f32.
pub fn soft_cap(x: &Tensor, cap: f32) -> Result<Tensor> {
    if x.device().is_cpu() {
        return on_host(Curve::SoftCap(cap), x, None);
    }
    let cap = f64::from(cap);
    Ok(((x / cap)?.tanh()? * cap)?)
}

fn on_host(curve: Curve, gate: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
    let run = |gate: &[f32], up: Option<&[f32]>| {
        let mut out = vec![0.0; gate.len()];
        activate(Isa::detect(), curve, gate, up, &mut out);
        Ok(out)
    };
    let out = with_f32(gate, "activation", |numbers| match up {
        Some(up) => with_f32(up, "activation", |up| run(numbers, Some(up))),
        None => run(numbers, None),
    })?;
    Ok(Tensor::from_vec(out, gate.shape(), &Device::Cpu)?)
}
