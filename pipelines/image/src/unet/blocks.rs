//! The blocks of a UNet: down, middle and up, with transformers and without. Mirrors `diffusers` models/unets/unet_2d_blocks.py
//! (DownBlock2D, CrossAttnDownBlock2D, UNetMidBlock2DCrossAttn, UpBlock2D, CrossAttnUpBlock2D).

use candle_core::Tensor;
use chandler_nn::lora::{AdapterRows, Convolution};

use super::config::{BlockConfig, TransformersConfig};
use super::resample;
use super::resnet::{ResnetBlock, ResnetSizes};
use super::transformer::Transformer2d;
use crate::error::{ImageError, Result};
use crate::layers::Loader;
use crate::lora::Layer as Adaptable;

/// What every block looks at beside the picture.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    /// The time embedding with the activation over it, [batch, its width].
    pub time: Tensor,
    /// The words, [batch, words, their width].
    pub context: Tensor,
    /// Which samples go through which adapters.
    pub adapters: AdapterRows,
}

/// A residual block, and a transformer in blocks that have them.
#[derive(Debug, Clone)]
struct Layer {
    resnet: ResnetBlock,
    transformer: Option<Transformer2d>,
}

impl Layer {
    fn load(
        loader: &Loader<'_>,
        (n, inputs): (usize, usize),
        config: &BlockConfig,
        sizes: &ResnetSizes,
    ) -> Result<Self> {
        let transformer = config.transformers.as_ref().map(|transformers| {
            let depth = transformers.depths.get(n).copied().unwrap_or_default();
            let at = loader.at(format_args!("attentions.{n}"));
            Transformer2d::load(&at, &transformers.sizes, depth)
        });
        let at = loader.at(format_args!("resnets.{n}"));
        Ok(Self {
            resnet: ResnetBlock::load(&at, (inputs, config.channels), sizes)?,
            transformer: transformer.transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let x = self.resnet.forward(x, Some(pass))?;
        match &self.transformer {
            Some(transformer) => transformer.forward(&x, pass),
            None => Ok(x),
        }
    }

    fn layers<'s>(&'s mut self, found: &mut Vec<Adaptable<'s>>) {
        self.resnet.layers(found);
        if let Some(transformer) = &mut self.transformer {
            transformer.layers(found);
        }
    }
}

/// A block that goes down, and halves the picture unless it is the last.
#[derive(Debug, Clone)]
pub(super) struct DownBlock {
    layers: Vec<Layer>,
    half: Option<Convolution>,
}

impl DownBlock {
    /// From `inputs` channels; `padding` around the picture that is halved, where it is.
    pub(super) fn load(
        loader: &Loader<'_>,
        (inputs, padding): (usize, Option<usize>),
        config: &BlockConfig,
        sizes: &ResnetSizes,
    ) -> Result<Self> {
        let layer = |n: usize| {
            let inputs = if n == 0 { inputs } else { config.channels };
            Layer::load(loader, (n, inputs), config, sizes)
        };
        let half = padding.map(|padding| {
            let conv = resample::load_down(loader, "downsamplers.0", config.channels, padding)?;
            Ok::<_, ImageError>(Convolution::new(conv, loader.path("downsamplers.0.conv")))
        });
        Ok(Self {
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            half: half.transpose()?,
        })
    }

    /// What comes out, with what every layer gave added to `skips`.
    pub(super) fn forward(
        &self,
        x: Tensor,
        pass: &Pass,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        let mut x = x;
        for layer in &self.layers {
            x = layer.forward(&x, pass)?;
            skips.push(x.clone());
        }
        if let Some(half) = &self.half {
            x = half.forward(&x, &pass.adapters)?;
            skips.push(x.clone());
        }
        Ok(x)
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Adaptable<'s>>) {
        self.layers.iter_mut().for_each(|layer| layer.layers(found));
        found.extend(self.half.as_mut().map(Adaptable::Convolution));
    }
}

/// The middle: a residual block, a transformer, a residual block.
#[derive(Debug, Clone)]
pub(super) struct MidBlock {
    first: ResnetBlock,
    transformer: Transformer2d,
    last: ResnetBlock,
}

impl MidBlock {
    pub(super) fn load(
        loader: &Loader<'_>,
        config: &TransformersConfig,
        sizes: &ResnetSizes,
    ) -> Result<Self> {
        let channels = config.sizes.width;
        let resnet = |name: &str| ResnetBlock::load(&loader.at(name), (channels, channels), sizes);
        let depth = config.depths.first().copied().unwrap_or_default();
        Ok(Self {
            first: resnet("resnets.0")?,
            transformer: Transformer2d::load(&loader.at("attentions.0"), &config.sizes, depth)?,
            last: resnet("resnets.1")?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let x = self.first.forward(x, Some(pass))?;
        let x = self.transformer.forward(&x, pass)?;
        self.last.forward(&x, Some(pass))
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Adaptable<'s>>) {
        self.first.layers(found);
        self.transformer.layers(found);
        self.last.layers(found);
    }
}

/// A block that goes up, taking what the blocks that went down left, and doubles the picture unless it is the last.
#[derive(Debug, Clone)]
pub(super) struct UpBlock {
    layers: Vec<Layer>,
    double: Option<Convolution>,
}

/// Channels around a block that goes up.
#[derive(Debug, Clone, Copy)]
pub(super) struct UpChannels {
    /// Of what comes in.
    pub inputs: usize,
    /// Of the last skip; the others have the block's own.
    pub last_skip: usize,
}

impl UpBlock {
    /// `doubles` unless it is the last.
    pub(super) fn load(
        loader: &Loader<'_>,
        (channels, doubles): (UpChannels, bool),
        config: &BlockConfig,
        sizes: &ResnetSizes,
    ) -> Result<Self> {
        let layer = |n: usize| {
            let inputs = if n == 0 {
                channels.inputs
            } else {
                config.channels
            };
            let skip = if n + 1 == config.layers {
                channels.last_skip
            } else {
                config.channels
            };
            Layer::load(loader, (n, inputs + skip), config, sizes)
        };
        let double = doubles.then(|| {
            let conv = resample::load_up(loader, "upsamplers.0", config.channels)?;
            Ok::<_, ImageError>(Convolution::new(conv, loader.path("upsamplers.0.conv")))
        });
        Ok(Self {
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            double: double.transpose()?,
        })
    }

    /// Takes a skip for each layer from the end of `skips`. What comes out has the height and width of the skip that is then the
    /// last, odd ones included.
    pub(super) fn forward(
        &self,
        x: Tensor,
        pass: &Pass,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        let missing = || ImageError::Input("a UNet with fewer skips than layers".to_owned());
        let mut x = x;
        for layer in &self.layers {
            let skip = skips.pop().ok_or_else(missing)?;
            x = layer.forward(&Tensor::cat(&[&x, &skip], 1)?, pass)?;
        }
        if let Some(double) = &self.double {
            let (_, _, height, width) = skips.last().ok_or_else(missing)?.dims4()?;
            let (_, _, rows, columns) = x.dims4()?;
            x = match (height, width) == (2 * rows, 2 * columns) {
                true => double.forward_upscaled(&x, &pass.adapters)?,
                false => {
                    double.forward(&resample::enlarge(&x, (height, width))?, &pass.adapters)?
                }
            };
        }
        Ok(x)
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Adaptable<'s>>) {
        self.layers.iter_mut().for_each(|layer| layer.layers(found));
        found.extend(self.double.as_mut().map(Adaptable::Convolution));
    }
}
