//! Pictures down to the mean and variance of their latents. Mirrors `diffusers` models/autoencoders/vae.py (Encoder) and
//! models/unets/unet_2d_blocks.py (DownEncoderBlock2D).

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::conv2d::{Conv2d, Conv2dConfig};
use chandler_nn::group_norm::GroupNorm;

use super::config::AutoencoderConfig;
use super::mid::MidBlock;
use crate::error::Result;
use crate::layers::Loader;
use crate::unet::resample;
use crate::unet::resnet::{ResnetBlock, ResnetSizes};

#[derive(Debug, Clone)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: MidBlock,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

#[derive(Debug, Clone)]
struct DownBlock {
    resnets: Vec<ResnetBlock>,
    half: Option<Conv2d>,
}

impl Encoder {
    pub(super) fn load(
        loader: &Loader<'_>,
        config: &AutoencoderConfig,
        sizes: &ResnetSizes,
    ) -> Result<Self> {
        let channels = &config.block_out_channels;
        let first = channels.first().copied().unwrap_or_default();
        let last = channels.last().copied().unwrap_or_default();
        let conv = |name: &str, inputs: usize, outputs: usize| {
            loader.conv(name, (inputs, outputs, 3), Conv2dConfig::same(3))
        };
        let mut inputs = first;
        let blocks = channels.iter().enumerate().map(|(n, outputs)| {
            let from = std::mem::replace(&mut inputs, *outputs);
            let at = loader.at(format_args!("down_blocks.{n}"));
            let resnet = |layer: usize| {
                let from = if layer == 0 { from } else { *outputs };
                let at = at.at(format_args!("resnets.{layer}"));
                ResnetBlock::load(&at, (from, *outputs), sizes)
            };
            let half = (n + 1 < channels.len())
                .then(|| resample::load_down(&at, "downsamplers.0", *outputs, 0));
            Ok(DownBlock {
                resnets: (0..config.layers_per_block)
                    .map(resnet)
                    .collect::<Result<_>>()?,
                half: half.transpose()?,
            })
        });
        Ok(Self {
            down: blocks.collect::<Result<_>>()?,
            conv_in: conv("conv_in", config.in_channels, first)?,
            mid: MidBlock::load(&loader.at("mid_block"), config, sizes)?,
            norm_out: loader.group_norm("conv_norm_out", last, sizes.groups)?,
            conv_out: conv("conv_out", last, 2 * config.latent_channels)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x)?;
        for block in &self.down {
            for resnet in &block.resnets {
                x = resnet.forward(&x, None)?;
            }
            if let Some(half) = &block.half {
                x = half.forward(&x)?;
            }
        }
        let x = self.mid.forward(&x)?;
        // Whatever act_fn says.
        let x = self.norm_out.forward(&x, Some(Activation::Silu))?;
        Ok(self.conv_out.forward(&x)?)
    }
}
