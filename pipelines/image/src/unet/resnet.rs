//! The residual block of UNets and autoencoders. Mirrors `diffusers` models/resnet.py (ResnetBlock2D with the default
//! `time_embedding_norm`).

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::conv2d::{Conv2d, Conv2dConfig};
use chandler_nn::group_norm::{GroupNorm, Groups};

use super::projection::Projection;
use crate::error::Result;
use crate::layers::Loader;

/// What all residual blocks of a model have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ResnetSizes {
    /// Of both norms.
    pub groups: Groups,
    /// After both norms, and over the time embedding.
    pub activation: Activation,
    /// Width of the time embedding; autoencoders have none.
    pub time: Option<usize>,
}

/// Two convolutions, each after a norm, added to what came in.
#[derive(Debug, Clone)]
pub(crate) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Option<Projection>,
    norm2: GroupNorm,
    conv2: Conv2d,
    /// Where the channels change.
    shortcut: Option<Conv2d>,
    activation: Activation,
}

impl ResnetBlock {
    /// From `inputs` channels to `outputs`.
    pub(crate) fn load(
        loader: &Loader<'_>,
        (inputs, outputs): (usize, usize),
        sizes: &ResnetSizes,
    ) -> Result<Self> {
        let conv = |name: &str, inputs: usize, kernel: usize| {
            loader.conv(name, (inputs, outputs, kernel), Conv2dConfig::same(kernel))
        };
        let time = sizes
            .time
            .map(|width| Projection::load(loader, "time_emb_proj", width, outputs));
        Ok(Self {
            norm1: loader.group_norm("norm1", inputs, sizes.groups)?,
            conv1: conv("conv1", inputs, 3)?,
            time: time.transpose()?,
            norm2: loader.group_norm("norm2", outputs, sizes.groups)?,
            conv2: conv("conv2", outputs, 3)?,
            shortcut: match inputs == outputs {
                true => None,
                false => Some(conv("conv_shortcut", inputs, 1)?),
            },
            activation: sizes.activation,
        })
    }

    /// `x` [batch, inputs, height, width] to [batch, outputs, height, width]. `time` [batch, its width] is the time embedding
    /// with the activation over it already, since all blocks want it so.
    pub(crate) fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let activation = Some(self.activation);
        let mut h = self.conv1.forward(&self.norm1.forward(x, activation)?)?;
        if let (Some(layer), Some(time)) = (&self.time, time) {
            let shift = layer.forward(time)?.unsqueeze(2)?.unsqueeze(3)?;
            h = h.broadcast_add(&shift)?;
        }
        let h = self.norm2.forward(&h, activation)?;
        Ok(match &self.shortcut {
            Some(shortcut) => self.conv2.forward_added(&h, &shortcut.forward(x)?)?,
            None => self.conv2.forward_added(&h, x)?,
        })
    }

    pub(crate) fn projections<'s>(&'s mut self, found: &mut Vec<&'s mut Projection>) {
        found.extend(&mut self.time);
    }
}
