//! The residual block of UNets and autoencoders. Mirrors `diffusers` models/resnet.py (ResnetBlock2D with the default
//! `time_embedding_norm`).

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::conv2d::Conv2dConfig;
use chandler_nn::group_norm::{GroupNorm, Groups};
use chandler_nn::lora::{AdapterRows, Convolution};

use super::blocks::Pass;
use crate::error::Result;
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

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
    conv1: Convolution,
    time: Option<Projection>,
    norm2: GroupNorm,
    conv2: Convolution,
    /// Where the channels change.
    shortcut: Option<Convolution>,
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
            loader.convolution(name, (inputs, outputs, kernel), Conv2dConfig::same(kernel))
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

    /// `x` [batch, inputs, height, width] to [batch, outputs, height, width]; autoencoders look at nothing beside it.
    pub(crate) fn forward(&self, x: &Tensor, pass: Option<&Pass>) -> Result<Tensor> {
        let none = AdapterRows::default();
        let adapters = pass.map_or(&none, |pass| &pass.adapters);
        let activation = Some(self.activation);
        let normed = self.norm1.forward(x, activation)?;
        let mut h = self.conv1.forward(&normed, adapters)?;
        if let (Some(layer), Some(pass)) = (&self.time, pass) {
            let shift = layer.forward(&pass.time, adapters)?;
            h = h.broadcast_add(&shift.unsqueeze(2)?.unsqueeze(3)?)?;
        }
        let h = self.norm2.forward(&h, activation)?;
        Ok(match &self.shortcut {
            Some(shortcut) => {
                let x = shortcut.forward(x, adapters)?;
                self.conv2.forward_added(&h, &x, adapters)?
            }
            None => self.conv2.forward_added(&h, x, adapters)?,
        })
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        let convs = [&mut self.conv1, &mut self.conv2].into_iter();
        let convs = convs.chain(&mut self.shortcut);
        found.extend(convs.map(Layer::Convolution));
        found.extend(self.time.as_mut().map(Layer::Linear));
    }
}
