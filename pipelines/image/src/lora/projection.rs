//! A linear layer that knows its module's name, which is what adapters (LoRA) call it, and takes rows of any rank. All linear layers
//! of denoisers and of CLIP's encoders are of this one kind, so that low-rank paths beside them have one place to be; apart from
//! `chandler_nn::lora`, which knows neither checkpoints' shapes nor sequences.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;
use chandler_nn::linear::Linear;
use chandler_nn::lora::{self, Adapter, AdapterRows, Module, Part};
use chandler_nn::weights::HostTensor;

use crate::error::Result;
use crate::layers::{Loader, Placement};
use crate::sequences::{exactly, first, over_rows};

/// A linear layer, or some of the outputs of one, and the adapters' pairs beside it.
#[derive(Debug, Clone)]
pub struct Projection(lora::Projection);

impl Projection {
    /// The layer `name`: a weight of [outputs, inputs], or a convolution's of one pixel, [outputs, inputs, 1, 1], which does the
    /// same to the rows that pixels are. Checkpoints have either, as `use_linear_projection` says.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn load(loader: &Loader<'_>, name: &str, inputs: usize, outputs: usize) -> Result<Self> {
        let (weight, bias) = weight_and_bias(loader, name, [outputs, inputs])?;
        let part = Part {
            module: module(loader, name, [outputs, inputs]),
            outputs: 0..outputs,
        };
        let linear = loader.linear_of(weight, bias)?;
        Ok(Self(lora::Projection::new(linear, part)))
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
        let module = module(loader, name, [2 * outputs, inputs]);
        let half = |start: usize| -> Result<Self> {
            let bias = bias.as_ref().map(|bias| bias.rows(start, outputs));
            let linear = loader.linear_of(weight.rows(start, outputs)?, bias.transpose()?)?;
            let part = Part {
                module: Arc::clone(&module),
                outputs: start..start + outputs,
            };
            Ok(Self(lora::Projection::new(linear, part)))
        };
        Ok([half(0)?, half(outputs)?])
    }

    /// Its module in the model as diffusers has it, such as `down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q`, with the
    /// sizes of all of it.
    pub fn module(&self) -> Option<&Module> {
        self.0.module()
    }

    /// Which of the module's outputs it has.
    pub fn outputs(&self) -> Range<usize> {
        self.0.outputs()
    }

    /// The layer itself.
    pub fn linear(&self) -> &Linear {
        self.0.linear()
    }

    /// Bytes of weight and bias, mapped ones included.
    pub fn bytes(&self) -> usize {
        self.linear().bytes()
    }

    /// Bytes of the pairs beside it.
    pub fn adapter_bytes(&self) -> usize {
        self.0.adapter_bytes()
    }

    /// Puts an adapter's pair for this layer, if it has one, beside it.
    ///
    /// # Errors
    /// As for [`lora::Projection::attach`].
    pub fn attach(&mut self, number: usize, adapter: &Adapter, to: &Placement) -> Result<()> {
        Ok(self.0.attach(number, adapter, (&to.device, to.dtype))?)
    }

    /// The layer over the last dimension of `x`, of whatever rank. `adapters` lists samples, and the other dimensions of `x` are
    /// samples first: rows of a sample follow one another.
    ///
    /// # Errors
    /// As for [`Linear::forward`].
    pub fn forward(&self, x: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        first(over_rows(x, |rows| {
            Ok(vec![self.0.forward(rows, adapters)?])
        })?)
    }

    /// Several layers of one `x`, as query, key and value are.
    ///
    /// # Errors
    /// As for [`Linear::forward`].
    pub fn forward_many<const N: usize>(
        layers: [&Self; N],
        x: &Tensor,
        adapters: &AdapterRows,
    ) -> Result<[Tensor; N]> {
        let layers = layers.map(|layer| &layer.0);
        exactly(over_rows(x, |rows| {
            Ok(lora::Projection::forward_many(&layers, rows, adapters)?)
        })?)
    }
}

fn module(loader: &Loader<'_>, name: &str, [outputs, inputs]: [usize; 2]) -> Arc<Module> {
    Arc::new(Module {
        names: vec![loader.path(name)],
        inputs,
        outputs,
        head: false,
    })
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
