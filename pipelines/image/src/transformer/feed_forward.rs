//! The feed-forward layer of blocks of one or two sequences. Mirrors `diffusers` models/attention.py, `FeedForward`.
//! Apart from the blocks, which all have it.

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::lora::AdapterRows;

use crate::error::Result;
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

/// Width inside, as a multiple of the stream's.
const FEED_FORWARD: usize = 4;

/// `FeedForward(activation_fn="gelu-approximate")`.
pub(super) struct FeedForward {
    up: Projection,
    down: Projection,
}

impl FeedForward {
    pub(super) fn load(at: &Loader<'_>, width: usize) -> Result<Self> {
        let net = at.at("net");
        Ok(Self {
            up: Projection::load(&net, "0.proj", width, FEED_FORWARD * width)?,
            down: Projection::load(&net, "2", FEED_FORWARD * width, width)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        let inner = Activation::GeluTanh.forward(&self.up.forward(x, adapters)?)?;
        self.down.forward(&inner, adapters)
    }

    pub(super) fn bytes(&self) -> usize {
        self.up.bytes() + self.down.bytes()
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        found.extend([&mut self.up, &mut self.down].map(Layer::Linear));
    }
}
