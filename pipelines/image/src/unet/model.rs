//! The UNet itself: what goes in, and the way up. Mirrors `diffusers` models/unets/unet_2d_condition.py
//! (UNet2DConditionModel.forward).

use candle_core::{DType, Tensor};
use chandler_nn::activation::Activation;
use chandler_nn::conv2d::Conv2dConfig;
use chandler_nn::group_norm::GroupNorm;
use chandler_nn::lora::{AdapterRows, Convolution};

use super::blocks::{UpBlock, UpChannels};
use super::config::{BlockConfig, TextTimeConfig, UNetConfig};
use super::contracting::{Conditions, Contracting, resnet_sizes};
use crate::error::{ImageError, Result};
use crate::layers::{Loaded, Loader};
use crate::lora::Layer;

/// A denoiser.
#[derive(Debug, Clone)]
pub struct UNet {
    contracting: Contracting,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Convolution,
    activation: Activation,
    center_input_sample: bool,
    loaded: Loaded,
}

/// What a UNet looks at, a row of everything for each sample.
#[derive(Debug, Clone, Copy)]
pub struct UNetInput<'a> {
    /// [batch, in_channels, height, width]; any height and width, odd ones included.
    pub latents: &'a Tensor,
    /// One for each sample.
    pub timesteps: &'a [f64],
    /// The words, [batch, words, cross_attention_dim].
    pub context: &'a Tensor,
    /// For models whose `addition_embed_type` is `text_time`, and only for them.
    pub text_time: Option<TextTime<'a>>,
    /// [batch, time_cond_proj_dim], for latent consistency models. diffusers leaves it out where there is none, and so does this.
    pub guidance_embed: Option<&'a Tensor>,
    /// What ControlNets add.
    pub residuals: Option<&'a Residuals>,
    /// Which samples go through which adapters (LoRA), where any do.
    pub adapters: Option<&'a AdapterRows>,
}

/// SDXL's other conditions.
#[derive(Debug, Clone, Copy)]
pub struct TextTime<'a> {
    /// The pooled text, [batch, its width].
    pub text_embeds: &'a Tensor,
    /// For each sample the numbers that say sizes and crops: six of SDXL, five of its refiner.
    pub time_ids: &'a [Vec<f64>],
}

impl TextTime<'_> {
    pub(super) fn fits(&self, batch: usize, config: &TextTimeConfig) -> bool {
        let Ok((rows, width)) = self.text_embeds.dims2() else {
            return false;
        };
        let each = |ids: &Vec<f64>| width + ids.len() * config.waves.width == config.width;
        rows == batch && self.time_ids.len() == batch && self.time_ids.iter().all(each)
    }
}

/// What ControlNets give: tensors that are added to what the way down of a UNet left, and to its middle.
#[derive(Debug, Clone)]
pub struct Residuals {
    /// In the order in which a UNet leaves its skips, the first convolution's first.
    pub down: Vec<Tensor>,
    /// For the middle's result.
    pub mid: Tensor,
}

impl UNet {
    /// Takes all weights.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the config says.
    pub fn load(loader: &Loader<'_>, config: &UNetConfig) -> Result<Self> {
        let before = loader.loaded();
        let contracting = Contracting::load(loader, &config.contracting)?;
        let first = config.contracting.down.first();
        let channels = first.map_or(0, |block| block.channels);
        let kernel = config.conv_out_kernel;
        let conv_out = (channels, config.out_channels, kernel);
        let mut unet = Self {
            up: load_up(loader, config)?,
            norm_out: loader.group_norm("conv_norm_out", channels, config.contracting.groups)?,
            conv_out: loader.convolution("conv_out", conv_out, Conv2dConfig::same(kernel))?,
            contracting,
            activation: config.contracting.activation,
            center_input_sample: config.center_input_sample,
            loaded: Loaded::default(),
        };
        unet.loaded = loader.loaded().since(before);
        Ok(unet)
    }

    /// What the model makes of noisy latents: [batch, out_channels, height, width] in f32, whatever it is computed in. What it means
    /// (noise, velocity, picture) the scheduler's config says. On the CPU a sample's result has the same bits whatever else is in
    /// the batch.
    ///
    /// # Errors
    /// [`ImageError::Input`] when the inputs do not go together or are not what the model takes.
    pub fn forward(&self, input: &UNetInput<'_>) -> Result<Tensor> {
        let pass = self.contracting.prepare(&Conditions {
            batch: input.latents.dim(0)?,
            timesteps: input.timesteps,
            context: input.context,
            text_time: input.text_time.as_ref(),
            guidance_embed: input.guidance_embed,
            adapters: input.adapters,
        })?;
        let mut latents = self.contracting.taken(input.latents)?;
        if self.center_input_sample {
            latents = latents.affine(2.0, -1.0)?;
        }
        let x = self.contracting.conv_in.forward(&latents, &pass.adapters)?;
        let (x, mut skips) = self.contracting.down(x, &pass)?;
        let mut x = self.contracting.mid(x, &pass)?;
        if let Some(residuals) = input.residuals {
            add(&mut skips, &residuals.down)?;
            x = (x + &residuals.mid)?;
        }
        for block in &self.up {
            x = block.forward(x, &pass, &mut skips)?;
        }
        let x = self.norm_out.forward(&x, Some(self.activation))?;
        let x = self.conv_out.forward(&x, &pass.adapters)?;
        Ok(x.to_dtype(DType::F32)?)
    }

    /// Numbers in its tensors.
    pub fn parameters(&self) -> u64 {
        self.loaded.parameters
    }

    /// Bytes of its tensors as they are kept, mapped ones included.
    pub fn bytes(&self) -> u64 {
        self.loaded.bytes
    }

    /// All its linear layers and convolutions, each with its module's name in diffusers: where adapters go.
    pub fn layers(&mut self) -> Vec<Layer<'_>> {
        let mut found = Vec::new();
        self.contracting.layers(&mut found);
        for block in &mut self.up {
            block.layers(&mut found);
        }
        found.push(Layer::Convolution(&mut self.conv_out));
        found
    }
}

fn add(skips: &mut [Tensor], residuals: &[Tensor]) -> Result<()> {
    if skips.len() != residuals.len() {
        return Err(ImageError::Input(format!(
            "{} residuals of a ControlNet for a UNet of {} skips; they are of different families",
            residuals.len(),
            skips.len()
        )));
    }
    for (skip, residual) in skips.iter_mut().zip(residuals) {
        *skip = (&*skip + residual)?;
    }
    Ok(())
}

fn load_up(loader: &Loader<'_>, config: &UNetConfig) -> Result<Vec<UpBlock>> {
    let sizes = resnet_sizes(&config.contracting);
    let channels: Vec<usize> = config.up.iter().map(|block| block.channels).collect();
    let at = |n: usize| channels.get(n).copied();
    let last = config.up.len().saturating_sub(1);
    let block = |(n, block): (usize, &BlockConfig)| {
        let around = UpChannels {
            inputs: at(n.saturating_sub(1)).unwrap_or_default(),
            last_skip: at(n + 1).or(at(last)).unwrap_or_default(),
        };
        let loader = loader.at(format_args!("up_blocks.{n}"));
        UpBlock::load(&loader, (around, n != last), block, &sizes)
    };
    config.up.iter().enumerate().map(block).collect()
}
