//! What follows a layer's attention: a gated layer, a plain one, or experts.

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::lora::{AdapterRows, Projection};

use super::experts::Experts;
use super::projection::project;
use crate::error::Result;

/// The feed-forward layer.
pub(super) enum FeedForward {
    Gated(Gated),
    Plain {
        up: Projection,
        down: Projection,
        activation: Activation,
    },
    Experts(Experts),
}

/// down(activation(gate(x)) · up(x))
pub(super) struct Gated {
    pub(super) gate: Projection,
    pub(super) up: Projection,
    pub(super) down: Projection,
    pub(super) activation: Activation,
}

impl Gated {
    pub(super) fn bytes(&self) -> usize {
        self.gate.bytes() + self.up.bytes() + self.down.bytes()
    }

    /// `x` [rows, hidden] to [rows, hidden].
    pub(super) fn forward(&self, x: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        let [gate, up] = project([&self.gate, &self.up], x, adapters)?;
        let gated = self.activation.gated(&gate, &up)?;
        let [down] = project([&self.down], &gated, adapters)?;
        Ok(down)
    }
}

impl FeedForward {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Gated(gated) => gated.bytes(),
            Self::Plain { up, down, .. } => up.bytes() + down.bytes(),
            Self::Experts(experts) => experts.bytes(),
        }
    }

    /// `x` [rows, hidden] to [rows, hidden].
    pub(super) fn forward(&self, x: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        match self {
            Self::Gated(gated) => gated.forward(x, adapters),
            Self::Plain {
                up,
                down,
                activation,
            } => {
                let [up] = project([up], x, adapters)?;
                let [down] = project([down], &activation.forward(&up)?, adapters)?;
                Ok(down)
            }
            Self::Experts(experts) => experts.forward(x),
        }
    }
}
