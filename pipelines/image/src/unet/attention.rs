//! Attention of pixels to pixels and of pixels to words. Mirrors `diffusers` models/attention_processor.py (Attention,
//! AttnProcessor2_0).

use candle_core::{DType, Tensor};
use chandler_nn::dense_attention::dense_attention;
use chandler_nn::lora::AdapterRows;

use super::config::TransformerSizes;
use crate::error::Result;
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

/// Queries of the rows, keys and values of the rows themselves or of a context.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    query: Projection,
    key: Projection,
    value: Projection,
    out: Projection,
    heads: usize,
    scale: f64,
    upcast: bool,
}

impl Attention {
    /// Over rows of `sizes.width`; keys and values are made of rows of `keys_width`.
    pub(super) fn load(
        loader: &Loader<'_>,
        sizes: &TransformerSizes,
        keys_width: usize,
    ) -> Result<Self> {
        let width = sizes.width;
        Ok(Self {
            query: Projection::load(loader, "to_q", width, width)?,
            key: Projection::load(loader, "to_k", keys_width, width)?,
            value: Projection::load(loader, "to_v", keys_width, width)?,
            out: Projection::load(loader, "to_out.0", width, width)?,
            heads: sizes.heads,
            scale: ((width / sizes.heads) as f64).powf(-0.5),
            upcast: sizes.upcast,
        })
    }

    /// `x` [batch · rows, width] of `batch` samples to the same shape; `context` [batch, words, keys_width], or nothing for
    /// attention of the rows to themselves.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        (batch, adapters): (usize, &AdapterRows),
        context: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (q, k, v) = match context {
            None => {
                let layers = [&self.query, &self.key, &self.value];
                let [q, k, v] = Projection::forward_many(layers, x, adapters)?;
                (q, k, v)
            }
            Some(context) => {
                let words = context.flatten_to(1)?;
                let layers = [&self.key, &self.value];
                let [k, v] = Projection::forward_many(layers, &words, adapters)?;
                (self.query.forward(x, adapters)?, k, v)
            }
        };
        let of_samples = |x: Tensor| -> Result<Tensor> {
            let (rows, width) = x.dims2()?;
            let x = x.reshape((batch, rows / batch.max(1), width))?;
            // Half precision overflows in the products of some models' heads; these say so.
            Ok(match self.upcast {
                true => x.to_dtype(DType::F32)?,
                false => x,
            })
        };
        let (q, k, v) = (of_samples(q)?, of_samples(k)?, of_samples(v)?);
        let mixed = dense_attention((&q, &k, &v), self.heads, self.scale, None)?;
        let mixed = mixed.flatten_to(1)?.to_dtype(x.dtype())?;
        self.out.forward(&mixed, adapters)
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        let layers = [
            &mut self.query,
            &mut self.key,
            &mut self.value,
            &mut self.out,
        ];
        found.extend(layers.map(Layer::Linear));
    }
}
