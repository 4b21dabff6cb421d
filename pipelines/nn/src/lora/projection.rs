//! A linear layer with adapters beside it: y = x·Wᵀ + b, and y += scale · (x·Aᵀ)·Bᵀ in the rows whose request asks for one.
//! Nothing is merged, so that rows of many adapters and of none share the layer's own product. After Hu et al., "LoRA"
//! (2021), and `peft` tuners/lora/layer.py (Linear.forward).
//!
//! On the CPU a row's result has the same bits whatever rows and adapters stand beside it: both products promise that, and
//! the sum is one addition per number. Rows without an adapter are not touched.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::rows::AdapterRows;
use super::{Adapter, Module, Pair};
use crate::error::Result;
use crate::linear::Linear;
use crate::weights::HostTensor;

/// How a layer is made of its weight.
type Make = fn(HostTensor, Option<HostTensor>, &Device, DType) -> Result<Linear>;

/// A pair, ready for the device.
#[derive(Debug, Clone)]
struct LowRank {
    /// [rank, in]
    down: Linear,
    /// [out, rank]
    up: Linear,
    scale: f64,
}

impl LowRank {
    /// The pair for some of its layer's outputs, made of layers as `make` makes them.
    fn new(
        pair: &Pair,
        outputs: Range<usize>,
        make: &dyn Fn(HostTensor) -> Result<Linear>,
    ) -> Result<Self> {
        Ok(Self {
            down: make(pair.a.clone())?,
            up: make(pair.b.rows(outputs.start, outputs.len())?)?,
            scale: pair.scale,
        })
    }

    fn bytes(&self) -> usize {
        self.down.bytes() + self.up.bytes()
    }
}

/// A linear layer of a model, and the adapters' pairs beside it.
#[derive(Debug, Clone)]
pub struct Projection {
    linear: Linear,
    part: Option<Part>,
    /// By the adapter's number; shorter than there are adapters when the last ones have no pair here.
    pairs: Vec<Option<LowRank>>,
}

/// What of a module a projection is: all its outputs, or some where a checkpoint has several layers in one.
#[derive(Debug, Clone)]
pub struct Part {
    /// The module.
    pub module: Arc<Module>,
    /// Which of its outputs.
    pub outputs: Range<usize>,
}

impl From<Linear> for Projection {
    /// A layer that no adapter can be for.
    fn from(linear: Linear) -> Self {
        Self {
            linear,
            part: None,
            pairs: Vec::new(),
        }
    }
}

impl Projection {
    /// A layer that adapters may be for.
    pub fn new(linear: Linear, part: Part) -> Self {
        Self {
            linear,
            part: Some(part),
            pairs: Vec::new(),
        }
    }

    /// The layer itself.
    pub fn linear(&self) -> &Linear {
        &self.linear
    }

    /// What adapters call it, unless none can be for it.
    pub fn module(&self) -> Option<&Module> {
        self.part.as_ref().map(|part| &*part.module)
    }

    /// Which of its module's outputs it has.
    pub fn outputs(&self) -> Range<usize> {
        let whole = || 0..self.linear.outputs();
        self.part
            .as_ref()
            .map_or_else(whole, |part| part.outputs.clone())
    }

    /// Puts an adapter's pair for this layer, if it has one, beside it, for activations on `device` in `dtype` (f32 on the
    /// CPU, whatever it says).
    ///
    /// # Errors
    /// [`NnError::DType`](crate::error::NnError::DType) for a pair of anything but f32, f16 and bf16,
    /// [`NnError::Candle`](crate::error::NnError::Candle) when the device is out of memory.
    pub fn attach(
        &mut self,
        number: usize,
        adapter: &Adapter,
        (device, dtype): (&Device, DType),
    ) -> Result<()> {
        let Some(part) = &self.part else {
            return Ok(());
        };
        let Some(pair) = adapter.pair(part.module.name()) else {
            return Ok(());
        };
        let make: Make = match self.linear.is_plain() {
            true => Linear::plain,
            // On the CPU activations are f32 and the kernels widen what is stored: f32 here keeps it as it is, at no loss.
            false => |weight, bias, device, _| Linear::new(weight, bias, device, DType::F32),
        };
        let make = |weight| make(weight, None, device, dtype);
        let pair = LowRank::new(pair, part.outputs.clone(), &make)?;
        if self.pairs.len() <= number {
            self.pairs.resize_with(number + 1, || None);
        }
        if let Some(slot) = self.pairs.get_mut(number) {
            *slot = Some(pair);
        }
        Ok(())
    }

    /// Bytes of the pairs.
    pub fn adapter_bytes(&self) -> usize {
        self.pairs.iter().flatten().map(LowRank::bytes).sum()
    }

    /// Bytes of the weight, the bias and the pairs.
    pub fn bytes(&self) -> usize {
        self.linear.bytes() + self.adapter_bytes()
    }

    /// `x` [rows, in] to [rows, out].
    ///
    /// # Errors
    /// As for [`Linear::forward`].
    pub fn forward(&self, x: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        let mut outs = [self.linear.forward(x)?];
        add(&[self], x, adapters, &mut outs)?;
        let [out] = outs;
        Ok(out)
    }

    /// Several layers of one `x`, as query, key and value are.
    ///
    /// # Errors
    /// As for [`Linear::forward`].
    pub fn forward_many(
        layers: &[&Self],
        x: &Tensor,
        adapters: &AdapterRows,
    ) -> Result<Vec<Tensor>> {
        let linears: Vec<&Linear> = layers.iter().map(|layer| &layer.linear).collect();
        let mut outs = Linear::forward_many(&linears, x)?;
        add(layers, x, adapters, &mut outs)?;
        Ok(outs)
    }
}

/// Adds what the adapters say to the outputs of layers of one `x`.
fn add(
    layers: &[&Projection],
    x: &Tensor,
    adapters: &AdapterRows,
    outs: &mut [Tensor],
) -> Result<()> {
    for group in adapters.groups() {
        let beside = layers.iter().zip(outs.iter_mut());
        let (pairs, outs): (Vec<&LowRank>, Vec<&mut Tensor>) = beside
            .filter_map(|(layer, out)| Some((layer.pairs.get(group.adapter())?.as_ref()?, out)))
            .unzip();
        if pairs.is_empty() {
            continue;
        }
        let mine = group.rows_of(x)?;
        let downs: Vec<&Linear> = pairs.iter().map(|pair| &pair.down).collect();
        let narrow = Linear::forward_many(&downs, &mine)?;
        for ((pair, narrow), out) in pairs.iter().zip(narrow).zip(outs) {
            let narrow = group.weighed((narrow * pair.scale)?)?;
            *out = group.add(out, &pair.up.forward(&narrow)?)?;
        }
    }
    Ok(())
}
