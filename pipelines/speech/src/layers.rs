//! From a checkpoint to layers: tensors by name, their shapes checked before anything is built from them.
//! Apart from the models, so that they share how a linear layer or a norm is found, and on which device it is.

use candle_core::{DType, Device};
use chandler_nn::conv::{Conv1d, Conv1dConfig};
use chandler_nn::embedding::Embedding;
use chandler_nn::linear::Linear;
use chandler_nn::norm::{Norm, NormConfig, NormKind};
use chandler_nn::weights::{HostTensor, TensorSource};

use crate::error::Result;

/// Where layers are to be, and in which dtype.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The device.
    pub device: Device,
    /// What weights are kept in; on the CPU f32 leaves them as they are stored.
    pub dtype: DType,
    /// Candle tensors even on the CPU: what other devices compute, held against references here.
    pub plain: bool,
}

impl Placement {
    /// What activations are: f32 on the CPU whatever weights are kept in.
    pub fn activations(&self) -> DType {
        match self.device.is_cpu() {
            true => DType::F32,
            false => self.dtype,
        }
    }

    /// On the CPU, weights as they are stored.
    pub fn cpu() -> Self {
        Self {
            device: Device::Cpu,
            dtype: DType::F32,
            plain: false,
        }
    }
}

/// Takes tensors by name from a source.
pub(crate) struct Loader<'a> {
    pub(crate) source: &'a dyn TensorSource,
    pub(crate) placement: &'a Placement,
    /// What all names begin with in this checkpoint.
    pub(crate) prefix: &'static str,
}

impl Loader<'_> {
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<HostTensor> {
        let tensor = self.source.tensor(&format!("{}{name}", self.prefix))?;
        tensor.expect_shape(shape)?;
        Ok(tensor)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.source.contains(&format!("{}{name}", self.prefix))
    }

    /// `{name}.weight` [outputs, inputs] and, where `bias` says so, `{name}.bias`.
    pub(crate) fn linear(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        bias: bool,
    ) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = match bias {
            true => Some(self.tensor(&format!("{name}.bias"), &[outputs])?),
            false => None,
        };
        let Placement { device, dtype, .. } = self.placement;
        let make = match self.placement.plain {
            true => Linear::plain,
            false => Linear::new,
        };
        Ok(make(weight, bias, device, *dtype)?)
    }

    /// A LayerNorm with a bias.
    pub(crate) fn norm(&self, name: &str, width: usize, eps: f64) -> Result<Norm> {
        let config = NormConfig {
            kind: NormKind::Layer,
            eps,
        };
        let weight = self.tensor(&format!("{name}.weight"), &[width])?;
        let Placement { device, dtype, .. } = self.placement;
        let make = match self.placement.plain {
            true => Norm::plain,
            false => Norm::new,
        };
        let norm = make(config, weight, device, *dtype)?;
        Ok(norm.with_bias(self.tensor(&format!("{name}.bias"), &[width])?)?)
    }

    /// `{name}.weight` [rows, width] as a table.
    pub(crate) fn embedding(&self, name: &str, shape: [usize; 2]) -> Result<Embedding> {
        let table = self.tensor(&format!("{name}.weight"), &shape)?;
        let Placement { device, dtype, .. } = self.placement;
        let make = match self.placement.plain {
            true => Embedding::plain,
            false => Embedding::new,
        };
        Ok(make(table, device, *dtype)?)
    }

    /// `{name}.weight` [outputs, inputs / groups, kernel] and, where `bias` says so, `{name}.bias`.
    pub(crate) fn conv(
        &self,
        name: &str,
        shape: [usize; 3],
        config: Conv1dConfig,
        bias: bool,
    ) -> Result<Conv1d> {
        let weight = self.tensor(&format!("{name}.weight"), &shape)?;
        let bias = match bias {
            true => Some(self.tensor(&format!("{name}.bias"), &[shape[0]])?),
            false => None,
        };
        self.conv_of(weight, bias, config)
    }

    /// The same of tensors that are at hand.
    pub(crate) fn conv_of(
        &self,
        weight: HostTensor,
        bias: Option<HostTensor>,
        config: Conv1dConfig,
    ) -> Result<Conv1d> {
        let Placement { device, dtype, .. } = self.placement;
        let make = match self.placement.plain {
            true => Conv1d::plain,
            false => Conv1d::new,
        };
        Ok(make(weight, bias, config, device, *dtype)?)
    }
}
