//! A linear layer that knows its module's name, which is what adapters (LoRA) call it. All linear layers of a UNet are of this
//! one kind, so that a low-rank path beside them has one place to be; apart from `chandler_nn::linear`, which knows no names.

use std::ops::Range;

use candle_core::Tensor;
use chandler_nn::linear::Linear;
use chandler_nn::weights::HostTensor;

use crate::error::Result;
use crate::layers::Loader;

/// A linear layer, or some of the outputs of one.
#[derive(Debug, Clone)]
pub struct Projection {
    module: String,
    outputs: Range<usize>,
    linear: Linear,
}

impl Projection {
    /// The layer `name`: a weight of [outputs, inputs], or a convolution's of one pixel, [outputs, inputs, 1, 1], which does the
    /// same to the rows that pixels are. Checkpoints have either, as `use_linear_projection` says.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn load(loader: &Loader<'_>, name: &str, inputs: usize, outputs: usize) -> Result<Self> {
        let (weight, bias) = weight_and_bias(loader, name, [outputs, inputs])?;
        Ok(Self {
            module: loader.path(name),
            outputs: 0..outputs,
            linear: loader.linear_of(weight, bias)?,
        })
    }

    /// The first half and the second of the outputs of a layer of `2 · outputs`, apart so that each is contiguous: a gated
    /// layer's two sides.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn halves(
        loader: &Loader<'_>,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<[Self; 2]> {
        let (weight, bias) = weight_and_bias(loader, name, [2 * outputs, inputs])?;
        let half = |start: usize| -> Result<Self> {
            let bias = bias.as_ref().map(|bias| bias.rows(start, outputs));
            Ok(Self {
                module: loader.path(name),
                outputs: start..start + outputs,
                linear: loader.linear_of(weight.rows(start, outputs)?, bias.transpose()?)?,
            })
        };
        Ok([half(0)?, half(outputs)?])
    }

    /// Its path in the model as diffusers has it, such as `down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q`.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// Which of the module's outputs it has.
    pub fn outputs(&self) -> Range<usize> {
        self.outputs.clone()
    }

    /// The layer itself.
    pub fn linear(&self) -> &Linear {
        &self.linear
    }

    /// `x` [rows, inputs] to [rows, outputs].
    ///
    /// # Errors
    /// As for [`Linear::forward`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.linear.forward(x)?)
    }

    /// Several layers of one `x`, as query, key and value are.
    ///
    /// # Errors
    /// As for [`Linear::forward`].
    pub fn forward_many<const N: usize>(layers: [&Self; N], x: &Tensor) -> Result<[Tensor; N]> {
        let linears = layers.map(|layer| &layer.linear);
        let outs = Linear::forward_many(&linears, x)?;
        outs.try_into().map_err(|outs: Vec<Tensor>| {
            crate::ImageError::Input(format!("{} results of {N} layers", outs.len()))
        })
    }
}

/// As a matrix, whichever of the two ways it is stored.
fn weight_and_bias(
    loader: &Loader<'_>,
    name: &str,
    shape: [usize; 2],
) -> Result<(HostTensor, Option<HostTensor>)> {
    let at = loader.at(name);
    let weight = at.any_shape("weight")?;
    let weight = match weight.shape() {
        [outputs, inputs, 1, 1] if [*outputs, *inputs] == shape => {
            weight.reshaped(shape.to_vec())?
        }
        _ => {
            weight.expect_shape(&shape)?;
            weight
        }
    };
    let bias = match at.has("bias") {
        true => Some(at.stored("bias", &shape[..1])?),
        false => None,
    };
    Ok((weight, bias))
}
