//! The half of a UNet that goes down, with its middle and its time embedding: what a UNet and a ControlNet share.

use candle_core::Tensor;
use chandler_nn::conv2d::Conv2dConfig;
use chandler_nn::lora::{AdapterRows, Convolution};

use super::blocks::{DownBlock, MidBlock, Pass};
use super::config::ContractingConfig;
use super::model::TextTime;
use super::resnet::ResnetSizes;
use crate::embeddings::Embedding;
use crate::error::{ImageError, Result};
use crate::layers::{Loader, Placement};
use crate::lora::Layer;

/// The path down.
#[derive(Debug, Clone)]
pub(super) struct Contracting {
    config: ContractingConfig,
    placement: Placement,
    pub(super) conv_in: Convolution,
    time: Embedding,
    text_time: Option<Embedding>,
    down: Vec<DownBlock>,
    mid: Option<MidBlock>,
}

/// What goes in beside the latents: a row of each for every sample.
pub(super) struct Conditions<'a> {
    pub batch: usize,
    pub timesteps: &'a [f64],
    pub context: &'a Tensor,
    pub text_time: Option<&'a TextTime<'a>>,
    pub guidance_embed: Option<&'a Tensor>,
    pub adapters: Option<&'a AdapterRows>,
}

impl Contracting {
    pub(super) fn load(loader: &Loader<'_>, config: &ContractingConfig) -> Result<Self> {
        let sizes = resnet_sizes(config);
        let first = config.down.first().map_or(0, |block| block.channels);
        let kernel = config.conv_in_kernel;
        let conv_in = (config.in_channels, first, kernel);
        let (time, activation) = (config.time, config.activation);
        let text_time = config.text_time.map(|text_time| {
            // diffusers leaves this one at its own default, whatever act_fn says.
            let silu = chandler_nn::activation::Activation::Silu;
            let shape = (text_time.width, time.width);
            Embedding::load(&loader.at("add_embedding"), shape, None, silu)
        });
        let mid = config.mid.as_ref();
        let mid = mid.map(|mid| MidBlock::load(&loader.at("mid_block"), mid, &sizes));
        Ok(Self {
            placement: loader.placement().clone(),
            conv_in: loader.convolution("conv_in", conv_in, Conv2dConfig::same(kernel))?,
            time: Embedding::load(
                &loader.at("time_embedding"),
                (time.waves.width, time.width),
                time.condition,
                activation,
            )?,
            text_time: text_time.transpose()?,
            down: load_down(loader, config, (first, &sizes))?,
            mid: mid.transpose()?,
            config: config.clone(),
        })
    }

    /// A tensor in the activations' dtype, on their device.
    pub(super) fn taken(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.to_device(&self.placement.device)?;
        Ok(x.to_dtype(self.placement.activations())?)
    }

    /// The time embedding and the words, as all blocks want them.
    pub(super) fn prepare(&self, conditions: &Conditions<'_>) -> Result<Pass> {
        self.check(conditions)?;
        let timesteps = conditions.timesteps.iter().map(std::slice::from_ref);
        let waves = self.config.time.waves.tensor(timesteps, &self.placement)?;
        let guidance = conditions
            .guidance_embed
            .map(|x| self.taken(x))
            .transpose()?;
        let adapters = conditions.adapters.cloned().unwrap_or_default();
        let mut time = self.time.forward(&waves, guidance.as_ref(), &adapters)?;
        let added = (&self.text_time, self.config.text_time, conditions.text_time);
        if let (Some(embedding), Some(config), Some(given)) = added {
            let sizes = given.time_ids.iter().map(Vec::as_slice);
            let waves = config.waves.tensor(sizes, &self.placement)?;
            let row = Tensor::cat(&[&self.taken(given.text_embeds)?, &waves], 1)?;
            time = (time + embedding.forward(&row, None, &adapters)?)?;
        }
        Ok(Pass {
            time: self.config.activation.forward(&time)?,
            context: self.taken(conditions.context)?.contiguous()?,
            adapters,
        })
    }

    /// From after the first convolution to the lowest block, leaving what each layer gave in `skips`.
    pub(super) fn down(&self, x: Tensor, pass: &Pass) -> Result<(Tensor, Vec<Tensor>)> {
        let mut skips = vec![x.clone()];
        let mut x = x;
        for block in &self.down {
            x = block.forward(x, pass, &mut skips)?;
        }
        Ok((x, skips))
    }

    /// The middle, where there is one.
    pub(super) fn mid(&self, x: Tensor, pass: &Pass) -> Result<Tensor> {
        match &self.mid {
            Some(mid) => mid.forward(&x, pass),
            None => Ok(x),
        }
    }

    fn check(&self, conditions: &Conditions<'_>) -> Result<()> {
        let batch = conditions.batch;
        let rows = |x: &Tensor| x.dim(0).unwrap_or(0);
        let context = rows(conditions.context);
        let guidance = conditions.guidance_embed.map(rows);
        if conditions.timesteps.len() != batch || context != batch {
            return Err(ImageError::Input(format!(
                "{batch} latents with {} timesteps and {context} contexts",
                conditions.timesteps.len()
            )));
        }
        if guidance.is_some_and(|rows| rows != batch || !self.time.is_conditioned()) {
            return Err(ImageError::Input(
                "a guidance embedding for another number of samples, or for a model without time_cond_proj_dim".to_owned(),
            ));
        }
        let fits = match (&self.config.text_time, conditions.text_time) {
            (None, None) => true,
            (Some(config), Some(given)) => given.fits(batch, config),
            _ => false,
        };
        if !fits {
            return Err(ImageError::Input(format!(
                "pooled text and sizes that do not fit {batch} samples and {:?}",
                self.config.text_time
            )));
        }
        Ok(())
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        found.push(Layer::Convolution(&mut self.conv_in));
        self.time.layers(found);
        if let Some(text_time) = &mut self.text_time {
            text_time.layers(found);
        }
        for block in &mut self.down {
            block.layers(found);
        }
        if let Some(mid) = &mut self.mid {
            mid.layers(found);
        }
    }
}

/// What all residual blocks of a model have in common.
pub(super) fn resnet_sizes(config: &ContractingConfig) -> ResnetSizes {
    ResnetSizes {
        groups: config.groups,
        activation: config.activation,
        time: Some(config.time.width),
    }
}

fn load_down(
    loader: &Loader<'_>,
    config: &ContractingConfig,
    (first, sizes): (usize, &ResnetSizes),
) -> Result<Vec<DownBlock>> {
    let mut inputs = first;
    let last = config.down.len().saturating_sub(1);
    let blocks = config.down.iter().enumerate().map(|(n, block)| {
        let padding = (n != last).then_some(config.downsample_padding);
        let from = std::mem::replace(&mut inputs, block.channels);
        let at = loader.at(format_args!("down_blocks.{n}"));
        DownBlock::load(&at, (from, padding), block, sizes)
    });
    blocks.collect()
}
