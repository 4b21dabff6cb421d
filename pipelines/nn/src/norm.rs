//! RMSNorm and LayerNorm, alone and after the residual's addition.
//! The CPU does each row in one pass while it is in L1; elsewhere it is candle's kernel.

use crate::cuda;
use crate::error::{NnError, Result};
use crate::host::with_f32;
use crate::kernels::Isa;
use crate::kernels::norms::{Gain, Kind, Rows, norm};
use crate::weights::HostTensor;
use candle_core::{DType, Device, Tensor};

/// The kinds of norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// transformers' LlamaRMSNorm: weight · x / √(mean(x²) + eps), the mean in f32.
    Rms,
    /// The same times 1 + weight: Gemma's.
    RmsUnitOffset,
    /// torch's LayerNorm: weight · (x − mean) / √(variance + eps), plus the bias when there is one.
    Layer,
}

/// What a model says about its norms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConfig {
    /// The kind.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f64,
}

/// A norm over the last dimension.
#[derive(Debug, Clone)]
pub struct Norm {
    weight: Weight,
    bias: Option<Weight>,
    /// Whether the mean is subtracted first.
    centred: bool,
    eps: f32,
    width: usize,
}

#[derive(Debug, Clone)]
enum Weight {
    Host(Vec<f32>),
    Plain(Tensor),
}

impl Weight {
    fn bytes(&self) -> usize {
        match self {
            Self::Host(weight) => weight.len() * size_of::<f32>(),
            Self::Plain(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
        }
    }
}

impl Norm {
    /// A norm with `weight`, a vector as long as a row.
    ///
    /// # Errors
    /// [`NnError::Input`] when the weight is no vector, [`NnError::DType`] when it is not a float.
    pub fn new(
        config: NormConfig,
        weight: HostTensor,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        if !device.is_cpu() {
            return Self::plain(config, weight, device, dtype);
        }
        let width = width(&weight)?;
        Ok(Self::over(
            config,
            width,
            Weight::Host(numbers(config, &weight)?),
        ))
    }

    /// The same norm in candle tensors, on any device: what [`new`](Self::new) makes off the CPU.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and [`NnError::Candle`] when the device is out of memory.
    pub fn plain(
        config: NormConfig,
        weight: HostTensor,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let width = width(&weight)?;
        // A half dtype that holds a small weight well holds 1 + that weight badly; Gemma multiplies in f32, too.
        let dtype = match config.kind {
            NormKind::RmsUnitOffset => DType::F32,
            NormKind::Rms | NormKind::Layer => dtype,
        };
        let gain = Tensor::from_vec(numbers(config, &weight)?, width, device)?.to_dtype(dtype)?;
        weight.list(&gain);
        Ok(Self::over(config, width, Weight::Plain(gain)))
    }

    /// A norm that multiplies by nothing, over rows of `width`: torch's `elementwise_affine=False`.
    ///
    /// # Errors
    /// [`NnError::Input`] for a width of 0, [`NnError::Candle`] when the device is out of memory.
    pub fn unweighted(
        config: NormConfig,
        width: usize,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        if width == 0 {
            return Err(input("rows without numbers".to_owned()));
        }
        let weight = match device.is_cpu() {
            true => Weight::Host(vec![1.0; width]),
            false => Weight::Plain(Tensor::ones(width, dtype, device)?),
        };
        Ok(Self::over(config, width, weight))
    }

    /// The same norm with a bias, as LayerNorm has.
    ///
    /// # Errors
    /// [`NnError::Shape`] when the bias is not as long as a row, [`NnError::Input`] for an RMSNorm, which has none.
    pub fn with_bias(self, bias: HostTensor) -> Result<Self> {
        bias.expect_shape(&[self.width])?;
        if !self.centred {
            return Err(input(format!("bias `{}` of an rms norm", bias.name())));
        }
        let bias = match &self.weight {
            Weight::Host(_) => Weight::Host(bias.to_f32()?),
            Weight::Plain(weight) => {
                Weight::Plain(bias.to_tensor(weight.device(), weight.dtype())?)
            }
        };
        Ok(Self {
            bias: Some(bias),
            ..self
        })
    }

    fn over(config: NormConfig, width: usize, weight: Weight) -> Self {
        Self {
            weight,
            bias: None,
            centred: config.kind == NormKind::Layer,
            eps: config.eps as f32,
            width,
        }
    }

    /// Bytes of the weight and the bias.
    pub fn bytes(&self) -> usize {
        self.weight.bytes() + self.bias.as_ref().map_or(0, Weight::bytes)
    }

    /// Norms `x` [.., width] over its last dimension.
    ///
    /// # Errors
    /// [`NnError::Input`] when `x` has another width, dtype or device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        let Some(gain) = self.gain() else {
            return match self.fused(x, None)? {
                Some((_, normed)) => Ok(normed),
                None => self.forward_plain(x),
            };
        };
        let out = with_f32(x, "norm", |x| {
            let mut out = vec![0.0; x.len()];
            let rows = Rows {
                x,
                residual: None,
                out: &mut out,
            };
            norm(Isa::detect(), gain, rows);
            Ok(out)
        })?;
        Ok(Tensor::from_vec(out, x.shape(), &Device::Cpu)?)
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
        let Some(gain) = self.gain() else {
            if let Some((Some(sum), normed)) = self.fused(x, Some(residual))? {
                return Ok((sum, normed));
            }
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
                norm(Isa::detect(), gain, rows);
                Ok((sum, out))
            })
        })?;
        Ok((
            Tensor::from_vec(sum, x.shape(), &Device::Cpu)?,
            Tensor::from_vec(normed, x.shape(), &Device::Cpu)?,
        ))
    }

    /// What the kernel takes; nothing when the norm is in candle tensors.
    fn gain(&self) -> Option<Gain<'_>> {
        let Weight::Host(weight) = &self.weight else {
            return None;
        };
        let bias = match &self.bias {
            Some(Weight::Host(bias)) => Some(bias.as_slice()),
            _ => None,
        };
        Some(Gain {
            weight,
            kind: if self.centred {
                Kind::Layer(bias)
            } else {
                Kind::Rms
            },
            eps: self.eps,
        })
    }

    /// By a kernel of a GPU, where there is one: the sum, if there is something to add, and the sum normed.
    fn fused(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<Option<(Option<Tensor>, Tensor)>> {
        let Weight::Plain(weight) = &self.weight else {
            return Ok(None);
        };
        let bias = match &self.bias {
            Some(Weight::Plain(bias)) => Some(bias),
            _ => None,
        };
        cuda::norm(x, residual, (weight, bias), (self.eps, self.centred))
    }

    fn forward_plain(&self, x: &Tensor) -> Result<Tensor> {
        let Weight::Plain(weight) = &self.weight else {
            return Err(input("a norm that is not in candle tensors".to_owned()));
        };
        let dtype = x.dtype();
        let x = x.to_dtype(weight.dtype())?.contiguous()?;
        if !self.centred {
            return Ok(candle_nn::ops::rms_norm(&x, weight, self.eps)?.to_dtype(dtype)?);
        }
        let bias = match &self.bias {
            Some(Weight::Plain(bias)) => bias.clone(),
            _ => weight.zeros_like()?,
        };
        Ok(candle_nn::ops::layer_norm(&x, weight, &bias, self.eps)?.to_dtype(dtype)?)
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

fn numbers(config: NormConfig, weight: &HostTensor) -> Result<Vec<f32>> {
    let mut numbers = weight.to_f32()?;
    if config.kind == NormKind::RmsUnitOffset {
        numbers.iter_mut().for_each(|w| *w += 1.0);
    }
    Ok(numbers)
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
