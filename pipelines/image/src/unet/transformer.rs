//! Transformers over the pixels of a picture. Mirrors `diffusers` models/transformers/transformer_2d.py (Transformer2DModel with
//! continuous input), models/attention.py (BasicTransformerBlock, FeedForward) and models/activations.py (GEGLU).

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::group_norm::{GroupNorm, Groups};
use chandler_nn::norm::Norm;

use super::attention::Attention;
use super::blocks::Pass;
use super::config::TransformerSizes;
use crate::error::Result;
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

/// What Transformer2DModel adds to its group norm's variance, whatever the model's other norms add.
const GROUP_NORM_EPS: f64 = 1e-6;
/// What BasicTransformerBlock's layer norms add.
const LAYER_NORM_EPS: f64 = 1e-5;
/// Width inside the feed-forward layer, in widths of the rows.
const FEED_FORWARD: usize = 4;

/// Blocks between a way in and a way out, around which the picture itself is added.
#[derive(Debug, Clone)]
pub(super) struct Transformer2d {
    norm: GroupNorm,
    into: Projection,
    blocks: Vec<Block>,
    out: Projection,
}

impl Transformer2d {
    /// Of `depth` blocks.
    pub(super) fn load(
        loader: &Loader<'_>,
        sizes: &TransformerSizes,
        depth: usize,
    ) -> Result<Self> {
        let width = sizes.width;
        let groups = Groups {
            count: sizes.groups,
            eps: GROUP_NORM_EPS,
        };
        let block =
            |n: usize| Block::load(&loader.at(format_args!("transformer_blocks.{n}")), sizes);
        Ok(Self {
            norm: loader.group_norm("norm", width, groups)?,
            into: Projection::load(loader, "proj_in", width, width)?,
            blocks: (0..depth).map(block).collect::<Result<_>>()?,
            out: Projection::load(loader, "proj_out", width, width)?,
        })
    }

    /// `x` [batch, width, height, width of the picture] to the same shape.
    pub(super) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let pixels = self.norm.forward(x, None)?;
        let rows = pixels.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let mut rows = self.into.forward(&rows.flatten_to(1)?, &pass.adapters)?;
        for block in &self.blocks {
            rows = block.forward(&rows, batch, pass)?;
        }
        let rows = self.out.forward(&rows, &pass.adapters)?;
        let pixels = rows
            .reshape((batch, height * width, channels))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((batch, channels, height, width))?;
        Ok((pixels + x)?)
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        found.push(Layer::Linear(&mut self.into));
        for block in &mut self.blocks {
            block.layers(found);
        }
        found.push(Layer::Linear(&mut self.out));
    }
}

/// Attention to the rows, attention to the words, and a gated feed-forward layer, each after a norm and added to what came in.
#[derive(Debug, Clone)]
struct Block {
    norms: [Norm; 3],
    /// To the rows themselves, or to the words where the model has only cross attention.
    first: Attention,
    second: Attention,
    only_cross_attention: bool,
    up: Projection,
    gate: Projection,
    down: Projection,
}

impl Block {
    fn load(loader: &Loader<'_>, sizes: &TransformerSizes) -> Result<Self> {
        let width = sizes.width;
        let norm = |name: &str| loader.layer_norm(name, width, LAYER_NORM_EPS);
        let first_keys = match sizes.only_cross_attention {
            true => sizes.context,
            false => width,
        };
        let inner = FEED_FORWARD * width;
        let [up, gate] = Projection::halves(loader, "ff.net.0.proj", width, inner)?;
        Ok(Self {
            norms: [norm("norm1")?, norm("norm2")?, norm("norm3")?],
            first: Attention::load(&loader.at("attn1"), sizes, first_keys)?,
            second: Attention::load(&loader.at("attn2"), sizes, sizes.context)?,
            only_cross_attention: sizes.only_cross_attention,
            up,
            gate,
            down: Projection::load(loader, "ff.net.2", inner, width)?,
        })
    }

    fn forward(&self, x: &Tensor, batch: usize, pass: &Pass) -> Result<Tensor> {
        let [norm1, norm2, norm3] = &self.norms;
        let Pass {
            context, adapters, ..
        } = pass;
        let normed = norm1.forward(x)?;
        let of = self.only_cross_attention.then_some(context);
        let mixed = self.first.forward(&normed, (batch, adapters), of)?;
        let (x, normed) = norm2.forward_residual(&mixed, x)?;
        let mixed = self
            .second
            .forward(&normed, (batch, adapters), Some(context))?;
        let (x, normed) = norm3.forward_residual(&mixed, &x)?;
        let [up, gate] = Projection::forward_many([&self.up, &self.gate], &normed, adapters)?;
        let gated = Activation::Gelu.gated(&gate, &up)?;
        Ok((self.down.forward(&gated, adapters)? + x)?)
    }

    fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        self.first.layers(found);
        self.second.layers(found);
        found.extend([&mut self.up, &mut self.gate, &mut self.down].map(Layer::Linear));
    }
}
