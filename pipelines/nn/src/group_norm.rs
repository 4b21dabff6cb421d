//! Norms over groups of channels of a picture: torch's GroupNorm on [batch, channels, height, width].
//! Apart from `channel_norm`, which goes over time with the channels last and a group for each channel.

use crate::activation::Activation;
use crate::error::{NnError, Result};
use crate::weights::HostTensor;
use candle_core::{D, DType, Device, Tensor};

/// The norm.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    groups: usize,
    channels: usize,
    eps: f64,
    /// [1, channels, 1, 1]
    weight: Tensor,
    /// [1, channels, 1, 1]
    bias: Tensor,
}

/// Parts that channels are cut into, and what is added to each part's variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Groups {
    /// How many; they divide the channels.
    pub count: usize,
    /// Added to the variance.
    pub eps: f64,
}

impl GroupNorm {
    /// A norm with `weight` and `bias`, a number for each channel. Sums are in f32 whatever the dtype.
    ///
    /// # Errors
    /// [`NnError::Input`] for groups that do not divide the channels, [`NnError::Shape`] when the bias has another shape.
    pub fn new(
        (weight, bias): (HostTensor, HostTensor),
        groups: Groups,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let channels = match weight.shape() {
            [channels] if groups.count > 0 && channels % groups.count == 0 => *channels,
            other => {
                return Err(input(format!(
                    "weight `{}` of shape {other:?} in {} groups; [channels] is wanted, in groups that divide them",
                    weight.name(),
                    groups.count
                )));
            }
        };
        bias.expect_shape(&[channels])?;
        let on_device = |tensor: HostTensor| -> Result<Tensor> {
            Ok(tensor
                .to_tensor(device, dtype)?
                .reshape((1, channels, 1, 1))?)
        };
        Ok(Self {
            groups: groups.count,
            channels,
            eps: groups.eps,
            weight: on_device(weight)?,
            bias: on_device(bias)?,
        })
    }

    /// Bytes of weight and bias.
    pub fn bytes(&self) -> usize {
        2 * self.channels * self.weight.dtype().size_in_bytes()
    }

    /// `x` [batch, channels, height, width] normed, and `activation` over the result.
    ///
    /// # Errors
    /// [`NnError::Input`] when `x` has other channels.
    pub fn forward(&self, x: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        if channels != self.channels {
            return Err(input(format!(
                "input of shape {:?} to {} channels",
                x.dims(),
                self.channels
            )));
        }
        let dtype = x.dtype();
        let grouped = x.to_dtype(DType::F32)?.reshape((batch, self.groups, ()))?;
        let centred = grouped.broadcast_sub(&grouped.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        let normed = normed
            .reshape((batch, channels, height, width))?
            .to_dtype(dtype)?;
        let y = normed
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?;
        match activation {
            Some(activation) => activation.forward(&y),
            None => Ok(y),
        }
    }
}

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "group norm",
        reason,
    }
}
