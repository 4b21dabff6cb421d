//! The one place where a layer's linear projections are run on an input, and what goes beside them: adapters.
//! Apart so that the layers know of adapters only that a pass's rows have some.

use candle_core::{DType, Tensor};
use chandler_nn::lora::{Adapter, AdapterRows, Module, Projection};
use chandler_nn::weights::{Snapshot, TensorSource};

use super::Decoder;
use super::attention::Attention;
use super::feed_forward::{FeedForward, Gated};
use crate::error::{Result, TextError};

/// Several projections of one input, in one fork and join: [rows, in] to [rows, out] each.
///
/// # Errors
/// When the input has another width.
pub(super) fn project<const N: usize>(
    layers: [&Projection; N],
    x: &Tensor,
    adapters: &AdapterRows,
) -> Result<[Tensor; N]> {
    let outs = Projection::forward_many(&layers, x, adapters)?;
    outs.try_into().map_err(|outs: Vec<Tensor>| {
        candle_core::Error::msg(format!("{N} projections gave {} tensors", outs.len())).into()
    })
}

impl Decoder {
    /// Puts adapters (LoRA, in peft's layout) beside the model, which `base` are the weights of; a pass refers to them by their
    /// place in the list. Nothing of the model changes.
    ///
    /// # Errors
    /// [`TextError::Adapter`], which names the adapter and its field, key or tensor at fault.
    pub fn attach(
        &mut self,
        adapters: &[(String, Snapshot)],
        base: &dyn TensorSource,
        dtype: DType,
    ) -> Result<()> {
        let device = self.device.clone();
        let modules = self.modules();
        for (number, (name, snapshot)) in adapters.iter().enumerate() {
            let failed = |source| TextError::Adapter {
                name: name.clone(),
                source: Box::new(source),
            };
            let adapter = Adapter::read(snapshot, &modules, base).map_err(failed)?;
            for projection in self.projections() {
                projection
                    .attach(number, &adapter, (&device, dtype))
                    .map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The linear layers that an adapter can be for. One that is kept in parts is there once.
    fn modules(&mut self) -> Vec<Module> {
        let mut modules: Vec<Module> = Vec::new();
        for projection in self.projections() {
            if let Some(module) = projection.module()
                && modules.last() != Some(module)
            {
                modules.push(module.clone());
            }
        }
        modules
    }

    /// Everything that is run by [`project`], parts of one layer one after the other.
    fn projections(&mut self) -> Vec<&mut Projection> {
        let layers = self.layers.iter_mut().flat_map(|layer| {
            let attention = projections_of_attention(&mut layer.attention);
            attention
                .into_iter()
                .chain(projections_of_feed_forward(&mut layer.feed_forward))
        });
        layers.chain([&mut self.head]).collect()
    }
}

fn projections_of_attention(attention: &mut Attention) -> [&mut Projection; 4] {
    [
        &mut attention.query,
        &mut attention.key,
        &mut attention.value,
        &mut attention.output,
    ]
}

fn projections_of_feed_forward(feed_forward: &mut FeedForward) -> Vec<&mut Projection> {
    match feed_forward {
        FeedForward::Gated(Gated { gate, up, down, .. }) => vec![gate, up, down],
        FeedForward::Plain { up, down, .. } => vec![up, down],
        // In transformers all experts are one parameter and the router is none of its linear layers: no pair is for them.
        FeedForward::Experts(_) => Vec::new(),
    }
}
