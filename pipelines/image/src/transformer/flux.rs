//! FLUX's transformer: blocks of two sequences, then blocks of one, turned by where each token is.
//! Mirrors `diffusers` models/transformers/transformer_flux.py, `FluxTransformer2DModel`.

use candle_core::{DType, Device, Tensor};
use chandler_nn::lora::AdapterRows;
use chandler_nn::norm::Norm;

use super::conditioning::{Conditions, Modulation, TimeText, modulate, plain_norm};
use super::flux_config::FluxConfig;
use super::joint_block::{JointBlock, Shape};
use super::positions::rotation;
use super::single_block::SingleBlock;
use crate::error::{ImageError, Result};
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

/// The transformer.
pub struct FluxTransformer {
    config: FluxConfig,
    time_text: TimeText,
    text_in: Projection,
    image_in: Projection,
    joint: Vec<JointBlock>,
    single: Vec<SingleBlock>,
    norm: Norm,
    modulation: Modulation<2>,
    out: Projection,
    dtype: DType,
    device: Device,
}

/// A batch of samples of one size.
#[derive(Debug, Clone, Copy)]
pub struct FluxInput<'a> {
    /// [batch, image tokens, inputs]: packed latents, and what else a variant puts beside them.
    pub latents: &'a Tensor,
    /// [batch, text tokens, text width]: T5's hidden states.
    pub text: &'a Tensor,
    /// [batch, pooled width]: CLIP's pooled embedding.
    pub pooled: &'a Tensor,
    /// Each sample's timestep, from 0 to 1000, as the scheduler has it (diffusers' pipeline divides by 1000 and the model multiplies).
    pub timesteps: &'a [f32],
    /// Each sample's guidance scale, for a model with `guidance_embeds`, and nothing for one without.
    pub guidance: Option<&'a [f32]>,
    /// Where each image token is, alike for all samples: [`packing::positions`](super::packing::positions). Text is at 0.
    pub positions: &'a [[f32; 3]],
    /// Which samples go through which adapters (LoRA), where any do.
    pub adapters: Option<&'a AdapterRows>,
}

impl FluxTransformer {
    /// Takes the transformer out of a checkpoint in the diffusers layout.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says.
    pub fn load(config: FluxConfig, weights: &Loader<'_>) -> Result<Self> {
        let heads = config.heads;
        let width = heads.width();
        let shape = Shape {
            heads,
            normed: true,
            dual: false,
            last: false,
        };
        let joint = weights.at("transformer_blocks");
        let single = weights.at("single_transformer_blocks");
        Ok(Self {
            time_text: TimeText::load(
                &weights.at("time_text_embed"),
                (config.pooled_width, width),
                config.guided,
            )?,
            text_in: Projection::load(weights, "context_embedder", config.text_width, width)?,
            image_in: Projection::load(weights, "x_embedder", config.inputs, width)?,
            joint: (0..config.joint_layers)
                .map(|number| JointBlock::load(&joint.at(number), shape))
                .collect::<Result<_>>()?,
            single: (0..config.single_layers)
                .map(|number| SingleBlock::load(&single.at(number), heads))
                .collect::<Result<_>>()?,
            norm: plain_norm(weights, width)?,
            modulation: Modulation::load(&weights.at("norm_out"), width)?,
            out: Projection::load(weights, "proj_out", width, config.outputs)?,
            dtype: weights.placement().activations(),
            device: weights.placement().device.clone(),
            config,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &FluxConfig {
        &self.config
    }

    /// All its linear layers, each with its module's name in diffusers: where adapters go.
    pub fn layers(&mut self) -> Vec<Layer<'_>> {
        let mut found = Vec::new();
        self.time_text.layers(&mut found);
        found.extend([&mut self.text_in, &mut self.image_in].map(Layer::Linear));
        for block in &mut self.joint {
            block.layers(&mut found);
        }
        for block in &mut self.single {
            block.layers(&mut found);
        }
        found.extend([self.modulation.layer(), Layer::Linear(&mut self.out)]);
        found
    }

    /// Bytes of all weights, mapped ones included.
    pub fn bytes(&self) -> usize {
        let joint: usize = self.joint.iter().map(JointBlock::bytes).sum();
        let single: usize = self.single.iter().map(SingleBlock::bytes).sum();
        let ends = self.text_in.bytes() + self.image_in.bytes() + self.out.bytes();
        let norm = self.norm.bytes() + self.modulation.bytes();
        self.time_text.bytes() + ends + joint + single + norm
    }

    /// What the samples' velocity is: [batch, image tokens, outputs], in the activations' dtype. On the CPU what one sample gives has
    /// the same bits whatever others there are.
    ///
    /// # Errors
    /// [`ImageError::Input`] when the shapes do not go together, or guidance is given to a model without it or not to one with it.
    pub fn forward(&self, input: &FluxInput<'_>) -> Result<Tensor> {
        let (batch, text_tokens, image_tokens) = self.check(input)?;
        let none = AdapterRows::default();
        let told = self.time_text.forward(&Conditions {
            timesteps: input.timesteps,
            guidance: input.guidance,
            pooled: input.pooled,
            adapters: input.adapters.unwrap_or(&none),
        })?;
        let image = input.latents.to_dtype(self.dtype)?;
        let mut image = self.image_in.forward(&image, told.adapters)?;
        let text = input.text.to_dtype(self.dtype)?;
        let mut text = self.text_in.forward(&text, told.adapters)?;
        let places = [&vec![[0.0; 3]; text_tokens], input.positions].concat();
        let turn = rotation(&self.config.axes, &places, batch, &self.device)?;
        for block in &self.joint {
            (image, text) = block.forward((&image, &text), &told, Some(&turn))?;
        }
        let mut both = Tensor::cat(&[&text, &image], 1)?;
        for block in &self.single {
            both = block.forward(&both, &told, &turn)?;
        }
        let image = both.narrow(1, text_tokens, image_tokens)?.contiguous()?;
        let [scale, shift] = self.modulation.forward(&told)?;
        let normed = modulate(&self.norm.forward(&image)?, &shift, &scale)?;
        self.out.forward(&normed, told.adapters)
    }

    /// Samples, text tokens of each, image tokens of each.
    fn check(&self, input: &FluxInput<'_>) -> Result<(usize, usize, usize)> {
        let (batch, image_tokens, inputs) = input.latents.dims3()?;
        let (texts, text_tokens, text_width) = input.text.dims3()?;
        let fits = (inputs, text_width) == (self.config.inputs, self.config.text_width)
            && texts == batch
            && input.timesteps.len() == batch
            && input.positions.len() == image_tokens;
        if fits {
            return Ok((batch, text_tokens, image_tokens));
        }
        Err(ImageError::Input(format!(
            "latents of shape {:?}, text {:?}, {} timesteps and {} positions; [batch, tokens, {}], [batch, text tokens, {}], a timestep a sample and a position a token are wanted",
            input.latents.dims(),
            input.text.dims(),
            input.timesteps.len(),
            input.positions.len(),
            self.config.inputs,
            self.config.text_width
        )))
    }
}
