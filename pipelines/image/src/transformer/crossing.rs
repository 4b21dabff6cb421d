//! Attention of a picture's tokens to a text of its own: texts of one batch have different lengths. Mirrors `diffusers`
//! models/attention_processor.py, `AttnProcessor2_0`, with its mask. Apart from `attention`, where all sequences look at each other.

use candle_core::Tensor;
use chandler_nn::dense_attention::dense_attention;
use chandler_nn::lora::AdapterRows;

use super::config::Heads;
use crate::error::{ImageError, Result};
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

/// Texts of several lengths.
pub(super) struct Words<'a> {
    /// [batch, tokens of the longest, width]
    pub(super) hidden: &'a Tensor,
    /// Tokens of each that are looked at.
    pub(super) lengths: &'a [usize],
}

/// The layers.
pub(super) struct Crossing {
    heads: Heads,
    query: Projection,
    key: Projection,
    value: Projection,
    out: Projection,
}

impl Crossing {
    pub(super) fn load(at: &Loader<'_>, heads: Heads) -> Result<Self> {
        let width = heads.width();
        Ok(Self {
            heads,
            query: Projection::load(at, "to_q", width, width)?,
            key: Projection::load(at, "to_k", width, width)?,
            value: Projection::load(at, "to_v", width, width)?,
            out: Projection::load(at, "to_out.0", width, width)?,
        })
    }

    /// What the tokens of `x` [batch, tokens, width] find in their texts. Each sample over its own words, and not all with a mask: to what
    /// is masked a softmax gives 0, and so the sums are those of a sample alone.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        words: &Words<'_>,
        adapters: &AdapterRows,
    ) -> Result<Tensor> {
        let batch = x.dim(0)?;
        if words.lengths.len() != batch {
            return Err(ImageError::Input(format!(
                "{} texts to {batch} pictures",
                words.lengths.len()
            )));
        }
        let queries = self.query.forward(x, adapters)?;
        let layers = [&self.key, &self.value];
        let [keys, values] = Projection::forward_many(layers, words.hidden, adapters)?;
        let scale = 1.0 / (self.heads.dim as f64).sqrt();
        let of_sample = |(sample, length): (usize, &usize)| -> Result<Tensor> {
            let own = |x: &Tensor| x.narrow(0, sample, 1)?.narrow(1, 0, *length)?.contiguous();
            let queries = queries.narrow(0, sample, 1)?;
            let (keys, values) = (own(&keys)?, own(&values)?);
            Ok(dense_attention(
                (&queries, &keys, &values),
                self.heads.count,
                scale,
                None,
            )?)
        };
        let found = words.lengths.iter().enumerate().map(of_sample);
        let found = Tensor::cat(&found.collect::<Result<Vec<_>>>()?, 0)?;
        self.out.forward(&found, adapters)
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

    pub(super) fn bytes(&self) -> usize {
        let layers = [&self.query, &self.key, &self.value, &self.out];
        layers.into_iter().map(Projection::bytes).sum()
    }
}
