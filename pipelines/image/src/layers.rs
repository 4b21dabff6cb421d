//! From a checkpoint to layers: tensors by name, their shapes checked before anything is built from them.
//! Apart from the models, so that they share how a layer is found, and on which device it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Tensor};
use chandler_nn::conv2d::{Conv2d, Conv2dConfig};
use chandler_nn::embedding::Embedding;
use chandler_nn::group_norm::{GroupNorm, Groups};
use chandler_nn::linear::Linear;
use chandler_nn::lora::Convolution;
use chandler_nn::norm::{Norm, NormConfig, NormKind};
use chandler_nn::parking::Roster;
use chandler_nn::weights::{HostTensor, TensorSource};

use crate::error::Result;

/// Where layers are to be, and in which dtype.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The device.
    pub device: Device,
    /// What weights are kept in; on the CPU f32 leaves them as they are stored.
    pub dtype: DType,
    /// Where weights on a device are listed, for the model to leave it and come back.
    pub roster: Option<Roster>,
}

impl Placement {
    /// What activations are: f32 on the CPU whatever weights are kept in.
    pub fn activations(&self) -> DType {
        match self.device.is_cpu() {
            true => DType::F32,
            false => self.dtype,
        }
    }

    /// A host tensor, where and as activations are.
    pub(crate) fn move_in(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.to_device(&self.device)?.to_dtype(self.activations())?)
    }

    /// On the CPU, weights as they are stored.
    pub fn cpu() -> Self {
        Self {
            device: Device::Cpu,
            dtype: DType::F32,
            roster: None,
        }
    }
}

/// Takes tensors by name from one component's weights. [`Loader::at`] goes down into a module, as torch names them.
#[derive(Clone)]
pub struct Loader<'a> {
    source: &'a dyn TensorSource,
    placement: &'a Placement,
    prefix: String,
    tally: Arc<Tally>,
}

/// What a loader and those made from it have taken so far.
#[derive(Debug, Default)]
struct Tally {
    parameters: AtomicU64,
    bytes: AtomicU64,
}

/// How large a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Numbers in its tensors.
    pub parameters: u64,
    /// Bytes that they take as they are kept, mapped ones included.
    pub bytes: u64,
}

impl Loaded {
    /// What has been taken since an `earlier` look.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            parameters: self.parameters.saturating_sub(earlier.parameters),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

impl<'a> Loader<'a> {
    /// A loader of all of a source's tensors.
    pub fn new(source: &'a dyn TensorSource, placement: &'a Placement) -> Self {
        Self {
            source,
            placement,
            prefix: String::new(),
            tally: Arc::default(),
        }
    }

    /// What has been taken through this loader and those made from it. A component has a loader of its own, so that this is its
    /// size.
    pub fn loaded(&self) -> Loaded {
        Loaded {
            parameters: self.tally.parameters.load(Ordering::Relaxed),
            bytes: self.tally.bytes.load(Ordering::Relaxed),
        }
    }

    /// The full name of something inside: what adapters call a layer.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn counted<T>(&self, layer: T, bytes: usize) -> T {
        self.tally.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        layer
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
        self.source.contains(&self.path(name))
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
        let tensor = self.source.tensor(&self.path(name))?;
        let elements = tensor.elements() as u64;
        self.tally.parameters.fetch_add(elements, Ordering::Relaxed);
        Ok(tensor.with_roster(self.placement.roster.clone()))
    }

    /// A tensor on the device, in the activations' dtype: a positional embedding, a class token.
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let stored = self.stored(name, shape)?;
        let bytes = stored.elements() * self.kept().size_in_bytes();
        let tensor = stored.to_tensor(&self.placement.device, self.kept())?;
        Ok(self.counted(tensor, bytes))
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
        self.linear_of(weight, bias)
    }

    /// A linear layer of a weight [outputs, inputs] and a bias that were taken already: of part of a stored one, say.
    ///
    /// # Errors
    /// As [`Linear::new`].
    pub fn linear_of(&self, weight: HostTensor, bias: Option<HostTensor>) -> Result<Linear> {
        let Placement { device, dtype, .. } = self.placement;
        let linear = Linear::new(weight, bias, device, *dtype)?;
        let bytes = linear.bytes();
        Ok(self.counted(linear, bytes))
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
        let conv = Conv2d::new(weight, bias, config, device, self.kept())?;
        let bytes = conv.bytes();
        Ok(self.counted(conv, bytes))
    }

    /// The same, where adapters may be for it.
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub fn convolution(
        &self,
        name: &str,
        sizes: (usize, usize, usize),
        config: Conv2dConfig,
    ) -> Result<Convolution> {
        let conv = self.conv(name, sizes, config)?;
        Ok(Convolution::new(conv, self.path(name)))
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
        let norm = GroupNorm::new(pair, groups, device, self.kept())?;
        let bytes = norm.bytes();
        Ok(self.counted(norm, bytes))
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
        let Placement { device, dtype, .. } = self.placement;
        let norm = Norm::new(NormConfig { kind, eps }, weight, device, *dtype)?;
        let norm = match at.has("bias") {
            true => norm.with_bias(at.stored("bias", &[width])?)?,
            false => norm,
        };
        let bytes = norm.bytes();
        Ok(self.counted(norm, bytes))
    }

    /// The embedding `name` of `rows` rows.
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub fn embedding(&self, name: &str, rows: usize, width: usize) -> Result<Embedding> {
        let table = self.at(name).stored("weight", &[rows, width])?;
        let Placement { device, dtype, .. } = self.placement;
        let embedding = Embedding::new(table, device, *dtype)?;
        let bytes = embedding.bytes();
        Ok(self.counted(embedding, bytes))
    }

    /// What layers that compute in candle tensors keep their weights in.
    fn kept(&self) -> DType {
        self.placement.activations()
    }
}
