//! PixArt's transformer, Alpha and Sigma: patches of latents that look at themselves and at T5's text.
//! Mirrors `diffusers` models/transformers/pixart_transformer_2d.py, `PixArtTransformer2DModel`.

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::conv2d::{Conv2dConfig, Padding};
use chandler_nn::lora::{AdapterRows, Convolution};
use chandler_nn::norm::Norm;

use super::conditioning::{modulate, plain_norm};
use super::crossing::Words;
use super::pixart_block::PixArtBlock;
use super::pixart_config::PixArtConfig;
use super::positions::{Grid, Stretched};
pub use super::single_norm::PictureSize;
use super::single_norm::{SingleNorm, Table};
use crate::embeddings::Embedding;
use crate::error::{ImageError, Result};
use crate::layers::{Loader, Placement};
use crate::lora::{Layer, Projection};

/// The transformer.
pub struct PixArtTransformer {
    config: PixArtConfig,
    patches: Convolution,
    positions: Stretched,
    single_norm: SingleNorm,
    text_in: Embedding,
    blocks: Vec<PixArtBlock>,
    norm: Norm,
    table: Table<2>,
    out: Projection,
    placement: Placement,
}

/// A batch of samples of one size.
#[derive(Debug, Clone, Copy)]
pub struct PixArtInput<'a> {
    /// [batch, channels, height, width], both multiples of the patch.
    pub latents: &'a Tensor,
    /// [batch, text tokens of the longest, text width]: T5's hidden states.
    pub text: &'a Tensor,
    /// Tokens of each sample's text, at least one; what is beyond is not looked at.
    pub lengths: &'a [usize],
    /// Each sample's timestep, from 0 to 1000, as the scheduler has it.
    pub timesteps: &'a [f32],
    /// Each sample's size, for a model that is told it, and nothing for one that is not.
    pub sizes: &'a [PictureSize],
    /// Which samples go through which adapters (LoRA), where any do.
    pub adapters: Option<&'a AdapterRows>,
}

impl PixArtTransformer {
    /// Takes the transformer out of a checkpoint in the diffusers layout.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says.
    pub fn load(config: PixArtConfig, weights: &Loader<'_>) -> Result<Self> {
        let (width, patch) = (config.heads.width(), config.patch);
        let blocks = weights.at("transformer_blocks");
        Ok(Self {
            patches: weights.at("pos_embed").convolution(
                "proj",
                (config.inputs, width, patch),
                Conv2dConfig {
                    stride: patch,
                    padding: Padding::default(),
                },
            )?,
            positions: Stretched::new(Grid {
                base: config.sample_size / patch,
                scale: config.scale,
                width,
            }),
            single_norm: SingleNorm::load(&weights.at("adaln_single"), width, config.sized)?,
            text_in: Embedding::load(
                &weights.at("caption_projection"),
                (config.text_width, width),
                None,
                Activation::GeluTanh,
            )?,
            blocks: (0..config.layers)
                .map(|number| PixArtBlock::load(&blocks.at(number), config.heads))
                .collect::<Result<_>>()?,
            norm: plain_norm(weights, width)?,
            table: Table::load(weights, width)?,
            out: Projection::load(weights, "proj_out", width, patch * patch * config.outputs)?,
            placement: weights.placement().clone(),
            config,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &PixArtConfig {
        &self.config
    }

    /// All its layers that adapters may be for, each with its module's name in diffusers: where adapters go.
    pub fn layers(&mut self) -> Vec<Layer<'_>> {
        let mut found = vec![Layer::Convolution(&mut self.patches)];
        self.single_norm.layers(&mut found);
        self.text_in.layers(&mut found);
        for block in &mut self.blocks {
            block.layers(&mut found);
        }
        found.push(Layer::Linear(&mut self.out));
        found
    }

    /// Bytes of all weights, mapped ones included.
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(PixArtBlock::bytes).sum();
        let ends = self.patches.conv().bytes() + self.text_in.bytes() + self.out.bytes();
        let norms = self.single_norm.bytes() + self.norm.bytes() + self.table.bytes();
        ends + norms + blocks
    }

    /// What the samples' noise is, and its variance after it where the model says that too: [batch, output channels, height, width],
    /// in the activations' dtype. On the CPU what one sample gives has the same bits whatever others there are.
    ///
    /// # Errors
    /// [`ImageError::Input`] when the shapes do not go together, or sizes are given to a model that is told none or not to one that is.
    pub fn forward(&self, input: &PixArtInput<'_>) -> Result<Tensor> {
        let (rows, columns) = self.check(input)?;
        let none = AdapterRows::default();
        let adapters = input.adapters.unwrap_or(&none);
        let timed = self
            .single_norm
            .forward(input.timesteps, input.sizes, adapters)?;
        let dtype = self.placement.activations();
        let latents = input.latents.to_dtype(dtype)?;
        let patches = self.patches.forward(&latents, adapters)?;
        let patches = patches.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let places = self.positions.over((rows, columns), &self.placement)?;
        let mut x = patches.broadcast_add(&places)?;
        let text = input.text.to_dtype(dtype)?;
        let words = Words {
            hidden: &self.text_in.forward(&text, None, adapters)?,
            lengths: input.lengths,
        };
        for block in &self.blocks {
            x = block.forward(&x, &words, &timed)?;
        }
        let [shift, scale] = self.table.of_end(&timed)?;
        let normed = modulate(&self.norm.forward(&x)?, &shift, &scale)?;
        let out = self.out.forward(&normed, adapters)?;
        let PixArtConfig { patch, outputs, .. } = self.config;
        super::packing::unpatch(&out, (rows, columns), (patch, outputs))
    }

    /// Rows and columns of patches.
    fn check(&self, input: &PixArtInput<'_>) -> Result<(usize, usize)> {
        let (batch, channels, height, width) = input.latents.dims4()?;
        let (texts, tokens, text_width) = input.text.dims3()?;
        let PixArtConfig {
            patch,
            inputs,
            text_width: wanted_text,
            ..
        } = self.config;
        let has_words = |length: &usize| (1..=tokens).contains(length);
        let fits = (channels, text_width, texts) == (inputs, wanted_text, batch)
            && input.timesteps.len() == batch
            && input.lengths.len() == batch
            && input.lengths.iter().all(has_words)
            && height.is_multiple_of(patch)
            && width.is_multiple_of(patch);
        if fits {
            return Ok((height / patch, width / patch));
        }
        Err(ImageError::Input(format!(
            "latents of shape {:?}, text {:?} of which {:?} tokens count, and {} timesteps; [batch, {inputs}, height, width] in multiples of {patch}, [batch, text tokens, {wanted_text}], and a length and a timestep a sample are wanted",
            input.latents.dims(),
            input.text.dims(),
            input.lengths,
            input.timesteps.len()
        )))
    }
}
