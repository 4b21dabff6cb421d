//! Queries, keys and values of one sequence, normed by head, and attention over several sequences as one.
//! Mirrors `diffusers` models/attention_processor.py, `JointAttnProcessor2_0`, and transformer_flux.py, `FluxAttnProcessor`.

use candle_core::Tensor;
use chandler_nn::dense_attention::dense_attention;
use chandler_nn::lora::AdapterRows;
use chandler_nn::norm::Norm;
use chandler_nn::rope::Rotation;

use super::config::Heads;
use crate::error::Result;
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

/// `eps` of the norms of queries and keys.
const NORM_EPS: f64 = 1e-6;

/// What the layers of one sequence are called.
pub(super) struct Names {
    pub(super) projections: [&'static str; 3],
    pub(super) norms: [&'static str; 2],
}

/// The image's.
pub(super) const IMAGE: Names = Names {
    projections: ["to_q", "to_k", "to_v"],
    norms: ["norm_q", "norm_k"],
};

/// The text's.
pub(super) const TEXT: Names = Names {
    projections: ["add_q_proj", "add_k_proj", "add_v_proj"],
    norms: ["norm_added_q", "norm_added_k"],
};

/// Query, key and value layers of one sequence.
pub(super) struct Heading {
    heads: Heads,
    query: Projection,
    key: Projection,
    value: Projection,
    /// Of queries and keys, where the model norms them.
    norms: Option<(Norm, Norm)>,
}

/// Query, key and value, each [batch, tokens, width].
pub(super) type Headed = [Tensor; 3];

impl Heading {
    pub(super) fn load(at: &Loader<'_>, names: &Names, heads: Heads, normed: bool) -> Result<Self> {
        let width = heads.width();
        let [query, key, value] = names.projections;
        let [query_norm, key_norm] = names.norms;
        Ok(Self {
            heads,
            query: Projection::load(at, query, width, width)?,
            key: Projection::load(at, key, width, width)?,
            value: Projection::load(at, value, width, width)?,
            norms: match normed {
                true => Some((
                    at.rms_norm(query_norm, heads.dim, NORM_EPS)?,
                    at.rms_norm(key_norm, heads.dim, NORM_EPS)?,
                )),
                false => None,
            },
        })
    }

    /// Of `x` [batch, tokens, width].
    pub(super) fn forward(&self, x: &Tensor, adapters: &AdapterRows) -> Result<Headed> {
        let layers = [&self.query, &self.key, &self.value];
        let [q, k, v] = Projection::forward_many(layers, x, adapters)?;
        Ok(match &self.norms {
            Some((of_queries, of_keys)) => [self.norm(of_queries, &q)?, self.norm(of_keys, &k)?, v],
            None => [q, k, v],
        })
    }

    fn norm(&self, norm: &Norm, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let Heads { count, dim } = self.heads;
        let by_head = x.reshape((batch, tokens, count, dim))?;
        Ok(norm.forward(&by_head)?.reshape((batch, tokens, width))?)
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        let layers = [&mut self.query, &mut self.key, &mut self.value];
        found.extend(layers.map(Layer::Linear));
    }

    pub(super) fn bytes(&self) -> usize {
        let linears = self.query.bytes() + self.key.bytes() + self.value.bytes();
        let norms = self.norms.as_ref();
        linears
            + norms.map_or(0, |(of_queries, of_keys)| {
                of_queries.bytes() + of_keys.bytes()
            })
    }
}

/// Every token of every sequence over all of them: [batch, tokens of all, width], in the sequences' order.
pub(super) fn attend(
    sequences: &[Headed],
    heads: Heads,
    rotation: Option<&Rotation>,
) -> Result<Tensor> {
    let joined = |part: usize| -> Result<Tensor> {
        let parts: Vec<&Tensor> = sequences.iter().filter_map(|one| one.get(part)).collect();
        Ok(Tensor::cat(&parts, 1)?)
    };
    let (q, k, v) = (joined(0)?, joined(1)?, joined(2)?);
    let (q, k) = match rotation {
        Some(rotation) => (rotate(&q, heads, rotation)?, rotate(&k, heads, rotation)?),
        None => (q, k),
    };
    let scale = 1.0 / (heads.dim as f64).sqrt();
    Ok(dense_attention((&q, &k, &v), heads.count, scale, None)?)
}

fn rotate(x: &Tensor, heads: Heads, rotation: &Rotation) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    let rows = x.reshape((batch * tokens, heads.count, heads.dim))?;
    Ok(rotation.apply(&rows)?.reshape((batch, tokens, width))?)
}
