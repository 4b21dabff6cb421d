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

    /// What the tokens of `x` [batch, tokens, width] find in their texts.
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
        let qkv = (&queries, &keys, &values);
        let found = match x.device().is_cpu() {
            true => one_by_one(qkv, self.heads, words.lengths)?,
            false => masked(qkv, self.heads, words.lengths)?,
        };
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

/// Queries, keys and values, each [batch, tokens, width].
type Headed<'a> = (&'a Tensor, &'a Tensor, &'a Tensor);

fn attend(qkv: Headed<'_>, heads: Heads, bias: Option<&Tensor>) -> Result<Tensor> {
    let scale = 1.0 / (heads.dim as f64).sqrt();
    Ok(dense_attention(qkv, heads.count, scale, bias)?)
}

/// Each sample over its own words, so that its sums are those of it alone.
fn one_by_one(
    (queries, keys, values): Headed<'_>,
    heads: Heads,
    lengths: &[usize],
) -> Result<Tensor> {
    let of_sample = |(sample, length): (usize, &usize)| -> Result<Tensor> {
        let own = |x: &Tensor| x.narrow(0, sample, 1)?.narrow(1, 0, *length)?.contiguous();
        let queries = queries.narrow(0, sample, 1)?;
        attend((&queries, &own(keys)?, &own(values)?), heads, None)
    };
    let found = lengths.iter().enumerate().map(of_sample);
    Ok(Tensor::cat(&found.collect::<Result<Vec<_>>>()?, 0)?)
}

/// All samples in one go, where a go is dear: to what is masked a softmax gives 0.
fn masked(qkv: Headed<'_>, heads: Heads, lengths: &[usize]) -> Result<Tensor> {
    let (batch, queries, _) = qkv.0.dims3()?;
    let longest = qkv.1.dim(1)?;
    let unseen = |length: &usize| {
        let length = *length;
        (0..longest).map(move |key| if key < length { 0.0 } else { f32::MIN })
    };
    let bias: Vec<f32> = lengths.iter().flat_map(unseen).collect();
    let bias = Tensor::from_vec(bias, (batch, 1, 1, longest), qkv.0.device())?;
    let bias = bias.broadcast_as((batch, 1, queries, longest))?;
    attend(qkv, heads, Some(&bias.contiguous()?))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_mask_finds_what_each_finds_alone() {
        let heads = Heads { count: 2, dim: 3 };
        let made = |tokens: usize, step: f64| {
            let numbers = (0..3 * tokens * 6).map(|n| (f64::from(n as u32) * step).sin() as f32);
            Tensor::from_vec(numbers.collect(), (3, tokens, 6), &Device::Cpu).unwrap()
        };
        let (queries, keys, values) = (made(4, 0.7), made(5, 1.3), made(5, 2.1));
        let (qkv, lengths) = ((&queries, &keys, &values), [5, 1, 3]);
        let alone = one_by_one(qkv, heads, &lengths).unwrap();
        let together = masked(qkv, heads, &lengths).unwrap();
        let off = (alone - together).unwrap().abs().unwrap();
        let off = off.max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(off < 1e-6, "{off}");
    }
}
