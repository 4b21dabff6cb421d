//! What of a model an adapter can be for: its linear layers and its convolutions, seen as one kind. Apart from both, because whoever
//! reads an adapter's file asks them the same questions.

use chandler_nn::lora::{Adapter, Convolution};

use super::Projection;
use crate::error::Result;
use crate::layers::Placement;

/// A layer of a model.
#[derive(Debug)]
pub enum Layer<'a> {
    /// A linear one, or a part of one.
    Linear(&'a mut Projection),
    /// A convolution.
    Convolution(&'a mut Convolution),
}

/// What a pair for a module has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// What one number of the narrow side is made of: [inputs], or [channels, height, width] of a convolution's window.
    pub inputs: Vec<usize>,
    /// Numbers, or channels, that come out.
    pub outputs: usize,
}

impl Layer<'_> {
    /// Its module's path in the model as diffusers has it.
    pub fn name(&self) -> &str {
        match self {
            Self::Linear(layer) => layer.module().map_or("", |module| module.name()),
            Self::Convolution(layer) => layer.module(),
        }
    }

    /// What a pair for its whole module has to be.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Linear(layer) => Shape {
                inputs: vec![layer.linear().inputs()],
                outputs: layer
                    .module()
                    .map_or(layer.linear().outputs(), |module| module.outputs),
            },
            Self::Convolution(layer) => {
                let [height, width] = layer.conv().kernel();
                Shape {
                    inputs: vec![layer.conv().inputs(), height, width],
                    outputs: layer.conv().outputs(),
                }
            }
        }
    }

    /// Puts an adapter's pair for it, if it has one, beside it.
    ///
    /// # Errors
    /// For a dtype that is not read, and when the device is out of memory.
    pub(super) fn attach(
        &mut self,
        number: usize,
        adapter: &Adapter,
        to: &Placement,
    ) -> Result<()> {
        match self {
            Self::Linear(layer) => layer.attach(number, adapter, to),
            Self::Convolution(layer) => {
                let kind = (&to.device, to.activations());
                Ok(layer.attach(number, adapter, kind)?)
            }
        }
    }

    pub(super) fn adapter_bytes(&self) -> usize {
        match self {
            Self::Linear(layer) => layer.adapter_bytes(),
            Self::Convolution(layer) => layer.adapter_bytes(),
        }
    }
}
