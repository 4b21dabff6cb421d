//! RMSNorm, alone and after the residual's addition.
//! The CPU does each row in one pass while it is in L1; elsewhere it is candle's kernel.

use crate::error::{NnError, Result};
use crate::host::with_f32;
use crate::kernels::Isa;
use crate::kernels::elementwise::{Rows, rms_norm};
use crate::weights::HostTensor;
use candle_core::{DType, Device, Tensor};

/// transformers' LlamaRMSNorm: weight · x / √(mean(x²) + eps), the mean in f32.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Weight,
    eps: f32,
    width: usize,
}

#[derive(Debug, Clone)]
enum Weight {
    Host(Vec<f32>),
    Plain(Tensor),
}

impl RmsNorm {
    /// A norm with `weight`, a vector as long as a row.
    ///
    /// # Errors
    /// [`NnError::Input`] when the weight is no vector, [`NnError::DType`] when it is not a float.
    pub fn new(weight: HostTensor, eps: f64, device: &Device, dtype: DType) -> Result<Self> {
        let (width, weight) = (width(&weight)?, weight.to_f32()?);
        Self::build(weight, width, eps, device, dtype, !device.is_cpu())
    }

    /// A norm that multiplies by 1 + `weight`, as Gemma's does.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_unit_offset(
        weight: HostTensor,
        eps: f64,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let (width, mut weight) = (width(&weight)?, weight.to_f32()?);
        weight.iter_mut().for_each(|w| *w += 1.0);
        Self::build(weight, width, eps, device, dtype, !device.is_cpu())
    }

    /// [`new`](Self::new) in candle tensors, on any device.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn plain(weight: HostTensor, eps: f64, device: &Device, dtype: DType) -> Result<Self> {
        let (width, weight) = (width(&weight)?, weight.to_f32()?);
        Self::build(weight, width, eps, device, dtype, true)
    }

    fn build(
        weight: Vec<f32>,
        width: usize,
        eps: f64,
        device: &Device,
        dtype: DType,
        plain: bool,
    ) -> Result<Self> {
        let weight = if plain {
            Weight::Plain(Tensor::from_vec(weight, width, device)?.to_dtype(dtype)?)
        } else {
            Weight::Host(weight)
        };
        Ok(Self {
            weight,
            eps: eps as f32,
            width,
        })
    }

    /// Bytes of the weight.
    pub fn bytes(&self) -> usize {
        match &self.weight {
            Weight::Host(weight) => weight.len() * size_of::<f32>(),
            Weight::Plain(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
        }
    }

    /// Norms `x` [.., width] over its last dimension.
    ///
    /// # Errors
    /// [`NnError::Input`] when `x` has another width, dtype or device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        match &self.weight {
            Weight::Host(weight) => {
                let out = with_f32(x, "norm", |x| {
                    let mut out = vec![0.0; x.len()];
                    let rows = Rows {
                        x,
                        residual: None,
                        out: &mut out,
                    };
                    rms_norm(Isa::detect(), weight, self.eps, rows);
                    Ok(out)
                })?;
                Ok(Tensor::from_vec(out, x.shape(), &Device::Cpu)?)
            }
            Weight::Plain(weight) => Ok(candle_nn::ops::rms_norm(
                &x.contiguous()?,
                weight,
                self.eps,
            )?),
        }
    }

    /// Adds `x` and `residual`, of one shape, and norms the sum: (sum, normed).
    ///
    /// # Errors
    /// [`NnError::Input`] when the shapes differ or do not fit.
    pub fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor)> {
        self.check(x)?;
        if x.dims() != residual.dims() {
            return Err(input(format!(
                "shapes {:?} and {:?} to be added",
                x.dims(),
                residual.dims()
            )));
        }
        let Weight::Host(weight) = &self.weight else {
            let sum = (x + residual)?;
            let normed = self.forward(&sum)?;
            return Ok((sum, normed));
        };
        let (sum, normed) = with_f32(x, "norm", |x| {
            with_f32(residual, "norm", |residual| {
                let (mut sum, mut out) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                let rows = Rows {
                    x,
                    residual: Some((residual, &mut sum)),
                    out: &mut out,
                };
                rms_norm(Isa::detect(), weight, self.eps, rows);
                Ok((sum, out))
            })
        })?;
        Ok((
            Tensor::from_vec(sum, x.shape(), &Device::Cpu)?,
            Tensor::from_vec(normed, x.shape(), &Device::Cpu)?,
        ))
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        if x.dims().last() == Some(&self.width) {
            return Ok(());
        }
        Err(input(format!(
            "input of shape {:?} to a norm of width {}",
            x.dims(),
            self.width
        )))
    }
}

fn width(weight: &HostTensor) -> Result<usize> {
    match weight.shape() {
        [width] if *width > 0 => Ok(*width),
        other => Err(input(format!(
            "weight `{}` of shape {other:?}; [width] is wanted",
            weight.name()
        ))),
    }
}

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "norm",
        reason,
    }
}
