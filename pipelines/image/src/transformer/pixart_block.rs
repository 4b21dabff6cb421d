//! PixArt's block: the picture looks at itself, at its text, and goes through a feed-forward layer. Mirrors `diffusers` models/attention.py,
//! `BasicTransformerBlock` with `norm_type="ada_norm_single"`, in which the text is looked at without a norm before it.

use candle_core::Tensor;
use chandler_nn::norm::Norm;

use super::attention::{Heading, IMAGE, attend};
use super::conditioning::{add_gated, modulate, plain_norm};
use super::config::Heads;
use super::crossing::{Crossing, Words};
use super::feed_forward::FeedForward;
use super::single_norm::{Table, Timed};
use crate::error::Result;
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

/// The block.
pub(super) struct PixArtBlock {
    heads: Heads,
    table: Table<6>,
    norm: Norm,
    heading: Heading,
    out: Projection,
    crossing: Crossing,
    feed: FeedForward,
}

impl PixArtBlock {
    pub(super) fn load(at: &Loader<'_>, heads: Heads) -> Result<Self> {
        let width = heads.width();
        let own = at.at("attn1");
        Ok(Self {
            heads,
            table: Table::load(at, width)?,
            norm: plain_norm(at, width)?,
            heading: Heading::load(&own, &IMAGE, heads, false)?,
            out: Projection::load(&own, "to_out.0", width, width)?,
            crossing: Crossing::load(&at.at("attn2"), heads)?,
            feed: FeedForward::load(&at.at("ff"), width)?,
        })
    }

    /// `x` [batch, tokens, width] after the block.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        words: &Words<'_>,
        timed: &Timed<'_>,
    ) -> Result<Tensor> {
        let adapters = timed.adapters;
        let [shift, scale, gate, feed_shift, feed_scale, feed_gate] = self.table.of_block(timed)?;
        let normed = modulate(&self.norm.forward(x)?, &shift, &scale)?;
        let headed = self.heading.forward(&normed, adapters)?;
        let attended = attend(&[headed], self.heads, None)?;
        let x = add_gated(x, &self.out.forward(&attended, adapters)?, &gate)?;
        let x = (&x + self.crossing.forward(&x, words, adapters)?)?;
        let normed = modulate(&self.norm.forward(&x)?, &feed_shift, &feed_scale)?;
        add_gated(&x, &self.feed.forward(&normed, adapters)?, &feed_gate)
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        self.heading.layers(found);
        found.push(Layer::Linear(&mut self.out));
        self.crossing.layers(found);
        self.feed.layers(found);
    }

    pub(super) fn bytes(&self) -> usize {
        let own = self.heading.bytes() + self.out.bytes();
        let norms = self.table.bytes() + self.norm.bytes();
        norms + own + self.crossing.bytes() + self.feed.bytes()
    }
}
