//! Stable Diffusion 3's transformer: patches of latents and a text, in blocks of two sequences.
//! Mirrors `diffusers` models/transformers/transformer_sd3.py, `SD3Transformer2DModel`.

use candle_core::{DType, Tensor};
use chandler_nn::conv2d::{Conv2d, Conv2dConfig, Padding};
use chandler_nn::lora::AdapterRows;
use chandler_nn::norm::Norm;

use super::conditioning::{Conditions, Modulation, TimeText, modulate, plain_norm};
use super::joint_block::{JointBlock, Shape};
use super::packing::unpatch;
use super::positions::{PositionTable, TableShape};
use super::sd3_config::Sd3Config;
use crate::error::{ImageError, Result};
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

/// The transformer.
pub struct Sd3Transformer {
    config: Sd3Config,
    patches: Conv2d,
    positions: PositionTable,
    time_text: TimeText,
    text_in: Projection,
    blocks: Vec<JointBlock>,
    norm: Norm,
    modulation: Modulation<2>,
    out: Projection,
    dtype: DType,
}

/// A batch of samples of one size.
#[derive(Debug, Clone, Copy)]
pub struct Sd3Input<'a> {
    /// [batch, channels, height, width], both multiples of the patch.
    pub latents: &'a Tensor,
    /// [batch, text tokens, text width]: the hidden states of CLIP's encoders and T5's.
    pub text: &'a Tensor,
    /// [batch, pooled width]: the pooled embeddings of CLIP's two encoders.
    pub pooled: &'a Tensor,
    /// Each sample's timestep, from 0 to 1000, as the scheduler has it.
    pub timesteps: &'a [f32],
    /// Which samples go through which adapters (LoRA), where any do.
    pub adapters: Option<&'a AdapterRows>,
}

impl Sd3Transformer {
    /// Takes the transformer out of a checkpoint in the diffusers layout.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says.
    pub fn load(config: Sd3Config, weights: &Loader<'_>) -> Result<Self> {
        let (width, patch) = (config.heads.width(), config.patch);
        let embed = weights.at("pos_embed");
        let blocks = weights.at("transformer_blocks");
        let block = |number: usize| {
            let shape = Shape {
                heads: config.heads,
                normed: config.normed,
                dual: config.dual_layers.contains(&number),
                last: number + 1 == config.layers,
            };
            JointBlock::load(&blocks.at(number), shape)
        };
        Ok(Self {
            patches: embed.conv(
                "proj",
                (config.inputs, width, patch),
                Conv2dConfig {
                    stride: patch,
                    padding: Padding::default(),
                },
            )?,
            positions: PositionTable::load(
                &embed,
                &TableShape {
                    side: config.side,
                    width,
                    base: config.sample_size / patch,
                },
            )?,
            time_text: TimeText::load(
                &weights.at("time_text_embed"),
                (config.pooled_width, width),
                false,
            )?,
            text_in: Projection::load(weights, "context_embedder", config.text_width, width)?,
            blocks: (0..config.layers).map(block).collect::<Result<_>>()?,
            norm: plain_norm(weights, width)?,
            modulation: Modulation::load(&weights.at("norm_out"), width)?,
            out: Projection::load(weights, "proj_out", width, patch * patch * config.outputs)?,
            dtype: weights.placement().activations(),
            config,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &Sd3Config {
        &self.config
    }

    /// All its linear layers, each with its module's name in diffusers: where adapters go.
    pub fn layers(&mut self) -> Vec<Layer<'_>> {
        let mut found = Vec::new();
        self.time_text.layers(&mut found);
        found.push(Layer::Linear(&mut self.text_in));
        for block in &mut self.blocks {
            block.layers(&mut found);
        }
        found.extend([self.modulation.layer(), Layer::Linear(&mut self.out)]);
        found
    }

    /// Bytes of all weights, mapped ones included.
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(JointBlock::bytes).sum();
        let ends = self.patches.bytes() + self.text_in.bytes() + self.out.bytes();
        let norm = self.norm.bytes() + self.modulation.bytes();
        self.positions.bytes() + self.time_text.bytes() + ends + blocks + norm
    }

    /// What the samples' velocity is: [batch, output channels, height, width], in the activations' dtype. On the CPU what one sample
    /// gives has the same bits whatever others there are.
    ///
    /// # Errors
    /// [`ImageError::Input`] when the shapes do not go together or the picture is larger than the table of positions.
    pub fn forward(&self, input: &Sd3Input<'_>) -> Result<Tensor> {
        let (rows, columns) = self.check(input)?;
        let none = AdapterRows::default();
        let told = self.time_text.forward(&Conditions {
            timesteps: input.timesteps,
            guidance: None,
            pooled: input.pooled,
            adapters: input.adapters.unwrap_or(&none),
        })?;
        let places = self.positions.middle(rows, columns)?;
        let patches = self.patches.forward(&input.latents.to_dtype(self.dtype)?)?;
        let patches = patches.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let mut image = patches.broadcast_add(&places)?;
        let text = input.text.to_dtype(self.dtype)?;
        let mut text = self.text_in.forward(&text, told.adapters)?;
        for block in &self.blocks {
            (image, text) = block.forward((&image, &text), &told, None)?;
        }
        let [scale, shift] = self.modulation.forward(&told)?;
        let normed = modulate(&self.norm.forward(&image)?, &shift, &scale)?;
        let out = self.out.forward(&normed, told.adapters)?;
        let Sd3Config { patch, outputs, .. } = self.config;
        unpatch(&out, (rows, columns), (patch, outputs))
    }

    /// Rows and columns of patches.
    fn check(&self, input: &Sd3Input<'_>) -> Result<(usize, usize)> {
        let (batch, channels, height, width) = input.latents.dims4()?;
        let (texts, _, text_width) = input.text.dims3()?;
        let Sd3Config {
            patch,
            inputs,
            text_width: wanted_text,
            ..
        } = self.config;
        let fits = (channels, text_width, texts) == (inputs, wanted_text, batch)
            && input.timesteps.len() == batch
            && height.is_multiple_of(patch)
            && width.is_multiple_of(patch);
        if fits {
            return Ok((height / patch, width / patch));
        }
        Err(ImageError::Input(format!(
            "latents of shape {:?}, text {:?} and {} timesteps; [batch, {inputs}, height, width] in multiples of {patch}, [batch, text tokens, {wanted_text}] and a timestep a sample are wanted",
            input.latents.dims(),
            input.text.dims(),
            input.timesteps.len()
        )))
    }
}
