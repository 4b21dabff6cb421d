//! FLUX's block of one sequence, text and image together, whose attention and feed-forward layer run side by side.
//! Mirrors `diffusers` transformer_flux.py, `FluxSingleTransformerBlock`. Apart from the joint block, which shares no layer with it.

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::norm::Norm;
use chandler_nn::rope::Rotation;

use super::attention::{Heading, IMAGE, attend};
use super::conditioning::{Modulation, Told, add_gated, clip, modulate, plain_norm};
use super::config::Heads;
use crate::error::Result;
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

/// `mlp_ratio`.
const FEED_FORWARD: usize = 4;

/// The block.
pub(super) struct SingleBlock {
    heads: Heads,
    norm: Norm,
    modulation: Modulation<3>,
    heading: Heading,
    up: Projection,
    down: Projection,
}

impl SingleBlock {
    pub(super) fn load(at: &Loader<'_>, heads: Heads) -> Result<Self> {
        let width = heads.width();
        Ok(Self {
            heads,
            norm: plain_norm(at, width)?,
            modulation: Modulation::load(&at.at("norm"), width)?,
            heading: Heading::load(&at.at("attn"), &IMAGE, heads, true)?,
            up: Projection::load(at, "proj_mlp", width, FEED_FORWARD * width)?,
            down: Projection::load(at, "proj_out", (1 + FEED_FORWARD) * width, width)?,
        })
    }

    /// `x` [batch, tokens, width] after the block.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        told: &Told<'_>,
        rotation: &Rotation,
    ) -> Result<Tensor> {
        let [shift, scale, gate] = self.modulation.forward(told)?;
        let normed = modulate(&self.norm.forward(x)?, &shift, &scale)?;
        let headed = self.heading.forward(&normed, told.adapters)?;
        let attended = attend(&[headed], self.heads, Some(rotation))?;
        let fed = self.up.forward(&normed, told.adapters)?;
        let fed = Activation::GeluTanh.forward(&fed)?;
        let both = Tensor::cat(&[&attended, &fed], 2)?;
        let change = self.down.forward(&both, told.adapters)?;
        clip(add_gated(x, &change, &gate)?)
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        found.push(self.modulation.layer());
        self.heading.layers(found);
        found.extend([&mut self.up, &mut self.down].map(Layer::Linear));
    }

    pub(super) fn bytes(&self) -> usize {
        let linears = self.up.bytes() + self.down.bytes();
        self.norm.bytes() + self.modulation.bytes() + self.heading.bytes() + linears
    }
}
