//! From a checkpoint to layers: tensors by name, their shapes checked before anything is built from them.
//! Apart from the models, so that they share how a layer is found, and on which device it is.

use candle_core::{DType, Device, Tensor};
use chandler_nn::conv2d::{Conv2d, Conv2dConfig};
use chandler_nn::embedding::Embedding;
use chandler_nn::group_norm::{GroupNorm, Groups};
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
        }
    }
}

/// Takes tensors by name from one component's weights. [`Loader::at`] goes down into a module, as torch names them.
#[derive(Clone)]
pub struct Loader<'a> {
    source: &'a dyn TensorSource,
    placement: &'a Placement,
    prefix: String,
}

impl<'a> Loader<'a> {
    /// A loader of all of a source's tensors.
    pub fn new(source: &'a dyn TensorSource, placement: &'a Placement) -> Self {
        Self {
            source,
            placement,
            prefix: String::new(),
        }
    }

    /// The loader of a module inside: `down_blocks.0`, `attn1`.
    pub fn at(&self, module: impl std::fmt::Display) -> Self {
        Self {
            prefix: format!("{}{module}.", self.prefix),
            ..self.clone()
        }
    }

    /// Where layers are to be.
    pub fn placement(&self) -> &'a Placement {
        self.placement
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.source.contains(&format!("{}{name}", self.prefix))
    }

    /// A tensor as it is stored.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn stored(&self, name: &str, shape: &[usize]) -> Result<HostTensor> {
        let tensor = self.any_shape(name)?;
        tensor.expect_shape(shape)?;
        Ok(tensor)
    }

    /// A tensor of whatever shape, as it is stored.
    ///
    /// # Errors
    /// When it is missing.
    pub fn any_shape(&self, name: &str) -> Result<HostTensor> {
        Ok(self.source.tensor(&format!("{}{name}", self.prefix))?)
    }

    /// A tensor on the device, in the activations' dtype: a positional embedding, a class token.
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let stored = self.stored(name, shape)?;
        Ok(stored.to_tensor(&self.placement.device, self.placement.activations())?)
    }

    fn weight_and_bias(&self, weight_shape: &[usize]) -> Result<(HostTensor, Option<HostTensor>)> {
        let weight = self.stored("weight", weight_shape)?;
        let bias = match self.has("bias") {
            true => Some(self.stored("bias", &weight_shape[..1])?),
            false => None,
        };
        Ok((weight, bias))
    }

    /// The linear layer `name`, with a bias where the checkpoint has one.
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        let (weight, bias) = self.at(name).weight_and_bias(&[outputs, inputs])?;
        let Placement { device, dtype } = self.placement;
        Ok(Linear::new(weight, bias, device, *dtype)?)
    }

    /// The convolution `name`, with a bias where the checkpoint has one.
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub fn conv(
        &self,
        name: &str,
        (inputs, outputs, kernel): (usize, usize, usize),
        config: Conv2dConfig,
    ) -> Result<Conv2d> {
        let shape = [outputs, inputs, kernel, kernel];
        let (weight, bias) = self.at(name).weight_and_bias(&shape)?;
        let Placement { device, .. } = self.placement;
        Ok(Conv2d::new(weight, bias, config, device, self.kept())?)
    }

    /// The group norm `name`.
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub fn group_norm(&self, name: &str, channels: usize, groups: Groups) -> Result<GroupNorm> {
        let at = self.at(name);
        let pair = (
            at.stored("weight", &[channels])?,
            at.stored("bias", &[channels])?,
        );
        let Placement { device, .. } = self.placement;
        Ok(GroupNorm::new(pair, groups, device, self.kept())?)
    }

    /// The layer norm `name`, over rows of `width`.
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub fn layer_norm(&self, name: &str, width: usize, eps: f64) -> Result<Norm> {
        self.norm(name, width, (NormKind::Layer, eps))
    }

    /// The root-mean-square norm `name`, over rows of `width`.
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub fn rms_norm(&self, name: &str, width: usize, eps: f64) -> Result<Norm> {
        self.norm(name, width, (NormKind::Rms, eps))
    }

    fn norm(&self, name: &str, width: usize, (kind, eps): (NormKind, f64)) -> Result<Norm> {
        let at = self.at(name);
        let weight = at.stored("weight", &[width])?;
        let Placement { device, dtype } = self.placement;
        let norm = Norm::new(NormConfig { kind, eps }, weight, device, *dtype)?;
        Ok(match at.has("bias") {
            true => norm.with_bias(at.stored("bias", &[width])?)?,
            false => norm,
        })
    }

    /// The embedding `name` of `rows` rows.
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub fn embedding(&self, name: &str, rows: usize, width: usize) -> Result<Embedding> {
        let table = self.at(name).stored("weight", &[rows, width])?;
        let Placement { device, dtype } = self.placement;
        Ok(Embedding::new(table, device, *dtype)?)
    }

    /// What layers that compute in candle tensors keep their weights in.
    fn kept(&self) -> DType {
        self.placement.activations()
    }
}
