//! A convolution with adapters beside it: y = conv(x), and y += scale · up(down(x)) in the pictures whose request asks for one,
//! where `down` goes over the picture as the layer does and `up` over single pixels. After `peft` tuners/lora/layer.py (Conv2d)
//! and kohya's networks/lora.py (LoRAModule). On the CPU a picture's result has the same bits whatever stands beside it.

use candle_core::{DType, Device, Tensor};

use super::rows::AdapterRows;
use super::{Adapter, Pair};
use crate::conv2d::{Conv2d, Conv2dConfig};
use crate::error::Result;

/// A pair, ready for the device.
#[derive(Debug, Clone)]
struct LowRank {
    /// To as many channels as the rank.
    down: Conv2d,
    /// Of one pixel.
    up: Conv2d,
    scale: f64,
}

/// A convolution of a model, and the adapters' pairs beside it.
#[derive(Debug, Clone)]
pub struct Convolution {
    conv: Conv2d,
    module: String,
    /// By the adapter's number; shorter than there are adapters when the last ones have no pair here.
    pairs: Vec<Option<LowRank>>,
}

impl Convolution {
    /// A convolution that adapters call `module`.
    pub fn new(conv: Conv2d, module: String) -> Self {
        Self {
            conv,
            module,
            pairs: Vec::new(),
        }
    }

    /// The convolution itself.
    pub fn conv(&self) -> &Conv2d {
        &self.conv
    }

    /// What adapters call it.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// Puts an adapter's pair for this layer, if it has one, beside it, for activations on `device` in `dtype`. Its tensors are
    /// [rank, channels, height, width] and [channels, rank, 1, 1].
    ///
    /// # Errors
    /// As for [`Conv2d::new`].
    pub fn attach(
        &mut self,
        number: usize,
        adapter: &Adapter,
        (device, dtype): (&Device, DType),
    ) -> Result<()> {
        let Some(Pair { a, b, scale }) = adapter.pair(&self.module) else {
            return Ok(());
        };
        let make = |weight, config| Conv2d::new(weight, None, config, device, dtype);
        let pair = LowRank {
            down: make(a.clone(), self.conv.config())?,
            up: make(b.clone(), Conv2dConfig::same(1))?,
            scale: *scale,
        };
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
        let bytes = |pair: &LowRank| pair.down.bytes() + pair.up.bytes();
        self.pairs.iter().flatten().map(bytes).sum()
    }

    /// As [`Conv2d::forward`]; `adapters` lists the pictures of `x`.
    ///
    /// # Errors
    /// As for [`Conv2d::forward`].
    pub fn forward(&self, x: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        self.add(self.conv.forward(x)?, x, adapters)
    }

    /// As [`Conv2d::forward_added`]; `adapters` lists the pictures of `x`.
    ///
    /// # Errors
    /// As for [`Conv2d::forward_added`].
    pub fn forward_added(
        &self,
        x: &Tensor,
        residual: &Tensor,
        adapters: &AdapterRows,
    ) -> Result<Tensor> {
        self.add(self.conv.forward_added(x, residual)?, x, adapters)
    }

    /// As [`Conv2d::forward_upscaled`]; `adapters` lists the pictures of `x`.
    ///
    /// # Errors
    /// As for [`Conv2d::forward_upscaled`].
    pub fn forward_upscaled(&self, x: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        let out = self.conv.forward_upscaled(x)?;
        let has_pair = |adapter: usize| matches!(self.pairs.get(adapter), Some(Some(_)));
        match adapters
            .groups()
            .iter()
            .any(|group| has_pair(group.adapter()))
        {
            false => Ok(out),
            true => {
                let (_, _, height, width) = x.dims4()?;
                self.add(out, &x.upsample_nearest2d(2 * height, 2 * width)?, adapters)
            }
        }
    }

    /// Adds what the adapters say.
    fn add(&self, out: Tensor, x: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        let mut out = out;
        for group in adapters.groups() {
            let Some(Some(pair)) = self.pairs.get(group.adapter()) else {
                continue;
            };
            let narrow = pair.down.forward(&group.rows_of(x)?)?;
            let narrow = group.weighed((narrow * pair.scale)?)?;
            out = group.add(&out, &pair.up.forward(&narrow)?)?;
        }
        Ok(out)
    }
}
